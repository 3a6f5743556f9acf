"""Sets of items against Python's own sets."""

import numpy as np
import pytest

from polyvec.data.dataset import Dataset
from polyvec.data.item_sets import ItemSets, expand_ranges

NUM_ITEMS = 12


@pytest.fixture
def pairs():
    generator = np.random.default_rng(3)
    owners = generator.integers(0, 6, 40)
    owners[owners == 2] = 3  # one set is empty
    return owners, generator.integers(0, NUM_ITEMS, 40)


def as_python(sets: ItemSets) -> list[set[int]]:
    return [set(sets.items[a:b].tolist()) for a, b in zip(sets.offsets[:-1], sets.offsets[1:], strict=True)]


def collect(pairs, num_sets=6):
    return ItemSets.from_pairs(*pairs, num_sets, NUM_ITEMS)


def test_pairs_in_any_order_and_repeated_become_sets(pairs):
    expected = [set(pairs[1][pairs[0] == owner].tolist()) for owner in range(6)]
    assert as_python(collect(pairs)) == expected
    assert collect(pairs).sizes.tolist() == [len(one) for one in expected]


def test_contains_agrees_with_python_sets_and_never_holds_minus_one(pairs):
    sets = collect(pairs)
    rows_Bk = np.random.default_rng(1).integers(-1, NUM_ITEMS, (6, 9))
    expected = [[item in one for item in row] for row, one in zip(rows_Bk, as_python(sets), strict=True)]
    assert sets.contains(rows_Bk).tolist() == expected


def test_select_reorders_and_repeats_sets(pairs):
    sets = collect(pairs)
    index = np.array([4, 2, 4, 0])
    assert as_python(sets.select(index)) == [as_python(sets)[i] for i in index]


def test_both_and_without_are_intersection_and_difference(pairs):
    left, right = collect(pairs), collect((pairs[0], (pairs[1] * 5) % NUM_ITEMS))
    rows = list(zip(as_python(left), as_python(right), strict=True))
    assert as_python(left.both(right)) == [a & b for a, b in rows]
    assert as_python(left.without(right)) == [a - b for a, b in rows]


def test_only_keeps_the_members_that_are_allowed(pairs):
    allowed = np.arange(NUM_ITEMS) % 3 != 1
    expected = [{item for item in one if allowed[item]} for one in as_python(collect(pairs))]
    assert as_python(collect(pairs).only(allowed)) == expected
    assert as_python(collect(pairs).only(~allowed & allowed)) == [set()] * 6


def test_no_pairs_make_empty_sets():
    empty = np.empty(0, np.int64)
    sets = ItemSets.from_pairs(empty, empty, 2, NUM_ITEMS)
    assert len(sets) == 2
    assert not sets.contains(np.zeros((2, 3), np.int64)).any()


def test_sets_of_events_are_the_distinct_items_of_the_ranges():
    dataset = Dataset.from_rows([("u", "a", 1), ("u", "b", 2), ("u", "a", 3), ("v", "b", 1)])
    sets = ItemSets.of_events(dataset, np.array([0, 3]), np.array([3, 4]))
    assert as_python(sets) == [{0, 1}, {1}]


def test_expanded_ranges_skip_empty_ones():
    owners, index = expand_ranges(np.array([5, 2, 9]), np.array([7, 2, 10]))
    assert owners.tolist() == [0, 0, 2]
    assert index.tolist() == [5, 6, 9]
