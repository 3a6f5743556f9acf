"""Rankings that know two habits of shoppers: they buy again, and they buy what sells now.

C vectors cannot point at every item of a long history, and a model trained on a year of windows is late for a
season. The score of user u and item j becomes

    max_c cos(u_c, v_j) + w·log(1 + n_uj) + b·log(1 + r_j)

with n_uj the user's purchases of j in the history window and r_j all purchases of j in the last 14 days. The
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
from polyvec.retrieval.found import Found, order_candidates

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset

PAIRS_AT_ONCE = 65_536
TREND_DAYS = 14


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
        there = np.flatnonzero(rows[self.items] >= 0)
        return Purchases(self.owners[there], rows[self.items[there]], self.counts[there])


def recent_purchases(dataset: Dataset, until: int) -> npt.NDArray[np.int64]:
    """Purchases of every item in the 14 days before ``until``, int64 ``[N]``; zeros for ordered data."""
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
