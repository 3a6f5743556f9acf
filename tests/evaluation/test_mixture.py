"""How the vectors of a mixture are used, on vectors whose use is plain."""

import numpy as np
import pytest

from polyvec.data.dataset import Dataset
from polyvec.data.item_sets import ItemSets
from polyvec.embeddings import Embeddings
from polyvec.evaluation import mixture
from polyvec.evaluation.mixture import mean_cosine, vectors_used, wins

DATASET = Dataset.from_rows(
    [("ann", "a", 1), ("ann", "b", 2), ("ann", "c", 3), ("bob", "b", 1), ("cid", "a", 1)]
)
ALL = ItemSets.of_events(DATASET, DATASET.user_offsets[:-1], DATASET.user_offsets[1:])


@pytest.fixture
def embeddings():
    users = np.array([[[1, 0], [0, 1]], [[1, 0], [1, 0]]], np.float32)
    items = np.array([[1, 0.1], [0.1, 1]], np.float32)  # c has no vector
    return Embeddings.from_arrays(["ann", "bob"], users, ["a", "b"], items)


def test_each_item_is_won_by_its_best_vector(embeddings):
    assert wins(embeddings, DATASET, ALL).tolist() == [[1, 1], [1, 0], [0, 0]]


def test_wins_by_plain_python():
    generator = np.random.default_rng(2)
    rows = [(user, int(item), 1) for user in range(9) for item in generator.choice(12, 5, replace=False)]
    dataset = Dataset.from_rows(rows)
    users = np.round(generator.normal(size=(9, 3, 2)))  # small integers: vectors tie
    users[users.any(axis=2) == 0] = 1
    items = np.round(generator.normal(size=(dataset.num_items, 2))) + 0.5
    made = Embeddings.from_arrays(dataset.users.series, users, dataset.items.series, items, "max_dot")
    sets = ItemSets.of_events(dataset, dataset.user_offsets[:-1], dataset.user_offsets[1:])
    expected = np.zeros((9, 3), int)
    for user, item in zip(sets.owners, sets.items, strict=True):
        scores = [sum(a * b for a, b in zip(vector, items[item], strict=True)) for vector in users[user]]
        expected[user, scores.index(max(scores))] += 1
    np.testing.assert_array_equal(wins(made, dataset, sets), expected)


def test_working_in_parts_changes_nothing(embeddings, monkeypatch):
    monkeypatch.setattr(mixture, "PAIRS_AT_ONCE", 1)
    assert wins(embeddings, DATASET, ALL).tolist() == [[1, 1], [1, 0], [0, 0]]


def test_a_vector_is_used_if_it_wins_a_tenth():
    assert vectors_used(np.array([[9, 1, 0], [19, 1, 0], [0, 0, 0], [3, 3, 3]])).tolist() == [2, 1, 0, 3]


def test_mean_cosine_equals_all_pairs():
    users = np.random.default_rng(0).normal(size=(7, 4, 5))
    embeddings = Embeddings.from_arrays(list(range(7)), users, [1], np.ones((1, 5)))
    unit = users / np.linalg.norm(users, axis=2, keepdims=True)
    pairs = [u[i] @ u[j] for u in unit for i in range(4) for j in range(4) if i != j]
    assert mean_cosine(embeddings, np.arange(7)) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_one_vector_has_no_cosine_with_another():
    embeddings = Embeddings.from_arrays([1], np.ones((1, 3)), [1], np.ones((1, 3)))
    assert mean_cosine(embeddings, np.array([0])) is None
