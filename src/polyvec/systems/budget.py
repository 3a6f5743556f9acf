"""The item table that keeps a model within a number of bytes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from polyvec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvec.systems.guim.config import GUIMConfig
    from polyvec.systems.sasrec.config import SASRecConfig
    from polyvec.systems.sizes import Sizes

Config = TypeVar("Config", "GUIMConfig", "SASRecConfig")
FEWEST_CLUSTERS = 16


def within_budget(config: Config, num_ids: int, sizes_of: Callable[[Config], Sizes]) -> Config:
    """Choose ``item_table`` and ``item_rows`` so that the model is kept in at most ``config.budget`` bytes.

    A row for each id, if that fits; else the same in int8; else as many clusters as fit. A table that was
    chosen before, another than ``popular``, is kept, and must fit.

    Parameters
    ----------
    config
        What to fit; as it is if its budget is 0.
    num_ids
        Ids in the table.
    sizes_of
        Bytes of the model that a configuration makes.

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
    return smaller if sizes_of(smaller).total <= config.budget else _clustered(config, num_ids, sizes_of)


def _clustered(config: Config, num_ids: int, sizes_of: Callable[[Config], Sizes]) -> Config:
    """As many clusters as fit."""

    def with_rows(rows: int) -> Config:
        try:
            return replace(config, item_table="clustered", item_rows=rows)
        except ValidationError as error:
            raise UsageError(
                f"within {config.budget:,} bytes items would have to share rows of clusters",
                expected=error.errors()[0]["msg"].removeprefix("Value error, "),
                mend="change that setting, or raise the budget",
            ) from None

    fewest = min(FEWEST_CLUSTERS, max(num_ids, 1))
    candidates = range(fewest, max(num_ids, 1) + 1)
    fitting = bisect_right(candidates, config.budget, key=lambda rows: sizes_of(with_rows(rows)).total)
    if not fitting:
        raise _too_little([with_rows(fewest), replace(config, item_table="int8")], sizes_of)
    return with_rows(candidates[fitting - 1])


def _too_little(possible: list[Config], sizes_of: Callable[[Config], Sizes]) -> UsageError:
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
