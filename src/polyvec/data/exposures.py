"""What users were shown and did not take: told by exposures, or drawn where the log has none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from polyvec.data.dataset import MICROSECONDS_PER_DAY

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.market import Market

    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

EXPOSURE = "impression"
VISIT = MICROSECONDS_PER_DAY // 48  # half an hour: as long as web analytics let one pause
CROWD = 20  # events of a day, at least, that negatives are drawn among; else days after are taken in
ATTEMPTS, PATIENCE = 8, 3  # draws, and those of them that stay with the day


def has_exposures(market: Market, positive: str) -> bool:
    """Whether the market tells what was shown and not taken."""
    return positive != EXPOSURE and EXPOSURE in market.actions and bool(market.actions[EXPOSURE].any())


def first_shown(market: Market) -> int:
    """Begin of the first day that tells what was shown: before, nothing tells what was not taken."""
    shown = market.times[market.actions[EXPOSURE]]
    return int(shown.min()) // MICROSECONDS_PER_DAY * MICROSECONDS_PER_DAY


def not_taken(market: Market, taken: Market, start: int, stop: int) -> Market:
    """Exposures in the time whose user did nothing else with the item on that day; read up to ``stop``.

    Nor in the visit that begins with it: at midnight one goes on.
    """
    shown = market.of_action(EXPOSURE)
    shown = shown.take((shown.times >= start) & (shown.times < stop))
    taken, others = taken.before(stop), market.take(~market.actions[EXPOSURE]).before(stop)
    done = pl.concat([_user_items(one.users, one.items, one.days) for one in (others, taken)])
    times = pl.Series(np.concatenate([others.times, taken.times]))
    follows = _nearest(shown, done.with_columns(time=times), "forward")
    goes_on = (follows - pl.Series(shown.times) < VISIT).fill_null(value=False).to_numpy()
    return shown.take(~_is_in(_user_items(shown.users, shown.items, shown.days), done) & ~goes_on)


def when_shown(market: Market, taken: Market) -> Market:
    """What was taken, as of the time when it was last shown to that user: on that day, or in that visit.

    So that no history tells what was taken by ending with its exposure. What was not shown keeps its time;
    what was taken several times since it was shown, clicked twice, say, counts once.
    """
    shown = market.of_action(EXPOSURE)
    seen = _user_items(shown.users, shown.items, shown.days).with_columns(time=pl.Series(shown.times))
    times = _nearest(taken, seen, "backward").fill_null(pl.Series(taken.times)).to_numpy()
    is_known = (times // MICROSECONDS_PER_DAY == taken.days) | (taken.times - times < VISIT)
    moved = replace(taken, times=np.where(is_known, times, taken.times))
    keys = pl.DataFrame({"user": moved.users, "item": moved.items, "time": moved.times})
    is_first = keys.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return moved.take(~is_known | is_first)


def _nearest(asked: Market, known: pl.DataFrame, strategy: Literal["backward", "forward"]) -> pl.Series:
    """Time of the nearest known event of the user and item of each one asked about; null if there is none."""
    events = _user_items(asked.users, asked.items, asked.days).with_columns(time=pl.Series(asked.times))
    known = known.with_columns(found=pl.col("time")).sort("time")
    return (
        events.with_row_index("row")
        .sort("time")
        .join_asof(known, on="time", by=["user", "item"], strategy=strategy, check_sortedness=False)
        .sort("row")["found"]
    )


def drawn_others(
    taken: Market, current: Ints, stop: int, random: np.random.Generator, among: Flags | None = None
) -> Ints:
    """Item of an event of the same day, not one that the user has that day; −1 where none is found.

    What a user has on other days may be drawn, as it may have been shown: without it drawn items would be
    rarer than those that were taken, and known by that alone.

    Parameters
    ----------
    taken
        Events of one action, E; from ``stop`` on none is looked at. Where a day has fewer than 20, those
        after it are drawn among, too.
    current
        Rows of the events whose user and day count.
    stop
        End of what is drawn from.
    random
        Of the draws.
    among
        Events that are drawn among, ``[E]``, and of these other users' alone; where all others of a
        day are the user's own, the days after are taken in, further with every attempt. All without.
    """
    users, asked, own = taken.users[current], taken.days[current], taken.before(stop)
    known = _user_items(own.users, own.items, own.days)
    pool = np.flatnonzero((taken.times < stop) & (True if among is None else among))
    pool = pool[np.argsort(taken.days[pool], kind="stable")]
    begin, day_end = (np.searchsorted(taken.days[pool], asked, side=side) for side in ("left", "right"))
    drawn = np.full(len(current), -1)
    for attempt in range(ATTEMPTS):
        crowd = CROWD if among is None else CROWD << max(attempt - PATIENCE, 0)
        still = np.flatnonzero((drawn < 0) & (begin < len(pool)))
        end = np.minimum(np.maximum(day_end[still], begin[still] + crowd), len(pool))
        events = pool[random.integers(begin[still], end)]
        is_other = ~_is_in(_user_items(users[still], taken.items[events], asked[still]), known)
        if among is not None:
            is_other &= taken.users[events] != users[still]
        drawn[still[is_other]] = taken.items[events[is_other]]
    return drawn


def _user_items(users: Ints, items: Ints, days: Ints) -> pl.DataFrame:
    return pl.DataFrame({"user": users, "item": items, "day": days})


def _is_in(asked: pl.DataFrame, known: pl.DataFrame) -> Flags:
    """Whether each row asked for is among those known."""
    found = asked.join(
        known.unique().with_columns(found=True), on=known.columns, how="left", maintain_order="left"
    )
    return found["found"].fill_null(value=False).to_numpy()
