"""Counting baselines on histories small enough to count by hand."""

import numpy as np
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.split import cut
from polyvec.evaluation.baselines import (
    PERSONAL_FREQUENCY,
    PersonalFrequency,
    Popularity,
    counting_baselines,
    fill_up,
)

EVENTS = [
    ("ann", "a", 1), ("ann", "a", 2), ("ann", "b", 3), ("ann", "c", 4), ("ann", "d", 12),
    ("bob", "b", 1), ("bob", "b", 2), ("bob", "b", 3), ("bob", "b", 4),
    ("cid", "e", 9), ("cid", "c", 9), ("dot", "f", 15),
]  # fmt: skip
CUTOFF = 10 * DAY


@pytest.fixture
def dataset():
    return Dataset.from_rows([(user, item, day * DAY) for user, item, day in EVENTS])


def names(dataset, rows):
    return ["".join(dataset.items.ids(row[row >= 0])) for row in rows]


def test_popularity_counts_each_user_once_and_only_history(dataset):
    ranker = Popularity(dataset, cut(dataset, CUTOFF, 365, 30))
    # b: ann, bob; c: ann, cid; a: ann; e: cid. Bob's four times count once; d and f are of the future.
    assert names(dataset, ranker.rank(np.array([0, 3]), 10)) == ["bcae", "bcae"]


def test_recent_popularity_sees_its_window_alone(dataset):
    assert names(dataset, Popularity(dataset, cut(dataset, CUTOFF, 2, 30)).rank(np.array([0]), 3)) == ["ce"]


def test_popularity_in_parts_is_the_same(dataset, monkeypatch):
    monkeypatch.setattr("polyvec.evaluation.baselines.counting.USERS_AT_ONCE", 1)
    assert names(dataset, Popularity(dataset, cut(dataset, CUTOFF, 365, 30)).rank(np.array([0]), 10)) == [
        "bcae"
    ]


def test_own_items_by_count_then_by_recency_then_popularity(dataset):
    windows = cut(dataset, CUTOFF, 365, 30)
    ranker = PersonalFrequency(dataset, windows, Popularity(dataset, windows))
    assert names(dataset, ranker.rank(np.array([0, 1, 2, 3]), 6)) == ["acbe", "bcae", "ceba", "bcae"]


def test_own_items_at_the_same_time_the_later_in_the_source_first(dataset):
    windows = cut(dataset, CUTOFF, 365, 30)
    ranker = PersonalFrequency(dataset, windows, Popularity(dataset, windows))
    assert names(dataset, ranker.rank(np.array([2]), 2)) == ["ce"]


def test_more_own_items_than_places_are_cut(dataset):
    windows = cut(dataset, CUTOFF, 365, 30)
    ranker = PersonalFrequency(dataset, windows, Popularity(dataset, windows))
    assert names(dataset, ranker.rank(np.array([0, 1]), 2)) == ["ac", "bc"]


def test_the_last_user_may_be_asked_first(dataset):
    windows = cut(dataset, CUTOFF, 365, 30)
    ranker = PersonalFrequency(dataset, windows, Popularity(dataset, windows))
    assert names(dataset, ranker.rank(np.array([1, 0]), 3)) == ["bca", "acb"]


def test_fill_up_drops_repetitions_and_keeps_order():
    filled = fill_up(np.array([[5, 2, -1, -1], [-1, -1, -1, -1]]), np.array([[2, 9, 5, 1], [3, -1, 3, 4]]))
    assert filled.tolist() == [[5, 2, 9, 1], [3, 4, -1, -1]]


def test_no_baseline_knows_the_future(dataset):
    """Whatever happens at or after the cut-off, the answers stay."""
    changed = Dataset.from_rows(
        [(user, item if day < 10 else "f", day * DAY) for user, item, day in EVENTS]
        + [("bob", "f", CUTOFF)] * 50,
        dataset.item_table,
    )
    users = np.arange(dataset.num_users)
    for name, ranker in counting_baselines(dataset, CUTOFF, 365).items():
        other = counting_baselines(changed, CUTOFF, 365)[name]
        assert ranker.rank(users, 5).tolist() == other.rank(users, 5).tolist()


def test_the_baselines_carry_their_names(dataset):
    assert list(counting_baselines(dataset, CUTOFF, 365)) == [
        "popularity",
        "popularity of 30 days",
        "popularity of 7 days",
        PERSONAL_FREQUENCY,
    ]
