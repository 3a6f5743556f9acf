from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.split import Windows, check_histories, cut, first_at_or_after, leave_last_out
from polyvec.errors import DataError

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(-20, 20)), max_size=40)


def days_dataset(rows: Sequence[tuple[object, object, int]]) -> Dataset:
    """Dataset of (user, item, day) rows."""
    return Dataset.from_rows([(user, item, day * DAY) for user, item, day in rows])


def histories(dataset: Dataset) -> list[tuple[int, int]]:
    return list(zip(dataset.user_offsets[:-1].tolist(), dataset.user_offsets[1:].tolist(), strict=True))


@given(ROWS, st.integers(-21, 21))
def test_the_binary_search_finds_what_a_scan_finds(rows: list[tuple[int, int, int]], day: int) -> None:
    dataset = days_dataset(rows)
    naive = [
        next((event for event in range(start, stop) if dataset.times[event] >= day * DAY), stop)
        for start, stop in histories(dataset)
    ]
    assert first_at_or_after(dataset, day * DAY).tolist() == naive


@given(ROWS, st.integers(-21, 21), st.one_of(st.none(), st.integers(0, 15)), st.integers(0, 15))
def test_a_cut_shows_the_past_alone_and_asks_for_the_future_alone(
    rows: list[tuple[int, int, int]], day: int, history: int | None, target: int
) -> None:
    dataset = days_dataset(rows)
    windows = cut(dataset, day * DAY, history, target)
    assert windows.user_rows.tolist() == list(range(dataset.num_users))
    assert (windows.history_end <= windows.target_start).all()
    for window, (start, stop) in enumerate(histories(dataset)):
        seen = dataset.times[windows.history_start[window] : windows.history_end[window]] // DAY
        asked = dataset.times[windows.target_start[window] : windows.target_end[window]] // DAY
        own = dataset.times[start:stop] // DAY
        since = -np.inf if history is None else day - history
        assert seen.tolist() == own[(own >= since) & (own < day)].tolist()
        assert asked.tolist() == own[(own >= day) & (own < day + target)].tolist()


def test_an_event_at_the_cut_is_a_target_and_one_at_its_end_is_not() -> None:
    windows = cut(days_dataset([(0, 1, 9), (0, 2, 10), (0, 3, 12)]), 10 * DAY, 1, 2)
    assert (windows.history_start[0], windows.history_end[0], windows.target_end[0]) == (0, 1, 2)
    assert windows.cutoffs.tolist() == [10 * DAY]
    assert windows.cutoffs.dtype == np.int64


def test_windows_are_exact_to_the_microsecond() -> None:
    times = [8 * DAY - 1, 8 * DAY, 10 * DAY - 1, 10 * DAY, 13 * DAY - 1, 13 * DAY]
    dataset = Dataset.from_rows([("ann", "pen", time) for time in times])
    windows = cut(dataset, 10 * DAY, 2, 3)
    assert (windows.history_start[0], windows.history_end[0]) == (1, 3)
    assert (windows.target_start[0], windows.target_end[0]) == (3, 5)


def test_windows_in_days_need_timestamps() -> None:
    ordered = Dataset.from_rows([("ann", "pen", 1)], time_kind="order")
    with pytest.raises(DataError, match="a window in days needs timestamps"):
        cut(ordered, 1, None, 30)


@given(ROWS, st.integers(0, 3), st.integers(1, 3))
def test_leave_last_out_holds_out_the_last_events_of_the_long_enough(
    rows: list[tuple[int, int, int]], skip: int, targets: int
) -> None:
    dataset = days_dataset(rows)
    windows = leave_last_out(dataset, skip, targets)
    assert len(windows) == dataset.num_users
    for window, (start, stop) in enumerate(histories(dataset)):
        history = list(range(windows.history_start[window], windows.history_end[window]))
        target = list(range(windows.target_start[window], windows.target_end[window]))
        own = list(range(start, stop))
        if len(own) > skip + targets:
            assert target == own[len(own) - skip - targets : len(own) - skip]
            assert history == own[: len(own) - skip - targets]
            assert windows.cutoffs[window] == dataset.times[target[0]]
        else:
            assert target == []


