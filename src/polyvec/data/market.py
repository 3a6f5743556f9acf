"""Events of one market, flat, and what had happened in it before a day.

A market is one value of the column ``scenario``: a country, a channel, a shop of several. Days are whole days
since 1970 UTC; a statistic "of day d" sees events of days before d and nothing of d itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from polyvec.data.dataset import MICROSECONDS_PER_DAY, PURCHASE, Dataset, no_such_action, require_timestamps
from polyvec.errors import DataError, UsageError, nearest_name

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

SCENARIO = "scenario"
Role = Literal["source", "target"]
"""Of two markets, that which another learns from, and the one that learns."""
EVER = 0
"""Length of the window that begins with the log."""
NEVER = np.iinfo(np.int64).max
CENT = 100  # sums of prices and ratings are kept in hundredths, so that differences of sums are exact


@dataclass(frozen=True)
class Market:
    """Events of one market, sorted by user and time.

    Attributes
    ----------
    name
        Value of the column ``scenario``; empty for all of them together.
    users, items
        Rows of the Dataset, int64 ``[E]``.
    times
        Microseconds since 1970 UTC, int64 ``[E]``.
    actions
        Which events are of an action, bool ``[E]`` by its name; ``{"purchase": all}`` without actions.
    columns
        Numbers of events, float64 ``[E]``: ``price``, ``quantity`` and ``rating``, those there are.
    num_items
        N of the Dataset.
    """

    name: str
    users: Ints
    items: Ints
    times: Ints
    actions: dict[str, npt.NDArray[np.bool_]]
    columns: dict[str, npt.NDArray[np.float64]]
    num_items: int

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(cls, dataset: Dataset, name: str | None, until: int | None = None) -> Market:
        """Events of a market, or of all of them for None, before a moment.

        Raises
        ------
        DataError
            If the data has no column ``scenario``, or no timestamps.
        UsageError
            If no event is of that market.
        """
        require_timestamps(dataset, "what happened before in a market")
        chosen = np.ones(dataset.num_events, np.bool_) if name is None else is_of_market(dataset, name)
        if until is not None:
            chosen &= np.asarray(dataset.times < until)
        rows = np.flatnonzero(chosen)
        owners = np.searchsorted(dataset.user_offsets, rows, side="right") - 1
        actions = {PURCHASE: np.ones(len(rows), np.bool_)}
        if "action" in dataset.columns:
            codes = np.asarray(dataset.columns["action"])[rows]
            actions = {text: codes == code for code, text in enumerate(dataset.codes["action"])}
        return cls(
            name or "",
            owners.astype(np.int64),
            np.asarray(dataset.item_rows)[rows].astype(np.int64),
            np.asarray(dataset.times)[rows],
            actions,
            {
                column: np.asarray(dataset.columns[column])[rows].astype(np.float64)
                for column in ("price", "quantity", "rating")
                if column in dataset.columns and column not in dataset.codes
            },
            dataset.num_items,
        )

    @cached_property
    def days(self) -> Ints:
        """Day of every event, int64 ``[E]``."""
        return self.times // MICROSECONDS_PER_DAY

    def take(self, chosen: npt.NDArray[Any]) -> Market:
        """Some events, by a mask or by ascending rows."""
        return Market(
            self.name,
            self.users[chosen],
            self.items[chosen],
            self.times[chosen],
            {name: is_one[chosen] for name, is_one in self.actions.items()},
            {name: column[chosen] for name, column in self.columns.items()},
            self.num_items,
        )

    def before(self, time: int) -> Market:
        """Events before a moment."""
        return self.take(self.times < time)

    def item_counts(self, action: str) -> Ints:
        """Events of one action of every item, int64 ``[N]``."""
        return np.bincount(self.of_action(action).items, minlength=self.num_items).astype(np.int64)

    def of_action(self, action: str) -> Market:
        """Events of one action.

        Raises
        ------
        UsageError
            If the data has no such action.
        """
        if action not in self.actions:
            raise no_such_action(action, list(self.actions))
        return self.take(self.actions[action])


def is_of_market(dataset: Dataset, name: str) -> npt.NDArray[np.bool_]:
    """Which events are of a market, bool ``[E]``.

    Raises
    ------
    DataError
        If the data has no column ``scenario`` of texts.
    UsageError
        If no event is of that market.
    """
    if SCENARIO not in dataset.codes:
        raise DataError(
            "the events have no scenario",
            column=SCENARIO,
            expected="a column of texts such as a country, for every event",
            mend="prepare the data with it: polyvec prepare … --column scenario=COUNTRY",
        )
    if name not in dataset.codes[SCENARIO]:
        raise UsageError(
            f"no event is of scenario '{name}'",
            column=SCENARIO,
            expected=nearest_name(name, dataset.codes[SCENARIO]),
        )
    found: npt.NDArray[np.bool_] = np.asarray(
        dataset.columns[SCENARIO] == dataset.codes[SCENARIO].index(name)
    )
    return found


class Sums:
    """Sum of what is in force of an entity on a day: each part from one day on, up to another.

    Parameters
    ----------
    entities_E, starts_E, stops_E
        Part e is in force of its entity on days ``starts_E[e] <= day < stops_E[e]``, the latter perhaps
        :data:`NEVER`; int64 ``[E]``.
    weights_E
        What each part counts, int64 ``[E]``; 1 without it.
    """

    def __init__(
        self, entities_E: Ints, starts_E: Ints, stops_E: Ints, weights_E: Ints | None = None
    ) -> None:
        ends = stops_E[stops_E < NEVER]
        self._first = int(starts_E.min(initial=0))
        last = max(int(starts_E.max(initial=0)), int(ends.max(initial=0)))
        self._span = last - self._first + 3  # places: before all, every day, never
        weights_E = np.ones(len(entities_E), np.int64) if weights_E is None else weights_E
        self._begun = _running(self._keys(entities_E, starts_E), weights_E)
        stop_keys = self._keys(entities_E, np.minimum(stops_E, last)) + (stops_E == NEVER)
        self._ended = _running(stop_keys, weights_E)

    def at(self, entities_P: Ints, days_P: Ints) -> Ints:
        """Sum of every (entity, day), int64 ``[P]``."""
        keys_P = self._keys(entities_P, days_P)
        sums = [
            sums[np.searchsorted(keys, keys_P, side="right")] for keys, sums in (self._begun, self._ended)
        ]
        return sums[0] - sums[1]  # parts of earlier entities are in both

    def _keys(self, entities_P: Ints, days_P: Ints) -> Ints:
        return entities_P * self._span + np.clip(days_P - self._first + 1, 0, self._span - 2)


def _running(keys_E: Ints, weights_E: Ints) -> tuple[Ints, Ints]:
    """Keys ascending, and the sum of the weights of the first k of them, ``[E + 1]``."""
    order = np.argsort(keys_E, kind="stable")
    return keys_E[order], np.concatenate([[0], np.cumsum(weights_E[order])]).astype(np.int64)


class Statistics:
    """Statistics of entities of a market before a day: items, or what items belong to (a shop, a brand).

    Of every window of days: events of each action, the rate of the positive one among those of every other,
    its distinct users and its revenue; then its mean price and rating ever, days since its latest event and
    since its first. What the data does not have is left out.

    Parameters
    ----------
    market
        The log.
    entity_N
        Entity of every item, −1 for none; int64 ``[N]``.
    positive
        Action that users, revenue, price, rating and recency are of.
    windows
        Lengths in days; :data:`EVER` counts everything before.
    """

    def __init__(self, market: Market, entity_N: Ints, positive: str, windows: tuple[int, ...]) -> None:
        market = market.take(entity_N[market.items] >= 0)
        bought = market.of_action(positive)
        owners, bought_owners = entity_N[market.items], entity_N[bought.items]
        self._columns: list[tuple[str, Sums, Sums | None, float]] = []
        for window in windows:
            suffix = f"{window}d" if window else "ever"
            counts = {
                action: _within(owners[chosen], market.days[chosen], window)
                for action, chosen in market.actions.items()
            }
            for action, sums in counts.items():
                self._add(f"{action} {suffix}", sums)
            if len(counts) > 1:
                for action, sums in counts.items():
                    if action != positive:
                        self._add(f"{positive} per {action} {suffix}", counts[positive], sums)
            self._add(f"users {suffix}", _users_within(bought, bought_owners, window))
            if "price" in bought.columns:
                revenue = _total(bought, bought_owners, _revenue(bought), window)
                self._add(f"revenue {suffix}", revenue, None, CENT)
        for name in ("price", "rating"):
            if name in bought.columns:
                values, known = bought.columns[name], np.isfinite(bought.columns[name])
                number = _within(bought_owners[known], bought.days[known], EVER)
                self._add(name, _total(bought, bought_owners, values, EVER), number, CENT)
        self._latest = _Edges(bought_owners, bought.days)

    def _add(self, name: str, sums: Sums, per: Sums | None = None, unit: float = 1.0) -> None:
        self._columns.append((name, sums, per, unit))

    @property
    def names(self) -> list[str]:
        """What the columns are."""
        return [name for name, *_ in self._columns] + ["days since the latest", "days since the first"]

    def at(self, entities_P: Ints, days_P: Ints) -> npt.NDArray[np.float64]:
        """Statistics of every (entity, day), ``[P, F]``; NaN for no entity and for a mean of none."""
        values_PF = np.full((len(entities_P), len(self.names)), np.nan)
        known = entities_P >= 0
        if not known.any():
            return values_PF
        # each (entity, day) once and in order: looking up at random takes several times as long
        first = days_P[known].min()
        span = days_P[known].max() - first + 1
        keys, places = np.unique(entities_P[known] * span + days_P[known] - first, return_inverse=True)
        some, when = keys // span, keys % span + first
        found = []
        for _, sums, per, unit in self._columns:
            value = sums.at(some, when) / unit
            if per is not None:
                number = per.at(some, when)
                value = np.where(number > 0, value / np.maximum(number, 1), np.nan)
            found.append(value)
        values_PF[known] = np.stack([*found, *self._latest.since(some, when)], axis=1)[places]
        return values_PF


class _Edges:
    """Latest and first event of entities before a day."""

    def __init__(self, entities_E: Ints, days_E: Ints) -> None:
        order = np.lexsort((days_E, entities_E))
        self._entities, self._days = entities_E[order], days_E[order]
        self._first = int(days_E.min(initial=0))
        self._span = int(days_E.max(initial=0)) - self._first + 2
        self._keys = self._entities * self._span + self._days - self._first

    def since(self, entities_P: Ints, days_P: Ints) -> tuple[npt.NDArray[np.float64], ...]:
        """Days since the latest and since the first event before each day, ``[P]``; NaN where none was."""
        days = np.clip(days_P - self._first, 0, self._span - 1)
        before = np.searchsorted(self._keys, entities_P * self._span + days) - 1
        begin = np.searchsorted(self._entities, entities_P)
        there = before >= begin
        if not len(self._days):
            return (np.full(len(days_P), np.nan),) * 2
        rows = (np.maximum(before, 0), np.minimum(begin, len(self._days) - 1))
        return tuple(np.where(there, days_P - self._days[row], np.nan).astype(np.float64) for row in rows)


def _within(entities_E: Ints, days_E: Ints, window: int, weights_E: Ints | None = None) -> Sums:
    """Events of the days before, so many back: an event of day e counts on days e + 1 … e + window."""
    return Sums(entities_E, days_E + 1, _end(days_E, window), weights_E)


def _end(days_E: Ints, window: int) -> Ints:
    return days_E + 1 + window if window else np.full(len(days_E), NEVER)


def _users_within(bought: Market, owners_E: Ints, window: int) -> Sums:
    """Distinct users: an event counts until its user's next one of the same entity takes over."""
    order = np.lexsort((bought.days, bought.users, owners_E))
    users, owners, days = bought.users[order], owners_E[order], bought.days[order]
    stops = _end(days, window)
    follows = (users[1:] == users[:-1]) & (owners[1:] == owners[:-1])
    stops[:-1][follows] = np.minimum(stops[:-1], days[1:] + 1)[follows]
    return Sums(owners, days + 1, stops)


