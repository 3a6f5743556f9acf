"""All baselines that a Dataset allows, with notes on those that it does not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING

from polyvec.evaluation.aggregates import AGGREGATES, aggregates
from polyvec.evaluation.baselines.als import MISSING, als, als_installed
from polyvec.evaluation.baselines.counting import (
    FilledUp,
    common_cutoff,
    counting_rankers,
    what_sells,
)
from polyvec.evaluation.baselines.ease import MOST_ITEMS, ease
from polyvec.evaluation.baselines.item_to_item import history_matrix, known_items
from polyvec.evaluation.baselines.neighbours import neighbours
from polyvec.evaluation.probes import Features
from polyvec.evaluation.rankers import EmbeddingsRanker
from polyvec.evaluation.texts import bought_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.evaluation.rankers import Ranker

COSINE = "item-to-item cosine"
EASE = "EASE"
ALS = "ALS"
BOUGHT_WORDS = "TF-IDF + SVD of bought items"
NEIGHBOURS = (20, 100, None)
EASE_L2 = (20.0, 50.0, 200.0, 500.0, 1000.0)
ALS_FACTORS, ALS_L2, ALS_ALPHA = (64, 128), (1.0, 10.0), (1.0, 5.0, 20.0)


@dataclass(frozen=True)
class Tuning:
    """What is to be chosen on validation.

    The defaults had the best recall@100 of small grids on the purchases of one shop (Online Retail II, year
    before October 2011: 3,700 items, 260,000 pairs of a user and an item). They are a start for another shop,
    for which :func:`tuned` chooses.

    Attributes
    ----------
    neighbours
        k of :func:`polyvec.evaluation.baselines.neighbours.neighbours`; None for all.
    ease_l2
        λ of :func:`polyvec.evaluation.baselines.ease.ease`.
    als_factors, als_l2, als_alpha
        As in :func:`polyvec.evaluation.baselines.als.als`.
    """

    neighbours: int | None = 20
    ease_l2: float = 200.0
    als_factors: int = 128
    als_l2: float = 1.0
    als_alpha: float = 5.0


@dataclass(frozen=True)
class Baselines:
    """Rankers by name, and what a reader must know of those left out."""

    rankers: dict[str, Ranker]
    notes: list[str] = field(default_factory=list)


def tuned(dataset: Dataset, windows: Windows, value: Callable[[Ranker], float], *, seed: int = 0) -> Tuning:
    """Choose the settings of cosine, EASE and ALS, each by itself, that are best on a grid.

    Parameters
    ----------
    dataset, windows, seed
        As of :func:`standard_rankers`; the windows' targets are those to validate on.
    value
        What a ranker that was learned from the histories is worth; more is better.
    """
    histories_UN = history_matrix(dataset, windows)
    tuning = Tuning(neighbours=max(NEIGHBOURS, key=lambda k: value(neighbours(histories_UN, k))))
    if len(known_items(histories_UN)) <= MOST_ITEMS:
        tuning = replace(tuning, ease_l2=max(EASE_L2, key=lambda l2: value(ease(histories_UN, l2))))
    if als_installed():

        def worth(setting: tuple[int, float, float]) -> float:
            factors, l2, alpha = setting
            made = als(dataset, windows, factors=factors, l2=l2, alpha=alpha, seed=seed)
            return value(EmbeddingsRanker(made, dataset))

        factors, l2, alpha = max(product(ALS_FACTORS, ALS_L2, ALS_ALPHA), key=worth)
        tuning = replace(tuning, als_factors=factors, als_l2=l2, als_alpha=alpha)
    return tuning


def standard_rankers(
    dataset: Dataset, windows: Windows, tuning: Tuning | None = None, *, seed: int = 0
) -> Baselines:
    """Make every baseline that runs on this data, learned from the windows' history alone.

    Parameters
    ----------
    dataset
        Purchases: ``dataset.only_action()``.
    windows
        One per user of the Dataset, in row order: of :func:`polyvec.data.split.cut` or
        :func:`polyvec.data.split.leave_last_out`.
    tuning
        Chosen on an earlier cut-off.
    seed
        Of ALS; the others have no chance in them.

    Returns
    -------
    Baselines
        Popularity, recent popularity, personal frequency, item-to-item cosine, EASE and ALS. Where a ranker
        knows nothing of a user or of further items, what sells now fills its places, as it does those of
        personal frequency. Items of the history are not taken out.

    Raises
    ------
    DataError
        If no user has any history.
    """
    counted = counting_rankers(dataset, windows)
    learned, notes = _learned(dataset, windows, tuning or Tuning(), seed)
    if common_cutoff(dataset, windows) is None:
        notes.append("recent popularity is left out: these histories have no common end in time")
    fill = what_sells(counted)
    return Baselines(counted | {name: FilledUp(ranker, fill) for name, ranker in learned.items()}, notes)


def _learned(
    dataset: Dataset, windows: Windows, tuning: Tuning, seed: int
) -> tuple[dict[str, Ranker], list[str]]:
    """Cosine, EASE and ALS where they run, and notes where not."""
    histories_UN = history_matrix(dataset, windows)
    rankers: dict[str, Ranker] = {COSINE: neighbours(histories_UN, tuning.neighbours)}
    notes = []
    known = len(known_items(histories_UN))
    if known <= MOST_ITEMS:
        rankers[EASE] = ease(histories_UN, tuning.ease_l2)
    else:
        notes.append(f"EASE is left out: {known:,} items have events, its memory is meant for {MOST_ITEMS:,}")
    if als_installed():
        made = als(
            dataset,
            windows,
            factors=tuning.als_factors,
            l2=tuning.als_l2,
            alpha=tuning.als_alpha,
            seed=seed,
        )
        rankers[ALS] = EmbeddingsRanker(made, dataset)
    else:
        notes.append(f"ALS is left out: {MISSING}")
    return rankers, notes


def standard_features(
    dataset: Dataset, windows: Windows, everything: tuple[Dataset, Windows] | None = None, *, seed: int = 0
) -> dict[str, Features]:
    """Features of users that need no learned vectors, for the tasks that ask about users.

    Parameters
    ----------
    dataset
        Purchases.
    windows
        W windows; only their history is looked at. Row i of every feature is of window i.
    everything
        Events of all actions, and the same windows of them: what is counted, as learned vectors may have
        read it. Purchases alone without.
    seed
        Of the SVD.

    Returns
    -------
    dict of str to Features
        Hand-made aggregates; TF-IDF and SVD of what was bought.
    """
    words = bought_words(dataset, windows, seed=seed)
    return {
        AGGREGATES: Features(aggregates(*(everything or (dataset, windows)))),
        BOUGHT_WORDS: Features(words),
    }
