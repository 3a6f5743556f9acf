"""Order and merging of candidates."""

import numpy as np

from polyvec.retrieval.found import Found, merge_by_max, top_k


def test_ties_at_the_cut_go_to_the_lower_columns():
    rows, scores = top_k(np.array([[1, 2, 1, 1, 2, 1]], np.float32), 4)
    assert rows.tolist() == [[1, 4, 0, 2]]
    assert scores.tolist() == [[2, 2, 1, 1]]


def test_barred_columns_never_come_back():
    rows, _ = top_k(np.array([[-np.inf, 0.5, -np.inf]], np.float32), 3)
    assert rows.tolist() == [[1, -1, -1]]


def test_top_k_agrees_with_a_full_stable_sort():
    scores = np.random.default_rng(0).integers(0, 6, (40, 30)).astype(np.float32)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    assert top_k(scores, 7)[0].tolist() == expected.tolist()


def test_an_item_found_twice_keeps_its_best_score_and_that_vector():
    rows = np.array([[7, 3], [3, 9]])
    scores = np.array([[0.5, 0.2], [0.4, 0.1]], np.float32)
    merged = merge_by_max(rows, scores, num_vectors=2, k=3)
    assert merged.rows.tolist() == [[7, 3, 9]]
    assert merged.vectors.tolist() == [[0, 1, 1]]
    np.testing.assert_allclose(merged.scores, [[0.5, 0.4, 0.1]])


def test_equal_scores_of_two_vectors_go_to_the_first():
    merged = merge_by_max(np.array([[2], [2]]), np.array([[0.5], [0.5]], np.float32), num_vectors=2, k=1)
    assert merged.vectors.tolist() == [[0]]


def test_merging_nothing_gives_nothing():
    merged = merge_by_max(np.full((2, 3), -1), np.zeros((2, 3), np.float32), num_vectors=2, k=2)
    assert merged.rows.tolist() == [[-1, -1]]


def test_parts_are_put_together_in_order():
    parts = [
        Found.nothing(1, 2),
        Found(np.array([[1, 2]]), np.zeros((1, 2), np.float32), np.zeros((1, 2), int)),
    ]
    assert Found.concatenate(parts).rows.tolist() == [[-1, -1], [1, 2]]