def test_the_validation_target_is_the_event_before_the_test_target() -> None:
    dataset = Dataset.from_rows([("ann", "pen", position) for position in range(4)], time_kind="order")
    assert leave_last_out(dataset).target_start.tolist() == [3]
    assert leave_last_out(dataset, skip=1).target_start.tolist() == [2]
    assert leave_last_out(dataset, skip=1).history_end.tolist() == [2]


def test_users_without_events_have_empty_windows() -> None:
    dataset = Dataset.from_rows([], pl.DataFrame({"item_id": ["pen"]}))
    assert len(leave_last_out(dataset)) == 0
    assert len(cut(dataset, 0, None, 30)) == 0


def test_windows_can_be_selected_and_joined() -> None:
    dataset = days_dataset([(0, 1, 1), (0, 2, 5), (1, 1, 5), (2, 1, 1)])
    windows = cut(dataset, 3 * DAY, None, 30)
    assert windows.with_targets().user_rows.tolist() == [0, 1]
    assert windows.with_history().user_rows.tolist() == [0, 2]
    assert windows.with_targets().with_history().user_rows.tolist() == [0]
    both = Windows.concatenate([windows, windows[1:]])
    assert both.user_rows.tolist() == [0, 1, 2, 1, 2]
    assert len(both) == 5


@given(ROWS, st.integers(-21, 21))
def test_first_targets_leave_every_window_its_first_target_alone(
    rows: list[tuple[int, int, int]], day: int
) -> None:
    windows = cut(days_dataset(rows), day * DAY, 5, 10)
    first = windows.first_targets()
    for window in range(len(windows)):
        targets = list(range(windows.target_start[window], windows.target_end[window]))
        assert list(range(first.target_start[window], first.target_end[window])) == targets[:1]
    for name in ("user_rows", "history_start", "history_end", "target_start", "cutoffs"):
        assert getattr(first, name) is getattr(windows, name)


# --- nothing at or after the cut-off is visible


@given(ROWS, st.integers(-21, 21), st.lists(st.integers(0, 40), min_size=5, max_size=5))
def test_windows_that_show_the_future_are_refused_and_no_others(
    rows: list[tuple[int, int, int]], day: int, further: list[int]
) -> None:
    dataset = days_dataset(rows)
    windows = cut(dataset, day * DAY, None, 30)
    ends = np.minimum(windows.history_end + further[: len(windows)], dataset.user_offsets[1:])
    tampered = replace(windows, history_end=ends)
    future = [
        window
        for window in range(len(windows))
        if any(
            dataset.times[event] >= day * DAY for event in range(windows.history_start[window], ends[window])
        )
    ]
    if not future:
        check_histories(dataset, tampered)
        return
    with pytest.raises(DataError) as caught:
        check_histories(dataset, tampered)
    assert f"the history of user_id {dataset.users.ids(future[:1])[0]!r} before" in caught.value.what


def test_a_cut_through_events_out_of_order_is_refused() -> None:
    dataset = days_dataset([("ann", "pen", 1), ("bob", "pen", 1), ("bob", "ink", 2), ("bob", "cap", 3)])
    shuffled = replace(dataset, times=np.array([1, 9, 2, 3]) * DAY)
    with pytest.raises(DataError) as caught:
        cut(shuffled, 5 * DAY, None, 30)
    assert str(caught.value).startswith(
        "the history of user_id 'bob' before 1970-01-06 shows an event of 1970-01-10\n"
        "  where: column timestamp\n"
        "  expected: every user's events in order of time"
    )


def test_an_event_of_the_very_cut_off_is_the_future() -> None:
    dataset = days_dataset([("ann", "pen", 1), ("ann", "ink", 2)])
    windows = cut(dataset, 2 * DAY, None, 30)
    check_histories(dataset, windows)
    with pytest.raises(DataError, match="shows an event of 1970-01-03"):
        check_histories(dataset, replace(windows, history_end=windows.target_end))
