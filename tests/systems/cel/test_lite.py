"""One pass over a stream: exact parts, planted clusters, and constant cost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from polyvec.layers.tables.clustered import gradient_cut
from polyvec.systems.cel.config import LiteConfig
from polyvec.systems.cel.lite import CELLite, Side, part_by_gradients
from polyvec.systems.cel.means import DAMPING
from polyvec.systems.cel.ring import Ring

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
    owners, places = ring.follow(0, side, asked, 5)
    for entity in asked:
        assert ring.labels[places[owners == entity]].tolist() == expected[entity][-5:][::-1]


def test_what_the_ring_has_dropped_is_not_found():
    side, other, ring = (*(Side(3, CONFIG, 1.0, np.random.default_rng(0)) for _ in range(2)), Ring(10))
    for number in range(25):
        entities = np.array([[number % 2], [0]])
        for one, some in zip((side, other), entities, strict=True):
            one.admit(some)
        ring.append((side, other), entities, np.array([number], np.float32))
    owners, places = ring.follow(0, side, np.array([0, 1]), 50)
    assert ring.labels[places[owners == 0]].tolist() == [24, 22, 20, 18, 16]
    assert ring.labels[places[owners == 1]].tolist() == [23, 21, 19, 17, 15]


# --- clusters


def check(side: Side) -> None:
    """Members, sizes and assignments agree; members while there is room for another cluster."""
    seen = np.flatnonzero(side.assign >= 0)
    assert side.sizes.sum() == len(seen)
    for cluster in range(side.clusters):
        members = np.flatnonzero(side.assign == cluster).tolist()
        assert side.sizes[cluster] == len(members)
        if side.clusters < len(side.rows):
            assert side.members(cluster).tolist() == members
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
    assert side.split(0, np.array([1, 5])) == 1
    np.testing.assert_array_equal(side.rows[0], side.rows[1])
    np.testing.assert_array_equal(side.squares[0], side.squares[1])
    assert side.members(1).tolist() == [1, 5]


def test_clusters_are_looked_at_anew_after_so_many_interactions_though_none_can_split():
    config = replace(CONFIG, user_clusters=6, item_clusters=6, near=2)
    model, _, _ = learned(6000, config=config)
    assert (model.users.clusters, model.items.clusters) == (6, 6)
    for place, side in enumerate((model.users, model.items)):
        side.rows[:] = np.random.default_rng(5).normal(size=side.rows.shape)  # none is where it was
        side.volume[:] = [config.volume, 0, 0, config.volume, 0, 0]
        before = side.nearest.copy()
        compared = model.costs.compared
        model._split(place, side, model.items)
        distances = ((side.rows[:, None] - side.rows) ** 2).sum(axis=2)
        for cluster in (0, 3):
            assert set(side.nearest[cluster]) == set(np.argsort(distances[cluster])[1:3])
        assert (side.nearest[[1, 2, 4, 5]] == before[[1, 2, 4, 5]]).all()
        assert model.costs.compared == compared + 2 * 6
        assert (side.volume == 0).all()


def test_a_rows_step_is_adagrads_of_the_mean_gradient_of_its_records():
    config = CONFIG
    side = Side(3, config, 1.0, np.random.default_rng(0))
    before = side.rows.copy()
    gradients = np.array([[1.0, 0, 0, 0], [3, 0, 0, 0], [0, 8, 0, 0]], np.float32)
    side.update(np.array([2, 2, 0]), gradients)
    means = {2: np.array([2.0, 0, 0, 0]), 0: np.array([0, 8.0, 0, 0])}
    for row, mean in means.items():
        expected = before[row] - config.rate * mean / np.sqrt(1e-8 + mean**2)
        np.testing.assert_allclose(side.rows[row], expected, rtol=1e-6)
    np.testing.assert_array_equal(side.rows[1], before[1])


@pytest.mark.parametrize(("residual", "least"), [(False, 0), (True, -1)])
def test_rows_alone_stay_at_0_or_above_and_those_of_a_residual_do_not(residual, least):
    side = Side(1, replace(CONFIG, residual=residual, rate=2.0), 1.0, np.random.default_rng(0))
    side.update(np.array([0]), np.ones((1, 4), np.float32))
    assert (side.rows.max() == 0) if least == 0 else (side.rows.max() < least)


def test_nearest_clusters_are_those_of_least_distance():
    config = replace(CONFIG, near=2)
    side = Side(6, config, 1.0, np.random.default_rng(0))
    side.clusters = 5
    side.rows[:5] = np.random.default_rng(3).random((5, 4))
    side.find_nearest(np.arange(5))
    for cluster in range(5):
        distances = ((side.rows[:5] - side.rows[cluster]) ** 2).sum(axis=1)
        assert set(side.nearest[cluster]) == set(np.argsort(distances)[1:3])


def test_nobody_remembers_who_joined_what_can_no_longer_split():
    side = Side(2, CONFIG, 1.0, np.random.default_rng(0))
    side.admit(np.arange(10))
    assert side.members(0).tolist() == list(range(10))
    side.split(0, np.array([1, 5]))
    side.admit(np.arange(10, 20))
    assert not side._joined
    assert side.sizes.tolist() == [18, 2]


def test_who_has_left_a_cluster_is_forgotten_as_others_join():
    side = Side(3, CONFIG, 1.0, np.random.default_rng(0))
    side.admit(np.arange(100))
    side.split(0, np.arange(50))
    for turn in range(400):
        side._join(np.arange(50), np.full(50, turn % 2))
    check(side)
    assert sum(len(joined) for joined in side._joined) <= 6 * 100  # of 20,000 that joined


# --- buffers


def buffered(model: CELLite, place: int, entity: int) -> list[tuple[np.ndarray, float]]:
    """Rows of the other side and labels of an entity's latest interactions, found by looking at all."""
    ring, other = model.ring, (model.items, model.users)[place]
    numbers = range(max(ring.written - ring.size, 0), ring.written)
    places = [number % ring.size for number in numbers if ring.entities[place, number % ring.size] == entity]
    latest = places[-model.config.buffer :]
    return [(other.rows[other.assign[ring.entities[1 - place, at]]], ring.labels[at]) for at in latest]


