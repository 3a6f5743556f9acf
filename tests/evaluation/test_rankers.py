"""Embeddings as a ranker of a Dataset whose vocabularies differ from theirs."""

import numpy as np

from polyvec.data.dataset import Dataset
from polyvec.embeddings import Embeddings
from polyvec.evaluation.rankers import EmbeddingsRanker

DATASET = Dataset.from_rows([("ann", "a", 1), ("bob", "b", 2), ("cid", "c", 3)])


def test_ids_join_the_two_and_strangers_are_left_out():
    users = np.array([[[0, 1], [1, 0]], [[-1, 0], [-1, 0]]], np.float32)
    items = np.array([[1, 0], [0.8, 0.1], [0, 1]], np.float32)
    embeddings = Embeddings.from_arrays(["cid", "ann"], users, ["b", "stranger", "a"], items)
    ranked = EmbeddingsRanker(embeddings, DATASET).rank(np.array([2, 1, 0]), 3)
    a, b = DATASET.items.rows(["a", "b"])
    assert ranked.tolist() == [[b, a, -1], [-1, -1, -1], [a, b, -1]]


def test_no_user_asked_gives_no_answer():
    embeddings = Embeddings.from_arrays(["ann"], np.ones((1, 2)), ["a"], np.ones((1, 2)))
    assert EmbeddingsRanker(embeddings, DATASET).rank(np.empty(0, np.int64), 4).shape == (0, 4)
