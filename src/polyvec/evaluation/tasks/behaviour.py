"""Behaviour prediction: what will users do after the cut-off? The open tasks of the RecSys Challenge 2025.

Churn: no purchase in the target window. Propensity: which of the most bought categories, and which of the
most bought items, will a user buy there? Answers come from the target window alone; what is asked about (the
most bought) comes from the histories, and so must the features. The measure is AUC, mean over labels, as in
the challenge (https://recsys.synerise.com/summary).

Users without an event in the history window are left out; and so are categories and items that fewer than 20
users buy in the target window, or fewer than 20 do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from polyvec.data.dataset import format_time
from polyvec.data.item_sets import ItemSets, expand_ranges
from polyvec.data.split import cut
from polyvec.errors import DataError
from polyvec.evaluation.classification import auc
from polyvec.evaluation.trials import LEAST_USERS, SEEDS, Problem, attempt_all
from polyvec.ids import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.evaluation.probes import Features

MOST_LABELS = 100
MEASURES = {"auc": auc}
CHURN, CATEGORIES, ITEMS = "churn", "category propensity", "item propensity"


class Asked(NamedTuple):
    """Problems that the data can answer, and notes on those that it cannot."""

    problems: list[Problem]
    notes: list[str]


def behaviour(
    features: Mapping[str, Features | Sequence[Features]],
    asked: Asked,
    seeds: Sequence[int] = SEEDS,
    reference: str | None = None,
) -> pl.DataFrame:
    """Foretell churn and propensities from each kind of features.

    Parameters
    ----------
    features
        By name, a sequence for several runs; rows as told to :func:`questions`. They must know nothing at or
        after the cut-off: :func:`polyvec.evaluation.tasks.matching.check_no_leak` for embeddings.
    asked
        What :func:`questions` made. Its notes belong beside the table.
    seeds
        One split into training (70 %) and test users (30 %) and one start of the probe for each.
    reference
        Features that the others' differences are taken from, paired by seed.

    Returns
    -------
    polars.DataFrame
        The table described in :func:`polyvec.evaluation.trials.attempt`; ``metric`` is ``auc``, the mean over
        labels; ``classes`` is their number (2 for churn: yes or no). No row for a task that was not asked.
    """
    return attempt_all(features, asked.problems, MEASURES, seeds, reference)


def questions(
    dataset: Dataset,
    cutoff: int,
    history_days: float = 365,
    target_days: float = 30,
    user_rows: npt.NDArray[np.int64] | None = None,
) -> Asked:
    """Ask churn, category propensity and item propensity at one cut-off.

    Parameters
    ----------
    dataset
        Events with timestamps. Where actions are told apart, all of them make a user one with history, and
        purchases alone are foretold; churn is asked of those who bought in the history, as in the challenge.
    cutoff
        T in microseconds since 1970 UTC.
    history_days, target_days
        Days before and after the cut-off.
    user_rows
        Row in the Dataset of every row of the features, int64; all users in order without it.

    Raises
    ------
    DataError
        If the data has no timestamps, or no user has history.
    UsageError
        If actions are told apart and none is a purchase.
    """
    user_rows = np.arange(dataset.num_users) if user_rows is None else user_rows
    windows = cut(dataset, cutoff, history_days, target_days)[user_rows]
    rows = np.flatnonzero(windows.history_end > windows.history_start)
    if not len(rows):
        raise _no_history(dataset, cutoff)
    purchases = dataset.only_action()
    bought = cut(purchases, cutoff, history_days, target_days)[user_rows[rows]]
    buyers = np.flatnonzero(bought.history_end > bought.history_start)
    found = [_churn(bought[buyers], rows[buyers])]
    notes = []
    categories = item_categories(dataset)
    if categories is None:
        notes.append(f"{CATEGORIES} was not asked: the catalogue has no categories")
    else:
        found.append(_propensity(CATEGORIES, "categories", purchases, bought, rows, categories))
    found.append(_propensity(ITEMS, "items", purchases, bought, rows, np.arange(dataset.num_items)))
    problems = [one for one in found if isinstance(one, Problem)]
    return Asked(problems, notes + [one for one in found if isinstance(one, str)])


def _no_history(dataset: Dataset, cutoff: int) -> DataError:
    first, last = (format_time(time, dataset.time_kind) for time in dataset.time_span)
    return DataError(
        f"no user has events before {format_time(cutoff, dataset.time_kind)} in the history window",
        expected=f"a cut-off inside the data, which runs from {first} to {last}",
        mend="choose another cut-off: --cutoff",
    )


def _churn(bought: Windows, rows: npt.NDArray[np.int64]) -> Problem | str:
    """Who buys nothing in the target window; a note if too few do, or too few do not."""
    churned = bought.target_end <= bought.target_start
    if min(churned.sum(), (~churned).sum()) < LEAST_USERS:
        return (
            f"{CHURN} was not asked: {churned.sum():,} of {len(churned):,} users buy nothing in the target "
            f"window, and at least {LEAST_USERS} must, and as many must not"
        )
    return Problem(CHURN, CHURN, rows, churned.astype(np.int64))


def _propensity(
    task: str,
    things: str,
    purchases: Dataset,
    bought: Windows,
    rows: npt.NDArray[np.int64],
    groups_N: npt.NDArray[np.int64],
) -> Problem | str:
    """Which of the most bought groups of items users buy after the cut-off; a note if none can be asked."""
    before = _groups_bought(purchases, bought.history_start, bought.history_end, groups_N)
    after = _groups_bought(purchases, bought.target_start, bought.target_end, groups_N)
    chosen = _most_bought(before, after)
    if not len(chosen):
        return (
            f"{task} was not asked: no {things} that users bought before the cut-off have at least "
            f"{LEAST_USERS} users who buy them after it, and as many who do not"
        )
    answers_BK = after.contains(np.tile(chosen, (len(rows), 1)))
    return Problem(task, f"{len(chosen)} {things}", rows, answers_BK)


def _groups_bought(
    purchases: Dataset,
    start: npt.NDArray[np.int64],
    stop: npt.NDArray[np.int64],
    groups_N: npt.NDArray[np.int64],
) -> ItemSets:
    """Distinct groups of the items bought in every window; items of no group (−1) are passed over."""
    owners, events = expand_ranges(start, stop)
    groups = groups_N[purchases.item_rows[events]]
    known = groups >= 0
    return ItemSets.from_pairs(owners[known], groups[known], len(start), int(groups_N.max(initial=0)) + 1)


def _most_bought(before: ItemSets, after: ItemSets) -> npt.NDArray[np.int64]:
    """Groups that most users bought before, each with enough users who do and who do not buy it after."""
    users_before = np.bincount(before.items, minlength=before.num_items)
    users_after = np.bincount(after.items, minlength=before.num_items)
    enough = (users_before > 0) & (np.minimum(users_after, len(after) - users_after) >= LEAST_USERS)
    by_users = np.argsort(-users_before, kind="stable")
    return by_users[enough[by_users]][:MOST_LABELS]


def item_categories(dataset: Dataset) -> npt.NDArray[np.int64] | None:
    """Category of every item as a number, ``[N]``, −1 where it has none; None if no item has one."""
    if "category" not in dataset.item_table.columns:
        return None
    names = dataset.item_table["category"].cast(pl.String)
    if names.null_count() == len(names):
        return None
    return Vocabulary(names.drop_nulls().unique().sort(), "category").rows(names)