@pytest.mark.parametrize("at_once", [7, 4096])
@pytest.mark.parametrize("ring", [400, 100_000])
def test_a_buffer_is_judged_by_all_its_interactions_and_no_others(at_once, ring, monkeypatch):
    monkeypatch.setattr("polyvec.systems.cel.lite.AT_ONCE", at_once)
    model, _, _ = learned(4000, config=replace(CONFIG, ring=ring, buffer=12))
    entities = np.arange(40)
    candidates = model.items.candidates(entities)
    losses = model._losses(1, model.items, model.users, entities, candidates)
    for entity in entities:
        rows = model.items.rows[candidates[entity]].astype(float)
        expected = sum(
            ((rows @ row - label) ** 2 for row, label in buffered(model, 1, entity)), np.zeros(len(rows))
        )
        np.testing.assert_allclose(losses[entity], expected, rtol=1e-5, atol=1e-5)


def test_twins_that_have_just_split_err_alike_to_the_bit():
    model, _, _ = learned(4000)
    side, entities = model.users, np.arange(100)
    side.rows[3] = side.rows[5]
    candidates = np.tile(np.array([3, 0, 1, 2, 5, 3, 4]), (100, 1))
    losses = model._losses(0, side, model.items, entities, candidates)
    np.testing.assert_array_equal(losses[:, 0], losses[:, 4])
    np.testing.assert_array_equal(losses[:, 0], losses[:, 5])


