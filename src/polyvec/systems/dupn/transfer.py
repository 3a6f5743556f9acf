"""A task that a fitted DUPN was not trained on, in the four ways of the paper (section 6.3)."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from torch import nn

from polyvec.data.split import check_moment, check_time_kind
from polyvec.errors import DataError, UsageError
from polyvec.layers.dropout import Dropout
from polyvec.systems.dupn.fit import Lessons, begun, card, end_of, make_optimizers_of, train
from polyvec.systems.dupn.model import DUPN, SYSTEM
from polyvec.systems.folder import claim_workspace, told_by, told_reach, version_of, write_model
from polyvec.training.loop import choose_device
from polyvec.training.optimizers import make_optimizers

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from polyvec.data.dataset import Dataset
    from polyvec.systems.dupn.config import Task
    from polyvec.systems.dupn.fit import Validation
    from polyvec.systems.dupn.samples import Samples
    from polyvec.training.options import TrainingOptions

How = Literal["rt", "ft", "rs", "ra"]
SHARE_SEED = 3_000_000


def transfer(
    model: DUPN,
    dataset: Dataset,
    name: str,
    task: Task,
    out: Path | str,
    *,
    how: How = "ft",
    options: TrainingOptions | None = None,
    encoder_rate: float = 1.0,
    share: float = 1.0,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    resume: bool = False,
    overwrite: bool = False,
) -> DUPN:
    """Learn a new task with what a fitted model knows, and write a new Model folder.

    Parameters
    ----------
    model
        A fitted DUPN.
    dataset
        Data that answers the new task; for ``ra`` the model's own, too.
    name, task
        The new one.
    out
        The new Model folder, whole or absent.
    how
        ``rt``, representation transfer: the encoder stays as it is, only the new head is trained; the model's
        own tasks are answered as before. ``ft``, fine-tuning: head and encoder are trained on the new task;
        the model's own heads, which the encoder has left, are dropped. What either is validated on is of days
        that the encoder may have learned from. ``rs``: a new model of the same
        configuration is trained on the new task alone. ``ra``: and one on all tasks together. The last two
        are what transfer is compared with; they look things up in rows of their own.
    options
        How to train; the model's own options without it.
    encoder_rate
        Of ``ft``: learning rate of the encoder, in parts of the head's. Where labels are few, 0.1 or less.
    share
        Of the new task's training samples, drawn at random: how much do few labels do?
    until, held_back, validation, resume, overwrite
        As of :func:`polyvec.systems.dupn.fit.fit`.

    Raises
    ------
    UsageError
        If the model has such a task, learned from another kind of time, or has no representation that heads
        read; or an option is out of its range.
    DataError
        If the data does not answer the task.
    ArtifactError
        If ``out`` exists, or the run to resume was another one.
    """
    out, options = Path(out), options or model.options
    _check(model, name, how, encoder_rate, share)
    check_time_kind(model.time_kind, dataset)
    check_moment(dataset, until, held_back)
    stop = end_of(dataset, until, held_back)
    tasks = {name: task}
    if how == "ra":
        tasks = (model.config.tasks or {}) | tasks
    config = replace(model.config, tasks=tasks)
    fields = model.fields if how in ("rt", "ft") else None
    lessons = Lessons.of(dataset, config, options, stop, validates=validation != "none", fields=fields)
    if lessons.held_out is not None and name not in lessons.held_out:
        raise DataError(
            f"task '{name}' cannot be validated on the last {config.validation_days} days",
            expected="samples with different answers",
            mend="pass --no-validation",
        )
    if share < 1:
        lessons = replace(lessons, training=lessons.training | {name: drawn(lessons.training[name], share)})
    start, optimizers = begin(dataset, model, lessons, name, how, options, encoder_rate)
    settings = {
        SYSTEM: asdict(config),
        "training": asdict(options),
        "from": version_of(model),
        "moment": [stop, validation, how, encoder_rate, share],
    }
    with claim_workspace(out, dataset, settings, resume=resume, overwrite=overwrite) as workspace:
        found, progress = train(dataset, lessons, start, workspace, optimizers=optimizers)
        base = model.manifest.meta if model.manifest and how in ("rt", "ft") else None
        meta = found.meta | told_by([progress], "mean over tasks") | lessons.told(found, dataset)
        meta |= told_reach(dataset, stop, held_back, base)
        meta |= {"transferred": {"task": name, "how": how, "share": share}}
        if how == "rt" and model.manifest is not None:
            meta["samples"] = model.manifest.meta["samples"] | meta["samples"]
        write_model(out, found, dataset, workspace, meta, card=card(meta), overwrite=overwrite)
        return DUPN.open(out)


def drawn(samples: Samples, share: float) -> Samples:
    """A share of some samples, drawn at random: a smaller one is part of a larger one."""
    return samples.drawn(max(round(share * len(samples)), 1), SHARE_SEED)


def begin(
    dataset: Dataset,
    model: DUPN,
    lessons: Lessons,
    name: str,
    how: How,
    options: TrainingOptions,
    encoder_rate: float = 1.0,
) -> tuple[DUPN, list[Optimizer] | None]:
    """What is to be trained on a new task, and its optimizers; None stands for one rate for all.

    For ``rt`` and ``ft`` the lessons have the model's own fields.
    """
    if how in ("rs", "ra"):
        return begun(dataset, lessons, options), None
    start = grown(model, lessons, options, keep_tasks=how == "rt")
    if how == "ft":
        start.network.to(choose_device(options.device))  # before Adagrad makes its sums
        return start, _two_rates(start, options, encoder_rate)
    for weight, parameter in start.network.named_parameters():
        parameter.requires_grad_(weight.startswith(f"heads.of {name}."))
    for part in start.representing.encoder.modules():
        if isinstance(part, Dropout):
            part.share = 0.0  # the head learns from the vectors that it will be asked with
    return start, None


def grown(model: DUPN, lessons: Lessons, options: TrainingOptions, *, keep_tasks: bool) -> DUPN:
    """The model with heads for the lessons' tasks: its weights, and new ones for what is new."""
    tasks = (model.tasks if keep_tasks else {}) | lessons.tasks
    config = replace(model.config, tasks={name: task for name, (task, _) in tasks.items()})
    until = max(model.trained_until, lessons.learned_until)  # what the encoder has seen counts, too
    larger = DUPN.new(config, options, model.fields, tasks, model.trained_items, until, model.time_kind)
    known = dict(model.network.state_dict())
    weights = larger.network.state_dict()
    larger.network.load_state_dict({key: known.get(key, weight) for key, weight in weights.items()})
    return larger


