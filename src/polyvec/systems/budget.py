"""The item table that keeps a model within a number of bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import ValidationError

from polyvec.errors import UsageError
from polyvec.layers.tables.choice import CLUSTERS_SHARE
from polyvec.systems.sizes import Sizes

if TYPE_CHECKING:
    from polyvec.systems.guim.config import GUIMConfig
    from polyvec.systems.sasrec.config import SASRecConfig

Config = TypeVar("Config", "GUIMConfig", "SASRecConfig")
SizesOf = Callable[[Config], Sizes]
FEWEST_CLUSTERS = 16


def within_budget(config: Config, num_ids: int, sizes_of: SizesOf[Config]) -> Config:
    """Choose ``item_table`` and ``item_rows`` so that the model is kept in at most ``config.budget`` bytes.

    A row for each id, if that fits; else the same in int8; else clusters and numbers of each item's own, as
    many as fit; else clusters alone. A table that was chosen before, another than ``popular``, is kept, and
    must fit.

    Parameters
    ----------
    config
        What to fit; as it is if its budget is 0.
    num_ids
        Ids in the table.
    sizes_of
        Bytes of the model that a configuration makes. It may refuse one with too few rows.

    Raises
    ------
    UsageError
        If nothing fits: told with the least budget that would do, and what takes the bytes.
    """
    if not config.budget or sizes_of(config).total <= config.budget:
        return config
    if config.item_table != "popular":
        raise _too_little([config], sizes_of)
    smaller = replace(config, item_table="int8")
    if sizes_of(smaller).total <= config.budget:
        return smaller
    if not num_ids:
        raise _too_little([config, smaller], sizes_of)
    found = _shared(config, "clustered_residual", num_ids, sizes_of)
    found = found or _shared(config, "clustered", num_ids, sizes_of)
    if found is None:
        fewest = replace(config, item_table="clustered", item_rows=min(FEWEST_CLUSTERS, num_ids))
        raise _too_little([fewest, smaller], sizes_of)
    return found


def _shared(
    config: Config, kind: Literal["clustered_residual", "clustered"], num_ids: int, sizes_of: SizesOf[Config]
) -> Config | None:
    """As many rows as fit, of a kind that shares them; None if the fewest do not."""

    def with_rows(rows: int) -> Config:
        try:
            return replace(config, item_table=kind, item_rows=rows)
        except ValidationError as error:
            raise UsageError(
                f"within {config.budget:,} bytes items would have to share rows of clusters",
                expected=error.errors()[0]["msg"].removeprefix("Value error, "),
                mend="change that setting, or raise the budget",
            ) from None

    def size(rows: int) -> int:
        one = with_rows(rows)
        try:
            return sizes_of(one).total
        except UsageError:
            return 0  # too few rows for a number of each item's own: more are needed

    fewest = FEWEST_CLUSTERS * (CLUSTERS_SHARE if kind == "clustered_residual" else 1)
    candidates = range(min(fewest, num_ids), num_ids + 1)
    fitting = bisect_right(candidates, config.budget, key=size)
    return with_rows(candidates[fitting - 1]) if fitting and size(candidates[fitting - 1]) else None


def _too_little(possible: list[Config], sizes_of: SizesOf[Config]) -> UsageError:
    """Tell of the least model among the possible ones."""
    config = min(possible, key=lambda one: sizes_of(one).total)
    least = sizes_of(config)
    return UsageError(
        f"a budget of {config.budget:,} bytes is too little for this model",
        expected=f"at least {least.total:,} bytes with item_table={config.item_table}: "
        f"{least.item_table:,} of the item table, {least.other_tables:,} of other tables, "
        f"{least.rest:,} of the rest",
        mend="raise the budget, or lower widths, layers or the rows of other tables (guim: max_words)",
    )
