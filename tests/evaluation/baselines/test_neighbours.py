"""Item-to-item cosine against loops over users and items."""

from math import sqrt

import numpy as np
import pytest

from polyvec.errors import UsageError
from polyvec.evaluation.baselines import Popularity
from polyvec.evaluation.baselines.item_to_item import history_matrix
from polyvec.evaluation.baselines.neighbours import neighbours


def cosine(bought, one, other):
    """Users of both over the root of the product of users, float32 as the scores are."""
    both = sum(one in items and other in items for items in bought)
    users = [sum(item in items for items in bought) for item in (one, other)]
    return np.float32(both / sqrt(users[0] * users[1]))


def transcription(bought, user, k, most):
    """Rank for one user: each item of the history speaks for itself and its k nearest others."""
    items = sorted(set().union(*bought))
    scores = dict.fromkeys(items, np.float32(0))
    for own in sorted(bought[user]):
        others = [other for other in items if other != own and cosine(bought, own, other) > 0]
        others.sort(key=lambda other, own=own: (-cosine(bought, own, other), other))
        for other in [own, *others[:k]]:
            scores[other] += cosine(bought, own, other)
    ranked = sorted((item for item in items if scores[item] > 0), key=lambda item: (-scores[item], item))
    return (ranked + [-1] * most)[:most]


@pytest.mark.parametrize("k", [None, 1, 3, 1000])
def test_it_ranks_as_the_loops_do(k, random_dataset, random_windows, bought):
    ranked = neighbours(history_matrix(random_dataset, random_windows), k).rank(np.arange(30), 12)
    assert ranked.tolist() == [transcription(bought, user, k, 12) for user in range(30)]


@pytest.mark.parametrize("k", [None, 2])
def test_items_in_blocks_get_the_same_neighbours(k, random_dataset, random_windows, monkeypatch):
    histories = history_matrix(random_dataset, random_windows)
    whole = neighbours(histories, k).rank(np.arange(30), 12)
    monkeypatch.setattr("polyvec.evaluation.baselines.neighbours.PAIRS_AT_ONCE", 30)
    assert np.array_equal(neighbours(histories, k).rank(np.arange(30), 12), whole)


def test_the_future_changes_nothing(random_dataset, random_windows, altered_future):
    now = neighbours(history_matrix(random_dataset, random_windows), 3).rank(np.arange(30), 12)
    later = neighbours(history_matrix(*altered_future), 3).rank(np.arange(30), 12)
    assert np.array_equal(now, later)


def test_it_finds_tastes_that_popularity_does_not(taste_recall):
    found = taste_recall(lambda *data: neighbours(history_matrix(*data), 20))
    assert found > 1.3 * taste_recall(Popularity)


def test_no_neighbours_are_refused(random_dataset, random_windows):
    with pytest.raises(UsageError, match="0 neighbours"):
        neighbours(history_matrix(random_dataset, random_windows), 0)
