"""Offers: what was put to whom, and whether it was taken; from labels, ratings, exposures or draws."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, Protocol
from zlib import crc32

import numpy as np

from polyvec.data.exposures import EXPOSURE, drawn_others, first_shown, has_exposures, not_taken, when_shown
from polyvec.data.market import SCENARIO, Market, is_of_market
from polyvec.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset

    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

Labels = Literal["auto", "label", "rating", "exposed", "drawn"]
EVER = -(2**62)
"""Start of a period that has none."""


class OfferRule(Protocol):
    """Which events are offers, and when they were taken."""

    @property
    def labels(self) -> Labels:
        """How they are told.

        ``label``: events with one, 1 or 0. ``rating``: those with one, 1 above ``like_above``. ``exposed``:
        impressions, 1 if the user took the item on that day, or within half an hour; and what was taken, as
        of when it was shown. ``drawn``: what was taken; and, as often, items drawn by their popularity on
        that day. ``auto``: the first of these that the data has columns for.
        """
        ...

    @property
    def action(self) -> str:
        """What "taken" means."""
        ...

    @property
    def like_above(self) -> float:
        """Ratings above it are likes."""
        ...

    @property
    def negatives(self) -> int:
        """Items drawn for each one taken."""
        ...


@dataclass(frozen=True)
class Offers:
    """P offers of an item to a user.

    Attributes
    ----------
    users, items
        Rows of the Dataset, −1 for who is not in it; int64 ``[P]``.
    scenarios
        Place among the scenarios that are learned, int64 ``[P]``.
    times
        In the Dataset's unit, int64 ``[P]``.
    labels
        Whether the item was taken, or liked; bool ``[P]``.
    events
        Event of the Dataset that carries the label; −1 where none does: of what was taken, shown or drawn;
        int64 ``[P]``.
    """

    users: Ints
    items: Ints
    scenarios: Ints
    times: Ints
    labels: Flags
    events: Ints

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(cls, users: Ints, items: Ints, scenarios: Ints, times: Ints, labels: Flags) -> Offers:
        """Offers that are no labelled events."""
        return cls(users, items, scenarios, times, labels, np.full(len(users), -1))

    def take(self, rows: npt.NDArray[np.integer]) -> Offers:
        """Some offers."""
        return Offers(*(getattr(self, one.name)[rows] for one in fields(self)))

    @classmethod
    def concatenate(cls, parts: list[Offers]) -> Offers:
        """All offers of the parts, in order."""
        return cls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)))


def labels_of(dataset: Dataset, rule: OfferRule) -> Labels:
    """How samples are labelled: what the configuration says, or the first that the data has columns for.

    Raises
    ------
    DataError
        If the data lacks the column that the configuration asks for.
    """
    shown = EXPOSURE in dataset.codes.get("action", [])
    there: dict[Labels, bool] = {
        "label": "label" in dataset.columns,
        "rating": "rating" in dataset.columns,
        "exposed": shown,
    }
    if rule.labels == "auto":
        found: list[Labels] = [name for name, is_there in there.items() if is_there]
        return [*found, "drawn"][0]
    if not there.get(rule.labels, True):
        column = "action" if rule.labels == "exposed" else rule.labels
        raise DataError(
            f"labels={rule.labels} needs what the data has not",
            column=column,
            expected=f"events of action '{EXPOSURE}'" if rule.labels == "exposed" else "a number",
            mend="prepare the data with it, or set labels=drawn (needs timestamps)",
        )
    return rule.labels


def draw_offers(
    dataset: Dataset, rule: OfferRule, scenarios: list[str] | None, start: int, stop: int, seed: int
) -> Offers:
    """Offers of a period, of all scenarios.

    Parameters
    ----------
    dataset
        The log; nothing from ``stop`` on is looked at.
    rule
        What is an offer, and when it was taken.
    scenarios
        Which to look at, in the order that numbers them; None looks at everything, as if it were one.
    start, stop
        First time of the period, and first time after it. Of ordered data places from the end of every user's
        history, −1 being the last event.
    seed
        Of what is drawn.

    Raises
    ------
    DataError
        If the data has no scenarios, or not what the labels need.
    """
    how = labels_of(dataset, rule)
    there: list[tuple[int, str | None]] = [(0, None)]
    if scenarios is not None:
        known = dataset.codes.get(SCENARIO, [])
        there = [(place, name) for place, name in enumerate(scenarios) if name in known]
        if not there:
            is_of_market(dataset, scenarios[0])  # says what is wrong
    if how in ("label", "rating"):
        chosen = is_within(dataset, start, stop)
        parts = [
            _labelled(
                dataset, how, rule, place, chosen if name is None else chosen & is_of_market(dataset, name)
            )
            for place, name in there
        ]
    else:
        parts = [
            _taken_and_not(
                Market.of(dataset, name, stop), how, rule, place, start, (seed, crc32((name or "").encode()))
            )
            for place, name in there
        ]
    offers = Offers.concatenate(parts)
    return offers.take(np.lexsort((offers.times, offers.users)))


def is_within(dataset: Dataset, start: int, stop: int) -> Flags:
    """Which events are of a period, bool ``[E]``: see :func:`draw_offers`."""
    places = dataset.times
    if dataset.time_kind == "order":
        ends = np.repeat(dataset.user_offsets[1:], np.diff(dataset.user_offsets))
        places = np.arange(dataset.num_events) - ends
    return np.asarray((places >= start) & (places < stop))


def _labelled(dataset: Dataset, how: str, rule: OfferRule, place: int, chosen: Flags) -> Offers:
    """Events of one scenario that carry a label or a rating."""
    values = np.asarray(dataset.columns[how])
    rows = np.flatnonzero(chosen & np.isfinite(values))
    return Offers(
        np.searchsorted(dataset.user_offsets, rows, side="right").astype(np.int64) - 1,
        np.asarray(dataset.item_rows)[rows].astype(np.int64),
        np.full(len(rows), place),
        np.asarray(dataset.times)[rows],
        values[rows] > liked_above(how, rule),
        rows,
    )


def liked_above(how: str, rule: OfferRule) -> float:
    """Labels or ratings above it say that an item was taken."""
    return 0.5 if how == "label" else rule.like_above


def _taken_and_not(
    market: Market, how: str, rule: OfferRule, place: int, start: int, seed: tuple[int, int]
) -> Offers:
    """What was taken in one scenario from ``start`` on, and what was not."""
    taken = market.of_action(rule.action)
    current = np.flatnonzero(taken.times >= start)
    stop = int(market.times.max(initial=start)) + 1
    if how == "exposed" and has_exposures(market, rule.action):
        shown = when_shown(market, taken.take(current))
        told = shown.times >= max(start, first_shown(market))
        parts = [_offers(shown.take(told), place, are_taken=True)]
        parts.append(_offers(not_taken(market, taken, start, stop), place, are_taken=False))
        return Offers.concatenate(parts)
    parts = [_offers(taken.take(current), place, are_taken=True)]
    for turn in range(rule.negatives):
        items = drawn_others(taken, current, stop, np.random.default_rng((*seed, turn)))
        found = np.flatnonzero(items >= 0)
        drawn = _offers(taken.take(current[found]), place, are_taken=False)
        parts.append(replace(drawn, items=items[found]))
    return Offers.concatenate(parts)


def _offers(events: Market, place: int, *, are_taken: bool) -> Offers:
    count = len(events)
    return Offers.of(
        events.users, events.items, np.full(count, place), events.times, np.full(count, are_taken)
    )
