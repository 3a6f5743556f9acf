"""Approximate search with FAISS, for catalogues beyond what a matrix product can do.

Top-k of the max over a user's C vectors = k from **each** of the C searches, merged by max with every item
once, then cut. k from each is needed: the k best items may all come from one vector. With an exact index the
result is exact; here it is as good as each of the C searches. Vector databases' *MaxSim* is a sum over the
query's vectors and ranks differently: it must not be used for users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

from polyvec.retrieval.exact import ExactIndex, check_query
from polyvec.retrieval.found import NOTHING, Filter, Found, merge_by_max

if TYPE_CHECKING:
    import numpy.typing as npt

QUERIES_AT_ONCE = 8192
NARROW = 0.1  # a graph search that may return less than this share of the items is slower than a scan
WIDEN = 4  # how much more is fetched for queries whose answer was eaten by the filter


class FaissIndex:
    """HNSW graph over item vectors, inner product.

    A query never comes back with less than exists: where filters or the graph leave a search short, more is
    fetched, and in the end that query is searched exactly.

    Parameters
    ----------
    items_ND
        float32 ``[N, D]``: :meth:`Embeddings.unit_items`.
    links
        Links per node of the graph (HNSW's M).
    build_breadth, search_breadth
        Candidates kept while building (efConstruction) and searching (efSearch): more is slower and closer
        to exact.
    """

    def __init__(
        self,
        items_ND: npt.NDArray[np.float32],
        links: int = 32,
        build_breadth: int = 200,
        search_breadth: int = 128,
    ) -> None:
        self._items_ND = np.ascontiguousarray(items_ND)
        self._exact = ExactIndex(self._items_ND)
        self._breadth = search_breadth
        self._graph = faiss.IndexHNSWFlat(items_ND.shape[1], links, faiss.METRIC_INNER_PRODUCT)
        self._graph.hnsw.efConstruction = build_breadth
        self._graph.add(self._items_ND)

    def search(self, users_BCD: npt.NDArray[np.float32], k: int, only: Filter | None = None) -> Found:
        """Return the k items with (nearly always) the highest max over C of the dot product.

        Parameters, result and errors are those of :meth:`ExactIndex.search`.
        """
        check_query(users_BCD, self._items_ND, k)
        only = only or Filter()
        if only.allowed is not None and only.allowed.mean() < NARROW:
            return self._exact.search(users_BCD, k, only)
        parts = [Found.nothing(0, k)]
        for start in range(0, len(users_BCD), QUERIES_AT_ONCE):
            queries = np.arange(start, min(start + QUERIES_AT_ONCE, len(users_BCD)))
            parts.append(self._search_part(users_BCD[queries], k, only.select(queries)))
        return Found.concatenate(parts)

    def _search_part(self, users_BCD: npt.NDArray[np.float32], k: int, only: Filter) -> Found:
        found = Found.nothing(len(users_BCD), k)
        pending = np.arange(len(users_BCD))
        fetch = k if only.excluded is None else 2 * k
        while len(pending) and fetch < len(self._items_ND):
            part, complete = self._search_once(users_BCD[pending], k, fetch, only.select(pending))
            _put(found, pending[complete], part.select(np.flatnonzero(complete)))
            pending = pending[~complete]
            fetch *= WIDEN
        _put(found, pending, self._exact.search(users_BCD[pending], k, only.select(pending)))
        return found

    def _search_once(
        self, users_BCD: npt.NDArray[np.float32], k: int, fetch: int, only: Filter
    ) -> tuple[Found, npt.NDArray[np.bool_]]:
        """Fetch from each of the C searches and merge; complete: every search had k items to give."""
        num_queries, num_vectors, width = users_BCD.shape
        flat = np.ascontiguousarray(users_BCD.reshape(-1, width))
        scores, rows = self._graph.search(flat, fetch, params=self._parameters(fetch, only))
        refused = only.refuses(rows.reshape(num_queries, -1)).reshape(rows.shape)
        given = (~refused).sum(axis=1).reshape(num_queries, num_vectors).min(axis=1)
        return merge_by_max(np.where(refused, NOTHING, rows), scores, num_vectors, k), given >= k

    def _parameters(self, fetch: int, only: Filter) -> faiss.SearchParametersHNSW:
        breadth = max(self._breadth, fetch)
        if only.allowed is None:
            return faiss.SearchParametersHNSW(efSearch=breadth)
        bits = np.packbits(only.allowed, bitorder="little")
        return faiss.SearchParametersHNSW(efSearch=breadth, sel=faiss.IDSelectorBitmap(bits))


def _put(found: Found, queries: npt.NDArray[np.int64], part: Found) -> None:
    found.rows[queries], found.scores[queries], found.vectors[queries] = part.rows, part.scores, part.vectors
