"""Filters that people ask for: items already seen, a list of allowed items, a category."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.data.item_sets import ItemSets
from polyvec.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.ids import RawId, Vocabulary


def seen_items(dataset: Dataset, user_ids: Sequence[RawId] | pl.Series, items: Vocabulary) -> ItemSets:
    """Items of every event of these users, as rows of ``items``; users unknown to the Dataset saw nothing.

    Parameters
    ----------
    dataset
        The events.
    user_ids
        B raw ids.
    items
        Vocabulary of the index, which may differ from the Dataset's.
    """
    users = dataset.users.rows(user_ids)
    known = users >= 0
    start = np.where(known, dataset.user_offsets[users], 0)
    stop = np.where(known, dataset.user_offsets[users + known], 0)
    seen = ItemSets.of_events(dataset, start, stop)
    rows = items.rows(dataset.items.series)[seen.items]
    there = rows >= 0
    return ItemSets.from_pairs(seen.owners[there], rows[there], len(seen), len(items))


def allow_list(ids: Sequence[RawId] | pl.Series, items: Vocabulary) -> npt.NDArray[np.bool_]:
    """Mask ``[N]`` of the items listed; ids that are not among the items allow nothing."""
    rows = items.rows(ids)
    allowed = np.zeros(len(items), dtype=np.bool_)
    allowed[rows[rows >= 0]] = True
    return allowed


def category_items(dataset: Dataset, category: str, items: Vocabulary) -> npt.NDArray[np.bool_]:
    """Mask ``[N]`` of the items whose category in the Dataset's catalogue is this one.

    Raises
    ------
    UsageError
        If the catalogue has no categories, or none of that name.
    """
    table = dataset.item_table
    if "category" not in table.columns:
        raise UsageError(
            "the Dataset's catalogue has no category",
            column="category",
            mend="prepare the data with a catalogue that has a category column",
        )
    categories = table["category"].cast(pl.String)
    members = table["item_id"].filter(categories == category)
    if not len(members):
        known = categories.drop_nulls().value_counts(sort=True)[categories.name].to_list()
        raise UsageError(
            f"no item is of category '{category}'", column="category", expected=_few(category, known)
        )
    return allow_list(members, items)


def _few(category: str, known: list[str]) -> str:
    """Nearest category, or the largest ones where none is near."""
    answer = nearest_name(category, known)
    return answer if answer.startswith("did") else nearest_name(category, known[:8]) + " …"
