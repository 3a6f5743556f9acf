from __future__ import annotations

from dataclasses import astuple, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyvec.data.batches import NUM_AGES, POOL, Batch, BatchPlan, BatchShape, assemble
from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.split import Windows, cut, leave_last_out

DAY = MICROSECONDS_PER_DAY
CUTOFF = 400 * DAY
SHAPE = BatchShape(max_length=6, max_targets=4, masking=0.3, num_negatives=5)


def shop(seed: int = 0, users: int = 30, items: int = 12, span: int = 450) -> Dataset:
    """Users of 1 to 20 events over ``span`` days; the first ten days belong to user 0 alone."""
    random = np.random.default_rng(seed)
    events = [
        (user, int(item), int(time))
        for user in range(users)
        for item, time in zip(
            random.integers(0, items, 1 + user % 20),
            random.integers(10 * DAY, span * DAY, 1 + user % 20),
            strict=True,
        )
    ]
    return Dataset.from_rows([*events, *((0, item, 5 * DAY) for item in range(items))])


def windows_of(dataset: Dataset, history_days: float | None = None) -> Windows:
    return cut(dataset, CUTOFF, history_days, target_days=30)


def plan(batch_size: int = 4, seed: int = 1, shape: BatchShape = SHAPE) -> BatchPlan:
    dataset = shop()
    return BatchPlan(dataset, windows_of(dataset), batch_size, shape, seed)


def equal(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(astuple(one), astuple(other), strict=True))


def raw_history(dataset: Dataset, batch: Batch, sample: int) -> list[int]:
    indices = batch.items_BL[sample, : batch.lengths_B[sample]]
    return dataset.items.ids(batch.distinct_M[indices])  # type: ignore[return-value]


def raw_targets(dataset: Dataset, batch: Batch, sample: int) -> list[int]:
    indices = batch.target_items_P[batch.target_users_P == sample]
    return dataset.items.ids(batch.distinct_M[indices])  # type: ignore[return-value]


# --- order: a pure function of (seed, epoch, index)


def test_the_same_seed_and_epoch_give_the_same_batches_whatever_was_drawn_before() -> None:
    np.random.seed(1)  # noqa: NPY002
    first = list(plan().epoch(2))
    list(plan().epoch(0))
    np.random.seed(2)  # noqa: NPY002
    assert all(map(equal, first, plan().epoch(2)))


@pytest.mark.parametrize("skip", [1, 5, 8])
def test_skipped_batches_leave_the_later_ones_as_they_are(skip: int) -> None:
    rest = list(plan().epoch(3, skip=skip))
    assert len(rest) == len(plan()) - skip
    assert all(map(equal, rest, list(plan().epoch(3))[skip:]))


@pytest.mark.parametrize("change", ["seed", "epoch"])
def test_another_seed_or_epoch_gives_another_order_and_other_masks(change: str) -> None:
    first = plan()
    second, epoch = (plan(seed=2), 0) if change == "seed" else (first, 1)
    assert [b.tolist() for b in first.order(0)] != [b.tolist() for b in second.order(epoch)]
    windows = first.windows[np.arange(4)]
    fixed = [replace(p, windows=windows) for p in (first, second)]
    one, other = next(fixed[0].epoch(0)), next(fixed[1].epoch(epoch))
    assert not np.array_equal(np.sort(one.masked_BL, axis=0), np.sort(other.masked_BL, axis=0))


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_every_sample_comes_exactly_once_per_epoch(batch_size: int) -> None:
    it = plan(batch_size)
    for epoch in range(3):
        batches = it.order(epoch)
        assert len(batches) == len(it) == len(list(it.epoch(epoch)))
        assert sorted(np.concatenate(batches).tolist()) == list(range(30))
        assert {len(batch) for batch in batches} <= {batch_size, 30 % batch_size}


def test_no_windows_make_no_batches() -> None:
    dataset = shop()
    empty = BatchPlan(dataset, windows_of(dataset)[:0], 4, SHAPE, 0)
    assert len(empty) == len(list(empty.epoch(0))) == 0


