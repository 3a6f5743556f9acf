"""What a search returns, how candidates are put in order, and which candidates may be returned.

Shapes: **B** queries (users), **C** vectors per query, **N** items, **k** answers, **P** candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from polyvec.data.item_sets import ItemSets

NOTHING = -1


@dataclass(frozen=True, eq=False)
class Found:
    """The best items of B queries, best first; equal scores are ordered by item row.

    Attributes
    ----------
    rows
        int64 ``[B, k]``, −1 where a query has fewer than k candidates.
    scores
        float32 ``[B, k]``, −∞ beside −1.
    vectors
        int64 ``[B, k]``: which of the query's C vectors scored highest with the item; −1 beside −1.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    vectors: npt.NDArray[np.int64]

    @classmethod
    def nothing(cls, num_queries: int, k: int) -> Found:
        """No answer to any query."""
        shape = (num_queries, k)
        return cls(np.full(shape, NOTHING), np.full(shape, -np.inf, np.float32), np.full(shape, NOTHING))

    @classmethod
    def concatenate(cls, parts: Sequence[Found]) -> Found:
        """Answers of all parts, in order."""
        return cls(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )

    def select(self, queries: npt.NDArray[np.int64] | slice) -> Found:
        """Answers to some of the queries."""
        return Found(self.rows[queries], self.scores[queries], self.vectors[queries])


@dataclass(frozen=True)
class Filter:
    """Which items may be returned.

    Attributes
    ----------
    allowed
        bool ``[N]``: items that any query may get; None allows all.
    excluded
        One set per query: items that this query must not get (as those its user has seen).
    """

    allowed: npt.NDArray[np.bool_] | None = field(default=None)
    excluded: ItemSets | None = field(default=None)

    def select(self, queries: npt.NDArray[np.int64]) -> Filter:
        """Filter of some of the queries."""
        return Filter(self.allowed, None if self.excluded is None else self.excluded.select(queries))

    def refuses_pairs(
        self, owners: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Whether query ``owners[p]`` may not get item ``rows[p]``, bool ``[P]``."""
        refused = np.zeros(len(rows), dtype=np.bool_)
        if self.allowed is not None:
            refused |= ~self.allowed[rows]
        if self.excluded is not None:
            refused |= self.excluded.contains_pairs(owners, rows)
        return refused

    def refuses(self, rows_Bk: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether a found item may not be returned, bool ``[B, k]``; always for −1."""
        refused = rows_Bk < 0
        if self.allowed is not None:
            refused |= ~self.allowed[rows_Bk]
        if self.excluded is not None:
            refused |= self.excluded.contains(rows_Bk)
        return refused


class Index(Protocol):
    """A searchable set of item vectors."""

    def search(self, users_BCD: npt.NDArray[np.float32], k: int, only: Filter = ...) -> Found:
        """Best k items of every query by the max over its C vectors of the dot product."""
        ...


def top_k(
    scores_BN: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Columns of the k highest scores of every row, highest first, equal scores by column.

    Returns
    -------
    rows, scores
        ``[B, k]`` each; columns that score −∞ are left out (−1, −∞).

    Examples
    --------
    >>> top_k(np.array([[1.0, 3.0, 3.0, 2.0]], np.float32), 3)[0]
    array([[1, 2, 3]])
    """
    num_queries, num_items = scores_BN.shape
    place = max(num_items - k, 0)
    threshold_B1 = np.partition(scores_BN, place, axis=1)[:, place, None]
    is_best_BN, is_tied_BN = scores_BN > threshold_B1, scores_BN == threshold_B1
    left_B1 = k - is_best_BN.sum(axis=1, keepdims=True)
    crowded = np.flatnonzero(is_tied_BN.sum(axis=1) > left_B1[:, 0])  # of a vector of zeros all items tie
    is_tied_BN[crowded] &= np.cumsum(is_tied_BN[crowded], axis=1, dtype=np.int32) <= left_B1[crowded]
    owners, rows = np.nonzero((is_best_BN | is_tied_BN) & (scores_BN > -np.inf))
    ordered = order_candidates(owners, rows, scores_BN[owners, rows], np.zeros_like(rows), (num_queries, k))
    return ordered.rows, ordered.scores


def order_candidates(
    owners: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.int64],
    shape: tuple[int, int],
) -> Found:
    """Cut candidates to the k best of every query.

    Parameters
    ----------
    owners, rows, scores, vectors
        ``[P]``: query, item, score and vector of every candidate; an item at most once per query.
    shape
        (B, k).
    """
    order = np.lexsort((rows, -scores, owners))
    owners, rows, scores, vectors = owners[order], rows[order], scores[order], vectors[order]
    rank = rank_within(owners)
    kept = rank < shape[1]
    found = Found.nothing(*shape)
    place = (owners[kept], rank[kept])
    found.rows[place], found.scores[place], found.vectors[place] = rows[kept], scores[kept], vectors[kept]
    return found


def rank_within(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Position of every element within its group; ``groups`` ascends.

    >>> rank_within(np.array([0, 0, 3, 3, 3]))
    array([0, 1, 0, 1, 2])
    """
    return np.arange(len(groups)) - np.searchsorted(groups, groups)


def merge_by_max(
    found_rows: npt.NDArray[np.int64], found_scores: npt.NDArray[np.float32], num_vectors: int, k: int
) -> Found:
    """Merge the answers of C searches per query: an item scores its max over the C, then the k best stay.

    Parameters
    ----------
    found_rows, found_scores
        ``[B·C, fetched]``: row ``b·C + c`` answers vector c of query b; −1 where there is no answer.
    num_vectors, k
        C and the length of the merged answer.
    """
    num_queries = len(found_rows) // num_vectors
    searches, places = np.nonzero(found_rows >= 0)
    rows, scores = found_rows[searches, places], found_scores[searches, places]
    owners, vectors = np.divmod(searches, num_vectors)
    order = np.lexsort((vectors, -scores, rows, owners))  # the best occurrence of an item comes first
    owners, rows, scores, vectors = owners[order], rows[order], scores[order], vectors[order]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (owners[1:] != owners[:-1]) | (rows[1:] != rows[:-1])
    return order_candidates(owners[first], rows[first], scores[first], vectors[first], (num_queries, k))