def _total(bought: Market, owners_E: Ints, values_E: npt.NDArray[np.float64], window: int) -> Sums:
    """Sum of a number of the events, in hundredths; of what is not known nothing."""
    known = np.isfinite(values_E)
    hundredths = np.rint(values_E[known] * CENT).astype(np.int64)
    return _within(owners_E[known], bought.days[known], window, hundredths)


def _revenue(bought: Market) -> npt.NDArray[np.float64]:
    quantity = bought.columns.get("quantity", np.ones(len(bought)))
    return bought.columns["price"] * np.nan_to_num(quantity, nan=1.0)


def entities(item_table: pl.DataFrame, column: str) -> tuple[Ints, list[str]]:
    """Number of what each item belongs to, int64 ``[N]`` (−1 = none), and their names in that order.

    Raises
    ------
    DataError
        If the column holds lists.
    """
    if item_table[column].dtype.is_nested():
        raise DataError(
            "items belong to several at once",
            column=column,
            expected="one text or number for each item",
            mend="prepare the catalogue with one value, or leave the column out",
        )
    texts = item_table[column].cast(pl.String)
    names = texts.drop_nulls().unique().sort()
    places = pl.DataFrame({column: names}).with_row_index("place")
    joined = texts.to_frame(column).join(places, on=column, how="left", maintain_order="left")
    return joined["place"].cast(pl.Int64).fill_null(-1).to_numpy(), names.to_list()
