"""Who had what, and ranking by weights between items."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from polyvec.data.split import Windows
from polyvec.errors import DataError
from polyvec.evaluation.baselines import FilledUp, Popularity
from polyvec.evaluation.baselines.item_to_item import ItemToItem, history_matrix, known_items

HISTORIES = csr_array(np.float32([[0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]))


def test_a_user_counts_once_per_item_and_the_future_not_at_all(random_dataset, random_windows, bought):
    histories = history_matrix(random_dataset, random_windows).toarray()
    assert histories.shape == (random_dataset.num_users, random_dataset.num_items)
    assert [set(np.flatnonzero(row).tolist()) for row in histories] == bought
    assert set(np.unique(histories)) == {0, 1}


def test_histories_in_parts_are_the_same(random_dataset, random_windows, monkeypatch):
    whole = history_matrix(random_dataset, random_windows).toarray()
    monkeypatch.setattr("polyvec.evaluation.baselines.item_to_item.USERS_AT_ONCE", 4)
    assert np.array_equal(history_matrix(random_dataset, random_windows).toarray(), whole)


def test_several_windows_of_a_user_are_united_and_users_without_one_are_empty(random_dataset, random_windows):
    twice = Windows.concatenate([random_windows[:2], random_windows[:1]])
    histories = history_matrix(random_dataset, twice).toarray()
    assert np.array_equal(histories[:2], history_matrix(random_dataset, random_windows).toarray()[:2])
    assert not histories[2:].any()


def test_no_history_at_all_is_told(random_dataset, random_windows):
    with pytest.raises(DataError, match="no user has an event in the history window"):
        history_matrix(random_dataset, random_windows[7:8])


def test_only_items_that_somebody_had_are_ranked_and_ties_go_by_row():
    ranker = ItemToItem(HISTORIES, known_items(HISTORIES), np.float32([[0, 0], [0, 0]]))
    assert ranker.rank(np.array([0, 1, 2]), 3).tolist() == [[1, 3, -1], [-1, -1, -1], [1, 3, -1]]


def test_weights_go_from_the_row_to_the_column():
    ranker = ItemToItem(HISTORIES, np.array([1, 3]), np.float32([[0, 0], [-1, -2]]))
    assert ranker.rank(np.array([2]), 2).tolist() == [[1, 3]]
    ranker = ItemToItem(HISTORIES, np.array([1, 3]), np.float32([[0, 0], [-2, -1]]))
    assert ranker.rank(np.array([2]), 1).tolist() == [[3]]


def test_without_a_sparse_weight_an_item_is_no_candidate():
    ranker = ItemToItem(HISTORIES, np.array([1, 3]), csr_array(np.float32([[1, 0], [0, 1]])))
    assert ranker.rank(np.array([2, 0]), 2).tolist() == [[3, -1], [1, 3]]


@pytest.mark.parametrize("kind", [np.asarray, csr_array])
def test_users_in_blocks_get_the_same_answers(kind, random_dataset, random_windows, monkeypatch):
    histories = history_matrix(random_dataset, random_windows)
    items = known_items(histories)
    weights = np.random.default_rng(0).normal(size=(len(items), len(items))).astype(np.float32)
    ranker = ItemToItem(histories, items, kind(weights))
    whole = ranker.rank(np.arange(30), 10)
    monkeypatch.setattr("polyvec.evaluation.baselines.item_to_item.SCORES_AT_ONCE", 3 * len(items))
    assert np.array_equal(ranker.rank(np.arange(30), 10), whole)
    assert ranker.rank(np.array([7]), 5).tolist() == [[-1] * 5]  # without history


def test_popularity_fills_the_places_of_those_without_history(random_dataset, random_windows):
    histories = history_matrix(random_dataset, random_windows)
    nothing = ItemToItem(histories, known_items(histories), csr_array((len(known_items(histories)),) * 2))
    popularity = Popularity(random_dataset, random_windows)
    filled = FilledUp(nothing, popularity).rank(np.array([7, 1]), 5)
    assert np.array_equal(filled, popularity.rank(np.array([7, 1]), 5))
