"""Train a SASRec: from a Dataset to a Model folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch

from polyvec.data.batches import BatchPlan, BatchShape
from polyvec.data.dataset import days
from polyvec.data.item_sets import ItemSets
from polyvec.data.split import Windows, check_moment, cut, item_counts_within, leave_last_out
from polyvec.errors import DataError
from polyvec.evaluation.metrics import ndcg
from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.found import Filter
from polyvec.systems.budget import within_budget
from polyvec.systems.folder import (
    REFIT,
    check_refit,
    claim_workspace,
    run_name,
    told_best,
    told_budget,
    told_by,
    told_reach,
    write_model,
)
from polyvec.systems.plan import Plan
from polyvec.systems.sasrec.config import SASRecConfig, default
from polyvec.systems.sasrec.model import SYSTEM, SASRec
from polyvec.systems.sasrec.objective import Objective
from polyvec.training.cluster_steps import cluster_steps
from polyvec.training.loop import Trainer, choose_device
from polyvec.training.optimizers import make_optimizers
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    from polyvec.data.dataset import Dataset
    from polyvec.training.checkpoint import Progress

Validation = Literal["window", "none"]
TOP = 10


def fit(
    dataset: Dataset,
    out: Path | str,
    config: SASRecConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> SASRec:
    """Train SASRec on the purchases of a Dataset and write a Model folder.

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
        ``window``: the best epoch is chosen by NDCG@10 on what comes last, which is not trained on: the
        latest ``target_days``, or with an order every user's last event. ``none``: all epochs are trained.
    refit
        Train again on everything for the number of epochs that validation found best.
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
        If the data has no such moment, or ``refit`` has no validation to follow.
    """
    out, config, options = Path(out), config or default()[0], options or default()[1]
    config = settled(
        dataset, config, options, until=until, held_back=held_back, validation=validation, refit=refit
    )
    purchases = dataset.only_action()
    until = purchases.time_span[1] + 1 if until is None else until
    moment = [until, held_back, validation, refit]
    settings = {SYSTEM: asdict(config), "training": asdict(options), "moment": moment}
    with claim_workspace(out, dataset, settings, resume=resume, overwrite=overwrite) as workspace:
        everything = Histories.before(purchases, config, until, held_back)
        learned = everything if validation == "none" else everything.without_the_last(purchases, config)
        model, progress = _train(purchases, learned, config, options, workspace)
        runs = [progress]
        if refit:
            again, epochs = workspace / REFIT, progress.best_epoch + 1
            model, progress = _train(purchases, everything, config, options, again, epochs)
            runs.append(progress)
        model.finish()
        meta = (
            model.meta
            | told_by(runs, f"NDCG@{TOP}")
            | told_reach(dataset, until, held_back, of_purchases=True)
        )
        write_model(out, model, dataset, workspace, meta, card=_card(meta, purchases), overwrite=overwrite)
        return SASRec.open(out)


def settled(
    dataset: Dataset,
    config: SASRecConfig,
    options: TrainingOptions,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
) -> SASRecConfig:
    """Resolve what :func:`fit` resolves with the data: the item table in a budget.

    Parameters and errors are those of :func:`fit`; and :func:`polyvec.systems.budget.within_budget` raises
    UsageError where no item table fits.
    """
    check_moment(dataset, until, held_back)
    check_refit(validation, refit=refit)
    if not config.budget and not refit:
        return config
    purchases = dataset.only_action()
    histories = _last_histories(purchases, config, until, held_back, "none" if refit else validation)
    with torch.device("meta"):  # no memory
        model = _untrained(purchases, histories, config, options)
    return within_budget(config, model.num_known, model.sizes_with)


def plan(
    dataset: Dataset,
    config: SASRecConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
) -> Plan:
    """Tell what :func:`fit` would take, of two runs the second; parameters and errors are the same."""
    config, options = config or default()[0], options or default()[1]
    config = settled(
        dataset, config, options, until=until, held_back=held_back, validation=validation, refit=refit
    )
    purchases = dataset.only_action()
    histories = _last_histories(purchases, config, until, held_back, "none" if refit else validation)
    model = _untrained(purchases, histories, config, options)
    trainer = _trainer(model, purchases, histories, None, Path(), 0)
    return Plan.of(trainer, model.sizes_with(config))


@dataclass(frozen=True)
class Histories:
    """What is learned from and what is validated on.

    Attributes
    ----------
    training
        Windows whose histories are learned from.
    validation
        Windows with history and targets; None without validation.
    until, held_back
        Moment, as for :func:`fit`: nothing at or after it is in ``training``.
    """

    training: Windows
    validation: Windows | None
    until: int
    held_back: int

    @classmethod
    def before(cls, dataset: Dataset, config: SASRecConfig, until: int, held_back: int) -> Histories:
        """Everything before a moment, nothing to validate on.

        Raises
        ------
        DataError
            If nothing happened before it.
        """
        if dataset.time_kind == "timestamp":
            windows = cut(dataset, until, config.history_days, 0)
        else:
            windows = leave_last_out(dataset, held_back, targets=0)
        if not len(windows.with_history()):
            raise DataError(
                "no user has a history to learn from",
                expected=f"events within {config.history_days:g} days before the moment",
                mend="raise history_days, choose a later --until, or prepare more data",
            )
        return cls(windows.with_history(), None, until, held_back)

    def without_the_last(self, dataset: Dataset, config: SASRecConfig) -> Histories:
        """Hold out what comes last, to validate on."""
        if dataset.time_kind == "timestamp":
            cutoff = self.until - days(config.target_days)
            held_out = cut(dataset, cutoff, config.history_days, config.target_days)
            earlier = Histories.before(dataset, config, cutoff, 0)
        else:
            held_out = leave_last_out(dataset, self.held_back, targets=1)
            earlier = Histories.before(dataset, config, self.until, self.held_back + 1)
        checked = held_out.with_targets().with_history()
        return Histories(earlier.training, checked, earlier.until, earlier.held_back)


@dataclass(frozen=True)
class Validator:
    """NDCG@10 of a model on validation windows, among all items of the Dataset.

    Attributes
    ----------
    model
        Its network may go on training between calls.
    dataset, windows
        Histories to encode, targets to find.
    """

    model: SASRec
    dataset: Dataset
    windows: Windows

    def __call__(self) -> float:
        """Mean over users."""
        windows = self.windows
        seen = ItemSets.of_events(self.dataset, windows.history_start, windows.history_end)
        only = Filter(excluded=seen) if self.model.config.remove_seen else None
        index = ExactIndex(self.model.encode_items(self.dataset.item_table))
        found = index.search(self.model.encode_users(self.dataset, windows), TOP, only)
        targets = ItemSets.of_events(self.dataset, windows.target_start, windows.target_end)
        return float(np.nanmean(ndcg(found.rows, targets, TOP)))


def _last_histories(
    purchases: Dataset, config: SASRecConfig, until: int | None, held_back: int, validation: Validation
) -> Histories:
    """What the run whose weights are kept learns from."""
    until = purchases.time_span[1] + 1 if until is None else until
    everything = Histories.before(purchases, config, until, held_back)
    return everything if validation == "none" else everything.without_the_last(purchases, config)


def _train(
    dataset: Dataset,
    histories: Histories,
    config: SASRecConfig,
    options: TrainingOptions,
    workspace: Path,
    stop_after: int = 0,
) -> tuple[SASRec, Progress]:
    """Train a new model, or go on with the one in the workspace."""
    workspace.mkdir(exist_ok=True)
    model = _untrained(dataset, histories, config, options)
    model.network.to(choose_device(options.device))
    validation = histories.validation
    validator = Validator(model, dataset, validation) if validation is not None and len(validation) else None
    return model, _trainer(model, dataset, histories, validator, workspace, stop_after).run()


def _untrained(
    dataset: Dataset, histories: Histories, config: SASRecConfig, options: TrainingOptions
) -> SASRec:
    items = _counted(dataset, histories.training)
    return SASRec.new(config, options, items, histories.until, dataset.time_kind)


def _trainer(
    model: SASRec,
    dataset: Dataset,
    histories: Histories,
    validator: Validator | None,
    workspace: Path,
    stop_after: int,
) -> Trainer:
    config, options = model.config, model.options
    shape = BatchShape(max_length=config.max_length + 1)  # the latest event is foretold, too
    plan = BatchPlan(dataset, histories.training, options.batch_size, shape, options.seed)
    optimizers = make_optimizers(model.network, options)
    clusters = cluster_steps(model.network.items, optimizers, len(plan), options)
    slots, device = model.slots(dataset.item_table), choose_device(options.device)
    objective = Objective(model.network, config, slots, device, clusters)
    return Trainer(
        model.network,
        objective,
        plan,
        validator,
        options,
        workspace,
        stop_after,
        run_name(workspace),
        optimizers,
        clusters,
    )


def _counted(dataset: Dataset, windows: Windows) -> pl.DataFrame:
    """Items of the histories and their events, most events first."""
    counts = item_counts_within(dataset, windows.history_start, windows.history_end)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    return pl.DataFrame({"item_id": dataset.items.take(order), "events": counts[order]})


def _card(meta: dict[str, Any], dataset: Dataset) -> str:
    """Say in Markdown what was trained on what."""
    return "\n".join(
        [
            "# SASRec model",
            "",
            f"One vector of {meta['D']} numbers per user and item, joined by the dot product.",
            "",
            f"* {dataset.num_events:,} events, {dataset.num_users:,} users, {dataset.num_items:,} items",
            f"* {meta['parameters']:,} weights, {meta['steps']:,} steps; {told_best(meta)}",
            f"* {meta['bytes']:,} bytes, {meta['item_table_bytes']:,} of them the item table"
            f"{told_budget(meta['budget'])}",
            "* items that were not trained on (state `empty`), and those after the `max_popular` most sold, "
            "share one vector; users without purchases get the learned prior",
            "",
        ]
    )