def test_batches_hold_histories_of_like_length_and_come_in_mixed_order() -> None:
    dataset = shop(users=400)
    it = BatchPlan(dataset, windows_of(dataset), 10, replace(SHAPE, max_length=50), seed=0)
    assert len(it) > POOL
    lengths = it.windows.history_end - it.windows.history_start
    batches = it.order(0)
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < np.ptp(lengths) / 5
    means = [lengths[batch].mean() for batch in batches]
    descents = sum(a > b for a, b in pairwise(means))
    assert 0.3 < descents / len(means) < 0.7


# --- histories and targets


def test_a_batch_is_what_its_windows_say() -> None:
    dataset = shop()
    windows = windows_of(dataset)
    batch = assemble(dataset, windows, BatchShape(max_length=100, max_targets=100))
    for sample, user in enumerate(windows.user_rows):
        own = slice(dataset.user_offsets[user], dataset.user_offsets[user + 1])
        rows, times = dataset.item_rows[own], dataset.times[own]
        history = rows[times < CUTOFF]
        targets = rows[(times >= CUTOFF) & (times < CUTOFF + 30 * DAY)]
        assert raw_history(dataset, batch, sample) == dataset.items.ids(history)
        assert sorted(raw_targets(dataset, batch, sample)) == sorted(set(dataset.items.ids(targets)))


def test_only_the_latest_events_of_a_long_history_are_kept() -> None:
    dataset = shop()
    windows = windows_of(dataset)
    full = assemble(dataset, windows, BatchShape(max_length=100))
    short = assemble(dataset, windows, BatchShape(max_length=3))
    assert short.items_BL.shape[1] == 3
    for sample in range(len(windows)):
        assert raw_history(dataset, short, sample) == raw_history(dataset, full, sample)[-3:]


def test_only_the_earliest_targets_are_kept_and_each_item_counts_once() -> None:
    events = [("ann", "pen", 1), *(("ann", item, CUTOFF + n) for n, item in enumerate("baabc"))]
    dataset = Dataset.from_rows(events)
    windows = windows_of(dataset)
    for max_targets, kept in [(0, ""), (1, "b"), (3, "ab"), (5, "abc")]:
        batch = assemble(dataset, windows, BatchShape(max_length=9, max_targets=max_targets))
        assert "".join(raw_targets(dataset, batch, 0)) == kept  # type: ignore[arg-type]


def test_nothing_of_the_target_window_is_in_the_history() -> None:
    dataset = shop()
    last_day = Dataset.from_rows(
        [("ann", "old", CUTOFF - 1), ("ann", "new", CUTOFF), ("ann", "late", CUTOFF + 30 * DAY)]
    )
    batch = assemble(last_day, windows_of(last_day), replace(SHAPE, masking=0))
    assert raw_history(last_day, batch, 0) == ["old"]
    assert raw_targets(last_day, batch, 0) == ["new"]
    future = dataset.times >= CUTOFF
    rows = np.where(future, (dataset.item_rows + 1) % 12, dataset.item_rows)
    changed = replace(dataset, item_rows=rows)
    histories = [assemble(d, windows_of(d), BatchShape(max_length=100)) for d in (dataset, changed)]
    assert equal(*histories)


def test_empty_histories_are_samples_like_any_other() -> None:
    dataset = Dataset.from_rows([("ann", "pen", CUTOFF), ("bob", "ink", CUTOFF + 1)])
    random = np.random.default_rng(0)
    batch = assemble(dataset, windows_of(dataset), SHAPE, random)
    assert batch.items_BL.shape == batch.masked_BL.shape == (2, 0)
    assert batch.lengths_B.tolist() == [0, 0]
    assert batch.num_tokens == 0
    assert [raw_targets(dataset, batch, sample) for sample in (0, 1)] == [["pen"], ["ink"]]
    nothing = assemble(dataset, windows_of(dataset)[:0], SHAPE, random)
    assert nothing.items_BL.shape == (0, 0)
    assert len(nothing.distinct_M) == len(nothing.target_users_P) == 0


