"""Cuts: what a model may see of every user (history) and what it must foretell (target)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.data.dataset import Dataset, days, format_time, require_timestamps
from polyvec.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from polyvec.data.dataset import TimeKind


@dataclass(frozen=True)
class Windows:
    """For W (user, cut-off) pairs: which events are history and which are targets.

    Event ranges index the flat arrays of the Dataset the windows were cut from. All arrays are int64 ``[W]``.

    Attributes
    ----------
    user_rows
        User of every window.
    history_start, history_end
        Events visible to the model: ``history_start : history_end``.
    target_start, target_end
        Events to foretell: ``target_start : target_end``, never before ``history_end``.
    cutoffs
        Time T of every window: history ends before it, targets begin at or after it.
    """

    user_rows: npt.NDArray[np.int64]
    history_start: npt.NDArray[np.int64]
    history_end: npt.NDArray[np.int64]
    target_start: npt.NDArray[np.int64]
    target_end: npt.NDArray[np.int64]
    cutoffs: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user_rows)

    def __getitem__(self, index: npt.NDArray[Any] | slice) -> Windows:
        return Windows(*(array[index] for array in self._arrays()))

    def _arrays(self) -> tuple[npt.NDArray[np.int64], ...]:
        return (
            self.user_rows,
            self.history_start,
            self.history_end,
            self.target_start,
            self.target_end,
            self.cutoffs,
        )

    def with_targets(self) -> Windows:
        """Only windows with at least one target event."""
        return self[np.flatnonzero(self.target_end > self.target_start)]

    def with_history(self) -> Windows:
        """Only windows with at least one history event."""
        return self[np.flatnonzero(self.history_end > self.history_start)]

    def first_targets(self) -> Windows:
        """All windows, their targets cut to the first event of each: in source order where times tie."""
        return replace(self, target_end=np.minimum(self.target_start + 1, self.target_end))

    @classmethod
    def concatenate(cls, parts: Sequence[Windows]) -> Windows:
        """All windows of the parts, in order."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(p._arrays() for p in parts), strict=True)))


def cut(dataset: Dataset, cutoff: int, history_days: float | None, target_days: float) -> Windows:
    """Cut every user's events at one time T: history [T − D1, T), targets [T, T + D2). GUIM section 3.1.

    Parameters
    ----------
    dataset
        Data with timestamps.
    cutoff
        T in microseconds since 1970 UTC.
    history_days
        D1 in days; None means everything before T.
    target_days
        D2 in days.

    Returns
    -------
    Windows
        One per user of the Dataset, in row order, empty ones included.

    Raises
    ------
    DataError
        If the data has only an order column, or a history would show an event at or after T, which happens
        where a user's events are not in order of time.
    """
    require_timestamps(dataset, "a window in days")
    if history_days is None:
        start = dataset.user_offsets[:-1]
    else:
        start = first_at_or_after(dataset, cutoff - days(history_days))
    middle = first_at_or_after(dataset, cutoff)
    end = first_at_or_after(dataset, cutoff + days(target_days))
    windows = Windows(
        user_rows=np.arange(dataset.num_users),
        history_start=start,
        history_end=middle,
        target_start=middle,
        target_end=end,
        cutoffs=np.full(dataset.num_users, cutoff),
    )
    check_histories(dataset, windows)
    return windows


def check_histories(dataset: Dataset, windows: Windows) -> None:
    """Make sure that no history shows an event at or after its cut-off.

    The times of all events in the histories are looked at, once: nothing is taken for granted of how the
    windows were found.

    Parameters
    ----------
    dataset
        Data with timestamps.
    windows
        At most one per user, in row order.

    Raises
    ------
    DataError
        Naming the first user whose history knows the future.
    """
    latest_W = _latest(dataset.times, windows.history_start, windows.history_end)
    knows = latest_W >= windows.cutoffs
    if knows.any():
        window = int(np.argmax(knows))
        user = dataset.users.ids(windows.user_rows[[window]])[0]
        shown = format_time(int(latest_W[window]), dataset.time_kind)
        cutoff = format_time(int(windows.cutoffs[window]), dataset.time_kind)
        raise DataError(
            f"the history of user_id {user!r} before {cutoff} shows an event of {shown}",
            column="timestamp",
            expected="every user's events in order of time, and histories that end before the cut-off",
            mend="prepare the data again: polyvec prepare; polyvec verify tells whether a folder was changed",
        )


