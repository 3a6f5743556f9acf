"""Leave-one-out next item: the last event of every user is to be found from the events before it.

Use it to compare with published tables alone: a model trained on the other users' events has seen the future
of the held-out ones (the same model scored NDCG@10 0.186 on ML-1M so, and 0.095 when split in time).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polyvec.data.dataset import PURCHASE
from polyvec.data.split import leave_last_out
from polyvec.errors import DataError
from polyvec.evaluation.baselines import PERSONAL_FREQUENCY
from polyvec.evaluation.runs import runs_of
from polyvec.evaluation.tasks.comparison import compare
from polyvec.evaluation.tasks.matching import ask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import polars as pl

    from polyvec.data.dataset import Dataset
    from polyvec.data.item_sets import ItemSets
    from polyvec.embeddings import Embeddings
    from polyvec.evaluation.rankers import Ranker
    from polyvec.evaluation.tasks.comparison import Question

WARNING = (
    "Leave-one-out lets a model learn from other users' future; values are higher than a split in time gives."
)
USERS_AT_ONCE = 1024


def next_item(
    rankers: Mapping[str, Ranker | Sequence[Ranker]],
    dataset: Dataset,
    skip: int = 0,
    remove_seen: bool = False,
    reference: str = PERSONAL_FREQUENCY,
    seed: int = 0,
) -> pl.DataFrame:
    """Ask all rankers for each user's last item.

    Parameters
    ----------
    rankers
        By name. Their users must have been encoded without the last ``skip + 1`` events.
    dataset
        Timestamps or order alike. All its items are candidates.
    skip
        Events at the end that are left out: 0 for the customary test split, 1 for its validation split.
    remove_seen
        Whether items of the user's history are taken out of every answer. Where people buy again they are
        real targets: leave them.
    reference, seed
        As in :func:`polyvec.evaluation.tasks.matching.matching`.

    Returns
    -------
    polars.DataFrame
        The table described in :func:`polyvec.evaluation.tasks.comparison.compare`; HR@10 is ``hit_rate@10``.
        :data:`WARNING` belongs beside it.
    """
    question = next_item_question(dataset, skip)
    asked = without_seen(rankers, question, dataset) if remove_seen else rankers
    return compare(asked, [question], reference, seed)


def next_item_question(dataset: Dataset, skip: int = 0) -> Question:
    """Each user's last event but ``skip``, to be found from those before it."""
    return ask("next item, leave-one-out", dataset, leave_last_out(dataset, skip))


def without_seen(
    rankers: Mapping[str, Ranker | Sequence[Ranker]], question: Question, dataset: Dataset
) -> dict[str, list[Ranker]]:
    """Rankers whose answers leave out the items of the question's histories."""
    places = np.full(dataset.num_users, -1)
    places[question.windows.user_rows] = np.arange(len(question.windows))
    return {
        name: [_Unseen(one, question.history, places) for one in runs_of(ranker)]
        for name, ranker in rankers.items()
    }


def check_held_back(embeddings: Embeddings, dataset: Dataset, skip: int = 0) -> list[str]:
    """Make sure that no held-out event was used, to encode its user or to train the model.

    What is to be foretold is each user's last purchase. Of a model that reads all actions the last events are
    held back: where a click follows the purchase, the purchase is not among the last ones.

    Parameters
    ----------
    embeddings
        What is asked.
    dataset
        The log, with all its actions.
    skip
        Last purchases that are left out.

    Returns
    -------
    list of str
        Notes on what could not be checked (vectors made elsewhere).

    Raises
    ------
    DataError
        If the embeddings or their model were made from the held-out events, too.
    """
    notes, needed = [], _events_from_the_last_purchase(dataset, skip)
    for key, what, verb in [
        ("held_back", "users were encoded from", "embed again: polyvec embed"),
        ("trained_held_back", "the model was trained on", "train again: polyvec fit"),
    ]:
        held_back = embeddings.provenance.get(key)
        if held_back is None:
            notes.append(f"cannot be checked: whether {what} the held-out event ({key} is unknown)")
        elif held_back < skip + 1:
            raise DataError(
                f"{what} all but {held_back} of each user's events",
                expected=f"all but the last {skip + 1}, which are to be foretold",
                mend=f"{verb} --held-back {skip + 1}",
            )
        elif embeddings.provenance.get("held_back_of") != "purchases" and held_back < needed:
            if "held_back_of" not in embeddings.provenance:
                notes.append(f"cannot be checked: whether the {held_back} events of {key} are purchases")
                continue
            raise DataError(
                f"{what} all but {held_back} of each user's events, and events of other actions come after a "
                "purchase that is to be foretold",
                column="action",
                expected=f"all but the last {needed}",
                mend=f"{verb} --held-back {needed}; or prepare the purchases alone",
            )
    return notes


def _events_from_the_last_purchase(dataset: Dataset, skip: int) -> int:
    """Events from the purchase on that is to be foretold to the end of the history, of any user at most."""
    purchases = dataset.only_action()
    if purchases is dataset:
        return skip + 1
    bought = np.asarray(dataset.columns["action"]) == dataset.codes["action"].index(PURCHASE)
    windows = leave_last_out(purchases, skip)
    asked = windows.target_start[windows.target_start < windows.target_end]
    places = np.flatnonzero(bought)[asked]
    ends = dataset.user_offsets[np.searchsorted(dataset.user_offsets, places, side="right")]
    return int((ends - places).max(initial=skip + 1))


class _Unseen:
    """A ranker without the items of each user's history."""

    def __init__(self, ranker: Ranker, seen: ItemSets, places: npt.NDArray[np.int64]) -> None:
        self._ranker, self._seen, self._places = ranker, seen, places

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        ranked = np.full((len(user_rows), k), -1, dtype=np.int64)
        by_history = np.argsort(self._seen.sizes[self._places[user_rows]], kind="stable")
        for start in range(0, len(user_rows), USERS_AT_ONCE):
            part = by_history[start : start + USERS_AT_ONCE]  # histories of like length need like depth
            ranked[part] = self._rank_part(user_rows[part], k)
        return ranked

    def _rank_part(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Ask for as many more as the longest history has, and drop what was seen."""
        seen = self._seen.select(self._places[user_rows])
        deep = self._ranker.rank(user_rows, min(k + int(seen.sizes.max(initial=0)), seen.num_items))
        kept = (deep >= 0) & ~seen.contains(deep)
        place = np.cumsum(kept, axis=1) - 1
        kept &= place < k
        owners, columns = np.nonzero(kept)
        ranked = np.full((len(user_rows), k), -1, dtype=np.int64)
        ranked[owners, place[owners, columns]] = deep[owners, columns]
        return ranked
