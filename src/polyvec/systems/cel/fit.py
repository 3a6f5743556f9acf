"""Train a CEL: from a Dataset to a Model folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch

from polyvec.data.dataset import days
from polyvec.data.item_sets import expand_ranges
from polyvec.data.split import Windows, check_moment, cut, leave_last_out
from polyvec.errors import DataError, UsageError
from polyvec.systems.cel.budget import within_budget
from polyvec.systems.cel.config import CELConfig, default
from polyvec.systems.cel.model import CEL, SYSTEM
from polyvec.systems.cel.objective import served_losses
from polyvec.systems.cel.past import before_each
from polyvec.systems.cel.records import Records
from polyvec.systems.cel.train import make_trainer, mean_error
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
from polyvec.systems.sizes import Sizes

if TYPE_CHECKING:
    from torch import Tensor

    from polyvec.data.dataset import Dataset
    from polyvec.systems.cel.network import CELNetwork
    from polyvec.training.checkpoint import Progress
    from polyvec.training.options import TrainingOptions

Validation = Literal["window", "none"]
RATING = "rating"


def fit(
    dataset: Dataset,
    out: Path | str,
    config: CELConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> CEL:
    """Train CEL on the ratings of a Dataset, or on its events against drawn items; write a Model folder.

    Parameters
    ----------
    dataset
        Data; for ratings with a column ``rating``.
    out
        The Model folder, whole or absent. While training, all that a resumed run needs lies in a hidden
        folder beside it.
    config, options
        What to train, and how; without them as :func:`polyvec.systems.cel.config.paper` says.
    until
        For timestamps: nothing at or after this time is read. None reads everything.
    held_back
        For ordered data: last events of every user that are not read.
    validation
        ``window``: the best epoch is chosen by the error of what comes last, which is not trained on: the
        latest ``target_days``, or with an order every user's last event; new users and items do not count.
        ``none``: all epochs are trained.
    refit
        Train again on everything for the number of epochs that validation found best.
    resume
        Go on from the latest checkpoint of an interrupted run of the same configuration.
    overwrite
        Replace an existing Model.

    Raises
    ------
    DataError
        If there is nothing to learn from, or no column ``rating``.
    TrainingError
        If the loss is not finite.
    ArtifactError
        If ``out`` exists, or the run to resume was another one.
    UsageError
        If the data has no such moment, ``refit`` has no validation to follow, or nothing fits into
        ``config.budget``.
    """
    defaults = default()
    out, config, options = Path(out), config or defaults[0], options or defaults[1]
    check_moment(dataset, until, held_back)
    check_refit(validation, refit=refit)
    config = settled(dataset, config, options)
    until = dataset.time_span[1] + 1 if until is None else until
    moment = [until, held_back, validation, refit]
    settings = {SYSTEM: asdict(config), "training": asdict(options), "moment": moment}
    everything = learned = Split.before(dataset, config, until, held_back, options.seed)
    if validation == "window":
        learned = everything.without_the_last(dataset, config, options.seed)
    with claim_workspace(out, dataset, settings, resume=resume, overwrite=overwrite) as workspace:
        model, progress = _train(dataset, learned, config, options, workspace)
        runs = [progress]
        if refit:
            again, epochs = workspace / REFIT, progress.best_epoch + 1
            model, progress = _train(dataset, everything, config, options, again, epochs)
            runs.append(progress)
        meta = model.meta | told_by(runs, "-error") | told_reach(dataset, until, held_back)
        write_model(out, model, dataset, workspace, meta, card=_card(model, meta), overwrite=overwrite)
        return CEL.open(out)


def settled(dataset: Dataset, config: CELConfig, options: TrainingOptions, **_moment: Any) -> CELConfig:
    """Resolve what :func:`fit` resolves with the data: tables and clusters in a budget.

    Raises
    ------
    UsageError
        If nothing fits, or another device than the CPU is asked for, where losses under all clusters are
        products of sparse matrices.
    """
    if options.device not in ("auto", "cpu"):
        raise UsageError(
            f"cel does not train on {options.device}", expected="the CPU", mend="leave device out"
        )
    return within_budget(config, dataset.num_users, dataset.num_items)


def plan(
    dataset: Dataset,
    config: CELConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
) -> Plan:
    """Tell what :func:`fit` would take; parameters and errors are the same."""
    defaults = default()
    config, options = config or defaults[0], options or defaults[1]
    check_moment(dataset, until, held_back)
    check_refit(validation, refit=refit)
    config = settled(dataset, config, options)
    until = dataset.time_span[1] + 1 if until is None else until
    learned = Split.before(dataset, config, until, held_back, options.seed)
    if validation == "window" and not refit:
        learned = learned.without_the_last(dataset, config, options.seed)
    counts = dataset.num_users, dataset.num_items
    network, trainer = make_trainer(learned.training, *counts, config, options, Path())
    return Plan.of(trainer, Sizes.of(network, network.items))


@dataclass(frozen=True)
class Split:
    """What is learned from and what is validated on.

    Attributes
    ----------
    training
        Interactions to learn from.
    validation
        Interactions to validate on; None without validation.
    until, held_back
        Moment, as for :func:`fit`: nothing at or after it is in ``training``.
    """

    training: Records
    validation: Records | None
    until: int
    held_back: int

    @classmethod
    def before(cls, dataset: Dataset, config: CELConfig, until: int, held_back: int, seed: int) -> Split:
        """Everything before a moment, nothing to validate on.

        Raises
        ------
        DataError
            If nothing happened before it.
        """
        windows = _windows(dataset, until, held_back)
        training = records_of(
            dataset, config, windows.user_rows, windows.history_start, windows.history_end, seed
        )
        if not len(training):
            raise DataError(
                f"no event before the moment has a {config.target} to learn from",
                expected="events with a label, before it",
                mend="choose a later --until, or prepare more data",
            )
        return cls(training, None, until, held_back)

    def without_the_last(self, dataset: Dataset, config: CELConfig, seed: int) -> Split:
        """Hold out what comes last, to validate on."""
        if dataset.time_kind == "timestamp":
            held_out = cut(dataset, self.until - days(config.target_days), None, config.target_days)
            earlier = Split.before(dataset, config, self.until - days(config.target_days), 0, seed)
        else:
            held_out = leave_last_out(dataset, self.held_back, targets=1)
            earlier = Split.before(dataset, config, self.until, self.held_back + 1, seed)
        last = records_of(
            dataset,
            config,
            held_out.user_rows,
            held_out.target_start,
            held_out.target_end,
            seed + 1,
            earlier=earlier.training,
        )
        last = _of_known(last, earlier.training, dataset)
        return replace(earlier, validation=last if len(last) else None)


def _of_known(records: Records, training: Records, dataset: Dataset) -> Records:
    """Interactions of a user and an item that there is something to learn of."""
    users = torch.bincount(training.users, minlength=dataset.num_users) > 0
    items = torch.bincount(training.items, minlength=dataset.num_items) > 0
    return records.take((users[records.users] & items[records.items]).nonzero()[:, 0])


def _windows(dataset: Dataset, until: int, held_back: int) -> Windows:
    if dataset.time_kind == "timestamp":
        return cut(dataset, until, None, 0)
    return leave_last_out(dataset, held_back, targets=0)


def records_of(
    dataset: Dataset,
    config: CELConfig,
    user_rows: np.ndarray[Any, Any],
    start: np.ndarray[Any, Any],
    stop: np.ndarray[Any, Any],
    seed: int,
    earlier: Records | None = None,
) -> Records:
    """Interactions of ranges of events, with what came before each where the model looks at it.

    Parameters
    ----------
    dataset, config
        The data, and what is to be learned from it.
    user_rows
        User of each range, int64 ``[W]``.
    start, stop
        Events ``start[w] : stop[w]``, int64 ``[W]``.
    seed
        Of the drawn items of ``click``.
    earlier
        Interactions before: what a user had in them is not drawn for him either, but by ``din``, which asks
        what comes now.

    Raises
    ------
    DataError
        If ratings are asked for and there is no such column.
    """
    owners, events = expand_ranges(start, stop)
    users, items = user_rows[owners], dataset.item_rows[events].astype(np.int64)
    if config.target == "click":
        own = np.empty(0, np.int64)
        if config.interaction != "din":  # which asks when, and what one had before may not be what comes now
            own = users * dataset.num_items + items
            if earlier is not None:
                had = earlier.take((earlier.labels > 0).nonzero()[:, 0])
                own = np.concatenate([own, (had.users * dataset.num_items + had.items).numpy()])
        records, of_event = _with_drawn_items(
            users, items, own, dataset.num_items, config.num_negatives, seed
        )
        events = events[of_event]
    else:
        labels = _ratings(dataset)[events]
        known = np.isfinite(labels)
        records, events = _as_records(users[known], items[known], labels[known]), events[known]
    if config.interaction != "din":
        return records
    return replace(records, past=before_each(dataset, records.users.numpy(), events, config.max_length))


def _ratings(dataset: Dataset) -> np.ndarray[Any, Any]:
    if RATING not in dataset.columns:
        raise DataError(
            "the data has no column rating",
            column=RATING,
            expected="a number for each event that was rated",
            mend="prepare the data with it, or learn from events alone: --set target=click "
            "--set nonnegative=false",
        )
    return dataset.columns[RATING]


def _with_drawn_items(
    users: np.ndarray[Any, Any],
    items: np.ndarray[Any, Any],
    own: np.ndarray[Any, Any],
    num_items: int,
    num_negatives: int,
    seed: int,
) -> tuple[Records, np.ndarray[Any, Any]]:
    """Events as ones, and for each some items drawn evenly as zeros; and the event of each, int64 ``[P]``.

    ``own`` are pairs that are no zeros, users · N + items: where one is drawn, it is left out.
    """
    drawn = np.random.default_rng(seed).integers(0, num_items, num_negatives * len(items))
    events = np.tile(np.arange(len(items)), num_negatives + 1)
    all_users, all_items = users[events], np.concatenate([items, drawn])
    is_own = np.isin(all_users * num_items + all_items, own)
    is_own[: len(items)] = False
    labels = np.repeat([1.0, 0.0], [len(items), len(drawn)])
    return _as_records(all_users[~is_own], all_items[~is_own], labels[~is_own]), events[~is_own]


def _as_records(
    users: np.ndarray[Any, Any], items: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]
) -> Records:
    return Records(
        torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(labels.astype(np.float32))
    )


def _train(
    dataset: Dataset,
    split: Split,
    config: CELConfig,
    options: TrainingOptions,
    workspace: Path,
    stop_after: int = 0,
) -> tuple[CEL, Progress]:
    """Train a new model, or go on with the one in the workspace."""
    workspace.mkdir(exist_ok=True)
    records, held_out = split.training, split.validation

    events = _events(records, config, dataset.num_users, dataset.num_items)

    def validate(network: CELNetwork, asked: Records) -> float:
        """How well is foretold what is held out, by what is served; DIN serves something simpler."""
        if config.interaction == "din":
            return -mean_error(network, asked)
        return -float(served_losses(network, asked, events).mean())

    network, trainer = make_trainer(
        records,
        dataset.num_users,
        dataset.num_items,
        config,
        options,
        workspace,
        validate=None if held_out is None else partial(validate, asked=held_out),
        stop_after=stop_after,
        name=run_name(workspace),
    )
    progress = trainer.run()
    users, items = (
        pl.DataFrame({ids.name: ids.series, "events": counts.numpy()})
        for ids, counts in zip((dataset.users, dataset.items), events, strict=True)
    )
    return CEL(config, options, network, users, items, split.until, dataset.time_kind), progress


def _events(records: Records, config: CELConfig, num_users: int, num_items: int) -> tuple[Tensor, Tensor]:
    """Training events of every user and every item, int64 ``[U]`` and ``[N]``; drawn items are none."""
    if config.target == "click":
        records = records.take((records.labels > 0).nonzero()[:, 0])
    sides = (records.users, num_users), (records.items, num_items)
    users_U, items_N = (torch.bincount(rows, minlength=count) for rows, count in sides)
    return users_U, items_N


def _card(model: CEL, meta: dict[str, Any]) -> str:
    """Say in Markdown what was trained on what."""
    joined = "a deep interest network over rows" if model.config.interaction == "din" else "the dot product"
    sizes = ", ".join(
        f"{len(table):,} {name} in {meta['clusters'][name]:,} rows ({meta['table_bytes'][name]:,} bytes)"
        for name, table in (("users", model.trained_users), ("items", model.trained_items))
    )
    return "\n".join(
        [
            "# CEL model",
            "",
            f"{sizes}; joined by {joined} of {meta['D']} numbers.",
            "",
            f"* {meta['parameters']:,} weights in {meta['bytes']:,} bytes{told_budget(meta['budget'])}, "
            f"{meta['steps']:,} steps; {told_best(meta)}",
            "* users and items that were not trained on have the mean vector of those that were",
            "",
        ]
    )
