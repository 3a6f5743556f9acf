"""Offers with what each user had taken before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from polyvec.data.market import SCENARIO, is_of_market
from polyvec.data.offers import labels_of, liked_above
from polyvec.data.split import first_in_ranges

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.offers import Offers
    from polyvec.systems.saml.config import SAMLConfig

    Ints = npt.NDArray[np.int64]


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
        Of an offer that is a labelled event that event, else the user's latest one, of any kind, before the
        time of the offer: a row of the Dataset, −1 for none; int64 ``[P]``.
    """

    offers: Offers
    past: Ints
    start: Ints
    stop: Ints
    latest: Ints

    def __len__(self) -> int:
        return len(self.offers)

    @classmethod
    def of(cls, offers: Offers, dataset: Dataset, past: Dataset, max_length: int) -> Samples:
        """Look up the latest events of earlier times in ``past``, the events of what was taken.

        A labelled event's own context was there before its label; that of another one of the same second may
        tell it.
        """
        begin, stop = _before(past, offers.users, offers.times)
        first, after = _before(dataset, offers.users, offers.times)
        before = np.where(after > first, after - 1, -1)
        return cls(
            offers,
            past.item_rows.astype(np.int64),
            np.maximum(begin, stop - max_length),
            stop,
            np.where(offers.events >= 0, offers.events, before),
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


def taken_before(dataset: Dataset, config: SAMLConfig) -> Dataset:
    """Events that histories are made of: what was taken, or liked."""
    how = labels_of(dataset, config)
    taken = np.ones(dataset.num_events, np.bool_)
    if "action" in dataset.columns:
        is_action = np.array([text == config.action for text in dataset.codes["action"]])
        taken = np.append(is_action, False)[np.asarray(dataset.columns["action"])]
    if how in ("label", "rating"):
        liked = np.nan_to_num(np.asarray(dataset.columns[how]), nan=-np.inf) > liked_above(how, config)
        taken = taken | liked if "action" in dataset.columns else liked
    return dataset.keep(taken)


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
