"""What was offered to whom, in which scenario, after which history; and whether it was taken."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from polyvec.data.exposures import EXPOSURE, drawn_others, has_exposures, not_taken
from polyvec.data.market import SCENARIO, Market, is_of_market
from polyvec.data.split import first_in_ranges
from polyvec.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.systems.saml.config import Labels, SAMLConfig

    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

EVER = -(2**62)
"""Start of a period that has none."""


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
    """

    users: Ints
    items: Ints
    scenarios: Ints
    times: Ints
    labels: Flags

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: npt.NDArray[np.integer]) -> Offers:
        """Some offers."""
        return Offers(*(getattr(self, one.name)[rows] for one in fields(self)))

    @classmethod
    def concatenate(cls, parts: list[Offers]) -> Offers:
        """All offers of the parts, in order."""
        return cls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)))


@dataclass(frozen=True)
class Samples:
    """Offers with what each user had taken before.

    Attributes
    ----------
    offers
        P of them.
    past
        Item of every event of all histories, int64 ``[E]``, shared by all selections.
    start, stop
        The history of offer p is ``past[start[p] : stop[p]]``, oldest first; int64 ``[P]`` each.
    latest
        The user's latest event, of any kind, until the time of the offer: a row of the Dataset, −1 for none;
        int64 ``[P]``. Of events of the same time the last one.
    """

    offers: Offers
    past: Ints
    start: Ints
    stop: Ints
    latest: Ints

    def __len__(self) -> int:
        return len(self.offers)

    @classmethod
    def of(
        cls, offers: Offers, dataset: Dataset, past: Dataset, max_length: int, *, are_events: bool = True
    ) -> Samples:
        """Look up the latest events of earlier times in ``past``, the events of what was taken.

        ``are_events`` says that the offers are events of the Dataset, whose context is known with them; else
        the latest event is one before their time.
        """
        begin, stop = _before(past, offers.users, offers.times)
        first, after = _before(dataset, offers.users, offers.times + are_events)
        return cls(
            offers,
            past.item_rows.astype(np.int64),
            np.maximum(begin, stop - max_length),
            stop,
            np.where(after > first, after - 1, -1),
        )

    def take(self, rows: npt.NDArray[np.integer]) -> Samples:
        """Some samples."""
        parts = (self.start[rows], self.stop[rows], self.latest[rows])
        return Samples(self.offers.take(rows), self.past, *parts)

    def of_scenario(self, place: int) -> Samples:
        """The samples of one scenario."""
        return self.take(np.flatnonzero(self.offers.scenarios == place))

    def said_to_be_of(self, scenarios: Ints | int) -> Samples:
        """The same samples, as if they were of other scenarios."""
        told = np.broadcast_to(np.asarray(scenarios, np.int64), len(self)).copy()
        return replace(self, offers=replace(self.offers, scenarios=told))


def labels_of(dataset: Dataset, config: SAMLConfig) -> Labels:
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
    if config.labels == "auto":
        found: list[Labels] = [name for name, is_there in there.items() if is_there]
        return [*found, "drawn"][0]
    if not there.get(config.labels, True):
        column = "action" if config.labels == "exposed" else config.labels
        raise DataError(
            f"labels={config.labels} needs what the data has not",
            column=column,
            expected=f"events of action '{EXPOSURE}'" if config.labels == "exposed" else "a number",
            mend="prepare the data with it, or set labels=drawn (needs timestamps)",
        )
    return config.labels


