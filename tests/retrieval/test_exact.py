"""Exact search beyond the contract."""

import numpy as np

from polyvec.data.item_sets import ItemSets
from polyvec.retrieval import exact
from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.found import Filter


def test_working_in_parts_changes_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    # small integers multiply exactly, whatever the order of additions
    items = generator.integers(-3, 4, (50, 6)).astype(np.float32)
    users = generator.integers(-3, 4, (23, 3, 6)).astype(np.float32)
    excluded = ItemSets.from_pairs(generator.integers(0, 23, 99), generator.integers(0, 50, 99), 23, 50)
    only = Filter(generator.random(50) < 0.8, excluded)
    whole = ExactIndex(items).search(users, 9, only)
    monkeypatch.setattr(exact, "SCORES_AT_ONCE", 2 * 3 * 50)
    parts = ExactIndex(items).search(users, 9, only)
    for name in ("rows", "scores", "vectors"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_no_items_answer_nothing():
    found = ExactIndex(np.empty((0, 4), np.float32)).search(np.ones((2, 3, 4), np.float32), 2)
    assert found.rows.tolist() == [[-1, -1], [-1, -1]]
