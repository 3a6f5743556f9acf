"""One pass over a stream: exact parts, planted clusters, and constant cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from polyvec.systems.cel.lite import CELLite, LiteConfig, Ring, Side

CONFIG = LiteConfig(width=4, user_clusters=6, item_clusters=6, volume=300, ring=100_000)


def stream(count: int, users: int = 200, items: int = 150, kinds: int = 3, seed: int = 0):
    """Interactions of items of some kinds; all users of a kind like the same."""
    random = np.random.default_rng(seed)
    tastes = 1 + 3 * random.random((kinds, kinds))
    user_kinds, item_kinds = random.integers(0, kinds, users), random.integers(0, kinds, items)
    who, what = random.integers(0, users, count), random.integers(0, items, count)
    labels = tastes[user_kinds[who], item_kinds[what]] + 0.1 * random.standard_normal(count)
    return who, what, labels.astype(np.float32), item_kinds


def learned(count: int = 20_000, batch: int = 32, config: LiteConfig = CONFIG, **shape):
    who, what, labels, kinds = stream(count, **shape)
    model = CELLite(config, float(labels[:100].mean()))
    foretold = [
        model.learn(who[at : at + batch], what[at : at + batch], labels[at : at + batch])
        for at in range(0, count, batch)
    ]
    return model, (np.concatenate(foretold) - labels) ** 2, kinds


# --- the ring


def test_an_entitys_latest_interactions_are_found_by_its_thread():
    random, side, ring = np.random.default_rng(1), Side(3, CONFIG, 1.0, np.random.default_rng(0)), Ring(1000)
    other = Side(3, CONFIG, 1.0, np.random.default_rng(0))
    expected = defaultdict(list)
    for _ in range(12):
        entities = random.integers(0, 20, (2, 30))
        labels = random.random(30).astype(np.float32)
        for one, some in zip((side, other), entities, strict=True):
            one.admit(some)
        ring.append((side, other), entities, labels)
        for entity, label in zip(entities[0], labels, strict=True):
            expected[entity].append(label)
    asked = np.arange(20)
    places, there = ring.follow(0, side, asked, 5)
    for entity in asked:
        found = ring.labels[places[entity]][there[entity]]
        assert found.tolist() == expected[entity][-5:][::-1]


def test_what_the_ring_has_dropped_is_not_found():
    side, other, ring = (*(Side(3, CONFIG, 1.0, np.random.default_rng(0)) for _ in range(2)), Ring(10))
    for number in range(25):
        entities = np.array([[number % 2], [0]])
        for one, some in zip((side, other), entities, strict=True):
            one.admit(some)
        ring.append((side, other), entities, np.array([number], np.float32))
    places, there = ring.follow(0, side, np.array([0, 1]), 50)
    assert ring.labels[places[0]][there[0]].tolist() == [24, 22, 20, 18, 16]
    assert ring.labels[places[1]][there[1]].tolist() == [23, 21, 19, 17, 15]


# --- clusters


def check(side: Side) -> None:
    """Members, sizes and assignments agree."""
    seen = np.flatnonzero(side.assign >= 0)
    assert side.sizes.sum() == len(seen)
    for cluster in range(side.clusters):
        assert side.members(cluster).tolist() == np.flatnonzero(side.assign == cluster).tolist()
        assert side.sizes[cluster] == len(side.members(cluster))
    assert side.assign.max() < side.clusters


def test_members_sizes_and_assignments_agree_all_along():
    who, what, labels, _ = stream(6000)
    model = CELLite(CONFIG, 2.0)
    for at in range(0, 6000, 100):
        model.learn(who[at : at + 100], what[at : at + 100], labels[at : at + 100])
        for side in (model.users, model.items):
            check(side)
    assert model.items.clusters == model.users.clusters == 6


def test_entities_are_checked_at_growing_numbers_of_interactions():
    side = Side(3, CONFIG, 1.0, np.random.default_rng(0))
    entity, cluster = np.array([7]), np.array([0])
    side.admit(entity)
    checked = []
    for number in range(1, 41):
        side.count(entity, cluster)
        if len(side.due(entity)):
            checked.append(number)
    assert checked == [2, 3, 5, 8, 12, 18, 27]


def test_a_split_copies_the_row_and_what_adagrad_knows():
    side = Side(3, CONFIG, 1.0, np.random.default_rng(0))
    side.admit(np.arange(10))
    side.update(np.zeros(4, np.int64), np.ones((4, 4), np.float32))
    side.volume[0] = 500
    side.split(0, np.array([1, 5]))
    np.testing.assert_array_equal(side.rows[0], side.rows[1])
    np.testing.assert_array_equal(side.squares[0], side.squares[1])
    assert side.members(1).tolist() == [1, 5]
    assert side.volume[:2].tolist() == [0, 0]
    assert side.nearest[0].tolist() == [1]


def test_a_rows_step_is_adagrads_of_the_mean_gradient_of_its_records():
    config = replace(CONFIG, nonnegative=False)
    side = Side(3, config, 1.0, np.random.default_rng(0))
    before = side.rows.copy()
    gradients = np.array([[1.0, 0, 0, 0], [3, 0, 0, 0], [0, 8, 0, 0]], np.float32)
    side.update(np.array([2, 2, 0]), gradients)
    means = {2: np.array([2.0, 0, 0, 0]), 0: np.array([0, 8.0, 0, 0])}
    for row, mean in means.items():
        expected = before[row] - config.rate * mean / np.sqrt(1e-8 + mean**2)
        np.testing.assert_allclose(side.rows[row], expected, rtol=1e-6)
    np.testing.assert_array_equal(side.rows[1], before[1])


def test_nearest_clusters_are_those_of_least_distance():
    config = replace(CONFIG, near=2)
    side = Side(6, config, 1.0, np.random.default_rng(0))
    side.clusters = 5
    side.rows[:5] = np.random.default_rng(3).random((5, 4))
    side.find_nearest(np.arange(5))
    for cluster in range(5):
        distances = ((side.rows[:5] - side.rows[cluster]) ** 2).sum(axis=1)
        assert set(side.nearest[cluster]) == set(np.argsort(distances)[1:3])


# --- learning


def test_planted_clusters_are_found_in_one_pass():
    fast = replace(CONFIG, rate=0.3)
    model, errors, kinds = learned(config=fast)
    variance = float(np.var(stream(20_000)[2]))
    assert errors[-5000:].mean() < 0.1 * variance
    found = model.items.assign[: len(kinds)]
    pure = sum(np.bincount(kinds[found == q]).max() for q in np.unique(found))
    assert pure / len(kinds) > 0.97  # no cluster mixes kinds; a kind may have several
    same = replace(fast, user_clusters=3, item_clusters=3)
    exact, _, kinds = learned(config=same)
    assert adjusted_rand_score(kinds, exact.items.assign[: len(kinds)]) > 0.95


def test_the_first_predictions_are_the_mean_label():
    model = CELLite(CONFIG, 3.5)
    foretold = model.predict(np.arange(50), np.arange(50))
    assert foretold.mean() == pytest.approx(3.5, abs=0.2)


def test_who_was_never_seen_is_served_by_the_largest_cluster():
    model, _, _ = learned(8000)
    largest = model.items.rows[model.items.sizes.argmax()]
    users = np.arange(5)
    expected = model.users.rows[model.users.clusters_of(users)] @ largest
    np.testing.assert_allclose(model.predict(users, np.full(5, 10**6)), expected, rtol=1e-5)


def test_a_stream_is_learned_the_same_every_time():
    first, errors, _ = learned(4000)
    second, again, _ = learned(4000)
    np.testing.assert_array_equal(errors, again)
    np.testing.assert_array_equal(first.items.assign, second.items.assign)
    other, _, _ = learned(4000, config=replace(CONFIG, seed=1))
    assert not np.array_equal(first.items.rows, other.items.rows)


# --- cost


def test_work_per_interaction_does_not_grow_with_the_stream_or_with_the_entities():
    def work(count: int, **shape: int) -> tuple[float, float]:
        costs = learned(count, 64, **shape)[0].costs
        return costs.evaluations / costs.interactions, costs.read / costs.interactions

    config = CONFIG
    candidates = 1 + min(config.near, 5) + config.random
    most = 2 * config.growth / (config.growth - 1) * candidates
    small, long, wide = work(5000), work(20_000), work(20_000, users=800, items=600)
    for evaluations, _ in (small, long, wide):
        assert evaluations <= most
    assert long[0] <= 1.25 * small[0]
    assert wide[0] <= 1.25 * long[0]
    assert max(long[1], wide[1]) <= small[1]  # splits end once all clusters are in use


def test_nothing_is_as_wide_as_a_vector_for_every_entity():
    config = replace(CONFIG, width=32, ring=1000)
    model, _, _ = learned(5000, 64, config, users=4000, items=4000)
    for side in (model.users, model.items):
        numbers = [value for value in vars(side).values() if isinstance(value, np.ndarray)]
        assert all(array.ndim == 1 or len(array) <= 6 for array in numbers)
        per_entity = sum(array.itemsize for array in numbers if array.ndim == 1 and len(array) > 6)
        assert per_entity <= 20  # bytes, whatever the width
