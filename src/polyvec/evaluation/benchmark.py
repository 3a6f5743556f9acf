"""The benchmark: every task that the data allows, asked of many systems and of the simple methods at once.

A system is known by its Embeddings alone, one per seed, whatever made them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.data.dataset import days
from polyvec.data.overlap import check_overlap
from polyvec.data.split import Windows, check_whole, cut, leave_last_out
from polyvec.errors import DataError, UsageError
from polyvec.evaluation.aggregates import AGGREGATES
from polyvec.evaluation.baselines import PERSONAL_FREQUENCY, FilledUp, counting_rankers
from polyvec.evaluation.baselines.counting import what_sells
from polyvec.evaluation.baselines.item_to_item import history_matrix
from polyvec.evaluation.baselines.standard import (
    BOUGHT_WORDS,
    COSINE,
    Tuning,
    standard_features,
    standard_rankers,
    tuned,
)
from polyvec.evaluation.costs import costs_of, kind_of
from polyvec.evaluation.evaluate import ORACLE, Settings, Truths
from polyvec.evaluation.foresight import foresight_note
from polyvec.evaluation.metrics import recall
from polyvec.evaluation.paired import all_pairs, per_user
from polyvec.evaluation.probes import of_vectors
from polyvec.evaluation.rankers import EmbeddingsRanker, HabitsRanker
from polyvec.evaluation.tasks import behaviour, similarity, transfer
from polyvec.evaluation.tasks.comparison import DEPTH, Answers, answer, tabulate
from polyvec.evaluation.tasks.matching import all_questions, check_no_leak, questions
from polyvec.evaluation.tasks.next_item import WARNING, check_held_back, next_item_question, without_seen
from polyvec.evaluation.tasks.profile import label_column, profiles
from polyvec.evaluation.trials import SCHEMA as TRIALS
from polyvec.evaluation.trials import SEEDS
from polyvec.retrieval.habits import Weights

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings
    from polyvec.evaluation.probes import Features
    from polyvec.evaluation.rankers import Ranker

CLICK = "click"
UNTUNED = (
    "item-to-item cosine, EASE and ALS have the settings that were best on Online Retail II; on other data "
    "they may do better with their own (--tune)"
)
WITH_HABITS = "{}, with habits"


@dataclass(frozen=True, eq=False)
class Benchmark:
    """What the tasks said.

    Attributes
    ----------
    matching
        :func:`polyvec.evaluation.tasks.comparison.tabulate`: CMP-L, CMP-S and CMP-N, or the next item.
    per_user
        :func:`polyvec.evaluation.paired.per_user` of every matching task: what two runs are paired by.
    pairs
        :func:`polyvec.evaluation.paired.paired` of every system with every other ranker.
    trials
        Profile, behaviour and transfer tasks: :func:`polyvec.evaluation.trials.attempt`.
    similarity
        Item similarity: :func:`polyvec.evaluation.tasks.similarity.similarity`, of purchases and, where the
        log tells them, of clicks; empty without timestamps.
    costs
        Columns :data:`polyvec.evaluation.costs.COSTS`: of every system its size, in numbers and bytes, and
        mean over its runs of the seconds that training and encoding took and of the users encoded in a
        second; null where it does not tell. ``kind`` is what made it: see
        :func:`polyvec.evaluation.costs.kind_of`.
    notes
        What a reader must know.
    """

    matching: pl.DataFrame
    per_user: pl.DataFrame
    pairs: pl.DataFrame
    trials: pl.DataFrame
    similarity: pl.DataFrame
    costs: pl.DataFrame
    notes: list[str] = field(default_factory=list)


def benchmark(
    systems: Mapping[str, Sequence[Embeddings]],
    dataset: Dataset,
    cutoff: int | None = None,
    settings: Settings | None = None,
    truths: Truths | None = None,
    tuning: Tuning | None = None,
) -> Benchmark:
    """Ask every task that the data allows.

    Data with timestamps is split in time at the cut-off: matching, behaviour and item similarity. Data with
    an order only is asked for the next item, leave-one-out. Profiles are asked of both where labels are
    given.

    Parameters
    ----------
    systems
        Embeddings by the system's name, one for each seed that it was trained with: five, where there is no
        reason for fewer. Every run counts in every task: matching averages them user by user, elsewhere they
        take turns (:mod:`polyvec.evaluation.trials`).
    dataset
        Events of users; purchases alone are looked at where actions are told apart, but for similarity.
    cutoff
        T in microseconds since 1970 UTC; None for data with an order.
    settings
        Protocol.
    truths
        Labels, and the oracle of a synthetic shop.
    tuning
        Of the simple methods, chosen on an earlier cut-off: :func:`tune`.

    Raises
    ------
    DataError
        If a system knows the future of the cut-off, or shares no ids with the data; if a label is no column
        or there is nothing to ask.
    UsageError
        If a cut-off is missing, or given for data with an order; if the runs under one name are of different
        systems, or a name is that of a simple method.
    """
    settings, truths = settings or Settings(), truths or Truths()
    purchases = dataset.only_action()
    notes = check(systems, dataset, cutoff, settings, truths)
    windows = _windows(purchases, cutoff, settings)
    simple = standard_rankers(purchases, windows, tuning, seed=settings.seed)
    rankers: dict[str, Ranker | Sequence[Ranker]] = {**simple.rankers}
    if truths.oracle is not None and cutoff is not None:
        rankers[ORACLE] = truths.oracle(cutoff)
    own = _own_rankers(systems, purchases, windows)
    _check_names(own, [*rankers, AGGREGATES, BOUGHT_WORDS])
    rankers |= own
    answers = _ask(rankers, purchases, cutoff, settings)
    values = pl.concat([per_user(one, purchases) for one in answers if not one.question.newcomers])
    similar, similarity_notes = _similarity(systems, dataset, purchases, cutoff, settings)
    # of an order, all events of a user do not end where the purchases do
    everything = None if cutoff is None else (dataset, _windows(dataset, cutoff, settings))
    simple_features = standard_features(purchases, windows, everything, seed=settings.seed)
    features = simple_features | _vectors_of(systems, purchases)
    asked, trial_notes = _trials(features, dataset, _turns(systems), cutoff, settings, truths)
    return Benchmark(
        matching=tabulate(answers, PERSONAL_FREQUENCY, settings.seed),
        per_user=values,
        pairs=all_pairs(values, list(own), settings.seed),
        trials=asked,
        similarity=similar,
        costs=costs_of(systems),
        notes=[
            *notes,
            *_few_seeds(systems),
            *([UNTUNED] if tuning is None else []),
            *simple.notes,
            *trial_notes,
            *similarity_notes,
        ],
    )


def tune(dataset: Dataset, cutoff: int | None, settings: Settings) -> Tuning:
    """Choose the simple methods' settings: recall@100 of what the days before the cut-off have bought.

    Of data with an order, of each user's last event but one. Nothing from the cut-off on is looked at.

    Raises
    ------
    DataError
        If no user has both history and targets there.
    """
    purchases = dataset.only_action()
    if cutoff is None:
        windows = leave_last_out(purchases, 1)
        question = next_item_question(purchases, 1)
    else:
        earlier = cutoff - days(settings.target_days)
        windows = cut(purchases, earlier, settings.history_days, settings.target_days)
        question = questions(purchases, earlier, settings.history_days, settings.target_days)[0]
    rows = question.windows.user_rows

    fill = what_sells(counting_rankers(purchases, windows))

    def value(ranker: Ranker) -> float:
        """As :func:`benchmark` asks it."""
        asked: Ranker = FilledUp(ranker, fill)
        if cutoff is None and settings.remove_seen:
            asked = without_seen({"": asked}, question, purchases)[""][0]
        return float(np.nanmean(recall(asked.rank(rows, DEPTH), question.targets, DEPTH)))

    return tuned(purchases, windows, value, seed=settings.seed)


def _check_moment(dataset: Dataset, cutoff: int | None) -> None:
    if dataset.time_kind == "order" and cutoff is not None:
        raise UsageError(
            "a cut-off needs timestamps, and this data has only an order column",
            mend="leave it out: the last event of every user is asked for",
        )
    if dataset.time_kind == "timestamp" and cutoff is None:
        raise UsageError(
            "no cut-off is given", expected="the moment at which to ask, e.g. --cutoff 2011-11-01"
        )


def check(
    systems: Mapping[str, Sequence[Embeddings]],
    dataset: Dataset,
    cutoff: int | None,
    settings: Settings,
    truths: Truths,
) -> list[str]:
    """Refuse what :func:`benchmark` would refuse, before anything is computed; parameters are the same.

    Returns
    -------
    list of str
        Notes on what cannot be checked.
    """
    purchases = dataset.only_action()
    _check_moment(purchases, cutoff)
    if cutoff is not None:
        check_whole(dataset)
    if truths.profiles is not None:
        for label in truths.labels:
            label_column(truths.profiles, label, dataset.users.series)
    notes = [WARNING] if cutoff is None else []
    for name, runs in systems.items():
        _check_alike(name, runs)
        for embeddings in runs:
            leaks = _leaks(embeddings, dataset, cutoff, settings.target_days)
            told = [*leaks, *check_overlap(embeddings, purchases).notes]
            notes += [note for note in (f"{name}: {text}" for text in told) if note not in notes]
    return notes


def _check_alike(name: str, runs: Sequence[Embeddings]) -> None:
    """Refuse runs of one name that are no seeds of one system: their mean would be of nothing."""
    kinds = {f"{kind_of(name, one)}, C = {one.num_vectors}, D = {one.width}": None for one in runs}
    if len(kinds) > 1:
        raise UsageError(
            f"Embeddings of different systems are given under the name {name}: {'; '.join(kinds)}",
            expected="one name for the seeds of one system",
            mend="give each its own: --embeddings NAME=FOLDER",
        )


def _check_names(own: Collection[str], others: Collection[str]) -> None:
    """Refuse a system that has the name of a simple method: one would stand in the tables for the other."""
    for name in own:
        if name in others:
            raise UsageError(
                f"a system has the name of a built-in method: {name}",
                expected=f"another name than {', '.join(others)}",
                mend="give it one: --embeddings NAME=FOLDER, or --name for vectors of --users",
            )


def _leaks(embeddings: Embeddings, dataset: Dataset, cutoff: int | None, target_days: float) -> list[str]:
    """Refuse a system that says it knows the future; note what it does not say, and what it seems to know."""
    if cutoff is None:
        return check_held_back(embeddings, dataset)
    notes = check_no_leak(embeddings, dataset, cutoff)
    return notes + foresight_note(embeddings, dataset.only_action(), cutoff, target_days)


def _windows(dataset: Dataset, cutoff: int | None, settings: Settings) -> Windows:
    """History and targets of every user, in row order."""
    if cutoff is None:
        return leave_last_out(dataset)
    return cut(dataset, cutoff, settings.history_days, settings.target_days)


def _own_rankers(
    systems: Mapping[str, Sequence[Embeddings]], dataset: Dataset, windows: Windows
) -> dict[str, list[Ranker]]:
    """Every system by its vectors alone and, where its runs brought weights, with habits."""
    rankers: dict[str, list[Ranker]] = {}
    for name, runs in systems.items():
        asked = [one for one in runs if len(one.items)]
        if asked:
            rankers[name] = [EmbeddingsRanker(one, dataset) for one in asked]
        weights = [Weights(**one.provenance.get("habits", {})) for one in asked]
        if any(weights):
            rankers[WITH_HABITS.format(name)] = [
                HabitsRanker(one, dataset, windows, weight)
                for one, weight in zip(asked, weights, strict=True)
            ]
    return rankers


def _ask(
    rankers: Mapping[str, Ranker | Sequence[Ranker]],
    dataset: Dataset,
    cutoff: int | None,
    settings: Settings,
) -> list[Answers]:
    if cutoff is None:
        question = next_item_question(dataset)
        asked = without_seen(rankers, question, dataset) if settings.remove_seen else rankers
        return [answer(asked, question)]
    questions = all_questions(dataset, cutoff, settings.history_days, settings.target_days)
    return [answer(rankers, question) for question in questions]


def _trials(
    features: Mapping[str, Features | Sequence[Features]],
    dataset: Dataset,
    seeds: Sequence[int],
    cutoff: int | None,
    settings: Settings,
    truths: Truths,
) -> tuple[pl.DataFrame, list[str]]:
    """Profile tasks where labels are given, behaviour and transfer where there are timestamps."""
    tables = [pl.DataFrame(schema=TRIALS)]
    notes: list[str] = []
    if truths.profiles is not None:
        users = dataset.users.series
        known = {label: label_column(truths.profiles, label, users) for label in truths.labels}
        told, notes = profiles(features, known, seeds, AGGREGATES)
        tables += told
    if cutoff is not None:
        when = cutoff, settings.history_days, settings.target_days
        asked, prices = behaviour.questions(dataset, *when), transfer.questions(dataset, *when)
        tables.append(behaviour.behaviour(features, asked, seeds, AGGREGATES))
        tables.append(transfer.transfer(features, prices, seeds, AGGREGATES))
        notes += [*asked.notes, *prices.notes]
    return pl.concat(tables), notes


def _vectors_of(
    systems: Mapping[str, Sequence[Embeddings]], dataset: Dataset
) -> dict[str, Features | Sequence[Features]]:
    """Vectors of every run of every system."""
    return {name: [_vectors(one, dataset) for one in runs] for name, runs in systems.items()}


def _vectors(embeddings: Embeddings, dataset: Dataset) -> Features:
    """Vectors of every user of the Dataset; zeros for one without."""
    rows = embeddings.users.ids.rows(dataset.users.series)
    vectors_UCD = embeddings.unit_users()[rows]
    vectors_UCD[rows < 0] = 0
    return of_vectors(vectors_UCD)


def _turns(systems: Mapping[str, Sequence[Embeddings]]) -> tuple[int, ...]:
    """Seeds of the splits and draws in which runs take turns: five, or more if a system has more runs."""
    return tuple(range(max(len(SEEDS), *(len(runs) for runs in systems.values()))))


def _similarity(
    systems: Mapping[str, Sequence[Embeddings]],
    dataset: Dataset,
    purchases: Dataset,
    cutoff: int | None,
    settings: Settings,
) -> tuple[pl.DataFrame, list[str]]:
    """Item similarity of each system and of counting, items apart by their events before the cut-off."""
    vectors = {
        name: [similarity.VectorPairs(one, dataset) for one in runs]
        for name, runs in systems.items()
        if all(len(one.items) for one in runs)
    }
    if cutoff is None or not vectors:
        return pl.DataFrame(schema=similarity.SCHEMA), []
    parts = {"": purchases}
    if CLICK in dataset.codes.get("action", []):
        parts[" of clicks"] = dataset.only_action(CLICK)
    tables, notes = [pl.DataFrame(schema=similarity.SCHEMA)], []
    for of_action, taken in parts.items():
        try:
            asked = similarity.questions(taken, cutoff, settings.target_days, _turns(systems))
        except DataError as error:  # nobody takes two items: no reason to refuse the other tasks
            notes.append(f"item similarity{of_action} was not asked: {error.what}")
            continue
        scorers: dict[str, similarity.PairScorer | Sequence[similarity.PairScorer]] = {**vectors}
        with suppress(DataError):  # nothing to count before the cut-off
            histories_UN = history_matrix(taken, cut(taken, cutoff, settings.history_days, 0))
            scorers[COSINE] = similarity.CountedPairs(histories_UN)
        found = similarity.similarity(scorers, asked, reference=next(iter(vectors)))
        tables.append(found.with_columns(pl.col("task").str.replace("similarity", f"similarity{of_action}")))
    return pl.concat(tables), notes


def _few_seeds(systems: Mapping[str, Sequence[Embeddings]]) -> list[str]:
    """Note the systems whose spread over seeds is not, or hardly, known."""
    few = [f"{name} ({len(runs)})" for name, runs in systems.items() if len(runs) < len(SEEDS)]
    return [f"fewer than {len(SEEDS)} seeds: {', '.join(few)}"] if few else []
