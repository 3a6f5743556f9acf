"""Rankers: whatever puts a Dataset's items in order for a user. Tasks ask nothing else of a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.found import Filter, Found
from polyvec.retrieval.habits import (
    Purchases,
    Weights,
    favour_repeats,
    open_to_trend,
    recent_purchases,
    with_trend,
)
from polyvec.retrieval.ranking import query_vectors

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.embeddings import Embeddings


class Ranker(Protocol):
    """Ranks the items of one Dataset for its users."""

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Best k item rows of the Dataset for every user row, best first, −1 padded: int64 ``[B, k]``."""
        ...


@dataclass(frozen=True, eq=False)
class Habits:
    """What is known of a Dataset's users and items at a moment beside their vectors.

    Attributes
    ----------
    history
        First event and event after the last of every user's history, int64 ``[U]`` each.
    recent
        Purchases of every item in the last days, int64 ``[N]``.
    weights
        How much either counts: see :mod:`polyvec.retrieval.habits`.
    """

    history: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    recent: npt.NDArray[np.int64]
    weights: Weights

    @classmethod
    def at(cls, dataset: Dataset, windows: Windows, weights: Weights) -> Habits:
        """Habits at the cut-off of some windows, one per user of the Dataset, in row order."""
        until = int(windows.cutoffs[0]) if len(windows) else 0
        history = (windows.history_start, windows.history_end)
        return cls(history, recent_purchases(dataset, until), weights)


class EmbeddingsRanker:
    """Embeddings as a ranker: max over a user's vectors, candidates are all items of the Dataset.

    Ids join the two: users without vectors are not ranked (−1), items without vectors are never returned.

    Parameters
    ----------
    embeddings
        Made by any system.
    dataset
        Whose rows are asked for and answered.
    habits
        Raises each user's own items and those that sell now; None ranks by the vectors alone.
    """

    def __init__(self, embeddings: Embeddings, dataset: Dataset, habits: Habits | None = None) -> None:
        self._embeddings, self._dataset, self._habits = embeddings, dataset, habits
        self._users = embeddings.users.ids.rows(dataset.users.series)
        self._items = dataset.items.rows(embeddings.items.ids.series)
        self._rows_of_items = embeddings.items.ids.rows(dataset.items.series)
        self._only = Filter(None if (self._items >= 0).all() else self._items >= 0)
        self._vectors_ND = embeddings.unit_items()
        if habits is not None:
            recent = np.where(self._items >= 0, habits.recent[self._items], 0)
            self._vectors_ND = with_trend(self._vectors_ND, recent, habits.weights.trend)
        self._index = ExactIndex(self._vectors_ND)

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Best k item rows of the Dataset for every user row, best first, −1 padded."""
        ranked = np.full((len(user_rows), k), -1, dtype=np.int64)
        there = np.flatnonzero(self._users[user_rows] >= 0)
        rows = self._search(user_rows[there], k).rows
        ranked[there] = np.where(rows >= 0, self._items[rows], -1)
        return ranked

    def _search(self, user_rows: npt.NDArray[np.int64], k: int) -> Found:
        users_BCD = query_vectors(self._embeddings, self._users[user_rows])
        if self._habits is None:
            return self._index.search(users_BCD, k, self._only)
        users_BCD = open_to_trend(users_BCD)
        found = self._index.search(users_BCD, k, self._only)
        start, stop = (bounds[user_rows] for bounds in self._habits.history)
        own = Purchases.of_events(self._dataset, start, stop).translate(self._rows_of_items)
        return favour_repeats(found, users_BCD, self._vectors_ND, own, self._habits.weights.repeats)
