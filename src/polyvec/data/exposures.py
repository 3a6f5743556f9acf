"""What users were shown and did not take: told by exposures, or drawn where the log has none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.market import Market

    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

EXPOSURE = "impression"
CROWD = 20  # events of a day, at least, that negatives are drawn among; else days after are taken in
ATTEMPTS = 8


def has_exposures(market: Market, positive: str) -> bool:
    """Whether the market tells what was shown and not taken."""
    return positive != EXPOSURE and EXPOSURE in market.actions and bool(market.actions[EXPOSURE].any())


def not_taken(market: Market, taken: Market, start: int, stop: int) -> Market:
    """Exposures in the time whose user did nothing else with the item on that day."""
    shown = market.of_action(EXPOSURE)
    shown = shown.take((shown.times >= start) & (shown.times < stop))
    others = market.take(~market.actions[EXPOSURE])
    done = pl.concat([_user_items(one.users, one.items, one.days) for one in (others, taken)])
    return shown.take(~_is_in(_user_items(shown.users, shown.items, shown.days), done))


def when_shown(market: Market, taken: Market) -> Market:
    """What was taken, as of the time when it was last shown to that user on that day before.

    So that no history tells what was taken by ending with its exposure. What was not shown keeps its time.
    """
    shown = market.of_action(EXPOSURE)
    keys = ["user", "item", "day"]
    seen = _user_items(shown.users, shown.items, shown.days).with_columns(time=pl.Series(shown.times))
    seen = seen.with_columns(shown=pl.col("time")).sort("time")
    asked = _user_items(taken.users, taken.items, taken.days).with_columns(time=pl.Series(taken.times))
    asked = asked.with_row_index("row").sort("time")
    found = asked.join_asof(seen, on="time", by=keys, strategy="backward", check_sortedness=False).sort("row")
    return replace(taken, times=found["shown"].fill_null(found["time"]).to_numpy())


def drawn_others(taken: Market, current: Ints, stop: int, random: np.random.Generator) -> Ints:
    """Item of an event of the same day, not one that the user has that day; −1 where none is found."""
    by_day = np.argsort(taken.days, kind="stable")
    by_day = by_day[taken.times[by_day] < stop]
    days, asked = taken.days[by_day], taken.days[current]
    begin = np.searchsorted(days, asked)
    end = np.minimum(np.maximum(np.searchsorted(days, asked, side="right"), begin + CROWD), len(days))
    own = _user_items(taken.users, taken.items, taken.days)
    drawn = np.full(len(current), -1)
    for _ in range(ATTEMPTS):
        still = np.flatnonzero(drawn < 0)
        items = taken.items[by_day[random.integers(begin[still], end[still])]]
        others = ~_is_in(_user_items(taken.users[current[still]], items, asked[still]), own)
        drawn[still[others]] = items[others]
    return drawn


def _user_items(users: Ints, items: Ints, days: Ints) -> pl.DataFrame:
    return pl.DataFrame({"user": users, "item": items, "day": days})


def _is_in(asked: pl.DataFrame, known: pl.DataFrame) -> Flags:
    """Whether each row asked for is among those known."""
    found = asked.join(
        known.unique().with_columns(found=True), on=known.columns, how="left", maintain_order="left"
    )
    return found["found"].fill_null(value=False).to_numpy()
