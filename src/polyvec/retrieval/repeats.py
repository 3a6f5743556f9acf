"""Repeat-aware ranking: items that a user bought before rise with the number of times.

Where people buy again, "bought before" is the strongest simple baseline, and C vectors cannot point at
every item of a long history. The score of user u and item j becomes ``max_c cos(u_c, v_j) + w·log(1 + n_uj)``
with n_uj the user's purchases of j in the history window. Since w ≥ 0 only raises the user's own items, the k
best are among the k best without it and those own items: any index serves, and exactness carries over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.data.item_sets import expand_ranges
from polyvec.retrieval.found import Found, order_candidates

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset

PAIRS_AT_ONCE = 65_536


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
