"""SASRec as a baseline of the benchmark: trained and embedded by itself, for one moment of one Dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from polyvec.objectives.full_softmax import SMALL_CATALOGUE
from polyvec.systems.embed import embed
from polyvec.systems.sasrec.config import default
from polyvec.systems.sasrec.fit import fit

if TYPE_CHECKING:
    from pathlib import Path

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings
    from polyvec.evaluation.evaluate import Settings

PATIENCE = 3


def baseline(dataset: Dataset, folder: Path, seed: int, cutoff: int | None, settings: Settings) -> Embeddings:
    """Train the default preset for the benchmark's question and embed everyone, asking nothing of the test.

    With a cut-off the number of epochs is chosen on the window before it, and a second model is trained on
    everything before the cut-off. With an order the last event of every user is held back and the one before
    it chosen on, as in published tables. Catalogues of more than 20,000 items are trained on drawn negatives.

    Parameters
    ----------
    dataset
        Data; if it has actions, only purchases are read.
    folder
        Where ``model`` and ``emb`` are written.
    seed
        Of the training.
    cutoff
        T in microseconds since 1970 UTC; None for data with an order.
    settings
        The benchmark's protocol; its seed is not that of the training.

    Raises
    ------
    DataError
        If there is nothing to learn from.
    """
    config, options = default()
    config = replace(
        config,
        history_days=settings.history_days,
        target_days=settings.target_days,
        remove_seen=settings.remove_seen,
    )
    if dataset.num_items > SMALL_CATALOGUE:
        config = replace(config, negatives="sampled")
    options = replace(options, seed=seed, patience=PATIENCE)
    held_back = 1 if cutoff is None else 0
    refit = cutoff is not None
    model = fit(dataset, folder / "model", config, options, until=cutoff, held_back=held_back, refit=refit)
    return embed(model, dataset, folder / "emb", until=cutoff, held_back=held_back)
