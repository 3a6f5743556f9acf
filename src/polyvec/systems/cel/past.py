"""What a user did before a record: the history that deep interactions look at.

**E** events of the data, **P** records, **H** events of the histories of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polyvec.data.item_sets import expand_ranges

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset


@dataclass(frozen=True)
class Past:
    """The latest events before each of P records.

    Attributes
    ----------
    items
        Item of every event, whoever's and whenever; int64 ``[E]``, shared by all selections.
    start, stop
        The past of record p is ``items[start[p] : stop[p]]``; int64 ``[P]`` each.
    """

    items: Tensor
    start: Tensor
    stop: Tensor

    def take(self, rows_P: Tensor) -> Past:
        """The past of some of the records."""
        return Past(self.items, self.start[rows_P], self.stop[rows_P])

    def flat(self) -> tuple[Tensor, Tensor]:
        """Items of all histories, and the record that each belongs to; int64 ``[H]`` each."""
        owners, events = expand_ranges(self.start.numpy(), self.stop.numpy())
        return self.items[torch.from_numpy(events)], torch.from_numpy(owners)


def before_each(
    dataset: Dataset, users_P: npt.NDArray[np.int64], events_P: npt.NDArray[np.int64], max_length: int
) -> Past:
    """The latest ``max_length`` events of a user of an earlier time than that of one of their events.

    Events of the same time are left out: which of them came first, nobody knows.

    Parameters
    ----------
    dataset
        Where the events are.
    users_P, events_P
        User row and event of each record; the event is the user's.
    max_length
        L, events of a history at most.
    """
    stop = _first_of_their_time(dataset)[events_P]
    start = np.maximum(dataset.user_offsets[users_P], stop - max_length)
    items = torch.from_numpy(dataset.item_rows.astype(np.int64))
    return Past(items, torch.from_numpy(start), torch.from_numpy(stop))


def _first_of_their_time(dataset: Dataset) -> npt.NDArray[Any]:
    """For every event the first event of the same user and time, int64 ``[E]``."""
    is_first = np.ones(dataset.num_events, dtype=np.bool_)
    is_first[1:] = dataset.times[1:] != dataset.times[:-1]
    is_first[dataset.user_offsets[:-1][np.diff(dataset.user_offsets) > 0]] = True
    return np.maximum.accumulate(np.where(is_first, np.arange(dataset.num_events), 0))