def _latest(
    times: npt.NDArray[np.int64], start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Latest time in every range ``start[w] : stop[w]``, ranges ascending; the earliest int64 where empty."""
    latest_W = np.full(len(start), np.iinfo(np.int64).min)
    there = np.flatnonzero(stop > start)
    bounds = np.stack([start[there], stop[there]], axis=1).reshape(-1)
    inside = bounds[bounds < len(times)]  # the last range may end where the events do
    if len(there):
        latest_W[there] = np.maximum.reduceat(times, inside)[::2]
    return latest_W


def check_moment(dataset: Dataset, until: int | None, held_back: int, *, needs_past: bool = True) -> None:
    """Refuse a moment that this kind of data does not have.

    Without ``needs_past`` there may be nothing before it: users without events are encoded, too.

    Raises
    ------
    UsageError
        If ``until`` is given for ordered data, ``held_back`` for data with timestamps, or it is negative; or
        if ``until`` is no time in the Dataset's unit, or nothing lies before it that could be learned from.
    """
    if held_back < 0:
        raise UsageError(f"held_back is {held_back}", expected="0 or more events of every user")
    if until is not None and dataset.time_kind == "order":
        raise UsageError(
            "until needs timestamps, and this data has only an order column",
            mend="leave out the last events of every user with held_back (--held-back)",
        )
    if held_back and dataset.time_kind == "timestamp":
        raise UsageError(
            "held_back is for data with an order column, and this data has timestamps",
            mend="name a date with until (--until)",
        )
    if until is not None:
        _check_until(dataset, until, needs_past=needs_past)


def _check_until(dataset: Dataset, until: int, *, needs_past: bool) -> None:
    if not isinstance(until, int | np.integer):
        raise UsageError(
            f"until is {until!r}",
            expected="microseconds since 1970, UTC",
            mend=f"polyvec.parse_time({str(until)!r}, dataset)",
        )
    if needs_past and dataset.num_events and until <= dataset.time_span[0]:
        first, last = (format_time(moment, dataset.time_kind) for moment in dataset.time_span)
        raise UsageError(
            f"nothing lies before {format_time(until, dataset.time_kind)}",
            expected=f"a later moment: the events are from {first} to {last}",
            mend="choose another --until",
        )


def check_whole(dataset: Dataset) -> None:
    """Refuse to ask at a moment of a log whose histories were shortened.

    Of each user's latest N events fewer lie before a moment the more come after it: how long a history is
    tells the answers.

    Raises
    ------
    DataError
        If the Dataset was prepared with ``max_history``, and a user has as many events.
    """
    told = dataset.manifest.meta.get("options", {}) if dataset.manifest else {}
    most = told.get("max_history")
    if most and np.diff(dataset.user_offsets).max(initial=0) >= most:
        raise DataError(
            f"the Dataset has the latest {most:,} events of each user alone: how many of them lie before the "
            "cut-off tells how many come after it",
            expected="whole histories, where a past is asked about its future",
            mend="prepare the log without --max-history",
        )


def check_time_kind(learned: TimeKind, dataset: Dataset) -> None:
    """Refuse data of another kind of time than a model has learned from.

    Raises
    ------
    UsageError
        If one has timestamps and the other an order.
    """
    names = {"timestamp": "a timestamp", "order": "an order"}
    if learned != dataset.time_kind:
        raise UsageError(
            f"the model was trained on data with {names[learned]}",
            expected=f"data with {names[learned]}; this Dataset has {names[dataset.time_kind]}",
        )


def has_events(dataset: Dataset, start: int, stop: int) -> bool:
    """Whether anything happened from a moment on and before another."""
    return bool(np.any((dataset.times >= start) & (dataset.times < stop)))


def period_after(dataset: Dataset, since: int, until: int | None) -> tuple[int, int]:
    """First moment of what is new, and the first after it.

    Parameters
    ----------
    dataset
        Has timestamps.
    since
        What came before it is known.
    until
        Nothing at or after this time is read; None reads everything.

    Raises
    ------
    DataError
        If the data has no timestamps, or no event in that time.
    """
    require_timestamps(dataset, "an update")
    end = dataset.time_span[1] + 1
    stop = end if until is None else min(until, end)  # what comes later than the log is news another time
    if not np.any(dataset.times < since):
        raise DataError(
            f"no event lies before {format_time(since, dataset.time_kind)}, until when the model has learned",
            column="timestamp",
            expected="the log with what came since, and with what was before: that are the histories",
            mend="prepare the new events together with those before them",
        )
    if not has_events(dataset, since, stop):
        first, last = (format_time(moment, dataset.time_kind) for moment in dataset.time_span)
        moment = format_time(since, dataset.time_kind)
        raise DataError(
            f"no event lies at or after {moment}, which the model has learned until"
            + (f", and before {format_time(until, dataset.time_kind)}" if until is not None else ""),
            column="timestamp",
            expected=f"the log with what came since; this one is from {first} to {last}",
            mend="prepare the data with the new events, and with those before them: they are the histories",
        )
    return since, stop


def leave_last_out(dataset: Dataset, skip: int = 0, targets: int = 1) -> Windows:
    """Hold out ``targets`` events of each user, leaving out the ``skip`` events after them.

    ``skip=0`` gives the customary test split of leave-one-out, ``skip=1`` its validation split. It lets a
    model learn from other users' future: use it to compare with published tables, and :func:`cut` otherwise.
    Users with fewer than ``skip + targets + 1`` events have no target.
    """
    start, stop = dataset.user_offsets[:-1], dataset.user_offsets[1:]
    long_enough = stop - start > skip + targets
    end = np.where(long_enough, stop - skip, start)
    middle = np.where(long_enough, stop - skip - targets, start)
    last = np.maximum(stop - 1, 0)
    cutoffs = dataset.times[np.minimum(middle, last)] if dataset.num_events else np.zeros(0, np.int64)
    return Windows(np.arange(dataset.num_users), start, middle, middle, end, np.asarray(cutoffs, np.int64))


def item_counts_within(
    dataset: Dataset, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Events of every item in any of the ranges ``start[i] : stop[i]``, each event once; int64 ``[N]``."""
    opened = np.bincount(start, minlength=dataset.num_events + 1)
    closed = np.bincount(stop, minlength=dataset.num_events + 1)
    touched = np.cumsum(opened - closed)[:-1] > 0
    return np.bincount(dataset.item_rows[touched], minlength=dataset.num_items).astype(np.int64)


def first_at_or_after(dataset: Dataset, time: int) -> npt.NDArray[np.int64]:
    """For every user the index of the first event at or after ``time`` (its end if there is none)."""
    begin, end = dataset.user_offsets[:-1], dataset.user_offsets[1:]
    return first_in_ranges(dataset.times, begin, end, np.full(len(begin), time))


def first_in_ranges(
    times: npt.NDArray[np.int64],
    begin: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """In every range ``times[begin[r] : end[r]]``, ascending, the index of the first time ≥ ``wanted[r]``.

    A binary search in all ranges at once: O(R log L) work and O(R) memory. The end of a range without any.
    """
    low, high = begin.copy(), end.copy()
    while True:
        open_rows = np.flatnonzero(low < high)
        if not len(open_rows):
            return low
        middle = (low[open_rows] + high[open_rows]) // 2
        before = times[middle] < wanted[open_rows]
        low[open_rows[before]] = middle[before] + 1
        high[open_rows[~before]] = middle[~before]