def draw_offers(
    dataset: Dataset, config: SAMLConfig, scenarios: list[str], start: int, stop: int, seed: int
) -> Offers:
    """Offers of a period, of all scenarios.

    Parameters
    ----------
    dataset
        The log; nothing from ``stop`` on is looked at.
    config
        What is an offer, and when it was taken.
    scenarios
        Which to look at, in the order that numbers them.
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
    how = labels_of(dataset, config)
    there = [(place, name) for place, name in enumerate(scenarios) if name in dataset.codes.get(SCENARIO, [])]
    if not there:
        is_of_market(dataset, scenarios[0])  # says what is wrong
    if how in ("label", "rating"):
        chosen = is_within(dataset, start, stop)
        parts = [_labelled(dataset, how, config, place, chosen & is_of_market(dataset, name))
                 for place, name in there]  # fmt: skip
    else:
        parts = [
            _taken_and_not(
                Market.of(dataset, name, stop), how, config, place, start, (seed, crc32(name.encode()))
            )
            for place, name in there
        ]
    offers = Offers.concatenate(parts)
    return offers.take(np.lexsort((offers.times, offers.users)))


def taken_before(dataset: Dataset, config: SAMLConfig) -> Dataset:
    """Events that histories are made of: what was taken, or liked."""
    how = labels_of(dataset, config)
    taken = np.ones(dataset.num_events, np.bool_)
    if "action" in dataset.columns:
        is_action = np.array([text == config.action for text in dataset.codes["action"]])
        taken = np.append(is_action, False)[np.asarray(dataset.columns["action"])]
    if how in ("label", "rating"):
        liked = np.nan_to_num(np.asarray(dataset.columns[how]), nan=-np.inf) > _limit(how, config)
        taken = taken | liked if "action" in dataset.columns else liked
    return dataset.keep(taken)


def is_within(dataset: Dataset, start: int, stop: int) -> Flags:
    """Which events are of a period, bool ``[E]``: see :func:`draw_offers`."""
    places = dataset.times
    if dataset.time_kind == "order":
        ends = np.repeat(dataset.user_offsets[1:], np.diff(dataset.user_offsets))
        places = np.arange(dataset.num_events) - ends
    return np.asarray((places >= start) & (places < stop))


def scenarios_of(dataset: Dataset, config: SAMLConfig) -> list[str]:
    """Scenarios to learn from: those of the configuration, or all, by name.

    Raises
    ------
    DataError
        If the data has none.
    UsageError
        If one of the configuration is not in the data.
    """
    names = list(config.scenarios) or sorted(dataset.codes.get(SCENARIO, []))
    for name in names or [""]:
        is_of_market(dataset, name)  # says what is wrong
    return names


def _before(dataset: Dataset, users_P: Ints, times_P: Ints) -> tuple[Ints, Ints]:
    """Events of users before times: the first, and the first that is not, int64 ``[P]`` each."""
    offsets = np.append(dataset.user_offsets, dataset.num_events)  # of nobody, row −1, no events
    begin, end = offsets[users_P], offsets[users_P + 1]
    begin = np.where(users_P >= 0, begin, end)
    return begin, first_in_ranges(dataset.times, begin, end, times_P)


def _labelled(dataset: Dataset, how: str, config: SAMLConfig, place: int, chosen: Flags) -> Offers:
    """Events of one scenario that carry a label or a rating."""
    values = np.asarray(dataset.columns[how])
    rows = np.flatnonzero(chosen & np.isfinite(values))
    return Offers(
        np.searchsorted(dataset.user_offsets, rows, side="right").astype(np.int64) - 1,
        np.asarray(dataset.item_rows)[rows].astype(np.int64),
        np.full(len(rows), place),
        np.asarray(dataset.times)[rows],
        values[rows] > _limit(how, config),
    )


def _limit(how: str, config: SAMLConfig) -> float:
    return 0.5 if how == "label" else config.like_above


def _taken_and_not(
    market: Market, how: str, config: SAMLConfig, place: int, start: int, seed: tuple[int, int]
) -> Offers:
    """What was taken in one scenario from ``start`` on, and what was not."""
    taken = market.of_action(config.action)
    current = np.flatnonzero(taken.times >= start)
    stop = int(market.times.max(initial=start)) + 1
    parts = [_offers(taken.take(current), place, are_taken=True)]
    if how == "exposed" and has_exposures(market, config.action):
        parts.append(_offers(not_taken(market, taken, start, stop), place, are_taken=False))
        return Offers.concatenate(parts)
    for turn in range(config.negatives):
        items = drawn_others(taken, current, stop, np.random.default_rng((*seed, turn)))
        found = np.flatnonzero(items >= 0)
        drawn = _offers(taken.take(current[found]), place, are_taken=False)
        parts.append(Offers(drawn.users, items[found], drawn.scenarios, drawn.times, drawn.labels))
    return Offers.concatenate(parts)


def _offers(events: Market, place: int, *, are_taken: bool) -> Offers:
    count = len(events)
    return Offers(events.users, events.items, np.full(count, place), events.times, np.full(count, are_taken))
