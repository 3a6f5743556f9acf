"""Rankers: whatever puts a Dataset's items in order for a user. Tasks ask nothing else of a method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.found import Filter
from polyvec.retrieval.habits import HabitualIndex
from polyvec.retrieval.ranking import query_vectors

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.embeddings import Embeddings
    from polyvec.retrieval.found import Found
    from polyvec.retrieval.habits import Weights


class Ranker(Protocol):
    """Ranks the items of one Dataset for its users."""

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Best k item rows of the Dataset for every user row, best first, −1 padded: int64 ``[B, k]``."""
        ...


class EmbeddingsRanker:
    """Embeddings as a ranker: max over a user's vectors, candidates are all items of the Dataset.

    Ids join the two: users without vectors are not ranked (−1), items without vectors are never returned.

    Parameters
    ----------
    embeddings
        Made by any system.
    dataset
        Whose rows are asked for and answered.
    """

    def __init__(self, embeddings: Embeddings, dataset: Dataset) -> None:
        self._embeddings = embeddings
        self._users = embeddings.users.ids.rows(dataset.users.series)
        self._items = dataset.items.rows(embeddings.items.ids.series)
        self._only = Filter(None if (self._items >= 0).all() else self._items >= 0)
        self._index = ExactIndex(embeddings.unit_items())

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Best k item rows of the Dataset for every user row, best first, −1 padded."""
        ranked = np.full((len(user_rows), k), -1, dtype=np.int64)
        there = np.flatnonzero(self._users[user_rows] >= 0)
        users_BCD = query_vectors(self._embeddings, self._users[user_rows[there]])
        rows = self._search(users_BCD, user_rows[there], k).rows
        ranked[there] = np.where(rows >= 0, self._items[rows], -1)
        return ranked

    def _search(self, users_BCD: npt.NDArray[np.float32], _: npt.NDArray[np.int64], k: int) -> Found:
        return self._index.search(users_BCD, k, self._only)


class HabitsRanker(EmbeddingsRanker):
    """As :class:`EmbeddingsRanker`, with each user's own items and what sells now raised.

    Parameters
    ----------
    embeddings, dataset
        As there.
    windows
        Histories at one cut-off, one per user of the Dataset, in row order.
    weights
        How much the habits count: see :mod:`polyvec.retrieval.habits`.
    """

    def __init__(self, embeddings: Embeddings, dataset: Dataset, windows: Windows, weights: Weights) -> None:
        super().__init__(embeddings, dataset)
        self._habitual = HabitualIndex(embeddings, dataset, windows, weights)

    def _search(self, users_BCD: npt.NDArray[np.float32], user_rows: npt.NDArray[np.int64], k: int) -> Found:
        return self._habitual.search(users_BCD, user_rows, k, self._only)
