"""What a stream's figures count, and the means that stand beside."""

from __future__ import annotations

import numpy as np
import pytest

from polyvec.systems.cel.prequential import DAMPING, Means, squared_errors


def test_means_are_those_of_what_came_before():
    means, counts = Means(), np.zeros((2, 9), np.int64)
    random = np.random.default_rng(0)
    users, items, labels = random.integers(0, 4, 30), random.integers(0, 9, 30), random.random(30)
    by_user, by_item, seen = np.zeros(4), np.zeros(9), []
    for user, item, label in zip(users, items, labels, strict=True):
        mean = np.mean(seen) if seen else label
        item_lies = by_item[item] / (counts[1, item] + DAMPING)
        expected = mean + by_user[user] / (counts[0, user] + DAMPING) + item_lies
        entities = np.array([[user], [item]])
        earlier = np.array([[counts[0, user]], [counts[1, item]]])
        assert means.learn(entities, earlier, np.array([label]))[0] == pytest.approx(expected)
        by_item[item] += label - mean
        by_user[user] += label - mean - item_lies
        counts[0, user] += 1
        counts[1, item] += 1
        seen.append(label)


def test_a_batch_is_foretold_before_any_of_it_is_learned():
    means, entities, earlier = Means(), np.zeros((2, 2), np.int64), np.zeros((2, 2), np.int64)
    means.learn(entities, earlier, np.array([1.0, 1.0], np.float32))
    first, second = means.learn(entities, earlier + 2, np.array([5.0, 9.0], np.float32))
    assert first == second == 1


def test_errors_are_told_by_half_and_by_how_well_entities_were_known():
    labels = np.array([1, 2, 3, 4, 5], np.float32)
    earlier = np.array([[0, 10, 9, 12, 30], [0, 10, 10, 3, 11]])
    figures = squared_errors({"exact": labels, "zero": np.zeros(5)}, labels, earlier)
    assert figures["all"] == {"interactions": 5, "exact": 0, "zero": 11}
    assert figures["last half"] == {"interactions": 3, "exact": 0, "zero": pytest.approx(50 / 3)}
    assert figures["warm"] == {"interactions": 2, "exact": 0, "zero": 14.5}
    assert figures["cold user"] == {"interactions": 2, "exact": 0, "zero": 5}
    assert figures["cold item"] == {"interactions": 2, "exact": 0, "zero": 8.5}


def test_where_nothing_is_counted_no_error_is_told():
    figures = squared_errors({"zero": np.zeros(0)}, np.zeros(0, np.float32), np.zeros((2, 0), np.int64))
    assert figures["warm"] == {"interactions": 0, "zero": None}
