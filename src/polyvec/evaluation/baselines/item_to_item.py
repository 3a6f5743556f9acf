"""Rankers that add up weights between items: from every item of a user's history to every candidate.

Shapes: **U** users, **N** items of the Dataset, **n** items that somebody had, **B** users asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, issparse

from polyvec.data.item_sets import ItemSets
from polyvec.errors import DataError
from polyvec.retrieval.found import NOTHING, top_k

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows

USERS_AT_ONCE = 65_536  # whose events are expanded at a time
SCORES_AT_ONCE = 2**24  # float32 scores held at a time: 64 MiB


def history_matrix(dataset: Dataset, windows: Windows) -> csr_array:
    """Which items each user had in their history window: float32 ``[U, N]``, 1 however often.

    Parameters
    ----------
    dataset
        Events.
    windows
        Of any users; without a window a user's row is empty. Only their history is looked at.

    Raises
    ------
    DataError
        If no window has any history.
    """
    rows, columns = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for start in range(0, len(windows), USERS_AT_ONCE):
        part = windows[start : start + USERS_AT_ONCE]
        sets = ItemSets.of_events(dataset, part.history_start, part.history_end)
        rows.append(part.user_rows[sets.owners].astype(np.int32))
        columns.append(sets.items.astype(np.int32))
    place = (np.concatenate(rows), np.concatenate(columns))
    if not len(place[0]):
        raise DataError("no user has an event in the history window", mend="choose a later cut-off")
    shape = (dataset.num_users, dataset.num_items)
    histories_UN = csr_array((np.ones(len(place[0]), np.float32), place), shape=shape)
    histories_UN.data[:] = 1  # a user with several windows had the item once, too
    return histories_UN


class ItemToItem:
    """Ranks items by the sum of the weights to them from the items of the user's history.

    Only items that somebody had are ranked, items of the history among them; equal scores are ordered by
    item row. Users without history get nothing (−1), as do places for which there is no candidate:
    :class:`polyvec.evaluation.baselines.FilledUp` fills them.

    Parameters
    ----------
    histories_UN
        :func:`history_matrix`.
    items_n
        Item rows that the weights are about, ascending; at least one.
    weights_nn
        Float32, from row to column. If sparse, an item with no weight from the history is not a candidate.
    """

    def __init__(
        self,
        histories_UN: csr_array,
        items_n: npt.NDArray[np.int64],
        weights_nn: csr_array | npt.NDArray[np.float32],
    ) -> None:
        self._histories_Un = histories_UN[:, items_n]
        self._items_n = items_n
        self._weights_nn = weights_nn

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Best k item rows for every user row, best first, −1 padded: int64 ``[B, k]``."""
        ranked_Bk = np.full((len(user_rows), k), NOTHING, dtype=np.int64)
        step = max(1, SCORES_AT_ONCE // len(self._items_n))
        for start in range(0, len(user_rows), step):
            part = slice(start, start + step)
            places, _ = top_k(self._scores(user_rows[part]), k)
            ranked_Bk[part] = np.where(places == NOTHING, NOTHING, self._items_n[places])
        return ranked_Bk

    def _scores(self, user_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Score of every item with weights, ``[B, n]``; −∞ if it is no candidate.

        Each row is summed by itself in the order of its items, so that blocks do not change the answer.
        """
        histories_Bn = self._histories_Un[user_rows]
        scores_Bn = histories_Bn @ self._weights_nn
        if issparse(scores_Bn):
            scores_Bn = scores_Bn.toarray()
            scores_Bn[scores_Bn == 0] = -np.inf
        scores_Bn[np.diff(histories_Bn.indptr) == 0] = -np.inf
        return scores_Bn


def known_items(histories_UN: csr_array) -> npt.NDArray[np.int64]:
    """Rows of the items that somebody had, ascending, int64 ``[n]``."""
    return np.unique(histories_UN.indices).astype(np.int64)