@pytest.mark.parametrize("at_once", [7, 4096])
def test_members_are_parted_by_the_gradients_of_their_buffers(at_once, monkeypatch):
    monkeypatch.setattr("polyvec.systems.cel.lite.AT_ONCE", at_once)
    config = replace(CONFIG, user_clusters=2, item_clusters=2, volume=2000)
    model, _, _ = learned(1500, config=config)
    side, members = model.items, model.items.members(0)
    gradients = np.zeros((len(members), config.width))
    for place, entity in enumerate(members):
        for row, label in buffered(model, 1, entity):
            gradients[place] += 2 * (float(row @ side.rows[0]) - label) * row
    expected = gradient_cut(torch.from_numpy(gradients)).numpy()
    leaving = model._leaving(1, side, model.users, 0, members)
    assert np.array_equal(leaving, expected) or np.array_equal(leaving, ~expected)


def test_members_that_cannot_be_parted_stay():
    assert part_by_gradients(lambda part: np.ones((part.stop - part.start, 3)), 10) is None
    assert part_by_gradients(lambda part: np.ones((1, 3)), 1) is None
    assert part_by_gradients(lambda part: np.ones((0, 3)), 0) is None


# --- going on


@pytest.mark.parametrize(("ring", "residual"), [(500, True), (100_000, False)])
def test_a_learner_goes_on_from_its_state_to_the_same_bits(ring, residual):
    who, what, labels, _ = stream(6400)
    config = replace(CONFIG, ring=ring, residual=residual)
    whole, stopped = CELLite(config, 2.5), CELLite(config, 2.5)
    foretold = []
    for at in range(0, 6400, 32):
        batch = slice(at, at + 32)
        if at == 1600:  # amid the splits
            arrays, numbers = stopped.state()
            arrays = {name: array.copy() for name, array in arrays.items()}
            stopped = CELLite.restored(config, arrays, json.loads(json.dumps(numbers)))
        foretold.append([model.learn(who[batch], what[batch], labels[batch]) for model in (whole, stopped)])
    assert whole.items.clusters == 6
    for one, other in foretold:
        np.testing.assert_array_equal(one, other)
    ours, theirs = whole.state(), stopped.state()
    assert ours[1] == theirs[1]
    for name, array in ours[0].items():
        np.testing.assert_array_equal(array, theirs[0][name])
    for side in (stopped.users, stopped.items):
        check(side)


# --- learning


@pytest.mark.parametrize("residual", [False, True])
def test_planted_clusters_are_found_in_one_pass(residual):
    fast = replace(CONFIG, rate=0.3, residual=residual)
    model, errors, kinds = learned(config=fast)
    variance = float(np.var(stream(20_000)[2]))
    assert errors[-5000:].mean() < 0.1 * variance
    found = model.items.assign[: len(kinds)]
    pure = sum(np.bincount(kinds[found == q]).max() for q in np.unique(found))
    assert pure / len(kinds) > 0.97  # no cluster mixes kinds; a kind may have several
    same = replace(fast, user_clusters=3, item_clusters=3)
    exact, _, kinds = learned(config=same)
    assert adjusted_rand_score(kinds, exact.items.assign[: len(kinds)]) > 0.95


@pytest.mark.parametrize("residual", [False, True])
def test_the_first_predictions_are_the_mean_label(residual):
    model = CELLite(replace(CONFIG, residual=residual), 3.5)
    foretold = model.predict(np.arange(50), np.arange(50))
    assert foretold.mean() == pytest.approx(3.5, abs=0.2)


def test_a_prediction_is_what_the_means_foretell_and_the_product_of_the_rows():
    model, _, _ = learned(6400)
    who, what, labels, _ = stream(50, seed=1)
    ours = zip((model.users, model.items), (who, what), strict=True)
    rows = [side.rows[side.assign[some]] for side, some in ours]
    means, (by_user, by_item) = model.means, model.means.sums
    expected = means.mean + (rows[0] * rows[1]).sum(axis=1)
    expected += by_user[who] / (model.users.events[who] + DAMPING)
    expected += by_item[what] / (model.items.events[what] + DAMPING)
    np.testing.assert_allclose(model.predict(who, what), expected, rtol=1e-5)
    np.testing.assert_allclose(model.learn(who, what, labels), expected, rtol=1e-5)


