"""Train DUPN: from a Dataset to a Model folder."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from torch.optim import Adagrad

from polyvec.data.dataset import PURCHASE, days
from polyvec.data.fields import check_item_fields
from polyvec.data.offers import EVER, is_within
from polyvec.data.split import check_moment
from polyvec.errors import DataError, UsageError
from polyvec.systems.dupn.config import ANSWERS, DUPNConfig, default, told_kinds
from polyvec.systems.dupn.features import Encoder, Fields
from polyvec.systems.dupn.model import DUPN, SYSTEM, Tasks
from polyvec.systems.dupn.objective import Objective, Validator
from polyvec.systems.dupn.samples import Samples
from polyvec.systems.dupn.task_plan import TaskPlan
from polyvec.systems.dupn.tasks import learn, samples_of, tasks_of
from polyvec.systems.dupn.word2vec import check_installed, pretrain
from polyvec.systems.folder import (
    REFIT,
    check_refit,
    claim_workspace,
    run_name,
    told_best,
    told_by,
    told_reach,
    told_updates,
    write_model,
)
from polyvec.systems.plan import Plan
from polyvec.training.cluster_steps import cluster_steps
from polyvec.training.loop import Trainer, choose_device
from polyvec.training.optimizers import make_optimizers
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import nn
    from torch.optim import Optimizer

    from polyvec.data.dataset import Dataset
    from polyvec.training.checkpoint import Progress

Validation = Literal["window", "none"]
VALIDATION_SEED = 1_000_000
ACCUMULATED = 0.1  # Adagrad's sums of squares to begin with, as in TensorFlow


def fit(
    dataset: Dataset,
    out: Path | str,
    config: DUPNConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> DUPN:
    """Train one representation of users for many tasks, and write a Model folder.

    Parameters
    ----------
    dataset
        What users did: events of all actions.
    out
        The Model folder, whole or absent. While training, all that a resumed run needs lies in a hidden
        folder beside it.
    config, options
        What to train, and how; the default preset without them.
    until
        For timestamps: nothing at or after this time is read. None reads everything.
    held_back
        For ordered data: last events of every user that are not read.
    validation
        ``window``: the best epoch is chosen by what the tasks' answers of the latest ``validation_days``, of
        ordered data of as many last events of every user, are worth on average. ``none``: all epochs are
        trained.
    refit
        Train again on everything for the number of epochs that validation found best.
    resume
        Go on from the latest checkpoint of an interrupted run of the same configuration.
    overwrite
        Replace an existing Model.

    Raises
    ------
    DataError
        If a task asks for what the data does not have, or there is nothing to learn from.
    TrainingError
        If the loss is not finite.
    ArtifactError
        If ``out`` exists, or the run to resume was another one.
    UsageError
        If the data has no such moment, a task's name cannot be a file's, ``refit`` has no validation to
        follow, or a library is missing that makes vectors of items.
    """
    out, config, options = Path(out), config or default()[0], options or default()[1]
    check_moment(dataset, until, held_back)
    check_refit(validation, refit=refit)
    stop = end_of(dataset, until, held_back)
    settings = {SYSTEM: asdict(config), "training": asdict(options), "moment": [stop, validation, refit]}
    lessons = Lessons.of(dataset, config, options, stop, validates=validation != "none")
    with claim_workspace(out, dataset, settings, resume=resume, overwrite=overwrite) as workspace:
        model, progress = train(dataset, lessons, begun(dataset, lessons, options), workspace)
        told = lessons.told(model, dataset)
        runs = [progress]
        if refit:
            lessons = Lessons.of(dataset, lessons.config, options, stop, validates=False)
            again = workspace / REFIT
            untrained = begun(dataset, lessons, options)
            model, progress = train(dataset, lessons, untrained, again, progress.best_epoch + 1)
            runs.append(progress)
        meta = model.meta | told_by(runs, "mean over tasks") | told_reach(dataset, stop, held_back) | told
        write_model(
            out, model, dataset, workspace, meta, card=card(meta), overwrite=overwrite, keeps_optimizers=True
        )
        return DUPN.open(out)


def plan(
    dataset: Dataset,
    config: DUPNConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
) -> Plan:
    """Tell what :func:`fit` would take; parameters and errors are the same."""
    config, options = config or default()[0], options or default()[1]
    check_moment(dataset, until, held_back)
    check_refit(validation, refit=refit)
    validates = validation != "none" and not refit
    lessons = Lessons.of(dataset, config, options, end_of(dataset, until, held_back), validates=validates)
    model = lessons.untrained(options)
    return Plan.of(_trainer(dataset, lessons, model, Path()), model.sizes)


@dataclass(frozen=True)
class Lessons:
    """What is learned from, and what is validated on.

    Attributes
    ----------
    config
        With the tasks that the data can answer.
    tasks
        By name, with what each learned from its samples.
    fields
        What has a row in the tables.
    counts
        Training events of every item, int64 ``[N]``.
    item_ids
        Of the items, in the same order.
    training
        Samples by task.
    held_out
        Those to validate on; None without validation.
    left_out
        Tasks that the data might answer and does not, or that the model does not answer, and why.
    is_read
        Which events are learned from, bool ``[E]``.
    learned_until
        No event at or after this time is learned from; of ordered data none after this position.
    time_kind
        ``timestamp`` or ``order``.
    """

    config: DUPNConfig
    tasks: Tasks
    fields: Fields
    counts: npt.NDArray[np.int64]
    item_ids: pl.Series
    training: dict[str, Samples]
    held_out: dict[str, Samples] | None
    left_out: dict[str, str]
    is_read: npt.NDArray[np.bool_]
    learned_until: int
    time_kind: Literal["timestamp", "order"]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        config: DUPNConfig,
        options: TrainingOptions,
        stop: int,
        *,
        validates: bool,
        fields: Fields | None = None,
    ) -> Lessons:
        """Find samples, and learn what has a row, if it is not told by ``fields``.

        Raises
        ------
        DataError
            If a task of the configuration cannot be asked, or none can.
        UsageError
            If vectors of items are to be made by a library that is not installed.
        """
        if fields is None and config.item_vectors == "word2vec":
            check_installed()
        length = config.validation_days if dataset.time_kind == "order" else days(config.validation_days)
        cut = stop - length if validates else stop
        if fields is None:
            check_item_fields(dataset.item_table, config.item_fields, type(config)().item_fields)
        tasks: Tasks = {}
        training, left_out = {}, {}
        for name, task in (config.tasks or tasks_of(dataset)).items():
            _check_name(name)
            if task.kind not in ANSWERS[config.model]:
                left_out[name] = told_kinds(config.model)
                continue
            try:
                known, samples = learn(dataset, task, EVER, cut, options.seed, config.max_length)
            except DataError as error:
                if config.tasks is not None:
                    raise _named(error, name) from None
                left_out[name] = error.what
                continue
            tasks[name], training[name] = (task, known), samples
        if not tasks:
            raise DataError(
                f"no task has samples before the {config.validation_days} days that are validated on",
                expected="; ".join(f"{name}: {why}" for name, why in left_out.items()),
                mend="declare tasks in a file (--config), change validation_days, or pass --validation none",
            )
        held_out = None
        if validates:
            held_out = {
                name: samples_of(dataset, *tasks[name], cut, stop, VALIDATION_SEED, config.max_length)
                for name in tasks
            }
            held_out = {name: samples for name, samples in held_out.items() if _can_be_validated(samples)}
            if not held_out:
                raise DataError(
                    f"no task can be validated on the last {config.validation_days} days",
                    expected="samples with different answers",
                    mend="change validation_days, or pass --validation none",
                )
        is_read = is_within(dataset, EVER, cut)
        counts = np.bincount(dataset.item_rows[is_read], minlength=dataset.num_items).astype(np.int64)
        learned_until = int(dataset.times[is_read].max(initial=-1)) + 1
        return cls(
            replace(config, tasks={name: task for name, (task, _) in tasks.items()}),
            tasks,
            Fields.learn(dataset, config, is_read) if fields is None else fields,
            counts,
            dataset.items.series,
            training,
            held_out,
            left_out,
            is_read,
            learned_until if dataset.time_kind == "order" else cut,
            dataset.time_kind,
        )

    def untrained(self, options: TrainingOptions) -> DUPN:
        """A new model."""
        seen = np.flatnonzero(self.counts)
        trained = pl.DataFrame({"item_id": self.item_ids.gather(seen), "events": self.counts[seen]})
        return DUPN.new(
            self.config, options, self.fields, self.tasks, trained, self.learned_until, self.time_kind
        )

    def told(self, model: DUPN, dataset: Dataset) -> dict[str, Any]:
        """Manifest entries: samples and validation of every task, fields, and what was left out."""
        measures = {}
        if self.held_out is not None:
            encoder = Encoder.of(dataset, self.fields)
            measures = Validator(model.network, self.config.tasks or {}, self.held_out, encoder).measures()
        parts = self.fields
        return {
            "samples": {name: len(samples) for name, samples in self.training.items()},
            "validated": {
                name: {measure: round(value, 5) for measure, value in found.items()}
                for name, found in measures.items()
            },
            "left_out": self.left_out,
            "not_validated": [name for name in self.tasks if name not in measures],
            "fields": {
                "items": [*parts.items, *(["title"] if len(parts.words) else []), *parts.tags],
                "events": [*parts.events, *(["time"] if self.time_kind == "timestamp" else [])],
                "users": list(parts.users),
                "query": ["query"] if len(parts.query) else [],
            },
        }


def begun(dataset: Dataset, lessons: Lessons, options: TrainingOptions) -> DUPN:
    """A new model; with vectors of items, if word2vec is to make them of the events that are learned from."""
    model = lessons.untrained(options)
    if lessons.config.item_vectors == "word2vec":
        encoder = Encoder.of(dataset, lessons.fields)
        pretrain(model.representing.encoder.items, encoder, lessons.is_read, options.seed)
    return model


def end_of(dataset: Dataset, until: int | None, held_back: int) -> int:
    """End of what is read, as :func:`polyvec.data.offers.draw_offers` takes it."""
    if dataset.time_kind == "order":
        return -held_back
    return dataset.time_span[1] + 1 if until is None else until


def make_optimizers_of(
    config: DUPNConfig, part: nn.Module, options: TrainingOptions
) -> list[Optimizer] | None:
    """Adagrad for a part of the network, if the configuration asks for it; None stands for Adam."""
    if config.optimizer == "adam":
        return None
    if options.weight_decay:
        raise UsageError(
            f"adagrad knows no weight_decay ({options.weight_decay:g})",
            expected="weight_decay=0",
            mend="set weight_decay=0, or optimizer=adam",
        )
    torch.sparse.check_sparse_tensor_invariants.disable()  # said aloud: else torch warns that it does not
    rate = options.learning_rate
    return [Adagrad(part.parameters(), lr=rate, initial_accumulator_value=ACCUMULATED)]


def train(
    dataset: Dataset,
    lessons: Lessons,
    model: DUPN,
    workspace: Path,
    stop_after: int = 0,
    optimizers: list[Optimizer] | None = None,
) -> tuple[DUPN, Progress]:
    """Train a model in place, or go on with the one in the workspace; ``stop_after`` epochs, or all for 0."""
    workspace.mkdir(exist_ok=True)
    return model, _trainer(dataset, lessons, model, workspace, stop_after, optimizers).run()


def _trainer(
    dataset: Dataset,
    lessons: Lessons,
    model: DUPN,
    workspace: Path,
    stop_after: int = 0,
    optimizers: list[Optimizer] | None = None,
) -> Trainer:
    options, device = model.options, choose_device(model.options.device)
    model.network.to(device)
    encoder = Encoder.of(dataset, lessons.fields)
    tasks, held_out = lessons.config.tasks or {}, lessons.held_out
    plan = TaskPlan(lessons.training, encoder, options.batch_size, options.seed, device)
    optimizers = optimizers or make_optimizers_of(model.config, model.network, options)
    optimizers = optimizers or make_optimizers(model.network, options)
    ids, clusters = model.network.item_table, None
    # Where the encoder stays as it is, so do the clusters.
    if ids is not None and next(ids.parameters()).requires_grad:
        clusters = cluster_steps(ids, optimizers, len(plan), options)
    return Trainer(
        model.network,
        Objective(model.network, model.config, tasks, clusters),
        plan,
        None if held_out is None else Validator(model.network, tasks, held_out, encoder),
        options,
        workspace,
        stop_after,
        run_name(workspace),
        optimizers=optimizers,
        hooks=clusters,
    )


def _can_be_validated(samples: Samples) -> bool:
    return len(samples) > 0 and bool((samples.answers != samples.answers[0]).any())


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise UsageError(
            f"'{name}' cannot be a task's name",
            expected="lower-case letters, digits and _",
        )


def _named(error: DataError, name: str) -> DataError:
    return DataError(
        f"task '{name}': {error.what}", column=error.column, expected=error.expected, mend=error.mend
    )


def card(meta: dict[str, Any]) -> str:
    """Say in Markdown what was trained on what."""
    parts = [f"{kind}: {', '.join(names)}" for kind, names in meta["fields"].items() if names]
    vectors = f"One vector of {meta['D']} numbers per user" if meta["C"] else "No vectors of users"
    lines = ["# DUPN model", "", f"{vectors}, for many tasks ({meta['variant']}).", ""]
    for name, kind in meta["tasks"].items():
        measures = meta["validated"].get(name, {})
        worth = ", ".join(f"{measure} {value:.4f}" for measure, value in measures.items())
        said = f"; on validation {worth}" if worth else ""
        samples = f": {meta['samples'][name]:,} samples" if name in meta["samples"] else ""
        action = meta.get("actions", {}).get(name, PURCHASE)
        of_action = "" if action == PURCHASE else f" of '{action}'" if action else " of every action"
        lines.append(f"* {name} ({kind}{of_action}){samples}{said}")
    lines += [f"* left out: {name}, {why}" for name, why in meta["left_out"].items()]
    if meta["not_validated"]:
        lines.append(f"* not validated, too little in the time for it: {', '.join(meta['not_validated'])}")
    lines += [
        f"* fields of {'; of '.join(parts)}",
        f"* {meta['parameters']:,} weights in {meta['bytes']:,} bytes, {meta['steps']:,} steps; "
        f"{told_best(meta)}",
        *told_updates(meta),
        "",
    ]
    return "\n".join(lines)
