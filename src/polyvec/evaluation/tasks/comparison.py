"""Rankers side by side on one question: every measure, apart by kind of target and of user, cold and warm.

Shapes: **B** users counted, **k** ranked items, **M** measures of all rankers together, **R** resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from polyvec.evaluation.metrics import (
    Estimate,
    coverage,
    estimate,
    hit_rate,
    interval,
    ndcg,
    recall,
    resampled_means,
)
from polyvec.evaluation.runs import runs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from polyvec.data.item_sets import ItemSets
    from polyvec.data.split import Windows
    from polyvec.evaluation.rankers import Ranker

AT_ONCE = 65_536  # users that are ranked together
DEPTH = 100  # M of recall@M in the paper
METRICS = {
    "recall@100": (recall, 100),
    "recall@50": (recall, 50),
    "recall@10": (recall, 10),
    "ndcg@10": (ndcg, 10),
    "hit_rate@10": (hit_rate, 10),
}
MEASURE = "recall@100"  # what verdicts judge by and plots show
COVERAGE = f"coverage@{DEPTH}"
NO_HISTORY = "history 0"
HISTORY_LENGTHS = {"history 1–5": (1, 5), "history 6–20": (6, 20), "history over 20": (21, 2**62)}
ITEM_EVENTS = {
    "item 0": (0, 0),
    "item 1–5": (1, 5),
    "item 6–20": (6, 20),
    "item over 20": (21, 2**62),
}


@dataclass(frozen=True, eq=False)
class Question:
    """Users, what is known of each and what is to be found.

    Attributes
    ----------
    name
        The task's name.
    windows
        The B users counted, with their history and target events.
    history, targets
        Distinct items of each, B sets.
    item_events
        Events of every item in the histories of all users, int64 ``[N]``: what could be learned from.
    without_history
        Users with a target and no history: left out, and asked a question of their own.
    newcomers
        Whether this is that question. Its users are counted in no other part.
    """

    name: str
    windows: Windows
    history: ItemSets
    targets: ItemSets
    item_events: npt.NDArray[np.int64]
    without_history: int
    newcomers: bool = False


class Key(NamedTuple):
    """What a column of measures is about."""

    ranker: str
    part: str
    metric: str


@dataclass(frozen=True, eq=False)
class Answers:
    """What rankers answered to one question, measured.

    Attributes
    ----------
    question
        What was asked.
    keys
        What the M measures are about.
    values_BM
        One value per user for every measure, mean over a ranker's runs; NaN where a user is not counted.
    per_seed
        Mean over users of every run, for every measure.
    ranked
        Ranked item rows of every run, ``[B, k]`` each, by ranker.
    """

    question: Question
    keys: list[Key]
    values_BM: npt.NDArray[np.float64]
    per_seed: list[list[float]]
    ranked: dict[str, list[npt.NDArray[np.int64]]]


def answer(rankers: Mapping[str, Ranker | Sequence[Ranker]], question: Question) -> Answers:
    """Ask rankers one question; several runs of a ranker (one per seed) are averaged user by user."""
    users = question.windows.user_rows
    ranked = {name: [_rank(one, users) for one in runs_of(ranker)] for name, ranker in rankers.items()}
    keys, columns, per_seed = [], [], []
    for key, values_BS in _measured(ranked, question):
        keys.append(key)
        columns.append(values_BS.mean(axis=1))
        per_seed.append(_means(values_BS))
    values_BM = np.stack(columns, axis=1) if columns else np.empty((len(users), 0))
    return Answers(question, keys, values_BM, per_seed, ranked)


def _rank(ranker: Ranker, users: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rank some users at a time: what a ranker needs on the way grows with them."""
    parts = [ranker.rank(users[start : start + AT_ONCE], DEPTH) for start in range(0, len(users), AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty((0, DEPTH), np.int64)


def compare(
    rankers: Mapping[str, Ranker | Sequence[Ranker]],
    questions: Sequence[Question],
    reference: str,
    seed: int = 0,
) -> pl.DataFrame:
    """Ask rankers questions and tabulate the answers: :func:`tabulate` of :func:`answer`.

    Parameters
    ----------
    rankers
        By name; a sequence holds one ranker per seed of the same method.
    questions
        The tasks.
    reference
        Ranker that the others' differences are taken from; no differences if it is not among them.
    seed
        Of the bootstrap over users.
    """
    return tabulate([answer(rankers, question) for question in questions], reference, seed)


def tabulate(answers: Sequence[Answers], reference: str, seed: int = 0) -> pl.DataFrame:
    """Means, intervals and differences of the answers.

    Returns
    -------
    polars.DataFrame
        One row per ``task``, ``ranker``, ``part`` and ``metric``: ``value`` (mean over users, and seeds),
        ``low`` and ``high`` (95 % bootstrap interval over users), ``users`` (counted in the mean),
        ``difference`` from the reference with ``difference_low`` and ``difference_high`` (paired by user),
        ``unranked`` (users whom the ranker gives nothing) and ``without_history`` (users with a target who
        are counted in the part ``history 0`` alone, if anywhere).
        ``part`` is ``all``; ``repeats``, ``new`` or a range of the item's events in all histories
        (``item 0`` … ``item over 20``): only such targets, users who have some; or a range of the user's
        history lengths in events. ``per_seed`` holds the mean of every run. Unknown values are null.
    """
    rows = [row for one in answers for row in _rows(one, reference, seed)]
    return pl.DataFrame(rows, schema=SCHEMA).fill_nan(None)


SCHEMA: dict[str, pl.DataType] = {
    "task": pl.String(),
    "ranker": pl.String(),
    "part": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "users": pl.Int64(),
    "difference": pl.Float64(),
    "difference_low": pl.Float64(),
    "difference_high": pl.Float64(),
    "unranked": pl.Int64(),
    "without_history": pl.Int64(),
    "per_seed": pl.List(pl.Float64()),
}
RESULTS = {"cutoff": pl.String(), **SCHEMA}
"""Columns of the matching tasks' table at one or several cut-offs."""


def _rows(answers: Answers, reference: str, seed: int) -> Iterator[dict[str, object]]:
    means_RM = resampled_means(answers.values_BM, seed)
    estimates = estimate(answers.values_BM, means_RM)
    differences_M = differences(answers.keys, estimates, means_RM, reference)
    for key, about, runs, difference in zip(
        answers.keys, estimates, answers.per_seed, differences_M, strict=True
    ):
        yield _row(answers, key, about, runs) | difference
    for name, runs_of_name in {} if answers.question.newcomers else answers.ranked.items():
        shown = [coverage(ranked_Bk, answers.question.targets.num_items) for ranked_Bk in runs_of_name]
        about = Estimate(float(np.mean(shown)), float("nan"), float("nan"), len(runs_of_name[0]))
        yield _row(answers, Key(name, "all", COVERAGE), about, shown)


def _means(values_BS: npt.NDArray[np.float64]) -> list[float]:
    """Mean over the users counted, for every run; nothing where there are none."""
    counted = values_BS[np.isfinite(values_BS[:, 0])]
    return counted.mean(axis=0).tolist() if len(counted) else []


def _measured(
    ranked: Mapping[str, Sequence[npt.NDArray[np.int64]]], question: Question
) -> Iterator[tuple[Key, npt.NDArray[np.float64]]]:
    """Values of every measure, ``[B, S]`` for S runs, NaN for users who are not counted."""
    for (targets, parts), (name, runs) in product(_parts(question), ranked.items()):
        for metric, (measure, m) in METRICS.items():
            values_BS = np.stack([measure(ranked_Bk, targets, m) for ranked_Bk in runs], axis=1)
            for part, counted_B in parts.items():
                yield Key(name, part, metric), np.where(counted_B[:, None], values_BS, np.nan)


def _parts(question: Question) -> Iterator[tuple[ItemSets, dict[str, npt.NDArray[np.bool_]]]]:
    """Targets, and the users counted in each part that has these targets, by the part's name."""
    everybody = np.ones(len(question.windows), dtype=np.bool_)
    if question.newcomers:
        yield question.targets, {NO_HISTORY: everybody}
        return
    lengths = question.windows.history_end - question.windows.history_start
    by_length = {name: _within(lengths, *ends) for name, ends in HISTORY_LENGTHS.items()}
    yield question.targets, {"all": everybody, **by_length}
    yield question.targets.both(question.history), {"repeats": everybody}
    yield question.targets.without(question.history), {"new": everybody}
    for name, ends in ITEM_EVENTS.items():
        yield question.targets.only(_within(question.item_events, *ends)), {name: everybody}


def _within(numbers: npt.NDArray[np.int64], fewest: int, most: int) -> npt.NDArray[np.bool_]:
    return (numbers >= fewest) & (numbers <= most)


def differences(
    keys: Sequence[Key],
    estimates: Sequence[Estimate],
    means_RM: npt.NDArray[np.float64],
    reference: str | None,
) -> Iterator[dict[str, float]]:
    """Difference from the reference's column about the same part and metric, with its paired interval.

    Parameters
    ----------
    keys, estimates
        What the M columns are about, and their means.
    means_RM
        :func:`polyvec.evaluation.metrics.resampled_means` of all columns in one call.
    reference
        Its name as a ranker, if any; nothing comes back for itself, nor where it has no such column.

    Yields
    ------
    dict
        ``difference``, ``difference_low`` and ``difference_high``, or nothing, for each column.
    """
    place = {key: column for column, key in enumerate(keys)}
    against = [None if reference is None else place.get(key._replace(ranker=reference)) for key in keys]
    for column, other in enumerate(against):
        if other is None or other == column:
            yield {}
            continue
        low, high = interval(means_RM[:, [column]] - means_RM[:, [other]])
        difference = estimates[column].value - estimates[other].value
        yield {"difference": difference, "difference_low": low[0], "difference_high": high[0]}


def _row(answers: Answers, key: Key, about: Estimate, per_seed: list[float]) -> dict[str, object]:
    return {
        "task": answers.question.name,
        **key._asdict(),
        "value": about.value,
        "low": about.low,
        "high": about.high,
        "users": about.users,
        "unranked": max(int((one < 0).all(axis=1).sum()) for one in answers.ranked[key.ranker]),
        "without_history": answers.question.without_history,
        "per_seed": per_seed,
    }
