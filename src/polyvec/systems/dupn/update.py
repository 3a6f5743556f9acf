"""The daily update of a DUPN: what is new is foretold, learned once, judged, and published (section 7)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polyvec.data.dataset import days, format_time
from polyvec.data.fields import texts_of
from polyvec.data.offers import is_within
from polyvec.data.split import check_time_kind, period_after
from polyvec.errors import DataError, UsageError
from polyvec.layers.tables import PopularTable
from polyvec.systems.dupn.config import HEADED
from polyvec.systems.dupn.features import ITEM_ID, Encoder, ItemRows
from polyvec.systems.dupn.fit import ACCUMULATED, card, make_optimizers_of
from polyvec.systems.dupn.model import DUPN
from polyvec.systems.dupn.objective import Objective, asked, worth_of_each
from polyvec.systems.dupn.samples import Samples
from polyvec.systems.dupn.task_plan import TaskPlan
from polyvec.systems.dupn.tasks import of_whole_days, samples_of
from polyvec.systems.folder import check_time_zone, claim_workspace, version_of
from polyvec.systems.updating import (
    Comparison,
    UpdateOptions,
    check,
    check_growing,
    held_out,
    one_pass,
    with_counts,
    with_update,
)
from polyvec.systems.versions import next_version, publish
from polyvec.training.checkpoint import OPTIMIZERS
from polyvec.training.growth import begin_at_means, go_on, grow
from polyvec.training.loop import Trainer, choose_device
from polyvec.training.optimizers import make_optimizers

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.systems.dupn.config import Task
    from polyvec.systems.dupn.model import Tasks
    from polyvec.systems.dupn.samples import Known
    from polyvec.training.checkpoint import Progress
    from polyvec.training.options import TrainingOptions

    Floats = npt.NDArray[np.float64]

CATEGORY = "category"


def update(
    path: Path | str,
    dataset: Dataset,
    options: TrainingOptions | None = None,
    how: UpdateOptions | None = None,
    *,
    until: int | None = None,
    gate: bool = True,
    resume: bool = False,
) -> DUPN:
    """Let a fitted DUPN learn what came since, and publish it in the place of the old one.

    The model first foretells the new period (progressive validation); then all its weights go on learning, on
    the period's samples, and with ``how.rehearsal`` on some of those before, in one pass; then it is compared
    with the old one on users that were held out.
    Items, brands, shops, words … that are new get rows of their own, those of items begin at the mean of
    their category. Classes and levels of tasks stay as they are.

    Parameters
    ----------
    path
        A Model folder. It is replaced by the updated Model, whole, or stays as it is; the old one is kept:
        see :mod:`polyvec.systems.versions`.
    dataset
        A log with the new events and with those before them, which are the histories.
    options, how
        How to train, :func:`polyvec.systems.updating.one_pass` of the model's own without it; and by whom to
        judge.
    until
        Nothing at or after this time is read. None reads everything.
    gate
        Whether a model that is worse is refused. Without it, it is published all the same.
    resume
        Go on from the latest checkpoint of an interrupted update; or, of one that was refused, ask again.

    Raises
    ------
    DataError
        If nothing is new, or no task is answered by it.
    UsageError
        If the model's item table takes no new items, or the data is by another clock than the model's.
    TrainingError
        If the new model is worse than the old one, which then stays; or the loss is not finite.
    ArtifactError
        If the folder is missing, damaged, or holds a model of another system.
    """
    path = Path(path).resolve()  # a link goes on leading to it
    model = DUPN.open(path)
    check_time_kind(model.time_kind, dataset)
    check_time_zone(model.manifest, dataset)
    _check_model(model)
    check_growing(model.config.item_table, model.config.item_rows, len(model.fields.items[ITEM_ID]))
    since, stop = period_after(dataset, model.trained_until, until)
    options, how = options or one_pass(model.options), how or UpdateOptions()
    settings = {
        "updates": version_of(model),
        "training": asdict(options),
        "moment": [since, stop, how.share, how.decay, how.rehearsal, how.rehearsal_days],
    }
    news = News.of(model, dataset, since, stop, how)
    with claim_workspace(path, dataset, settings, resume=resume, overwrite=True) as workspace:
        # Of days to come a part was over when the model learned last: it is not foretold.
        ahead = {name: some for name, some in news.all.items() if model.tasks[name][0].kind != "window"}
        foretold = _worth(model, ahead, dataset, options.device)
        larger = news.grown(model, dataset)
        progress = _train(larger, news, dataset, options, workspace, path / OPTIMIZERS, how.decay)
        comparisons = _compared(model, larger, news.held_out, dataset, options.device)
        if gate:
            check(comparisons, how.tolerance)
        told = {
            "version": next_version(path),
            "from": format_time(since, dataset.time_kind),
            "to": format_time(stop, dataset.time_kind),
            "samples": {name: len(samples) for name, samples in news.training.items()},
            "rehearsed": {name: len(samples) for name, samples in news.rehearsed.items()},
            "new_items": len(larger.fields.items[ITEM_ID]) - len(model.fields.items[ITEM_ID]),
            "foretold": {name: round(float(each.mean()), 5) for name, (_, each) in foretold.items()},
            "gate": {name: one.told for name, one in comparisons.items()},
            "steps": progress.step,
            "update_seconds": round(progress.seconds, 3),
        }
        meta = with_update(model.manifest.meta if model.manifest else {}, larger.meta, told)
        publish(path, larger, dataset, workspace, meta, card(meta), model.manifest)
        return DUPN.open(path)


def _check_model(model: DUPN) -> None:
    """Refuse a model of which nobody knows what new items would be to it."""
    config = model.config
    if config.model not in HEADED or config.item_vectors != "learned":
        raise UsageError(
            f"a Model of {config.variant} cannot be updated",
            expected=f"model={' or '.join(HEADED)}, and item_vectors=learned",
            mend="fit it again with all data",
        )


@dataclass(frozen=True)
class News:
    """What a period brought.

    Attributes
    ----------
    since, stop
        The period.
    tasks
        The model's, entities that are new at the end of those known.
    all, training, held_out, rehearsed
        Samples by task: of everybody, of those that are learned from, of those that judge, and of the days
        before, to be learned again. Tasks without any are not there.
    counts
        Events of every item of the Dataset in the period, int64 ``[N]``.
    """

    since: int
    stop: int
    tasks: Tasks
    all: dict[str, Samples]
    training: dict[str, Samples]
    held_out: dict[str, Samples]
    rehearsed: dict[str, Samples]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, model: DUPN, dataset: Dataset, since: int, stop: int, how: UpdateOptions) -> News:
        """Find samples whose answers became known in the period.

        Raises
        ------
        DataError
            If there are none to learn from.
        """
        tasks = {name: (task, _with_new(known, task, dataset)) for name, (task, known) in model.tasks.items()}
        seed = model.options.seed + since // days(1)
        found, training, others, rehearsed = {}, {}, {}, {}
        for name, (task, known) in tasks.items():
            sampled = partial(
                samples_of, dataset, task, known, seed=seed, max_length=model.config.max_length, anchor=0
            )
            start, end = _period_of(task, dataset, since, stop)
            found[name] = sampled(start, end)
            training[name], others[name] = _parted(found[name], dataset, how.share, seed)
            if how.rehearsal:
                begin = max(start - days(how.rehearsal_days), dataset.time_span[0])
                over = since if task.kind == "window" else start  # whose moments are as many days before
                before, _ = _parted(sampled(begin, over), dataset, how.share, seed)
                rehearsed[name] = before.drawn(round(how.rehearsal * len(training[name])), seed)
        if not any(map(len, training.values())):
            raise DataError(
                "no task is answered by what is new",
                expected=f"an answer to one of {', '.join(tasks)}",
                mend="update with a longer period; the answers of days to come are known when they are over",
            )
        is_new = is_within(dataset, since, stop)
        counts = np.bincount(dataset.item_rows[is_new], minlength=dataset.num_items).astype(np.int64)
        return cls(since, stop, tasks, _some(found), _some(training), _some(others), _some(rehearsed), counts)

    @property
    def lessons(self) -> dict[str, Samples]:
        """What is learned from, by task: what is new, then what is rehearsed."""
        return {
            name: new.joined(self.rehearsed[name]) if name in self.rehearsed else new
            for name, new in self.training.items()
        }

    def grown(self, model: DUPN, dataset: Dataset) -> DUPN:
        """The model with rows for what is new."""
        fields = model.fields.grown(dataset, model.config, is_within(dataset, self.since, self.stop))
        larger = DUPN.new(
            model.config,
            model.options,
            fields,
            self.tasks,
            with_counts(model.trained_items, dataset, self.counts),
            self.stop,
            model.time_kind,
        )
        grow(larger.network, model.network.state_dict())
        known = len(model.fields.items[ITEM_ID]) + 1
        _begin_at_category(larger, dataset, known)
        return larger


def _period_of(task: Task, dataset: Dataset, since: int, stop: int) -> tuple[int, int]:
    """First time that a task is asked about, and the first after it, so that every answer counts once."""
    if task.kind == "window":  # known when the days are over
        return since - days(task.days) + 1, stop
    if of_whole_days(dataset, task):  # what was left over by the run before is asked now
        return since - since % days(1), stop
    return since, stop


def _with_new(known: Known, task: Task, dataset: Dataset) -> Known:
    """With the entities of the catalogue that a task does not know yet."""
    if task.kind != "entity" or known.names is None:
        return known
    there = texts_of(dataset.item_table, task.column).drop_nulls().unique().sort()
    return replace(known, names=known.names.extended(there))


def _parted(samples: Samples, dataset: Dataset, share: float, seed: int) -> tuple[Samples, Samples]:
    """Samples of those who are learned from, and of those who judge."""
    held = held_out(samples.users, dataset.num_users, share, seed)
    return samples.take(np.flatnonzero(~held)), samples.take(np.flatnonzero(held))


def _some(samples: dict[str, Samples]) -> dict[str, Samples]:
    return {name: one for name, one in samples.items() if len(one)}


def _begin_at_category(larger: DUPN, dataset: Dataset, known: int) -> None:
    """Let rows of new items, those from ``known`` on, begin at the mean of the rows of their category."""
    fields, ids = list(larger.fields.items), larger.network.item_table
    if CATEGORY in fields and isinstance(ids, PopularTable):
        codes = ItemRows.of(dataset.item_table, larger.fields).codes
        begin_at_means(ids.weight, codes[:, 0], codes[:, fields.index(CATEGORY)], known)


def _train(
    larger: DUPN,
    news: News,
    dataset: Dataset,
    options: TrainingOptions,
    workspace: Path,
    remembered: Path,
    decay: float,
) -> Progress:
    """One pass over what is new, in place."""
    device = choose_device(options.device)
    network = larger.network.to(device)
    encoder = Encoder.of(dataset, larger.fields)
    optimizers = make_optimizers_of(larger.config, network, options) or make_optimizers(network, options)
    go_on(remembered, optimizers, begin=ACCUMULATED, decay=decay)
    seed = options.seed + news.since // days(1)  # every day in another order
    tasks = {name: task for name, (task, _) in news.tasks.items()}
    return Trainer(
        network,
        Objective(network, larger.config, tasks),
        TaskPlan(news.lessons, encoder, options.batch_size, seed, device, covers_all=True),
        None,
        replace(options, seed=seed),
        workspace,
        name="updating",
        optimizers=optimizers,
    ).run()


def _compared(
    model: DUPN, larger: DUPN, samples: dict[str, Samples], dataset: Dataset, device: str
) -> dict[str, Comparison]:
    """Each task's measure before and after, where the samples tell right from wrong."""
    before, after = (_worth(one, samples, dataset, device) for one in (model, larger))
    return {
        name: Comparison.of(measure, each, after[name][1], asked(samples[name]).users)
        for name, (measure, each) in before.items()
    }


def _worth(
    model: DUPN, samples: dict[str, Samples], dataset: Dataset, device: str
) -> dict[str, tuple[str, Floats]]:
    """The first measure of every task, one number for each sample; not where answers are all alike."""
    model.network.to(choose_device(device))
    encoder = model.encoder_of(dataset)
    found = {}
    for name, some in samples.items():
        task, known = model.tasks[name]
        mine = asked(some)
        # an entity that the model does not know is nobody to it
        is_known = mine.entities < (known.num_classes if task.kind == "entity" else 0)
        mine = replace(mine, entities=np.where(is_known, mine.entities, -1))
        measure, each = next(iter(worth_of_each(model.network, name, task, mine, encoder).items()))
        if np.isfinite(each).all():
            found[name] = (measure, each)
    return found
