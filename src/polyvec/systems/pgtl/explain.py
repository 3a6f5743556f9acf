"""How much prior knowledge items took, and from where (PGTL, figure 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from polyvec.errors import UsageError
from polyvec.systems.pgtl.features import STRONG, UNRELATED, WEAK
from polyvec.systems.pgtl.network import SOURCE, TARGET

if TYPE_CHECKING:
    from polyvec.data.dataset import Dataset
    from polyvec.systems.pgtl.model import PGTL, Bound

WORDS = {STRONG: "the same item", WEAK: "items of its category", UNRELATED: "none"}
SHUFFLED = "another item, for relations are shuffled"


@dataclass(frozen=True)
class Explanation:
    """Where the prior knowledge of one item comes from.

    Attributes
    ----------
    item
        Row of the catalogue: ``item_id`` and its columns.
    relation
        ``the same item``, ``items of its category`` or ``none``; or that relations are shuffled.
    related
        Related source items with their training events there, most first; columns of the catalogue besides.
    gate
        Mean of g (equation 7): 0 lets nothing of the prior through, 1 all of it; NaN without a gate.
    events
        The item's training events by market.
    """

    item: dict[str, Any]
    relation: str
    related: pl.DataFrame
    gate: float
    events: dict[str, int]


def explain(model: PGTL, dataset: Dataset, item: str) -> Explanation:
    """Explain one item of the target.

    Parameters
    ----------
    model
        Bound to the Dataset: :meth:`polyvec.systems.pgtl.PGTL.at`.
    dataset
        The Dataset.
    item
        Raw id, as text.

    Raises
    ------
    UsageError
        If the model is not bound, its method takes no prior from other items, or there is no such item.
    DataError
        If ids are integers and this is none.
    """
    bound = _with_gate(model)
    if model.config.method == "pgtl_no_prior":
        raise UsageError(
            "method 'pgtl_no_prior' takes an item's own features for those of related items",
            expected="pgtl or pgtl_no_specific",
            mend="leave the item out to see the gates by category",
        )
    row = int(bound.rows(pl.Series([dataset.items.parse(item)]))[0])
    relations, table = bound.view.relations, dataset.item_table
    related = relations.items.take(np.array([row])).codes
    events = {role: model.training_events(table, role) for role in (SOURCE, TARGET)}
    shuffled = model.config.relations == "shuffled" and relations.kind_N[row] != UNRELATED
    shown = table[related].with_columns(source_events=pl.Series(events[SOURCE][related], dtype=pl.Int64))
    return Explanation(
        item=table.row(row, named=True),
        relation=SHUFFLED if shuffled else WORDS[int(relations.kind_N[row])],
        related=shown.sort("source_events", descending=True, maintain_order=True),
        gate=float(bound.gates(np.array([row]))[0]),
        events={role: int(count[row]) for role, count in events.items()},
    )


def gates_by_category(model: PGTL, dataset: Dataset) -> pl.DataFrame:
    """Mean gate of the target's items by category, widest open first: ``category``, ``items``, ``gate``.

    Without categories all items stand together.

    Raises
    ------
    UsageError
        If the model is not bound, or its method has no gate.
    """
    bound = _with_gate(model)
    rows = np.flatnonzero(model.training_events(dataset.item_table, TARGET) > 0)
    table = dataset.item_table[rows]
    category = table["category"].cast(pl.String) if "category" in table.columns else pl.lit("all items")
    return (
        table.select(category=category)
        .with_columns(gate=pl.Series(bound.gates(rows)))
        .group_by("category")
        .agg(pl.len().alias("items"), pl.col("gate").mean())
        .sort("gate", "category", descending=[True, False])
    )


def _with_gate(model: PGTL) -> Bound:
    if not model.config.method.startswith("pgtl"):
        raise UsageError(
            f"method '{model.config.method}' has no gate to explain",
            expected="pgtl, pgtl_no_specific or pgtl_no_prior",
        )
    return model.to_log()
