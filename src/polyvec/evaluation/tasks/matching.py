"""Consumer matching prediction: which items will a user buy? GUIM (KDD 2022), section 4.2.1.

CMP-L asks for the items of the next 30 days, CMP-S for those of the next day, CMP-N for the first item
within 30 days. Candidates are all items of the Dataset; a sampled measure would inflate. Users are those
with history in [T − D1, T) and a target. Repeats (targets that are in the user's history) and new items are
told apart; so are users and items by the events that could be learned from. Users with a target and no
history are asked the same in questions of their own, and counted in no other figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from polyvec.data.dataset import format_time
from polyvec.data.item_sets import ItemSets
from polyvec.data.split import cut, item_counts_within
from polyvec.errors import DataError
from polyvec.evaluation.baselines import PERSONAL_FREQUENCY
from polyvec.evaluation.tasks.comparison import Question, compare

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.embeddings import Embeddings
    from polyvec.evaluation.rankers import Ranker

NEXT_DAY = 1


def matching(
    rankers: Mapping[str, Ranker],
    dataset: Dataset,
    cutoff: int,
    history_days: float = 365,
    target_days: float = 30,
    reference: str = PERSONAL_FREQUENCY,
    seed: int = 0,
) -> pl.DataFrame:
    """Ask all rankers the three matching tasks at one cut-off.

    Parameters
    ----------
    rankers
        By the name they have in the table. They must not know events at or after the cut-off:
        :func:`check_no_leak`.
    dataset
        Purchases: ``dataset.only_action("purchase")``. All its items are candidates.
    cutoff
        T in microseconds since 1970 UTC.
    history_days, target_days
        D1 and D2; the paper's are 365 and 30.
    reference
        Name of the ranker that differences are taken from, paired by user; none if it is not there.
    seed
        Of the bootstrap.

    Returns
    -------
    polars.DataFrame
        The table described in :func:`polyvec.evaluation.tasks.comparison.compare`, and its ``cutoff``.

    Raises
    ------
    DataError
        If the data has no timestamps, or no user has both history and a target.
    """
    asked = all_questions(dataset, cutoff, history_days, target_days)
    when = pl.lit(format_time(cutoff, dataset.time_kind)).alias("cutoff")
    return compare(rankers, asked, reference, seed).select(when, pl.all())


def all_questions(dataset: Dataset, cutoff: int, history_days: float, target_days: float) -> list[Question]:
    """Return :func:`questions`, then :func:`newcomer_questions`; what they share is cut and counted once.

    Raises
    ------
    DataError
        If no user has both history and a target.
    """
    tasks = _tasks(dataset, cutoff, history_days, target_days)
    return [*_of_known(tasks, dataset, cutoff), *_of_newcomers(tasks, dataset)]


def questions(dataset: Dataset, cutoff: int, history_days: float, target_days: float) -> list[Question]:
    """Return CMP-L, CMP-S and CMP-N at one cut-off, each with the users it counts.

    Raises
    ------
    DataError
        If no user has both history and a target.
    """
    return _of_known(_tasks(dataset, cutoff, history_days, target_days), dataset, cutoff)


def newcomer_questions(
    dataset: Dataset, cutoff: int, history_days: float, target_days: float
) -> list[Question]:
    """Return the same three, asked of the users with a target and no history; those that nobody is asked not.

    They are questions of their own so that figures and intervals of the others do not depend on newcomers.
    """
    return _of_newcomers(_tasks(dataset, cutoff, history_days, target_days), dataset)


class _Tasks(NamedTuple):
    """Windows of all users for each task, by its name, and the events of every item in their histories.

    The tasks differ in their targets alone.
    """

    windows: dict[str, Windows]
    item_events: npt.NDArray[np.int64]

    def ask(self, dataset: Dataset, *, newcomers: bool) -> list[Question]:
        return [
            ask(name, dataset, windows, self.item_events, newcomers=newcomers)
            for name, windows in self.windows.items()
        ]


def _tasks(dataset: Dataset, cutoff: int, history_days: float, target_days: float) -> _Tasks:
    long = cut(dataset, cutoff, history_days, target_days)
    short = cut(dataset, cutoff, history_days, min(NEXT_DAY, target_days))
    item_events = item_counts_within(dataset, long.history_start, long.history_end)
    return _Tasks({"CMP-L": long, "CMP-S": short, "CMP-N": long.first_targets()}, item_events)


def _of_known(tasks: _Tasks, dataset: Dataset, cutoff: int) -> list[Question]:
    """Ask the users with history; refuse if there is none."""
    asked = tasks.ask(dataset, newcomers=False)
    if not len(asked[0].windows):
        first, last = (format_time(time, dataset.time_kind) for time in dataset.time_span)
        raise DataError(
            f"no user has both history and targets around {format_time(cutoff, dataset.time_kind)}",
            expected=f"a cut-off inside the data, which runs from {first} to {last}",
            mend="choose another cut-off: --cutoff",
        )
    return asked


def _of_newcomers(tasks: _Tasks, dataset: Dataset) -> list[Question]:
    return [question for question in tasks.ask(dataset, newcomers=True) if len(question.windows)]


def ask(
    name: str,
    dataset: Dataset,
    windows: Windows,
    item_events: npt.NDArray[np.int64] | None = None,
    *,
    newcomers: bool = False,
) -> Question:
    """Make a question of the windows that have targets, and history (newcomers: those that have none).

    Parameters
    ----------
    name
        The task's.
    dataset, windows
        Purchases, and one window for every user.
    item_events
        Events of every item in the windows' histories, int64 ``[N]``; counted without it.
    newcomers
        Whom to ask.
    """
    with_targets = windows.with_targets()
    has_history = with_targets.history_end > with_targets.history_start
    counted = with_targets[np.flatnonzero(has_history != newcomers)]
    if item_events is None:
        item_events = item_counts_within(dataset, windows.history_start, windows.history_end)
    return Question(
        name,
        counted,
        history=ItemSets.of_events(dataset, counted.history_start, counted.history_end),
        targets=ItemSets.of_events(dataset, counted.target_start, counted.target_end),
        item_events=item_events,
        without_history=int((~has_history).sum()),
        newcomers=newcomers,
    )


def check_no_leak(embeddings: Embeddings, dataset: Dataset, cutoff: int) -> list[str]:
    """Make sure that vectors were made and learned from events before the cut-off alone.

    Returns
    -------
    list of str
        Notes on what could not be checked (vectors made elsewhere).

    Raises
    ------
    DataError
        If the embeddings or their model know events at or after the cut-off.
    """
    notes = []
    for key, what in [
        ("events_until", "users were encoded from"),
        ("trained_until", "the model was trained on"),
        ("chosen_until", "the model's best epoch was chosen on"),
    ]:
        until = embeddings.provenance.get(key)
        if until is None:
            if key != "chosen_until":  # trained_until, told of vectors made elsewhere, includes it
                notes.append(
                    f"cannot be checked: whether {what} events at or after the cut-off ({key} is unknown)"
                )
        elif until > cutoff:
            raise DataError(
                f"{what} events until {format_time(until, dataset.time_kind)}",
                expected=f"nothing at or after the cut-off {format_time(cutoff, dataset.time_kind)}",
                mend=_mend(key, format_time(cutoff, dataset.time_kind)),
            )
    return notes


def _mend(key: str, cutoff: str) -> str:
    if key == "events_until":
        return (
            f"embed again with events before {cutoff} (polyvec embed --until {cutoff}), or a later --cutoff"
        )
    return f"train again on targets before {cutoff} (polyvec fit --until {cutoff}), or a later --cutoff"