def test_with_the_whole_catalogue_items_are_their_own_rows() -> None:
    dataset = shop()
    windows = windows_of(dataset)
    batch = assemble(dataset, windows, SHAPE)
    whole = assemble(dataset, windows, replace(SHAPE, whole_catalogue=True))
    assert whole.distinct_M.tolist() == list(range(dataset.num_items))
    for sample in range(len(windows)):
        assert raw_history(dataset, whole, sample) == raw_history(dataset, batch, sample)
        assert raw_targets(dataset, whole, sample) == raw_targets(dataset, batch, sample)


def test_distinct_items_are_those_of_the_batch_and_no_more() -> None:
    dataset = shop()
    batch = assemble(dataset, windows_of(dataset)[np.arange(3)], SHAPE)
    seen = {
        item
        for sample in range(3)
        for item in raw_history(dataset, batch, sample) + raw_targets(dataset, batch, sample)
    }
    assert set(dataset.items.ids(batch.distinct_M)) == seen
    assert (np.diff(batch.distinct_M) > 0).all()


# --- ages


@pytest.mark.parametrize(
    ("before_cutoff", "age"),
    [(1, 0), (DAY, 0), (DAY + 1, 1), (2 * DAY, 1), (364 * DAY, 363), (365 * DAY, 364), (399 * DAY, 364)],
)
def test_the_last_day_before_the_cutoff_has_age_0_and_the_oldest_364(before_cutoff: int, age: int) -> None:
    dataset = Dataset.from_rows([("ann", "pen", CUTOFF - before_cutoff), ("ann", "ink", CUTOFF)])
    assert assemble(dataset, windows_of(dataset), SHAPE).ages_BL.tolist() == [[age]]
    assert NUM_AGES == 365


def test_ages_stay_when_window_and_events_slide_together() -> None:
    dataset = shop()
    ages = assemble(dataset, windows_of(dataset, history_days=200), SHAPE).ages_BL
    for shift in (DAY, 31 * DAY, 12_345_678_901):
        moved = replace(dataset, times=dataset.times + shift)
        windows = cut(moved, CUTOFF + shift, history_days=200, target_days=30)
        assert np.array_equal(assemble(moved, windows, SHAPE).ages_BL, ages)


def test_without_timestamps_the_age_is_the_number_of_later_events() -> None:
    dataset = Dataset.from_rows([("ann", item, 10 * n) for n, item in enumerate("abcdef")], time_kind="order")
    batch = assemble(dataset, leave_last_out(dataset, targets=2), replace(SHAPE, max_length=3))
    assert raw_history(dataset, batch, 0) == ["b", "c", "d"]
    assert batch.ages_BL.tolist() == [[2, 1, 0]]


# --- masks


def test_only_real_history_events_are_masked_and_about_the_wanted_share() -> None:
    dataset = shop(users=2000)
    it = BatchPlan(dataset, windows_of(dataset), 100, replace(SHAPE, masking=0.15), seed=0)
    masked = tokens = 0
    for batch in it.epoch(0):
        real_BL = np.arange(batch.items_BL.shape[1]) < batch.lengths_B[:, None]
        assert not (batch.masked_BL & ~real_BL).any()
        masked, tokens = masked + int(batch.masked_BL.sum()), tokens + batch.num_tokens
    assert abs(masked / tokens - 0.15) < 4 * (0.15 * 0.85 / tokens) ** 0.5


def test_nothing_is_masked_without_randomness_or_with_a_share_of_zero() -> None:
    dataset = shop()
    random = np.random.default_rng(0)
    for batch in (
        assemble(dataset, windows_of(dataset), SHAPE),
        assemble(dataset, windows_of(dataset), replace(SHAPE, masking=0), random),
    ):
        assert batch.masked_BL.shape == batch.items_BL.shape
        assert not batch.masked_BL.any()


# --- negatives


def events_of(dataset: Dataset, batch: Batch, sample: int) -> list[int]:
    return raw_history(dataset, batch, sample) + raw_targets(dataset, batch, sample)


