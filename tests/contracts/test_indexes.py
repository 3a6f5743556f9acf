"""Every index through one suite; the expected answers come from a naive loop."""

import numpy as np
import pytest

from polyvec.data.item_sets import ItemSets
from polyvec.embeddings import unit
from polyvec.errors import DataError, UsageError
from polyvec.retrieval.approximate import FaissIndex
from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.found import Filter

NUM_ITEMS, WIDTH, NUM_USERS = 300, 16, 20

pytestmark = pytest.mark.parametrize("index_type", [ExactIndex, FaissIndex])


def vectors(seed, *shape):
    return unit(np.random.default_rng(seed).normal(size=shape))


ITEMS = vectors(0, NUM_ITEMS, WIDTH)
USERS = vectors(1, NUM_USERS, 4, WIDTH)


def naive(users_BCD, items_ND, k, allowed=None, excluded=None):
    """GUIM eq. 3 by the letter: score every item by its best vector, sort, cut."""
    answers = []
    for user, vectors_CD in enumerate(users_BCD):
        scored = []
        for item, vector in enumerate(items_ND):
            if allowed is not None and not allowed[item]:
                continue
            if excluded is not None and item in excluded[user]:
                continue
            scored.append((-max(float(v @ vector) for v in vectors_CD), item))
        best = [item for _, item in sorted(scored)[:k]]
        answers.append(best + [-1] * (k - len(best)))
    return answers


@pytest.mark.parametrize("num_vectors", [1, 2, 4])
def test_answers_equal_the_naive_loop(index_type, num_vectors):
    users = USERS[:, :num_vectors]
    found = index_type(ITEMS).search(users, 25)
    assert found.rows.tolist() == naive(users, ITEMS, 25)


def test_score_and_matching_vector_belong_to_the_item(index_type):
    found = index_type(ITEMS).search(USERS, 10)
    products = np.einsum("bcd,bkd->bck", USERS, ITEMS[found.rows])
    np.testing.assert_allclose(found.scores, products.max(axis=1), rtol=1e-5)
    assert found.vectors.tolist() == products.argmax(axis=1).tolist()


def test_one_vector_may_supply_all_answers(index_type):
    """Fewer than k from each of the searches would lose some."""
    users = np.stack([ITEMS[0], -ITEMS[0]])[None]
    near = unit(ITEMS[0] + 0.3 * vectors(5, 40, WIDTH))
    found = index_type(np.concatenate([ITEMS, near])).search(users, 40)
    assert set(found.vectors[0].tolist()) == {0}
    assert found.rows.tolist() == naive(users, np.concatenate([ITEMS, near]), 40)


def test_the_max_is_not_the_sum(index_type):
    """MaxSim sums over the query's vectors, and there the middling item wins."""
    users = np.eye(2, dtype=np.float32)[None]
    items = unit(np.array([[1.0, -1.0], [0.7, 0.7]])) * np.array([[1.0], [0.9]], np.float32)
    items[0] = [1.0, -1.0]
    assert (users[0] @ items.T).sum(axis=0).argmax() == 1
    assert index_type(items).search(users, 1).rows.tolist() == [[0]]


def test_more_answers_than_items_are_padded(index_type):
    found = index_type(ITEMS[:5]).search(USERS[:2], 8)
    assert (found.rows[:, :5] >= 0).all()
    assert (found.rows[:, 5:] == -1).all()
    assert (found.vectors[:, 5:] == -1).all()
    assert np.isneginf(found.scores[:, 5:]).all()


def test_an_empty_allow_list_gives_nothing(index_type):
    found = index_type(ITEMS).search(USERS, 5, Filter(np.zeros(NUM_ITEMS, np.bool_)))
    assert (found.rows == -1).all()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_an_allow_list_loses_nothing(index_type, share):
    allowed = np.random.default_rng(2).random(NUM_ITEMS) < share
    found = index_type(ITEMS).search(USERS, 12, Filter(allowed))
    assert found.rows.tolist() == naive(USERS, ITEMS, 12, allowed)


@pytest.mark.parametrize("seen", [3, 60, NUM_ITEMS])
def test_excluding_the_best_items_brings_up_the_next(index_type, seen):
    best = ExactIndex(ITEMS).search(USERS, seen).rows
    excluded = ItemSets.from_pairs(np.repeat(np.arange(NUM_USERS), seen), best.ravel(), NUM_USERS, NUM_ITEMS)
    found = index_type(ITEMS).search(USERS, 10, Filter(excluded=excluded))
    assert found.rows.tolist() == naive(USERS, ITEMS, 10, excluded=[set(row) for row in best.tolist()])


def test_filters_together(index_type):
    allowed = np.arange(NUM_ITEMS) % 3 > 0
    best = ExactIndex(ITEMS).search(USERS, 30).rows
    excluded = ItemSets.from_pairs(np.repeat(np.arange(NUM_USERS), 30), best.ravel(), NUM_USERS, NUM_ITEMS)
    found = index_type(ITEMS).search(USERS, 10, Filter(allowed, excluded))
    assert found.rows.tolist() == naive(USERS, ITEMS, 10, allowed, [set(row) for row in best.tolist()])


def test_ties_are_ordered_by_item_row(index_type):
    items = np.tile(np.eye(4, dtype=np.float32), (3, 1))
    found = index_type(items).search(np.eye(4, dtype=np.float32)[None, :2], 6)
    assert found.rows.tolist() == [[0, 1, 4, 5, 8, 9]]


def test_no_query_gives_no_answer(index_type):
    assert index_type(ITEMS).search(USERS[:0], 3).rows.shape == (0, 3)


def test_k_below_one_is_refused(index_type):
    with pytest.raises(UsageError, match="k is 0"):
        index_type(ITEMS).search(USERS, 0)


def test_queries_of_another_width_are_refused(index_type):
    with pytest.raises(DataError, match=r"queries have shape \(20, 4, 15\)"):
        index_type(ITEMS).search(USERS[:, :, 1:], 3)
