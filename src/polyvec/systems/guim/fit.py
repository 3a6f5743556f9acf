"""Train a GUIM: from a Dataset to a Model folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from polyvec.data.batches import BatchPlan, BatchShape
from polyvec.data.fields import FieldVocabulary
from polyvec.data.split import check_moment, item_counts_within
from polyvec.retrieval.habits import Weights
from polyvec.systems.budget import within_budget
from polyvec.systems.folder import (
    REFIT,
    check_refit,
    claim_workspace,
    run_name,
    told_by,
    told_reach,
    write_model,
)
from polyvec.systems.guim.card import model_card
from polyvec.systems.guim.config import GUIMConfig, default
from polyvec.systems.guim.model import GUIM
from polyvec.systems.guim.objective import Objective
from polyvec.systems.guim.validation import Validator
from polyvec.systems.guim.windows import TrainingWindows, Validation, training_windows
from polyvec.systems.plan import Plan
from polyvec.training.cluster_steps import cluster_steps
from polyvec.training.loop import Trainer, choose_device
from polyvec.training.optimizers import make_optimizers
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.training.checkpoint import Progress


def fit(
    dataset: Dataset,
    out: Path | str,
    config: GUIMConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "users",
    refit: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> GUIM:
    """Train GUIM on the purchases of a Dataset and write a Model folder.

    Parameters
    ----------
    dataset
        Data; if it has actions, only purchases are read.
    out
        The Model folder, whole or absent. While training, all that a resumed run needs lies in a hidden
        folder beside it.
    config, options
        What to train, and how; those of the preset ``default`` without.
    until
        For timestamps: nothing at or after this time is read. None reads everything.
    held_back
        For ordered data: last events of every user that are not read.
    validation
        See :func:`polyvec.systems.guim.windows.training_windows`.
    refit
        Train again on everything, what was validated on included, for the number of epochs that validation
        found best. With ``validation="window"`` all choices are made as they will be used, on a later month,
        and the Model knows the latest one all the same.
    resume
        Go on from the latest checkpoint of an interrupted run of the same configuration.
    overwrite
        Replace an existing Model.

    Raises
    ------
    DataError
        If there is nothing to learn from.
    TrainingError
        If the loss is not finite.
    ArtifactError
        If ``out`` exists, or the run to resume was another one.
    UsageError
        If the data has no such moment: see :func:`polyvec.data.split.check_moment`; or if ``refit`` has no
        validation to follow.
    """
    out, config, options = Path(out), config or default()[0], options or default()[1]
    config = settled(
        dataset, config, options, until=until, held_back=held_back, validation=validation, refit=refit
    )
    purchases = dataset.only_action()
    until = purchases.time_span[1] + 1 if until is None else until
    moment = [until, held_back, validation, refit]
    settings = {"guim": asdict(config), "training": asdict(options), "moment": moment}
    with claim_workspace(out, dataset, settings, resume=resume, overwrite=overwrite) as workspace:
        windows = training_windows(purchases, config, until, held_back, validation, options.seed)
        model, validator, progress = _train(purchases, windows, config, options, workspace)
        habits = asdict(_weights(config, validator, with_trend=validation == "window"))
        runs = [progress]
        if refit:
            windows = training_windows(purchases, config, until, held_back, "none", options.seed)
            again, epochs = workspace / REFIT, progress.best_epoch + 1
            model, _, progress = _train(purchases, windows, config, options, again, epochs)
            runs.append(progress)
        model.finish()
        reach = told_reach(dataset, until, held_back, of_purchases=True)
        meta = {**model.meta, **told_by(runs, "recall"), **reach, "habits": habits}
        card = model_card(model, meta, purchases, windows, validation, refit=refit)
        write_model(
            out, model, dataset, workspace, meta, card=card, overwrite=overwrite, keeps_optimizers=True
        )
        return GUIM.open(out)


def settled(
    dataset: Dataset,
    config: GUIMConfig,
    options: TrainingOptions,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "users",
    refit: bool = False,
) -> GUIMConfig:
    """Resolve what :func:`fit` resolves with the data: the negatives, and the item table in a budget.

    Parameters and errors are those of :func:`fit`; and :func:`polyvec.systems.budget.within_budget` raises
    UsageError where no item table fits.
    """
    check_moment(dataset, until, held_back)
    check_refit(validation, refit=refit)
    config = config.for_catalogue(dataset.num_items)
    if not config.budget and not refit:
        return config
    purchases = dataset.only_action()
    windows = _last_windows(purchases, config, options, until, held_back, "none" if refit else validation)
    with torch.device("meta"):  # no memory
        model = _untrained(purchases, windows, config, options)
    return within_budget(config, len(model.fields.popular), model.sizes_with)


def plan(
    dataset: Dataset,
    config: GUIMConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "users",
    refit: bool = False,
) -> Plan:
    """Tell what :func:`fit` would take, of two runs the second; parameters and errors are the same."""
    config, options = config or default()[0], options or default()[1]
    config = settled(
        dataset, config, options, until=until, held_back=held_back, validation=validation, refit=refit
    )
    purchases = dataset.only_action()
    windows = _last_windows(purchases, config, options, until, held_back, "none" if refit else validation)
    model = _untrained(purchases, windows, config, options)
    trainer = trainer_of(model, purchases, windows, None, Path(), 0)
    return Plan.of(trainer, model.sizes_with(config))


def _last_windows(
    purchases: Dataset,
    config: GUIMConfig,
    options: TrainingOptions,
    until: int | None,
    held_back: int,
    validation: Validation,
) -> TrainingWindows:
    """Windows of the run whose weights are kept."""
    until = purchases.time_span[1] + 1 if until is None else until
    return training_windows(purchases, config, until, held_back, validation, options.seed)


def _train(
    dataset: Dataset,
    windows: TrainingWindows,
    config: GUIMConfig,
    options: TrainingOptions,
    workspace: Path,
    stop_after: int = 0,
) -> tuple[GUIM, Validator | None, Progress]:
    """Train a new model, or go on with the one in the workspace."""
    workspace.mkdir(exist_ok=True)
    model = _untrained(dataset, windows, config, options)
    model.network.to(choose_device(options.device))
    validator = Validator(model, dataset, windows.validation) if len(windows.validation) else None
    progress = trainer_of(model, dataset, windows, validator, workspace, stop_after).run()
    return model, validator, progress


def _weights(config: GUIMConfig, validator: Validator | None, *, with_trend: bool) -> Weights:
    """Take the configured weights of the habits, else the best on validation, else none."""
    if config.habits is not None:
        return Weights(*config.habits)
    return validator.best_weights(with_trend=with_trend) if validator else Weights()


def _untrained(
    dataset: Dataset, windows: TrainingWindows, config: GUIMConfig, options: TrainingOptions
) -> GUIM:
    counts = _training_counts(dataset, windows.training)
    fields = FieldVocabulary.learn(dataset.item_table, counts, config.max_popular, config.max_words)
    seen = np.flatnonzero(counts)
    trained_items = pl.DataFrame({"item_id": dataset.items.take(seen), "events": counts[seen]})
    return GUIM.new(config, options, fields, trained_items, windows.learned_until, dataset.time_kind)


def _training_counts(dataset: Dataset, windows: Windows) -> npt.NDArray[np.int64]:
    """Events of every item in any training window, each event once; int64 ``[N]``."""
    return item_counts_within(dataset, windows.history_start, windows.target_end)


def trainer_of(
    model: GUIM,
    dataset: Dataset,
    windows: TrainingWindows,
    validator: Validator | None,
    workspace: Path,
    stop_after: int,
) -> Trainer:
    """The run of a model on windows, in a workspace."""
    config, options = model.config, model.options
    shape = BatchShape(
        max_length=config.max_length,
        max_targets=config.max_targets if config.matching_weight else 0,
        masking=config.masking if config.masked_weight else 0.0,
        num_negatives=config.num_negatives if config.negatives == "sampled" else 0,
        whole_catalogue=config.negatives == "catalogue",
    )
    _, counts = model.item_states(dataset.item_table)
    plan = BatchPlan(dataset, windows.training, options.batch_size, shape, options.seed)
    optimizers = make_optimizers(model.network, options)
    clusters = cluster_steps(model.network.f_i.ids, optimizers, len(plan), options)
    objective = Objective(
        network=model.network,
        config=config,
        fields=model.fields.encode(dataset.item_table),
        frequencies=counts / max(counts.sum(), 1),
        device=choose_device(options.device),
        clusters=clusters,
    )
    return Trainer(
        model.network,
        objective,
        plan,
        validator,
        options,
        workspace,
        stop_after,
        name=run_name(workspace),
        optimizers=optimizers,
        hooks=clusters,
    )
