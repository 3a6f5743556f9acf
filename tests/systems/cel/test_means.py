"""Means that learn a stream."""

from __future__ import annotations

import json

import numpy as np
import pytest

from polyvec.systems.cel.means import DAMPING, Means


def test_means_are_those_of_what_came_before():
    means, counts = Means(2.5), np.zeros((2, 9), np.int64)
    random = np.random.default_rng(0)
    users, items, labels = random.integers(0, 4, 30), random.integers(0, 9, 30), random.random(30)
    by_user, by_item, seen = np.zeros(4), np.zeros(9), []
    for user, item, label in zip(users, items, labels, strict=True):
        mean = np.mean(seen) if seen else 2.5
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
    means, entities, earlier = Means(1.0), np.zeros((2, 2), np.int64), np.zeros((2, 2), np.int64)
    means.learn(entities, earlier, np.array([1.0, 1.0], np.float32))
    first, second = means.learn(entities, earlier + 2, np.array([5.0, 9.0], np.float32))
    assert first == second == 1


def test_who_was_never_met_lies_at_the_mean():
    means, earlier = Means(3.0), np.zeros(3, np.int64)
    never = np.array([-1, 0, 10**9])
    assert means.foretell(np.stack([never, never]), np.stack([earlier, earlier])).tolist() == [3, 3, 3]
    means.learn(np.array([[2, 2], [2, 2]]), np.zeros((2, 2), np.int64), np.array([1.0, 3.0], np.float32))
    assert means.mean == 2
    assert means.biases(0, never, earlier).tolist() == [0, 0, 0]


def test_means_go_on_from_their_state_to_the_same_bits():
    random, whole, stopped = np.random.default_rng(0), Means(1.0), Means(1.0)
    for number in range(6):
        entities, labels = random.integers(0, 9 + 20 * number, (2, 30)), random.random(30).astype(np.float32)
        earlier = random.integers(0, 50, (2, 30))
        if number in (0, 3):
            state = {name: array.copy() for name, array in stopped.state().items()}
            counters, stopped = json.loads(json.dumps(stopped.counters())), Means()
            stopped.restore(state, counters)
        told = [means.learn(entities, earlier, labels) for means in (whole, stopped)]
        np.testing.assert_array_equal(*told)
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, stopped.state()[name])
