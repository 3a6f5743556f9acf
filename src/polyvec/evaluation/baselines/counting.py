"""Rankers that only count. A model below them has learned less than a counter.

All of them see the history of the windows they are given and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from polyvec.data.dataset import days
from polyvec.data.item_sets import expand_ranges
from polyvec.data.split import cut, first_at_or_after
from polyvec.retrieval.found import order_candidates, rank_within

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.evaluation.rankers import Ranker

USERS_AT_ONCE = 65_536
RECENT_DAYS = (30, 7)
POPULARITY = "popularity"
LATEST = f"popularity of {min(RECENT_DAYS)} days"
PERSONAL_FREQUENCY = "personal frequency"


class Popularity:
    """The same items for everybody: those that most users had in their history windows.

    Each user counts once per item, so that one bot cannot make an item popular. Items that nobody had are
    not ranked; equal counts are ordered by item row.

    Parameters
    ----------
    dataset, windows
        Whose history is counted.
    """

    def __init__(self, dataset: Dataset, windows: Windows) -> None:
        counts = np.zeros(dataset.num_items, dtype=np.int64)
        for start in range(0, len(windows), USERS_AT_ONCE):
            part = windows[start : start + USERS_AT_ONCE]
            owners, events = expand_ranges(part.history_start, part.history_end)
            pairs = np.unique(owners * dataset.num_items + dataset.item_rows[events])
            counts += np.bincount(pairs % max(dataset.num_items, 1), minlength=dataset.num_items)
        by_count = np.argsort(-counts, kind="stable")
        self._order = by_count[counts[by_count] > 0]

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Most popular k items for every user, −1 padded."""
        top = np.full(k, -1, dtype=np.int64)
        top[: len(self._order)] = self._order[:k]
        return np.tile(top, (len(user_rows), 1))


class PersonalFrequency:
    """The user's own items, most often bought first, then most recently; filled up by another ranker.

    Where people buy again this is the strongest simple baseline, and a finding of the next-basket literature.

    Parameters
    ----------
    dataset, windows
        Histories: one window per user of the Dataset, in row order.
    fill
        Ranks the places that are left.
    """

    def __init__(self, dataset: Dataset, windows: Windows, fill: Ranker) -> None:
        self._dataset = dataset
        self._start, self._end = windows.history_start, windows.history_end
        self._fill = fill

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Own items, then the other ranker's, no item twice, −1 padded."""
        return fill_up(self._own(user_rows, k), self._fill.rank(user_rows, k))

    def _own(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Items of each user's history by falling count, then falling time of the last event."""
        owners, events = expand_ranges(self._start[user_rows], self._end[user_rows])
        keys = owners * self._dataset.num_items + self._dataset.item_rows[events]
        pairs, first_from_end, counts = np.unique(keys[::-1], return_index=True, return_counts=True)
        owners, items = np.divmod(pairs, max(self._dataset.num_items, 1))
        order = np.lexsort((first_from_end, -counts, owners))  # later events have lower indices from the end
        rank = rank_within(owners[order])
        kept = rank < k
        own = np.full((len(user_rows), k), -1, dtype=np.int64)
        own[owners[order][kept], rank[kept]] = items[order][kept]
        return own


def fill_up(first_Bk: npt.NDArray[np.int64], then_Bk: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Append the second list to the first, drop repetitions and −1, and cut to the first one's length k.

    >>> fill_up(np.array([[4, -1, -1]]), np.array([[7, 4, 5]]))
    array([[4, 7, 5]])
    """
    both = np.concatenate([first_Bk, then_Bk], axis=1)
    owners, places = np.nonzero(both >= 0)
    items = both[owners, places]
    order = np.lexsort((places, items, owners))
    owners, places, items = owners[order], places[order], items[order]
    fresh = np.ones(len(items), dtype=np.bool_)
    fresh[1:] = (owners[1:] != owners[:-1]) | (items[1:] != items[:-1])
    owners, places, items = owners[fresh], places[fresh], items[fresh]
    falling = -places.astype(np.float32)  # an earlier place is a higher score
    return order_candidates(owners, items, falling, np.zeros_like(items), first_Bk.shape).rows


class FilledUp:
    """One ranker's items, then another's where it has too few: it may know nothing of a user.

    Parameters
    ----------
    first, then
        Both rank the same Dataset.
    """

    def __init__(self, first: Ranker, then: Ranker) -> None:
        self._first, self._then = first, then

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Items of the first, then of the other, no item twice, −1 padded."""
        return fill_up(self._first.rank(user_rows, k), self._then.rank(user_rows, k))


def repeats_first(dataset: Dataset, windows: Windows, rankers: Mapping[str, Ranker]) -> dict[str, Ranker]:
    """Put what each user bought before in front of every ranker: "bought before, then X".

    Where people buy again, this tells what a ranker adds to a counter.

    Parameters
    ----------
    dataset, windows
        Histories: one window per user of the Dataset, in row order.
    rankers
        By name; :class:`PersonalFrequency` with each of them as its ``fill``.
    """
    return {
        f"bought before, then {name}": PersonalFrequency(dataset, windows, ranker)
        for name, ranker in rankers.items()
    }


def counting_baselines(dataset: Dataset, cutoff: int, history_days: float) -> dict[str, Ranker]:
    """Popularity of the history window, of the last 30 and 7 days, and personal frequency, at a cut-off.

    Parameters
    ----------
    dataset
        Purchases with timestamps.
    cutoff
        T in microseconds since 1970 UTC.
    history_days
        Length of the history window; the recent windows are never longer.
    """
    return counting_rankers(dataset, cut(dataset, cutoff, history_days, 0))


def counting_rankers(dataset: Dataset, windows: Windows) -> dict[str, Ranker]:
    """Popularity, where there is one cut-off for all also recent popularity, and personal frequency.

    Parameters
    ----------
    dataset
        Purchases.
    windows
        One per user of the Dataset, in row order. Personal frequency is filled up by what sold in the last
        7 days, where there is a common cut-off (:func:`common_cutoff`), and by popularity.
    """
    rankers: dict[str, Ranker] = {POPULARITY: Popularity(dataset, windows)}
    if common_cutoff(dataset, windows) is not None:
        for length in RECENT_DAYS:
            recent = Popularity(dataset, _last_days(dataset, windows, length))
            rankers[f"popularity of {length} days"] = recent
    return rankers | {PERSONAL_FREQUENCY: PersonalFrequency(dataset, windows, what_sells(rankers))}


def what_sells(counting: Mapping[str, Ranker]) -> Ranker:
    """What sold in the last 7 days, then what sold at all: fills places that another ranker leaves."""
    if LATEST not in counting:
        return counting[POPULARITY]
    return FilledUp(counting[LATEST], counting[POPULARITY])


def common_cutoff(dataset: Dataset, windows: Windows) -> int | None:
    """Moment at which the windows of all users were cut, in microseconds since 1970 UTC.

    None where the data has only an order, or every user a cut-off of their own (leave-one-out): "the last
    7 days" are then not the same days for all.
    """
    if dataset.time_kind != "timestamp" or not len(windows) or np.ptp(windows.cutoffs):
        return None
    return int(windows.cutoffs[0])


def _last_days(dataset: Dataset, windows: Windows, length: float) -> Windows:
    """Cut the same windows' history to the last days before their common cut-off."""
    since = first_at_or_after(dataset, int(windows.cutoffs[0]) - days(length))[windows.user_rows]
    return replace(windows, history_start=np.maximum(windows.history_start, since))
