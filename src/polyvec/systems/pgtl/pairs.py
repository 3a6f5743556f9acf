"""Pairs of items that are similar or not, drawn from the log of one market (PGTL, data preprocessing)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.data.exposures import drawn_others, first_shown, has_exposures, not_taken
from polyvec.data.split import first_in_ranges

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.market import Market

    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

LATEST = 50  # events of a user that partners are drawn from


@dataclass(frozen=True)
class Pairs:
    """P pairs of items on a day.

    Attributes
    ----------
    items_2P
        The current item and one of the user's earlier ones, int64 ``[2, P]``.
    days_P
        Day of the current event, int64 ``[P]``: what is known of both items is of the days before.
    labels_P
        Whether the current item was clicked, rather than only exposed or drawn; bool ``[P]``.
    """

    items_2P: Ints
    days_P: Ints
    labels_P: Flags

    def __len__(self) -> int:
        return len(self.days_P)

    def take(self, rows: npt.NDArray[np.integer]) -> Pairs:
        """Some pairs."""
        return Pairs(self.items_2P[:, rows], self.days_P[rows], self.labels_P[rows])


def draw_pairs(
    market: Market,
    start: int,
    stop: int,
    *,
    positive: str,
    partners: int,
    history_days: float,
    most: int,
    seed: int,
) -> Pairs:
    """Pair what users clicked, and what they did not, with what they had clicked before.

    A clicked item and an earlier clicked item of the same user are similar. An exposed item that its user did
    not click on that day, and an earlier clicked one, are dissimilar; clicks count from the first exposure
    on. Without exposures, dissimilar items are those of other users' events of the same day in the same
    market that have earlier ones, too, so that an item is drawn as often as it is popular among them: what
    newcomers take is popular, and would be known by that. Days of too few such events take in those after, up
    to ``stop``; those before would betray themselves, since statistics of the day tell that they have just
    been. There are as many dissimilar as similar pairs, or fewer where too little was exposed; events for
    which nothing is drawn are left out.

    Parameters
    ----------
    market
        The log, at least up to ``stop``; nothing from there on is looked at.
    start, stop
        Times of the current events: at or after ``start``, before ``stop``.
    positive
        Action that counts as a click.
    partners
        Earlier items drawn for each event, of the latest 50.
    history_days
        How long ago an earlier item may have been clicked.
    most
        Pairs at most; a random part is taken of more.
    seed
        Of all that is drawn.
    """
    random = np.random.default_rng(seed)
    market = market.before(stop)
    clicked = market.of_action(positive)
    history = _History(clicked, history_days)
    are_shown = has_exposures(market, positive)
    begin = max(start, first_shown(market)) if are_shown else start
    current = np.flatnonzero(clicked.times >= begin)
    limit = max(1, most // (2 * partners))
    if len(current) > limit:
        current = np.sort(random.choice(current, limit, replace=False))
    rows, earlier = history.draw(clicked.users[current], clicked.times[current], partners, random)
    if are_shown:
        similar = _pairs(
            clicked.items[current], clicked.days[current], rows, clicked.items[earlier], is_similar=True
        )
        shown = not_taken(market, clicked, start, stop)
        shown = shown.take(np.sort(random.permutation(len(shown))[:limit]))
        rows, earlier = history.draw(shown.users, shown.times, partners, random)
        dissimilar = _pairs(shown.items, shown.days, rows, clicked.items[earlier], is_similar=False)
        number = min(len(similar), len(dissimilar))
        dissimilar = dissimilar.take(np.sort(random.permutation(len(dissimilar))[:number]))
    else:
        among = history.has_any(clicked.users, clicked.times)
        drawn, days = drawn_others(clicked, current, stop, random, among), clicked.days[current]
        found = drawn[rows] >= 0
        rows, earlier = rows[found], earlier[found]
        similar = _pairs(clicked.items[current], days, rows, clicked.items[earlier], is_similar=True)
        dissimilar = _pairs(drawn, days, rows, clicked.items[earlier], is_similar=False)
    return _concatenate(similar, dissimilar)


class _History:
    """What each user had clicked, sorted by user and time."""

    def __init__(self, clicked: Market, history_days: float) -> None:
        self.clicked = clicked
        self._reach = round(history_days * MICROSECONDS_PER_DAY)

    def draw(
        self, users_Q: Ints, times_Q: Ints, number: int, random: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """Up to so many distinct earlier events of each asked (user, time): rows asked, and events."""
        begin, end = self._ranges(users_Q, times_Q)
        begin = np.maximum(begin, end - LATEST)
        size = end - begin
        asked = np.repeat(np.flatnonzero(size > 0), np.minimum(size[size > 0], number))
        place = np.arange(len(asked)) - np.searchsorted(asked, asked)
        shift = (random.random(len(users_Q)) * size).astype(np.int64)  # different places of one round
        step = np.maximum(size[asked] // number, 1)
        events = begin[asked] + (shift[asked] + place * step) % size[asked]
        recent = self.clicked.times[events] >= times_Q[asked] - self._reach
        return asked[recent], events[recent]

    def has_any(self, users_Q: Ints, times_Q: Ints) -> Flags:
        """Whether each asked (user, time) has an earlier event that is not too long ago, ``[Q]``."""
        begin, end = self._ranges(users_Q, times_Q)
        latest = self.clicked.times[np.maximum(end - 1, 0)]
        return (end > begin) & (latest >= times_Q - self._reach)

    def _ranges(self, users_Q: Ints, times_Q: Ints) -> tuple[Ints, Ints]:
        """Events of each asked user before the time."""
        begin, end = (np.searchsorted(self.clicked.users, users_Q, side=side) for side in ("left", "right"))
        return begin, first_in_ranges(self.clicked.times, begin, end, times_Q)


def _pairs(items_Q: Ints, days_Q: Ints, rows_P: Ints, earlier_P: Ints, *, is_similar: bool) -> Pairs:
    """Pairs of current items and earlier ones, but of an item with itself."""
    items_2P = np.stack([items_Q[rows_P], earlier_P])
    kept = items_2P[0] != items_2P[1]
    return Pairs(items_2P[:, kept], days_Q[rows_P][kept], np.full(int(kept.sum()), is_similar))


def _concatenate(similar: Pairs, dissimilar: Pairs) -> Pairs:
    return Pairs(
        np.concatenate([similar.items_2P, dissimilar.items_2P], axis=1),
        np.concatenate([similar.days_P, dissimilar.days_P]),
        np.concatenate([similar.labels_P, dissimilar.labels_P]),
    )
