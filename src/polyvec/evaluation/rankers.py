"""Rankers: whatever puts a Dataset's items in order for a user. Tasks ask nothing else of a method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.found import Filter, Index
from polyvec.retrieval.ranking import query_vectors

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings


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
    index
        An index over ``embeddings.unit_items()``; exact search without it.
    """

    def __init__(self, embeddings: Embeddings, dataset: Dataset, index: Index | None = None) -> None:
        self._embeddings = embeddings
        self._index = index or ExactIndex(embeddings.unit_items())
        self._users = embeddings.users.ids.rows(dataset.users.series)
        self._items = dataset.items.rows(embeddings.items.ids.series)
        self._only = Filter(None if (self._items >= 0).all() else self._items >= 0)

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Best k item rows of the Dataset for every user row, best first, −1 padded."""
        ranked = np.full((len(user_rows), k), -1, dtype=np.int64)
        there = np.flatnonzero(self._users[user_rows] >= 0)
        users_BCD = query_vectors(self._embeddings, self._users[user_rows[there]])
        rows = self._index.search(users_BCD, k, self._only).rows
        ranked[there] = np.where(rows >= 0, self._items[rows], -1)
        return ranked
