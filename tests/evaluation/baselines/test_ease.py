"""EASE against its closed form written out, and against the regressions that it solves."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from polyvec.errors import DataError, UsageError
from polyvec.evaluation.baselines import Popularity
from polyvec.evaluation.baselines.ease import ease, weights
from polyvec.evaluation.baselines.item_to_item import history_matrix, known_items

HISTORIES = csr_array((np.random.default_rng(1).random((40, 9)) < 0.3).astype(np.float32))


def closed_form(histories, l2):
    """Equation 8 of the paper, word by word."""
    gram = histories.T @ histories + l2 * np.eye(histories.shape[1])
    inverse = np.linalg.inv(gram)
    made = np.eye(histories.shape[1]) - inverse @ np.diag(1 / np.diag(inverse))
    np.fill_diagonal(made, 0)
    return made


def test_the_weights_are_the_closed_form():
    dense = HISTORIES.toarray().astype(np.float64)
    np.testing.assert_allclose(weights(HISTORIES, 3.0), closed_form(dense, 3.0), rtol=1e-5, atol=1e-7)


def test_no_item_speaks_for_itself():
    assert not weights(HISTORIES, 0.5).diagonal().any()


@pytest.mark.parametrize("column", range(9))
def test_every_column_is_the_ridge_regression_of_its_item_on_the_others(column):
    dense, l2 = HISTORIES.toarray().astype(np.float64), 2.0
    others = np.delete(dense, column, axis=1)
    # least squares of rows [X; √λ·I] against [x; 0] is ridge regression
    stacked = np.concatenate([others, np.sqrt(l2) * np.eye(8)])
    wanted = np.concatenate([dense[:, column], np.zeros(8)])
    solution = np.linalg.lstsq(stacked, wanted)[0]
    np.testing.assert_allclose(np.delete(weights(HISTORIES, l2)[:, column], column), solution, atol=1e-6)


def test_rows_in_blocks_are_the_same(monkeypatch):
    whole = weights(HISTORIES, 1.0)
    monkeypatch.setattr("polyvec.evaluation.baselines.ease.NUMBERS_AT_ONCE", 20)
    assert np.array_equal(weights(HISTORIES, 1.0), whole)


def test_it_ranks_all_items_with_events_by_their_scores(random_dataset, random_windows, bought):
    histories = history_matrix(random_dataset, random_windows)
    items = known_items(histories)
    ranked = ease(histories, 2.0).rank(np.arange(30), len(items) + 1)
    scores = histories.toarray()[:, items] @ closed_form(histories.toarray()[:, items].astype(float), 2.0)
    for user in np.flatnonzero([bool(own) for own in bought]):
        assert sorted(ranked[user, :-1].tolist()) == items.tolist()
        by_rank = scores[user, np.searchsorted(items, ranked[user, :-1])]
        assert (np.diff(by_rank) < 1e-6).all()
    assert (ranked[:, -1] == -1).all()
    assert (ranked[7] == -1).all()  # without history


def test_items_that_are_always_bought_together_tie_in_order_of_rows():
    twins = csr_array(np.float32([[1, 1, 1], [1, 0, 0], [1, 0, 0], [1, 1, 1]]))
    assert ease(twins, 1.0).rank(np.array([1]), 3).tolist() == [[1, 2, 0]]


def test_the_future_changes_nothing(random_dataset, random_windows, altered_future):
    now = ease(history_matrix(random_dataset, random_windows), 1.0).rank(np.arange(30), 12)
    assert np.array_equal(now, ease(history_matrix(*altered_future), 1.0).rank(np.arange(30), 12))


def test_it_finds_tastes_that_popularity_does_not(taste_recall):
    assert taste_recall(lambda *data: ease(history_matrix(*data), 5.0)) > 1.3 * taste_recall(Popularity)


def test_too_many_items_are_refused_before_memory_is_taken(monkeypatch):
    monkeypatch.setattr("polyvec.evaluation.baselines.ease.MOST_ITEMS", 8)
    with pytest.raises(DataError, match="EASE of 9 items needs 0 GiB") as refused:
        ease(HISTORIES, 1.0)
    assert "at most 8 items" in str(refused.value)


@pytest.mark.parametrize("l2", [0.0, -1.0, float("nan"), 1e-16])
def test_a_penalty_that_lets_nothing_be_inverted_is_refused(l2):
    with pytest.raises(UsageError, match="λ is") as refused:
        weights(HISTORIES, l2)
    assert "a number above 3e-14" in str(refused.value)
