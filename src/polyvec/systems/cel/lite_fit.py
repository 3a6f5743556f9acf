"""Learn a stream with CEL-Lite: begin with a Dataset, go on with the next ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.artifact import refuse_existing, writing
from polyvec.data.dataset import format_time
from polyvec.errors import DataError, nearest_name
from polyvec.ids import Vocabulary
from polyvec.systems.cel.config import LiteConfig
from polyvec.systems.cel.lite import CELLite
from polyvec.systems.cel.lite_model import LiteModel
from polyvec.systems.cel.prequential import squared_errors
from polyvec.systems.folder import check_time_zone
from polyvec.systems.versions import forget_old, keep, next_version

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]
    OnBatch = Callable[[int, int], None]

FIRST = 1000
"""Interactions that the first predictions are taken from; their own errors do not count."""


def fit(
    dataset: Dataset,
    out: Path | str,
    config: LiteConfig | None = None,
    *,
    until: int | None = None,
    overwrite: bool = False,
    on_batch: OnBatch | None = None,
) -> LiteModel:
    """Learn the events of a Dataset in one pass in order of time; write a Model folder.

    Every batch is foretold before it is learned; the Model tells how far that erred.

    Parameters
    ----------
    dataset
        Data with timestamps and a column of numbers that is foretold. Events without a number are left out;
        those of one time are learned in the Dataset's order.
    out
        The Model folder, whole or absent.
    config
        Sizes and rates.
    until
        Nothing at or after this time is read. None reads everything.
    overwrite
        Replace an existing Model.
    on_batch
        Called with interactions learned and interactions in all after every batch.

    Raises
    ------
    DataError
        If the data has no timestamps, no such column of numbers, nothing to learn from, or, without
        ``residual``, numbers of a mean that is not above 0.
    ArtifactError
        If ``out`` exists.
    """
    out, config = Path(out), config or LiteConfig()
    refuse_existing(out, "model", overwrite=overwrite)
    stream = Stream.of(dataset, config.column, until)
    learner = CELLite(config, _first_mean(stream, config))
    model = LiteModel(learner, Vocabulary([], "user_id"), Vocabulary([], "item_id"), stream.until)
    return _go_on(model, dataset, stream, out, overwrite=overwrite, on_batch=on_batch)


def update(
    path: Path | str,
    dataset: Dataset,
    *,
    until: int | None = None,
    skip_earlier: bool = False,
    on_batch: OnBatch | None = None,
) -> LiteModel:
    """Learn what came next: the Model goes on where it stopped, to the same bits as if it had not stopped.

    The folder is replaced when all is learned; whatever interrupts it leaves the old one whole. That is kept:
    see :mod:`polyvec.systems.versions`.

    Parameters
    ----------
    path
        A Model folder of :func:`fit`.
    dataset
        Later events, of known and of new users and items.
    until
        Nothing at or after this time is read. None reads everything.
    skip_earlier
        Leave out events before the moment that the Model has learned until, instead of refusing them.
    on_batch
        As for :func:`fit`.

    Raises
    ------
    DataError
        If events lie before the moment that the Model has learned until: it would be asked to foretell what
        it knows the future of. Or if the data does not suit, as for :func:`fit`, or its ids are of another
        type.
    UsageError
        If the data is by another clock than the model's.
    ArtifactError
        If the folder is missing, damaged, or holds a model of another system.
    """
    path = Path(path)
    model = LiteModel.open(path)
    check_time_zone(model.manifest, dataset)
    stream = Stream.of(
        dataset, model.learner.config.column, until, since=model.trained_until, skip_earlier=skip_earlier
    )
    number = next_version(path)
    keep(path)
    learned = _go_on(model, dataset, stream, path, overwrite=True, on_batch=on_batch, version=number)
    forget_old(path)
    return learned


@dataclass(frozen=True)
class Stream:
    """P interactions of a Dataset in order of time.

    Attributes
    ----------
    users, items
        Rows of the Dataset, int64 ``[P]``.
    labels
        What is foretold, ``[P]``.
    span
        Times of the first and the last.
    until
        No event at or after this time is among them.
    left_out
        Events before it that have no label, or come too late.
    """

    users: Ints
    items: Ints
    labels: Floats
    span: tuple[int, int]
    until: int
    left_out: int

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        column: str,
        until: int | None = None,
        *,
        since: int | None = None,
        skip_earlier: bool = False,
    ) -> Stream:
        """Events of a Dataset with a label, before ``until`` and not before ``since``.

        Raises
        ------
        DataError
            See :func:`update`.
        """
        labels_E, times_E = _labels(dataset, column), dataset.times
        until = dataset.time_span[1] + 1 if until is None else until
        in_time_E = times_E < until
        kept = np.flatnonzero(in_time_E & np.isfinite(labels_E))
        if since is not None:
            is_later = times_E[kept] >= since
            if not is_later.all() and not skip_earlier:
                raise _too_early(dataset, times_E[kept], since)
            kept = kept[is_later]
        if not len(kept):
            after = "" if since is None else f" at or after {format_time(since, dataset.time_kind)}"
            raise DataError(
                f"no event{after} has a number in {column}",
                column=column,
                expected="events with a label" + (", after those that were learned" if after else ""),
                mend="choose a later --until, or prepare more data",
            )
        kept = kept[np.argsort(times_E[kept], kind="stable")]
        users = np.searchsorted(dataset.user_offsets, kept, side="right") - 1
        items = dataset.item_rows[kept].astype(np.int64)
        span = int(times_E[kept[0]]), int(times_E[kept[-1]])
        return cls(users, items, labels_E[kept], span, until, int(in_time_E.sum()) - len(kept))


def _labels(dataset: Dataset, column: str) -> Floats:
    """Column of numbers, ``[E]``."""
    if dataset.time_kind != "timestamp":
        raise DataError(
            "a stream needs timestamps, and this data has only an order column",
            column="timestamp",
            expected="a time that all users share",
            mend="prepare the data with a timestamp column",
        )
    numbers = [name for name in dataset.columns if name not in dataset.codes]
    if column not in numbers:
        raise DataError(
            f"the data has no column of numbers '{column}'",
            column=column,
            expected=nearest_name(column, numbers)
            if numbers
            else "a number for each event, such as a rating",
            mend="prepare the data with it, or name another: --set column=label",
        )
    return np.asarray(dataset.columns[column], np.float32)


def _too_early(dataset: Dataset, times: Ints, since: int) -> DataError:
    count, earliest = int((times < since).sum()), format_time(int(times.min()), dataset.time_kind)
    moment = format_time(since, dataset.time_kind)
    return DataError(
        f"{count:,} of {len(times):,} events, from {earliest} on, lie before {moment}, which the model has "
        "learned until",
        column="timestamp",
        expected=f"events at or after {moment}: a stream is learned in order of time",
        mend="leave earlier ones out with --skip-earlier, or begin again with all data: polyvec fit cel-lite",
    )


def _first_mean(stream: Stream, config: LiteConfig) -> float:
    """What the first predictions are."""
    mean = float(stream.labels[:FIRST].mean(dtype=np.float64))
    if mean <= 0 and not config.residual:
        raise DataError(
            f"the first {min(FIRST, len(stream)):,} numbers in {config.column} have a mean of {mean:.4g}",
            column=config.column,
            expected="a mean above 0: predictions start there, as products of numbers of one sign",
            mend="leave residual on, or shift the numbers before preparing the data",
        )
    return mean


def _go_on(
    model: LiteModel,
    dataset: Dataset,
    stream: Stream,
    out: Path,
    *,
    overwrite: bool,
    on_batch: OnBatch | None,
    version: int = 1,
) -> LiteModel:
    """Learn a stream and write the Model."""
    begun = time.perf_counter()
    users, users_P = _numbered(model.users, dataset.users, stream.users)
    items, items_P = _numbered(model.items, dataset.items, stream.items)
    errors = _learn(model, np.stack([users_P, items_P]), stream.labels, on_batch)
    call = {
        "dataset": dataset.manifest.fingerprint if dataset.manifest else None,
        "from": format_time(stream.span[0], dataset.time_kind),
        "to": format_time(stream.span[1], dataset.time_kind),
        "interactions": len(stream),
        "left_out": stream.left_out,
        "new_users": len(users) - len(model.users),
        "new_items": len(items) - len(model.items),
        "errors": errors,
    }
    learned = replace(
        model,
        users=users,
        items=items,
        trained_until=stream.until,
        calls=[*model.calls, call],
        training_seconds=model.training_seconds + time.perf_counter() - begun,
    )
    parents = {role: one for role, one in [("dataset", dataset.manifest), ("model", model.manifest)] if one}
    meta = learned.meta | {"version": version, "time_zone": dataset.time_zone}
    with writing(out, "model", meta=meta, parents=parents, overwrite=overwrite) as stage:
        learned.save_into(stage)
    return LiteModel.open(out)


def _numbered(known: Vocabulary, ids: Vocabulary, rows_P: Ints) -> tuple[Vocabulary, Ints]:
    """Vocabulary with the entities of a stream, new ones by first appearance; and their numbers, ``[P]``."""
    distinct, first, places_P = np.unique(rows_P, return_index=True, return_inverse=True)
    grown = known.extended(ids.take(distinct[np.argsort(first)]))
    return grown, grown.rows(ids.take(distinct))[places_P]


def _learn(model: LiteModel, entities_2P: Ints, labels_P: Floats, on_batch: OnBatch | None) -> dict[str, Any]:
    """Foretell and learn batch by batch; how far both methods erred."""
    learner, size = model.learner, model.learner.config.batch
    skipped = 0 if model.calls else FIRST
    foretold: dict[str, list[Any]] = {"CEL-Lite": [], "means": []}
    earlier = []
    for start in range(0, len(labels_P), size):
        entities_2B, labels_B = entities_2P[:, start : start + size], labels_P[start : start + size]
        sides = zip((learner.users, learner.items), entities_2B, strict=True)
        earlier.append(np.stack([side.events_of(some_B) for side, some_B in sides]))
        foretold["means"].append(learner.means.foretell(entities_2B, earlier[-1]))
        foretold["CEL-Lite"].append(learner.learn(entities_2B[0], entities_2B[1], labels_B))
        if on_batch is not None:
            on_batch(start + len(labels_B), len(labels_P))
    counted = {name: np.concatenate(told)[skipped:] for name, told in foretold.items()}
    return squared_errors(counted, labels_P[skipped:], np.concatenate(earlier, axis=1)[:, skipped:])
