"""Which entities (brands, shops, …) users took, and which of them are asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.data.exposures import ATTEMPTS, CROWD
from polyvec.data.market import NEVER

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.market import Market

    Ints = npt.NDArray[np.int64]


class Takes:
    """Which entities users took, and pairs of them that exchange what they took.

    Parameters
    ----------
    taken
        Events of one action.
    entity_E
        What the item of each belongs to.
    new_only
        Whether only the first time counts that a user takes of an entity.
    """

    def __init__(self, taken: Market, entity_E: Ints, *, new_only: bool) -> None:
        self._users, self._days, self._entities = taken.users, taken.days, entity_E
        self._times = taken.times
        self._had: _FirstTimes | _Days
        if new_only:
            self._had = _FirstTimes(taken.users, entity_E, taken.times)
        else:
            self._had = _Days(taken.users, entity_E, taken.days)

    def of_interest(self, rows: Ints) -> Ints:
        """The first of these events of each user and entity: ever, or of each day."""
        days = self._days[rows]
        if isinstance(self._had, _FirstTimes):
            rows = rows[self._had.of(self._users[rows], self._entities[rows]) == self._times[rows]]
            days = np.zeros_like(rows)
        keys = np.stack([self._users[rows], self._entities[rows], days])
        return rows[np.sort(np.unique(keys, axis=1, return_index=True)[1])]

    def exchanged(self, rows: Ints, turns: int, seed: int) -> tuple[Ints, Ints, Ints]:
        """Events, entities and whether they are the event's own: ``[P]`` each.

        Two events of a day exchange their entities where neither user has the other's: each is asked about
        its own and about the other's. So users, entities and days are as often right as wrong, and nothing is
        told by how much a user takes or how popular an entity is, as it would be were wrong ones drawn for
        each by itself: who has most of what is popular could be drawn few. What finds no other is left out.
        """
        if not len(rows):
            return rows, rows, rows
        first_day = self._days[rows].min()
        block_of_day = _blocks(self._days[rows] - first_day)
        found: list[tuple[Ints, Ints]] = []
        for turn in range(turns):
            random, left = np.random.default_rng((seed, turn)), rows
            for _ in range(ATTEMPTS):
                block = block_of_day[self._days[left] - first_day]
                left = left[np.lexsort((random.random(len(left)), block))]
                block = np.sort(block)
                place = np.arange(len(left)) - np.searchsorted(block, block)
                one = np.flatnonzero((place[:-1] % 2 == 0) & (block[:-1] == block[1:]))
                is_pair = self._lacks(left[one], left[one + 1]) & self._lacks(left[one + 1], left[one])
                one = one[is_pair]
                found.append((left[one], left[one + 1]))
                left = np.delete(left, np.concatenate([one, one + 1]))
        ours, theirs = (np.concatenate([part[side] for part in found]) for side in (0, 1))
        events = np.concatenate([ours, theirs, ours, theirs])
        owners = self._entities[np.concatenate([ours, theirs, theirs, ours])]
        return events, owners, (np.arange(len(events)) < len(events) // 2).astype(np.int64)

    def _lacks(self, rows: Ints, others: Ints) -> npt.NDArray[np.bool_]:
        """Whether the user of each event is another and has not the other's entity: ever yet, or that day."""
        users = self._users[rows]
        has = self._had.hold(users, self._entities[others], self._days[rows])
        return ~has & (users != self._users[others])


def _blocks(days_E: Ints) -> Ints:
    """Number of the block of every day from 0 on: a day, with those after it until there are 20 events."""
    counts = np.bincount(days_E)
    blocks, events, block = np.zeros(len(counts), np.int64), 0, 0
    for day, count in enumerate(counts.tolist()):
        blocks[day] = block
        events += count
        if events >= CROWD:
            events, block = 0, block + 1
    return blocks


class _Days:
    """On which days users had entities."""

    def __init__(self, users_E: Ints, entities_E: Ints, days_E: Ints) -> None:
        self._span, self._first = int(entities_E.max(initial=0)) + 2, int(days_E.min(initial=0))
        self._days = int(days_E.max(initial=0)) - self._first + 1
        self._known = np.unique(self._keys(users_E, entities_E, days_E))

    def hold(self, users_P: Ints, entities_P: Ints, days_P: Ints) -> npt.NDArray[np.bool_]:
        """Whether a user had an entity on a day, bool ``[P]``."""
        return np.isin(self._keys(users_P, entities_P, days_P), self._known)

    def _keys(self, users: Ints, entities: Ints, days: Ints) -> Ints:
        return (users * self._span + entities) * self._days + days - self._first


class _FirstTimes:
    """When users first had entities."""

    def __init__(self, users_E: Ints, entities_E: Ints, times_E: Ints) -> None:
        self._span = int(entities_E.max(initial=0)) + 2
        keys = users_E * self._span + entities_E
        order = np.lexsort((times_E, keys))
        self._keys, first = np.unique(keys[order], return_index=True)
        self._times = times_E[order][first]

    def hold(self, users_P: Ints, entities_P: Ints, days_P: Ints) -> npt.NDArray[np.bool_]:
        """Whether a user had an entity until the end of a day, bool ``[P]``."""
        return self.of(users_P, entities_P) < (days_P + 1) * MICROSECONDS_PER_DAY

    def of(self, users_P: Ints, entities_P: Ints) -> Ints:
        """Times, int64 ``[P]``; the end of time for what was never had."""
        keys = users_P * self._span + entities_P
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, self._times[places], NEVER)
