"""The tree of splits of a clustered table: who is in which cluster, what is typical of it, who moved most.

Knows no system: whatever has a :class:`polyvec.layers.tables.ClusteredTable` and knows its entities has a
tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from polyvec.layers.tables import ClusteredTable

Row = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """A cluster and where it came from.

    Attributes
    ----------
    cluster
        Its number.
    parent
        Cluster that it split from; None if it was there from the start, or what it split from died out.
    born
        Training step at which it split off; None from the start, or where nobody told.
    size, empty
        Entities in it, and how many of these have no training events.
    events
        Training events of its entities.
    typical
        Its entities of most events: ``id``, ``title``, ``events``, ``moves``.
    traits
        What its entities have more often than others: ``trait``, ``share``, ``lift``; see
        :func:`distinctive`.
    """

    cluster: int
    parent: int | None
    born: int | None
    size: int
    empty: int
    events: int
    typical: list[Row]
    traits: list[Row]

    @property
    def names(self) -> list[str]:
        """What a person knows it by: titles where there are any, else traits, else ids."""
        titles = [row["title"] for row in self.typical if row["title"]]
        traits = [row["trait"] for row in self.traits]
        return titles or traits or [str(row["id"]) for row in self.typical]


@dataclass(frozen=True)
class ClusterTree:
    """The clusters of one table.

    Attributes
    ----------
    clusters
        All of them, by number.
    moved
        Entities that moved most often by reassignment, the first one most: ``id``, ``title``, ``events``,
        ``moves`` (255: or more), ``cluster``.
    moves
        ``entities`` that have moved so many ``moves`` times, for every number that there is.
    """

    clusters: list[Cluster]
    moved: list[Row]
    moves: list[Row]

    @property
    def num_entities(self) -> int:
        """Entities in all clusters."""
        return sum(one.size for one in self.clusters)

    @cached_property
    def children(self) -> dict[int | None, list[int]]:
        """Clusters that split from each, in the order of the splits; from None, those that did from none."""
        found: dict[int | None, list[int]] = {}
        for one in sorted(self.clusters, key=lambda one: (-1 if one.born is None else one.born, one.cluster)):
            found.setdefault(one.parent, []).append(one.cluster)
        return found

    def walk(self) -> list[tuple[Cluster, int]]:
        """Every cluster and its depth, each before what split from it."""
        found, todo = [], [(root, 0) for root in reversed(self.children.get(None, []))]
        while todo:
            number, depth = todo.pop()
            found.append((self.clusters[number], depth))
            todo += [(child, depth + 1) for child in reversed(self.children.get(number, []))]
        return found


def cluster_tree(
    table: ClusteredTable,
    entities: pl.DataFrame,
    traits: pl.DataFrame | None = None,
    *,
    typical: int = 5,
    moved: int = 20,
) -> ClusterTree:
    """Tell of every cluster where it came from, how large it is and what is typical of it.

    Parameters
    ----------
    table
        The table.
    entities
        ``row`` in the table, ``id``, ``events`` that were trained on and, where there is one, ``title`` of
        each entity; rows of the table that are not named count nowhere.
    traits
        What is distinctive of each cluster, the first one most: ``cluster``, ``trait``, ``share``, ``lift``.
    typical
        Entities of most events that are named for each cluster.
    moved
        Most entities in the list of those that moved most.
    """
    named = _placed(table, entities)
    per_cluster = pl.DataFrame({"cluster": np.arange(table.num_clusters)}).join(
        named.group_by("cluster").agg(
            pl.len().alias("size"), (pl.col("events") == 0).sum().alias("empty"), pl.col("events").sum()
        ),
        on="cluster",
        how="left",
        maintain_order="left",
    )
    most = named.sort("events", descending=True, maintain_order=True)
    first = most.group_by("cluster", maintain_order=True).head(typical)
    lists = _by_cluster(first.drop("row")), {} if traits is None else _by_cluster(traits)
    clusters = [
        Cluster(
            parent=parent, born=born, typical=lists[0].get(row["cluster"], []),
            traits=lists[1].get(row["cluster"], []), **row,
        )
        for row, (parent, born) in zip(per_cluster.fill_null(0).to_dicts(), _origins(table), strict=True)
    ]  # fmt: skip
    return ClusterTree(clusters, *_moves(most, moved))


def distinctive(has: pl.DataFrame, most: int = 5) -> pl.DataFrame:
    """Find traits that a cluster's entities have more often than others.

    Parameters
    ----------
    has
        ``cluster`` and ``trait``, a row for each time that an entity of the cluster has the trait.
    most
        Traits for each cluster.

    Returns
    -------
    polars.DataFrame
        ``cluster``, ``trait``, ``share`` of the cluster's rows, and ``lift``: the share over that of the
        trait in all rows. Ordered within a cluster by share · log lift, the trait's part in the cluster's
        divergence (Kullback–Leibler) from all rows: neither a rare trait nor one that all have comes first.
    """
    counts = has.drop_nulls().group_by("cluster", "trait").agg(pl.len().alias("count"))
    count, everywhere = pl.col("count"), pl.col("count").sum()
    shares = counts.with_columns(
        share=count / everywhere.over("cluster"), overall=everywhere.over("trait") / everywhere
    ).with_columns(lift=pl.col("share") / pl.col("overall"))
    part = pl.col("share") * pl.col("lift").log()
    ranked = shares.sort(["cluster", part, "trait"], descending=[False, True, False])
    first = ranked.group_by("cluster", maintain_order=True).head(most)
    return first.select("cluster", "trait", "share", "lift")


def placed(table: ClusteredTable, rows: pl.Series) -> pl.Series:
    """Cluster of each row of the table."""
    return pl.Series("cluster", table.assign.cpu().numpy()[rows.to_numpy()].astype(np.int64))


def _placed(table: ClusteredTable, entities: pl.DataFrame) -> pl.DataFrame:
    """Entities with their clusters and moves, and a title, if only an empty one."""
    rows = entities["row"].to_numpy()
    moves = table.lineage.moves.cpu().numpy()[rows].astype(np.int64)
    title = [] if "title" in entities.columns else [pl.lit(None, pl.String).alias("title")]
    return entities.with_columns(
        *title, placed(table, entities["row"]), pl.Series("moves", moves)
    ).select("row", "id", "title", "events", "moves", "cluster")  # fmt: skip


def _origins(table: ClusteredTable) -> list[tuple[int | None, int | None]]:
    """Parent and step of birth of every cluster in use."""
    parents, born = (
        told[: table.num_clusters].tolist() for told in (table.lineage.parents, table.lineage.born)
    )
    return [
        (None if parent == cluster else parent, None if step < 0 else step)
        for cluster, (parent, step) in enumerate(zip(parents, born, strict=True))
    ]


def _by_cluster(rows: pl.DataFrame) -> dict[int, list[Row]]:
    """Rows of every cluster, without its number."""
    parts = rows.partition_by("cluster", as_dict=True, include_key=False, maintain_order=True)
    return {cluster: part.to_dicts() for (cluster,), part in parts.items()}


def _moves(most_events_first: pl.DataFrame, moved: int) -> tuple[list[Row], list[Row]]:
    """Entities that moved most, and how many moved how often; those without events follow the others."""
    known = most_events_first.filter(pl.col("events") > 0)
    movers = known.filter(pl.col("moves") > 0)
    ranked = movers.sort("moves", descending=True, maintain_order=True).head(moved).drop("row")
    counts = known.group_by("moves").agg(pl.len().alias("entities")).sort("moves")
    return ranked.to_dicts(), counts.to_dicts()
