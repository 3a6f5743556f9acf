"""Item-to-item cosine: items are alike if the same users had them.

Source: M. Deshpande, G. Karypis, "Item-based top-N recommendation algorithms", ACM TOIS 22(1), 2004.
Shapes: **U** users, **N** items of the Dataset, **n** items that somebody had, **b** items of a block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, vstack

from polyvec.errors import UsageError
from polyvec.evaluation.baselines.item_to_item import ItemToItem, known_items
from polyvec.retrieval.found import order_candidates

if TYPE_CHECKING:
    import numpy.typing as npt

PAIRS_AT_ONCE = 2**21  # similarities held at a time before the nearest are kept: about 200 MiB with sorting


def neighbours(histories_UN: csr_array, k: int | None = None) -> ItemToItem:
    """Rank by the sum of cosines between the user's items and the candidate.

    The cosine of items i and j is ``users of both / sqrt(users of i · users of j)``: each user counts once
    per item. An item is wholly like itself, so what was bought before is a strong candidate.

    Parameters
    ----------
    histories_UN
        :func:`polyvec.evaluation.baselines.item_to_item.history_matrix`.
    k
        How many other items each item of the history speaks for: its nearest, equal ones in order of item
        row. None keeps all pairs of items that share a user: up to n² · 8 bytes.

    Raises
    ------
    UsageError
        If k is below 1.
    """
    if k is not None and k < 1:
        raise UsageError(f"{k} neighbours", expected="at least 1, or None for all")
    items_n = known_items(histories_UN)
    return ItemToItem(histories_UN, items_n, cosines(histories_UN[:, items_n], k))


def cosines(histories_Un: csr_array, k: int | None) -> csr_array:
    """Cosine of every item (row) with itself and its k nearest others, float32 ``[n, n]``.

    Computed for some items at a time: memory holds what is kept and about :data:`PAIRS_AT_ONCE` pairs more.
    """
    items_nU = histories_Un.T.tocsr()
    users_n = np.diff(items_nU.indptr).astype(np.float64)
    starts = _starts(items_nU, np.diff(histories_Un.indptr))
    blocks = [csr_array((0, len(users_n)), dtype=np.float32)]
    for start, stop in zip(starts, [*starts[1:], len(users_n)], strict=True):
        block_bn = items_nU[start:stop] @ histories_Un  # users who had both
        both = users_n[start + _owners(block_bn)] * users_n[block_bn.indices]
        block_bn.data = (block_bn.data / np.sqrt(both)).astype(np.float32)
        blocks.append(block_bn if k is None else _nearest(block_bn, start, min(k, len(users_n))))
    return vstack(blocks, format="csr")


def _starts(items_nU: csr_array, lengths_U: npt.NDArray[np.integer]) -> list[int]:
    """First items of blocks that hold about as many pairs as are wanted at once."""
    most_pairs_n = np.minimum(items_nU @ lengths_U.astype(np.float64), items_nU.shape[0])
    block_n = np.cumsum(most_pairs_n) // PAIRS_AT_ONCE
    return [int(start) for start in np.flatnonzero(np.diff(block_n, prepend=-1))]


def _nearest(block_bn: csr_array, first: int, k: int) -> csr_array:
    """Keep of each row its k highest cosines, and the item itself; row 0 is item ``first``."""
    owners, others = _owners(block_bn), block_bn.indices.astype(np.int64)
    other = owners + first != others
    shape = (block_bn.shape[0], k)
    found = order_candidates(
        owners[other], others[other], block_bn.data[other], np.zeros(other.sum(), np.int64), shape
    )
    owners, places = np.nonzero(found.rows >= 0)
    itself = np.arange(shape[0])
    cosine = np.concatenate([found.scores[owners, places], np.ones(shape[0], np.float32)])
    rows = np.concatenate([owners, itself])
    columns = np.concatenate([found.rows[owners, places], itself + first])
    return csr_array((cosine, (rows, columns)), shape=block_bn.shape)


def _owners(block_bn: csr_array) -> npt.NDArray[np.int64]:
    """Row of every stored number."""
    return np.repeat(np.arange(block_bn.shape[0], dtype=np.int64), np.diff(block_bn.indptr))
