"""FAISS search beyond the contract: recall against exact search."""

import numpy as np
import pytest

from polyvec.embeddings import unit
from polyvec.retrieval.approximate import FaissIndex
from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.found import Filter


@pytest.fixture(scope="module")
def clustered():
    """Items around 40 centres and users of 4 vectors near some of them: data with structure."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(40, 24))
    items = unit(centres[generator.integers(0, 40, 4000)] + 0.5 * generator.normal(size=(4000, 24)))
    users = unit(centres[generator.integers(0, 40, (60, 4))] + 0.3 * generator.normal(size=(60, 4, 24)))
    return items, users, FaissIndex(items)


def recall(rows, expected):
    return np.mean([len({*a} & {*b}) / len(b) for a, b in zip(rows.tolist(), expected.tolist(), strict=True)])


def test_recall_against_exact_search(clustered, record_property):
    items, users, index = clustered
    value = recall(index.search(users, 100).rows, ExactIndex(items).search(users, 100).rows)
    record_property("recall@100", float(value))
    assert value > 0.97


@pytest.mark.parametrize("share", [0.15, 0.6])
def test_filtered_answers_are_full_and_near_exact(clustered, share):
    items, users, index = clustered
    only = Filter(np.random.default_rng(1).random(len(items)) < share)
    found = index.search(users, 100, only)
    assert (found.rows >= 0).all()
    assert only.allowed[found.rows].all()
    assert recall(found.rows, ExactIndex(items).search(users, 100, only).rows) > 0.95


def test_no_item_comes_back_twice(clustered):
    _, users, index = clustered
    rows = index.search(users, 50).rows
    assert all(len(set(row)) == 50 for row in rows.tolist())
