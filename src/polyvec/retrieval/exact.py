"""Exact search: every query against every item. The reference for every other index.

The score of a user of C vectors and an item is ``max over c of cos(u_c, v)`` (GUIM, KDD 2022, eq. 3).
It is not what vector databases call *MaxSim*, which **sums** over the query's vectors: with one vector per
item that sum is a dot product with the sum of the user's vectors, and the mixture is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polyvec.errors import DataError, UsageError
from polyvec.retrieval.found import NOTHING, Filter, Found, top_k

if TYPE_CHECKING:
    import numpy.typing as npt

SCORES_AT_ONCE = 2**24  # float32 scores held at a time: 64 MiB


class ExactIndex:
    """Search by matrix product; exact by construction.

    Parameters
    ----------
    items_ND
        float32 ``[N, D]``: :meth:`Embeddings.unit_items`.
    """

    def __init__(self, items_ND: npt.NDArray[np.float32]) -> None:
        self._items_ND = items_ND

    def search(self, users_BCD: npt.NDArray[np.float32], k: int, only: Filter | None = None) -> Found:
        """Return the k items with the highest max over C of the dot product.

        Parameters
        ----------
        users_BCD
            float32 ``[B, C, D]``: rows of :meth:`Embeddings.unit_users`.
        k
            Items wanted per query.
        only
            Which items may be returned; all without it.

        Raises
        ------
        UsageError
            If k is below 1.
        DataError
            If queries and items differ in width.
        """
        check_query(users_BCD, self._items_ND, k)
        only = only or Filter()
        candidates = None if only.allowed is None else np.flatnonzero(only.allowed)
        items_nD = self._items_ND if candidates is None else self._items_ND[candidates]
        if not len(items_nD):
            return Found.nothing(len(users_BCD), k)
        step = max(1, SCORES_AT_ONCE // (len(items_nD) * users_BCD.shape[1]))
        parts = [Found.nothing(0, k)]
        for start in range(0, len(users_BCD), step):
            queries = np.arange(start, min(start + step, len(users_BCD)))
            parts.append(_search_part(users_BCD[queries], items_nD, k, only.select(queries), candidates))
        return Found.concatenate(parts)


def _search_part(
    users_BCD: npt.NDArray[np.float32],
    items_nD: npt.NDArray[np.float32],
    k: int,
    only: Filter,
    candidates: npt.NDArray[np.int64] | None,
) -> Found:
    """Search some queries; ``candidates`` are the item rows of ``items_nD`` (None: all, in order)."""
    scores_BCn = _scores(users_BCD, items_nD)
    best_Bn = scores_BCn.max(axis=1)
    if only.excluded is not None:
        owners, columns = only.excluded.owners, only.excluded.items
        if candidates is not None:
            places = np.searchsorted(candidates, columns)
            there = np.isin(columns, candidates)
            owners, columns = owners[there], places[there]
        best_Bn[owners, columns] = -np.inf
    columns_Bk, best_Bk = top_k(best_Bn, k)
    vectors_Bk = np.take_along_axis(scores_BCn, np.maximum(columns_Bk, 0)[:, None, :], axis=2).argmax(axis=1)
    missing = columns_Bk == NOTHING
    rows_Bk = columns_Bk if candidates is None else candidates[columns_Bk]
    return Found(np.where(missing, NOTHING, rows_Bk), best_Bk, np.where(missing, NOTHING, vectors_Bk))


def _scores(users_BCD: npt.NDArray[np.float32], items_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Dot products of every vector with every item, ``[B, C, N]``."""
    num_queries, num_vectors, width = users_BCD.shape
    flat = users_BCD.reshape(num_queries * num_vectors, width) @ items_ND.T
    return flat.reshape(num_queries, num_vectors, len(items_ND))


def check_query(users_BCD: npt.NDArray[np.float32], items_ND: npt.NDArray[np.float32], k: int) -> None:
    """Refuse a search that cannot be done.

    Raises
    ------
    UsageError
        If k is below 1.
    DataError
        If queries and items differ in width.
    """
    if k < 1:
        raise UsageError(f"k is {k}", expected="at least 1")
    if users_BCD.ndim != 3 or users_BCD.shape[2] != items_ND.shape[1]:
        raise DataError(
            f"queries have shape {users_BCD.shape}",
            expected=f"[queries, C, {items_ND.shape[1]}], as wide as the items",
        )