def test_labels_in_the_ring_are_what_the_means_of_their_moment_left_over():
    who, what, labels, _ = stream(640)
    model, left = CELLite(CONFIG, 2.5), []
    for at in range(0, 640, 32):
        batch = slice(at, at + 32)
        entities = np.stack([who[batch], what[batch]])
        sides = zip((model.users, model.items), entities, strict=True)
        earlier = np.stack([side.events_of(some) for side, some in sides])
        left.append(labels[batch] - model.means.foretell(entities, earlier))
        model.learn(*entities, labels[batch])
    np.testing.assert_allclose(model.ring.labels[:640], np.concatenate(left), atol=1e-6)


def test_labels_far_below_0_are_learned_as_well():
    who, what, labels, _ = stream(12_000)
    errors = []
    for shift in (0, -9):
        model = CELLite(replace(CONFIG, rate=0.3), float(labels[:100].mean()) + shift)
        told = [
            model.learn(who[at : at + 32], what[at : at + 32], labels[at : at + 32] + shift)
            for at in range(0, 12_000, 32)
        ]
        errors.append(((np.concatenate(told) - labels - shift) ** 2)[-3000:].mean())
    assert errors[1] == pytest.approx(errors[0], rel=0.5)
    assert errors[1] < 0.2 * float(np.var(labels))


def test_who_was_never_seen_is_served_by_the_largest_cluster_and_the_other_sides_mean():
    model, _, _ = learned(8000)
    largest = model.items.rows[model.items.sizes.argmax()]
    users, events = np.arange(5), model.users.events[:5]
    expected = model.users.rows[model.users.clusters_of(users)] @ largest
    expected += model.means.mean + model.means.sums[0][:5] / (events + DAMPING)
    for never in (10**6, -1):
        np.testing.assert_allclose(model.predict(users, np.full(5, never)), expected, rtol=1e-5)


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


def test_nobody_looks_at_all_clusters_and_they_are_searched_once_in_a_volume():
    few, many = (
        learned(20_000, 64, replace(CONFIG, user_clusters=count, item_clusters=count, volume=100))[0]
        for count in (20, 80)
    )
    assert (few.users.clusters, many.users.clusters) == (20, 80)
    for model in (few, many):
        share = model.costs.compared / (2 * model.costs.interactions * model.users.clusters / 100)
        assert 0.2 < share < 2
    assert many.costs.evaluations <= 1.1 * few.costs.evaluations


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell peak memory")
def test_a_stream_of_a_million_users_takes_less_memory_than_a_row_for_each():
    script = """
from pathlib import Path
import numpy as np
from polyvec.systems.cel.lite import CELLite
from polyvec.systems.cel.config import LiteConfig

def peak():  # of this process alone: getrusage knows that of the one it was forked from, too
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

random = np.random.default_rng(0)
model = CELLite(LiteConfig(width=64, ring=50_000, user_clusters=100, item_clusters=100), 3.0)
before = peak()
for _ in range(50):
    users, items = random.integers(0, 1_000_000, (2, 2048))
    model.learn(users, items, random.random(2048).astype(np.float32))
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    rows = 2 * 1_000_000 * 64 * 4  # without Adagrad's memory of them
    assert 0 < int(done.stdout) < rows / 3


def test_nothing_is_as_wide_as_a_vector_for_every_entity():
    config = replace(CONFIG, width=32, ring=1000)
    model, _, _ = learned(5000, 64, config, users=4000, items=4000)
    for side in (model.users, model.items):
        numbers = [value for value in vars(side).values() if isinstance(value, np.ndarray)]
        assert all(array.ndim == 1 or len(array) <= 6 for array in numbers)
        per_entity = sum(array.itemsize for array in numbers if array.ndim == 1 and len(array) > 6)
        assert per_entity <= 20  # bytes, whatever the width
    assert [(sums.ndim, sums.itemsize) for sums in model.means.sums] == [(1, 8), (1, 8)]
