"""Which table holds the vectors of item ids."""

from __future__ import annotations

from bisect import bisect_left
from math import isqrt
from typing import Literal

import torch
from torch import Tensor, nn

from polyvec.errors import UsageError
from polyvec.layers.tables.clustered import ClusteredTable
from polyvec.layers.tables.factorised import FactorisedTable, RoundedFactors
from polyvec.layers.tables.hashed import HashedTable, QuotientRemainderTable
from polyvec.layers.tables.popular import PopularTable
from polyvec.layers.tables.quantised import QuantisedTable
from polyvec.layers.tables.table import INITIAL_STD, Table

TableKind = Literal[
    "popular", "int8", "hash", "double_hash", "quotient_remainder", "clustered", "clustered_residual"
]
CLUSTERS_SHARE = 4  # one row in so many is a cluster's where the others' bytes hold residuals


class KnownTable(Table):
    """A table of known ids, and one row that all others share: slot 0, as in :class:`PopularTable`.

    Parameters
    ----------
    known
        Vectors of slots 1 … n, as its entities 0 … n − 1.
    """

    def __init__(self, known: Table) -> None:
        super().__init__()
        self.num_rows, self.width = known.num_rows + 1, known.width
        self.known = known
        self.rest = nn.Parameter(torch.empty(1, known.width).normal_(std=INITIAL_STD))

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of slots. int64 ``[…] → […, D]``."""
        is_known = ids > 0  # others are looked up nowhere: they would count among those who share a row
        rest = self.rest[0].expand(*ids.shape, self.width)
        vectors: Tensor = rest.masked_scatter(is_known[..., None], self.known(ids[is_known] - 1))
        return vectors


class ResidualTable(Table):
    """A row of a cluster plus a vector that tells its members apart, made of few numbers.

    Personal vectors around the centres in bounded memory. Not in the paper.

    Parameters
    ----------
    clusters
        Shared by those who are alike.
    residuals
        Distances to the clusters' rows.
    """

    def __init__(self, clusters: ClusteredTable, residuals: FactorisedTable | RoundedFactors) -> None:
        super().__init__()
        self.num_rows, self.width = clusters.num_rows, clusters.width
        self.clusters, self.residuals = clusters, residuals

    def forward(self, ids: Tensor) -> Tensor:
        """Sums of the two. int64 ``[…] → […, D]``."""
        vectors: Tensor = self.clusters(ids) + self.residuals(ids)
        return vectors


def id_table(
    kind: TableKind, num_ids: int, rows: int, width: int, *, sparse: bool = True, of: str = "item"
) -> Table:
    """Make a table for slots 0 … n, of which slot 0 stands for all unknown ids.

    Parameters
    ----------
    kind
        ``popular``: a row for each. ``int8``: the same while it is trained; see
        :class:`polyvec.layers.tables.QuantisedTable`. ``hash``, ``double_hash``, ``quotient_remainder``: rows
        shared by chance. ``clustered``: CEL's, from √rows clusters on:
        if all items were one to begin with, a model that knows nothing else of them could tell no history
        from another, and no split would mean anything. ``clustered_residual``: see :class:`ResidualTable`; a
        quarter of the rows are clusters', and the bytes of the others hold numbers of the ids' own, int8 once
        they are :func:`kept`.
    num_ids
        n.
    rows
        Rows that all ids share, where they do; at most n are made.
    width
        D.
    sparse
        As for :class:`PopularTable`.
    of
        Whose ids they are, for errors: the settings are ``{of}_table`` and ``{of}_rows``.

    Raises
    ------
    UsageError
        If ``quotient_remainder`` is to do with fewer rows than can tell all ids apart, or
        ``clustered_residual`` with fewer than hold a number of each.
    """
    if kind in ("popular", "int8"):
        return PopularTable(num_ids, width, sparse=sparse)
    asked, rows = rows, min(rows, max(num_ids, 1))
    if kind == "clustered":
        return KnownTable(_clusters(num_ids, rows, width))
    if kind == "clustered_residual":
        rank = rank_of(num_ids, asked, width, of)
        clusters = _clusters(num_ids, max(rows // CLUSTERS_SHARE, 1), width)
        return KnownTable(ResidualTable(clusters, FactorisedTable(num_ids, rank, width)))
    if kind == "quotient_remainder":
        return KnownTable(QuotientRemainderTable(num_ids, remainders(num_ids, rows, of), width))
    return KnownTable(HashedTable(num_ids, rows, width, num_hashes=1 + (kind == "double_hash")))


def kept(table: Table, kind: TableKind) -> Table:
    """The form that a trained table of :func:`id_table` is kept in, to answer from but not to train."""
    if kind == "int8":
        return QuantisedTable.of(table.all())
    if isinstance(table, KnownTable) and isinstance(table.known, ResidualTable):
        residuals = table.known.residuals
        if isinstance(residuals, FactorisedTable):
            table.known.residuals = RoundedFactors.of(residuals)
    return table


def rank_of(num_ids: int, rows: int, width: int, of: str = "item") -> int:
    """Most numbers of each id's own, int8, that go into the bytes of the rows which are not clusters'.

    Raises
    ------
    UsageError
        If not even one does.
    """
    of_a_row = 4 * width  # bytes, of the basis, too

    def fitting(rows: int) -> int:
        return (rows - max(rows // CLUSTERS_SHARE, 1)) * of_a_row // (num_ids + of_a_row)

    if fitting(rows) < 1:
        raise UsageError(
            f"{rows} rows are too few for a number of each of {num_ids:,} ids beside their clusters",
            expected=f"at least {bisect_left(range(2 * num_ids + 4), 1, key=fitting)} rows",
            mend=f"raise {of}_rows, or choose {of}_table=clustered",
        )
    return min(fitting(rows), width)


def check_rows(kind: TableKind, rows: int, of: str = "item") -> None:
    """Tell a configuration whose ``item_table`` and ``item_rows`` (or a user's) do not go together.

    Raises
    ------
    ValueError
        If ids share rows and it is not said how many, or the other way round.
    """
    is_shared = kind not in ("popular", "int8")
    if is_shared and not rows:
        raise ValueError(f"{of}_table={kind} needs {of}_rows: how many rows the ids share")
    if rows and not is_shared:
        raise ValueError(f"{of}_table={kind} has a row for each id: {of}_rows must be 0")


def check_kept(kind: TableKind, system: str, of: str = "item") -> None:
    """Refuse a kind that is :func:`kept` in another form than it is trained in, of a system without that.

    Raises
    ------
    ValueError
        If it is one.
    """
    if kind in ("int8", "clustered_residual"):
        raise ValueError(f"{system} has no {of}_table={kind}")


def can_grow(kind: TableKind, rows: int, num_ids: int) -> bool:
    """Whether a table of known ids takes more of them, and those known keep their vectors."""
    return kind == "popular" or (kind in ("hash", "double_hash") and rows <= num_ids)


def remainders(num_ids: int, rows: int, of: str = "item") -> int:
    """Most rows m of remainders for which m and the ``⌈n/m⌉`` rows of quotients are at most ``rows``."""
    room = rows**2 - 4 * num_ids  # of m² − rows · m + n
    found = (rows + isqrt(max(room, 0))) // 2
    if room < 0 or found + -(-num_ids // found) > rows:
        raise UsageError(
            f"{rows} rows are too few to tell {num_ids:,} ids apart by quotient and remainder",
            expected=f"at least {2 * isqrt(num_ids) + 2} rows",
            mend=f"raise {of}_rows, or choose {of}_table=double_hash or clustered",
        )
    return found


def _clusters(num_ids: int, rows: int, width: int) -> ClusteredTable:
    return ClusteredTable(num_ids, rows, width, start=max(isqrt(rows), min(rows, 2)))


def clusters_of(table: Table | None) -> ClusteredTable | None:
    """The clustered table in a table of :func:`id_table`, if it is one."""
    known = table.known if isinstance(table, KnownTable) else table
    clusters = known.clusters if isinstance(known, ResidualTable) else known
    return clusters if isinstance(clusters, ClusteredTable) else None
