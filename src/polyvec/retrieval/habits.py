"""Rankings that know two habits of shoppers: they buy again, and they buy what sells now.

C vectors cannot point at every item of a long history, and a model trained on a year of windows is late for a
season. The score of user u and item j becomes

    max_c cos(u_c, v_j) + w·log(1 + n_uj) + b·log(1 + r_j)

with n_uj the user's purchases of j in the history window and r_j all purchases of j in the last 7 days. The
trend term is one more dimension of the vectors (1 for users, b·log(1 + r_j) for items), so any index of inner
products serves. The repeat term raises the user's own items only: the k best are among the k best without it
and those own items, and exactness carries over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.data.dataset import days
from polyvec.data.item_sets import expand_ranges
from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.found import Filter, Found, order_candidates

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.embeddings import Embeddings

PAIRS_AT_ONCE = 65_536
TREND_DAYS = 7


@dataclass(frozen=True)
class Weights:
    """How much the habits count.

    Attributes
    ----------
    repeats
        w ≥ 0; 0 forgets what the user bought.
    trend
        b ≥ 0; 0 forgets what sells now.
    """

    repeats: float = 0.0
    trend: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.repeats or self.trend)


@dataclass(frozen=True)
class Purchases:
    """How often each of B users bought each of their items.

    Attributes
    ----------
    owners, items, counts
        int64 ``[P]``: user ``owners[p]`` (0 … B − 1, ascending) bought item ``items[p]`` ``counts[p]`` times.
    """

    owners: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of_events(cls, dataset: Dataset, start: npt.NDArray[Any], stop: npt.NDArray[Any]) -> Purchases:
        """Count the events ``start[b] : stop[b]`` of a Dataset for every user b."""
        owners, events = expand_ranges(start, stop)
        keys = owners * max(dataset.num_items, 1) + dataset.item_rows[events]
        pairs, counts = np.unique(keys, return_counts=True)
        owners, items = np.divmod(pairs, max(dataset.num_items, 1))
        return cls(owners, items, counts)

    def translate(self, rows: npt.NDArray[np.int64]) -> Purchases:
        """Rename item i to ``rows[i]``; items renamed to −1 are left out."""
        items = rows[self.items]
        return Purchases(self.owners, items, self.counts)._keep(items >= 0)

    def allowed_by(self, only: Filter) -> Purchases:
        """Leave out what a filter refuses."""
        return self._keep(~only.refuses_pairs(self.owners, self.items))

    def _keep(self, kept: npt.NDArray[np.bool_]) -> Purchases:
        return Purchases(self.owners[kept], self.items[kept], self.counts[kept])


class HabitualIndex:
    """Exact search by the formula above, for the users and items that Embeddings and a Dataset share.

    Parameters
    ----------
    embeddings
        Vectors.
    dataset
        Purchases.
    windows
        Histories at one cut-off, one window per user of the Dataset, in row order.
    weights
        How much the habits count.
    """

    def __init__(self, embeddings: Embeddings, dataset: Dataset, windows: Windows, weights: Weights) -> None:
        self._dataset, self._windows, self._weights = dataset, windows, weights
        self._row_of_item = embeddings.items.ids.rows(dataset.items.series)
        recent = np.zeros(len(embeddings.items), dtype=np.int64)
        known = self._row_of_item >= 0
        until = int(windows.cutoffs[0]) if len(windows) else 0
        recent[self._row_of_item[known]] = recent_purchases(dataset, until)[known]
        self._vectors_ND = with_trend(embeddings.unit_items(), recent, weights.trend)
        self._index = ExactIndex(self._vectors_ND)

    def search(
        self,
        users_BCD: npt.NDArray[np.float32],
        user_rows: npt.NDArray[np.int64],
        k: int,
        only: Filter | None = None,
    ) -> Found:
        """Best k items, as rows of the Embeddings, of users by their vectors and their rows in the Dataset.

        ``user_rows`` is int64 ``[B]``, −1 for a user who has no history there.
        """
        only, opened = only or Filter(), open_to_trend(users_BCD)
        found = self._index.search(opened, k, only)
        start = np.where(user_rows >= 0, self._windows.history_start[user_rows], 0)
        stop = np.where(user_rows >= 0, self._windows.history_end[user_rows], 0)
        own = Purchases.of_events(self._dataset, start, stop).translate(self._row_of_item)
        return favour_repeats(found, opened, self._vectors_ND, own.allowed_by(only), self._weights.repeats)


def recent_purchases(dataset: Dataset, until: int) -> npt.NDArray[np.int64]:
    """Purchases of every item in the 7 days before ``until``, int64 ``[N]``; zeros for ordered data."""
    if dataset.time_kind != "timestamp":
        return np.zeros(dataset.num_items, dtype=np.int64)
    is_recent = (dataset.times < until) & (dataset.times >= until - days(TREND_DAYS))
    return np.bincount(dataset.item_rows[is_recent], minlength=dataset.num_items)


def with_trend(
    items_ND: npt.NDArray[np.float32], recent_N: npt.NDArray[np.int64], weight: float
) -> npt.NDArray[np.float32]:
    """Item vectors with the trend b·log(1 + r_j) as one more dimension, ``[N, D + 1]``."""
    trend_N1 = (weight * np.log1p(recent_N))[:, None].astype(np.float32)
    return np.concatenate([items_ND, trend_N1], axis=1)


def open_to_trend(users_BCD: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """User vectors with a 1 in the dimension of the trend, ``[B, C, D + 1]``."""
    return np.pad(users_BCD, ((0, 0), (0, 0), (0, 1)), constant_values=1)


def favour_repeats(
    found: Found,
    users_BCD: npt.NDArray[np.float32],
    items_ND: npt.NDArray[np.float32],
    purchases: Purchases,
    weight: float,
) -> Found:
    """Raise every user's own items by ``weight · log(1 + count)`` and cut to the k best again.

    Parameters
    ----------
    found
        The k best of every user without the rise, from any index.
    users_BCD, items_ND
        Vectors ready for dot products, ``[B, C, D]`` and ``[N, D]``.
    purchases
        Of the same B users, item rows of ``items_ND``.
    weight
        w ≥ 0; 0 changes nothing.
    """
    shape = found.rows.shape
    own_scores, own_vectors = _own_scores(users_BCD, items_ND, purchases)
    own_keys = purchases.owners * len(items_ND) + purchases.items
    owners, places = np.nonzero(found.rows >= 0)
    rows = found.rows[owners, places]
    other = ~np.isin(owners * len(items_ND) + rows, own_keys)
    owners, places, rows = owners[other], places[other], rows[other]
    raised = own_scores + np.float32(weight) * np.log1p(purchases.counts).astype(np.float32)
    return order_candidates(
        np.concatenate([owners, purchases.owners]),
        np.concatenate([rows, purchases.items]),
        np.concatenate([found.scores[owners, places], raised]),
        np.concatenate([found.vectors[owners, places], own_vectors]),
        (shape[0], shape[1]),
    )


def _own_scores(
    users_BCD: npt.NDArray[np.float32], items_ND: npt.NDArray[np.float32], purchases: Purchases
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Best dot product of each purchase and the vector that gave it, ``[P]`` each."""
    scores = np.empty(len(purchases.items), dtype=np.float32)
    vectors = np.empty(len(purchases.items), dtype=np.int64)
    for start in range(0, len(scores), PAIRS_AT_ONCE):
        pairs = slice(start, start + PAIRS_AT_ONCE)
        products_PC = np.einsum(
            "pcd,pd->pc", users_BCD[purchases.owners[pairs]], items_ND[purchases.items[pairs]], optimize=True
        )
        scores[pairs], vectors[pairs] = products_PC.max(axis=1), products_PC.argmax(axis=1)
    return scores, vectors
