"""Rankers: whatever puts a Dataset's items in order for a user. Tasks ask nothing else of a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.found import Filter, Found, Index
from polyvec.retrieval.ranking import query_vectors
from polyvec.retrieval.repeats import Purchases, favour_repeats

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings


class Ranker(Protocol):
    """Ranks the items of one Dataset for its users."""

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Best k item rows of the Dataset for every user row, best first, −1 padded: int64 ``[B, k]``."""
        ...


@dataclass(frozen=True, eq=False)
class Repeats:
    """How much a user's own items rise.

    Attributes
    ----------
    history
        First event and event after the last of every user's history, int64 ``[U]`` each.
    weight
        w of :func:`polyvec.retrieval.repeats.favour_repeats`.
    """

    history: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    weight: float


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
    repeats
        Raises each user's own items: see :mod:`polyvec.retrieval.repeats`.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        dataset: Dataset,
        index: Index | None = None,
        repeats: Repeats | None = None,
    ) -> None:
        self._embeddings, self._dataset, self._repeats = embeddings, dataset, repeats
        self._rows_of_items = embeddings.items.ids.rows(dataset.items.series)
        self._index = index or ExactIndex(embeddings.unit_items())
        self._users = embeddings.users.ids.rows(dataset.users.series)
        self._items = dataset.items.rows(embeddings.items.ids.series)
        self._only = Filter(None if (self._items >= 0).all() else self._items >= 0)

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Best k item rows of the Dataset for every user row, best first, −1 padded."""
        ranked = np.full((len(user_rows), k), -1, dtype=np.int64)
        there = np.flatnonzero(self._users[user_rows] >= 0)
        rows = self._search(user_rows[there], k).rows
        ranked[there] = np.where(rows >= 0, self._items[rows], -1)
        return ranked

    def _search(self, user_rows: npt.NDArray[np.int64], k: int) -> Found:
        users_BCD = query_vectors(self._embeddings, self._users[user_rows])
        found = self._index.search(users_BCD, k, self._only)
        if self._repeats is None:
            return found
        start, stop = (bounds[user_rows] for bounds in self._repeats.history)
        own = Purchases.of_events(self._dataset, start, stop).translate(self._rows_of_items)
        return favour_repeats(found, users_BCD, self._embeddings.unit_items(), own, self._repeats.weight)