def test_negatives_are_drawn_from_the_other_samples_in_proportion_to_their_events() -> None:
    """Every user has items of his own, so that a draw tells its owner."""
    events = [
        (user, user * 100 + item, time * DAY)
        for user in range(4)
        for item in range(user + 1)
        for time in [*range(2 * item + 1), 401]
    ]
    dataset = Dataset.from_rows(events)
    shape = BatchShape(max_length=100, max_targets=100, masking=0.5, num_negatives=2000)
    batch = assemble(dataset, windows_of(dataset), shape, np.random.default_rng(0))
    assert batch.drawn_for_targets_PK is not None
    assert batch.drawn_for_masked_QK is not None
    masked_users = np.nonzero(batch.masked_BL)[0]
    for users, drawn in [
        (batch.target_users_P, batch.drawn_for_targets_PK),
        (masked_users, batch.drawn_for_masked_QK),
    ]:
        assert drawn.shape == (len(users), 2000)
        for user in range(4):
            counts = np.bincount(drawn[users == user].ravel(), minlength=len(batch.distinct_M))
            if not counts.sum():
                continue
            others = [e for other in range(4) if other != user for e in events_of(dataset, batch, other)]
            expected = np.bincount(dataset.items.rows(others), minlength=dataset.num_items) / len(others)
            shares = counts / counts.sum()
            assert (shares[expected == 0] == 0).all()
            np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / counts.sum() ** 0.5)


def test_a_sample_alone_in_its_batch_draws_nothing() -> None:
    dataset = Dataset.from_rows([("ann", "pen", 1), ("ann", "ink", CUTOFF)])
    shape = replace(SHAPE, masking=0.999)
    batch = assemble(dataset, windows_of(dataset), shape, np.random.default_rng(0))
    assert batch.drawn_for_targets_PK is not None
    assert batch.drawn_for_masked_QK is not None
    assert (batch.drawn_for_targets_PK == -1).all()
    assert (batch.drawn_for_masked_QK == -1).all()


def test_negatives_are_drawn_only_if_asked_for() -> None:
    dataset = shop()
    batch = assemble(dataset, windows_of(dataset), replace(SHAPE, num_negatives=0), np.random.default_rng(0))
    assert batch.drawn_for_targets_PK is None
    assert batch.drawn_for_masked_QK is None


# --- everything at once, against a naive assembly

EVENTS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 20 * DAY)), min_size=1, max_size=40
)


def naive_sample(
    events: list[tuple[int, int, int]], cutoff: int, shape: BatchShape
) -> tuple[list[int], list[int], set[int]]:
    """History items, ages and target items of one user, by sorting and slicing lists."""
    ordered = sorted(events, key=lambda event: event[2])
    history = [e for e in ordered if cutoff - 10 * DAY <= e[2] < cutoff][-shape.max_length :]
    targets = [e for e in ordered if cutoff <= e[2] < cutoff + 5 * DAY][: shape.max_targets]
    ages = [(cutoff - e[2] + DAY - 1) // DAY - 1 for e in history]
    return [e[1] for e in history], ages, {e[1] for e in targets}


@given(EVENTS, st.integers(0, 25 * DAY), st.integers(1, 5), st.integers(0, 4), st.booleans())
def test_a_batch_equals_a_naive_assembly(
    events: list[tuple[Any, ...]], cutoff: int, max_length: int, max_targets: int, whole_catalogue: bool
) -> None:
    shape = BatchShape(max_length, max_targets, whole_catalogue=whole_catalogue)
    dataset = Dataset.from_rows(events)
    batch = assemble(dataset, cut(dataset, cutoff, 10, 5), shape)
    for sample, user in enumerate(dataset.users.ids(range(dataset.num_users))):
        own = [event for event in events if event[0] == user]
        items, ages, targets = naive_sample(own, cutoff, shape)
        assert raw_history(dataset, batch, sample) == items
        assert batch.ages_BL[sample, : len(items)].tolist() == ages
        assert not batch.items_BL[sample, len(items) :].any()
        assert not batch.ages_BL[sample, len(items) :].any()
        assert raw_targets(dataset, batch, sample) == sorted(targets)
    assert batch.num_tokens == batch.lengths_B.sum()
    assert (np.diff(batch.target_users_P) >= 0).all()