def _two_rates(model: DUPN, options: TrainingOptions, encoder_rate: float) -> list[Optimizer] | None:
    """Optimizers of encoder and heads; None stands for one rate for all."""
    if encoder_rate == 1:
        return None
    slower = replace(options, learning_rate=options.learning_rate * encoder_rate)
    network = model.representing
    others = nn.ModuleList([network.heads, network.log_variances])
    parts = ((network.encoder, slower), (others, options))
    found: list[Optimizer] = []
    for part, how in parts:
        found += make_optimizers_of(model.config, part, how) or make_optimizers(part, how)
    return found


def _check(model: DUPN, name: str, how: str, encoder_rate: float, share: float) -> None:
    model.check_heads("transferred")
    if name in model.tasks:
        raise UsageError(
            f"the model was trained on task '{name}' already",
            expected=f"another than {', '.join(model.tasks)}",
        )
    if how not in get_args(How):
        raise UsageError(f"there is no transfer '{how}'", expected=", ".join(get_args(How)))
    if not 0 < share <= 1:
        raise UsageError(f"a share of {share} of the labels", expected="more than 0, at most 1")
    if encoder_rate <= 0 or (encoder_rate != 1 and how != "ft"):
        raise UsageError(
            f"an encoder rate of {encoder_rate} with '{how}'",
            expected="more than 0, and with 'ft' alone; 'rt' keeps the encoder as it is",
        )
