"""The trees of a fitted model's clustered tables, with the names that a Dataset has for users and items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
import polars as pl

from polyvec.errors import DataError, UsageError
from polyvec.evaluation.cluster_tree import cluster_tree, distinctive, placed
from polyvec.ids import Vocabulary
from polyvec.layers.tables import clusters_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyvec.data.dataset import Dataset
    from polyvec.evaluation.cluster_tree import ClusterTree
    from polyvec.layers.tables import ClusteredTable, Table

Side = Literal["users", "items"]
Clusters = tuple["ClusteredTable", pl.DataFrame]
"""A table, and of its entities ``row``, ``user_id`` or ``item_id``, and ``events`` that were trained on."""


@runtime_checkable
class Clustered(Protocol):
    """A fitted model whose users or items may be clustered."""

    @property
    def trained_until(self) -> int:
        """No event at or after this time was trained on."""
        ...

    @property
    def clustered(self) -> Mapping[Side, Clusters]:
        """Tables of the sides that are clustered."""
        ...


def clustered_items(ids: Table | None, known: Vocabulary, trained: pl.DataFrame) -> dict[Side, Clusters]:
    """The table of a model's item ids as its ``clustered``; nothing if it is not clustered.

    Parameters
    ----------
    ids
        The table; None if the model has none.
    known
        Ids with an entity, in their order.
    trained
        ``item_id`` and ``events`` of the items that were trained on.
    """
    table = clusters_of(ids)
    if table is None:
        return {}
    rows = pl.Series(known.rows(trained["item_id"]))
    return {"items": (table, trained.with_columns(row=rows).filter(rows >= 0))}


def cluster_trees(model: object, dataset: Dataset, *, typical: int = 5) -> dict[str, ClusterTree]:
    """Trees of all clustered tables of a model.

    Clusters of items tell their categories where the catalogue has any, clusters of users the items of their
    users' events before the end of training.

    Parameters
    ----------
    model
        A fitted model of any system.
    dataset
        What the model was trained on, or another that has its users and items.
    typical
        Users or items, and traits, that are named for each cluster.

    Raises
    ------
    UsageError
        If the model has no clustered table.
    DataError
        If the Dataset has none of the model's users or items.
    """
    if not (isinstance(model, Clustered) and model.clustered):
        raise UsageError(
            "the model has no clusters",
            expected="a model with clustered users or items",
            mend="fit cel; or guim, sasrec, dupn or pgtl with --set item_table=clustered --set item_rows=N",
        )
    trees: dict[str, ClusterTree] = {}
    for side, (table, entities) in model.clustered.items():
        if side == "items":
            trees[side] = _tree_of_items(table, entities, dataset, typical)
        else:
            trees[side] = _tree_of_users(table, entities, dataset, model.trained_until, typical)
    return trees


def _tree_of_items(table: ClusteredTable, items: pl.DataFrame, dataset: Dataset, typical: int) -> ClusterTree:
    rows = _known(dataset.items, items["item_id"])
    named = items.rename({"item_id": "id"}).with_columns(_column(dataset, "title", rows))
    categories = _column(dataset, "category", rows).alias("trait")
    has = pl.DataFrame([placed(table, items["row"]), categories])
    return cluster_tree(table, named, distinctive(has, typical), typical=typical)


def _tree_of_users(
    table: ClusteredTable, users: pl.DataFrame, dataset: Dataset, until: int, typical: int
) -> ClusterTree:
    _known(dataset.users, users["user_id"])
    found = distinctive(_items_of(table, users, dataset, until), typical)
    items = found["trait"].to_numpy()
    names = _column(dataset, "title", items).fill_null(dataset.items.take(items).cast(pl.String))
    traits = found.with_columns(names.alias("trait"))
    return cluster_tree(table, users.rename({"user_id": "id"}), traits, typical=typical)


def _items_of(table: ClusteredTable, users: pl.DataFrame, dataset: Dataset, until: int) -> pl.DataFrame:
    """Every item of every user that the model knows, once, by the user's cluster."""
    early = np.asarray(dataset.times) < until
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))[early]
    pairs = pl.DataFrame({"user": owners, "trait": np.asarray(dataset.item_rows)[early]}).unique()
    places = Vocabulary(users["user_id"], "user_id").rows(dataset.users.series)[pairs["user"].to_numpy()]
    known = pairs.filter(places >= 0).select(pl.col("trait").cast(pl.Int64))
    return known.with_columns(placed(table, users["row"].gather(places[places >= 0])))


def _known(vocabulary: Vocabulary, ids: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rows of the Dataset; refuse one that has none of them."""
    rows = vocabulary.rows(ids)
    if not (rows >= 0).any():
        raise DataError(
            f"the Dataset has none of the model's {vocabulary.name}s",
            column=vocabulary.name,
            expected="the Dataset that the model was trained on, or one with its users and items",
        )
    return rows


def _column(dataset: Dataset, name: str, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pl.Series:
    """Texts of a column of the catalogue; nulls where there is no such column, or no such row (−1)."""
    if name not in dataset.item_table.columns:
        return pl.Series(name, [None] * len(rows), pl.String)
    texts = dataset.item_table[name].cast(pl.String)
    with_none = pl.concat([texts, pl.Series(name, [None], pl.String)])
    return with_none.gather(np.where(rows < 0, len(texts), rows))
