"""Ask embeddings every question that the data at hand can answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from polyvec.data.item_sets import ItemSets
from polyvec.data.overlap import NO_ITEMS, check_overlap
from polyvec.data.split import Windows, check_whole, cut, leave_last_out
from polyvec.embeddings import EMPTY
from polyvec.errors import DataError, UsageError
from polyvec.evaluation.aggregates import AGGREGATES, aggregates
from polyvec.evaluation.baselines import PersonalFrequency, counting_baselines, counting_rankers
from polyvec.evaluation.metrics import estimate, resampled_means
from polyvec.evaluation.mixture import mean_cosine, vectors_used, wins
from polyvec.evaluation.people import some_items, some_users
from polyvec.evaluation.probes import Features, of_vectors
from polyvec.evaluation.rankers import EmbeddingsRanker, HabitsRanker, Ranker
from polyvec.evaluation.tasks.comparison import RESULTS
from polyvec.evaluation.tasks.matching import check_no_leak, matching
from polyvec.evaluation.tasks.next_item import WARNING, check_held_back, next_item
from polyvec.evaluation.tasks.profile import label_column, profiles
from polyvec.retrieval.habits import Weights
from polyvec.retrieval.ranking import query_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings

EMBEDDINGS = "embeddings"
REPEATS_FIRST = "bought before, then embeddings"
WITH_HABITS = "embeddings and habits"
ORACLE = "oracle"
LEAST_ITEMS = 10  # users with fewer items say little about how many vectors they use
SPREAD_USERS = 10_000


@dataclass(frozen=True)
class Truths:
    """What is known of users beyond their events; only evaluation may read it.

    Attributes
    ----------
    profiles
        ``user_id`` and label columns.
    labels
        Columns of ``profiles`` to predict.
    oracle
        Makes the best possible ranker at a cut-off (for a synthetic shop).
    interests
        ``user_id`` and ``num_interests``: what was planted.
    """

    profiles: pl.DataFrame | None = None
    labels: tuple[str, ...] = ()
    oracle: Callable[[int], Ranker] | None = None
    interests: pl.DataFrame | None = None


@dataclass(frozen=True)
class Settings:
    """Protocol of an evaluation.

    Attributes
    ----------
    history_days, target_days
        D1 and D2 of the matching tasks.
    remove_seen
        Data with an order only: whether items of the history are taken out of the answers.
    seed
        Of bootstrap, and of the choice of users and items to show.
    """

    history_days: float = 365
    target_days: float = 30
    remove_seen: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the tasks said.

    Attributes
    ----------
    cutoffs
        Moments the matching tasks were asked at, in the data's unit; empty for leave-one-out.
    results
        Matching tasks: :func:`polyvec.evaluation.tasks.comparison.compare`.
    profiles
        Profile tasks: :func:`polyvec.evaluation.tasks.profile.profile`; None without labels.
    mixture
        How the C vectors are used: shares of items won, mean cosine.
    interests
        Planted interests beside vectors used; None unless the truth is known.
    users, items
        Some to look at.
    notes
        What a reader must know.
    """

    cutoffs: tuple[int, ...]
    results: pl.DataFrame
    profiles: pl.DataFrame | None
    mixture: dict[str, Any]
    interests: pl.DataFrame | None
    users: list[dict[str, Any]]
    items: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def evaluate(
    embeddings: Embeddings,
    dataset: Dataset,
    cutoffs: Sequence[int] = (),
    settings: Settings | None = None,
    truths: Truths | None = None,
) -> Evaluation:
    """Ask the matching tasks, the profile tasks where labels are given, and look at the mixture.

    Data with timestamps is split in time at the cut-offs; data with an order only by leave-one-out.
    Embeddings of users alone are asked the profile tasks alone.

    Parameters
    ----------
    embeddings
        Of any origin.
    dataset
        Events of users; purchases alone are looked at where actions are told apart.
    cutoffs
        Moments T in the data's unit; without any the moment that the embeddings were made for.
    settings
        Protocol.
    truths
        Labels, oracle and planted interests.

    Raises
    ------
    DataError
        If the embeddings know the future of a cut-off, none of the Dataset's users or none of its items; if
        there is nothing to ask.
    UsageError
        If no cut-off is given and the embeddings do not tell one; if they have no items and there are no
        labels.
    """
    settings, truths = settings or Settings(), truths or Truths()
    log, dataset = dataset, dataset.only_action()
    overlap = _overlap_notes(embeddings, dataset, truths)
    if dataset.time_kind == "order":
        cutoffs, notes, windows = (), [WARNING, *check_held_back(embeddings, log)], leave_last_out(dataset)
        results = _next_item(embeddings, dataset, windows, settings)
    else:
        check_whole(log)
        cutoffs = tuple(cutoffs) or (_own_cutoff(embeddings),)
        notes = check_no_leak(embeddings, dataset, min(cutoffs))
        windows = cut(dataset, cutoffs[0], settings.history_days, settings.target_days)
        results = pl.concat([_matching(embeddings, dataset, moment, settings, truths) for moment in cutoffs])
    until = int(windows.cutoffs[0]) if cutoffs else None
    counted = dataset, windows
    if cutoffs:  # of an order, all events of a user do not end where the purchases do
        counted = log, cut(log, cutoffs[0], settings.history_days, settings.target_days)
    told, untold = _profiles(embeddings, *counted, truths)
    return Evaluation(
        cutoffs=tuple(cutoffs),
        results=results,
        profiles=told,
        mixture=_mixture(embeddings, dataset, windows),
        interests=_interests(embeddings, dataset, windows, truths),
        users=some_users(embeddings, dataset, windows, settings.seed),
        items=some_items(embeddings, dataset, until, settings.seed),
        notes=notes + overlap + untold,
    )


def _overlap_notes(embeddings: Embeddings, dataset: Dataset, truths: Truths) -> list[str]:
    """Say what of the Dataset has no vectors; refuse to ask nothing."""
    notes = [*check_overlap(embeddings, dataset).notes]
    if len(embeddings.items):
        return notes
    if not truths.labels:
        raise UsageError(
            f"{NO_ITEMS}, so no matching task can be asked, and no labels are given",
            expected="embeddings of items, too, or labels of users",
            mend="import the items with the users, or give --profiles",
        )
    return [*notes, "the matching tasks were left out: they need embeddings of items"]


def _own_cutoff(embeddings: Embeddings) -> int:
    until = embeddings.provenance.get("events_until")
    if until is None:
        raise UsageError(
            "these embeddings do not tell which events they were made from",
            expected="a cut-off, e.g. --cutoff 2011-11-01",
            mend="give the moment before which all events were read",
        )
    return int(until)


def _matching(
    embeddings: Embeddings, dataset: Dataset, cutoff: int, settings: Settings, truths: Truths
) -> pl.DataFrame:
    if not len(embeddings.items):
        return pl.DataFrame(schema=RESULTS)
    rankers = counting_baselines(dataset, cutoff, settings.history_days)
    rankers |= _own_rankers(embeddings, dataset, cut(dataset, cutoff, settings.history_days, 0))
    if truths.oracle is not None:
        rankers[ORACLE] = truths.oracle(cutoff)
    return matching(rankers, dataset, cutoff, settings.history_days, settings.target_days, seed=settings.seed)


def _next_item(
    embeddings: Embeddings, dataset: Dataset, windows: Windows, settings: Settings
) -> pl.DataFrame:
    if not len(embeddings.items):
        return pl.DataFrame(schema=RESULTS)
    rankers = counting_rankers(dataset, windows)
    rankers |= _own_rankers(embeddings, dataset, windows)
    results = next_item(rankers, dataset, remove_seen=settings.remove_seen, seed=settings.seed)
    return results.select(pl.lit("last event").alias("cutoff"), pl.all())


def _own_rankers(embeddings: Embeddings, dataset: Dataset, windows: Windows) -> dict[str, Ranker]:
    """Embeddings alone, filling up "bought before", and with the habits weighed on validation."""
    own = EmbeddingsRanker(embeddings, dataset)
    rankers: dict[str, Ranker] = {EMBEDDINGS: own, REPEATS_FIRST: PersonalFrequency(dataset, windows, own)}
    weights = Weights(**embeddings.provenance.get("habits", {}))
    if weights:
        rankers[WITH_HABITS] = HabitsRanker(embeddings, dataset, windows, weights)
    return rankers


def _profiles(
    embeddings: Embeddings, dataset: Dataset, windows: Windows, truths: Truths
) -> tuple[pl.DataFrame | None, list[str]]:
    """Predict each label from the vectors, and beside them from hand-made aggregates of the same users."""
    if truths.profiles is None or not truths.labels:
        return None, []
    rows = embeddings.users.ids.rows(dataset.users.series)
    there = np.flatnonzero(rows >= 0)
    features = {
        EMBEDDINGS: of_vectors(query_vectors(embeddings, rows[there])),
        AGGREGATES: Features(aggregates(dataset, windows[there])),
    }
    users = dataset.users.take(there)
    known = {label: label_column(truths.profiles, label, users) for label in truths.labels}
    tables, notes = profiles(features, known, reference=AGGREGATES)
    return pl.concat(tables) if tables else None, notes


def _mixture(embeddings: Embeddings, dataset: Dataset, windows: Windows) -> dict[str, Any]:
    """Share of history and target items won by each vector, vectors used per user, cosine between them."""
    history = wins(
        embeddings, dataset, ItemSets.of_events(dataset, windows.history_start, windows.history_end)
    )
    targets = wins(embeddings, dataset, ItemSets.of_events(dataset, windows.target_start, windows.target_end))
    enough = history.sum(axis=1) >= LEAST_ITEMS
    rows = np.flatnonzero(embeddings.users.state != EMPTY)[:SPREAD_USERS]
    return {
        "history_wins": (history.sum(axis=0) / max(history.sum(), 1)).tolist(),
        "target_wins": (targets.sum(axis=0) / max(targets.sum(), 1)).tolist(),
        "vectors_used": float(vectors_used(history[enough]).mean()) if enough.any() else None,
        "mean_cosine": mean_cosine(embeddings, rows),
    }


def _interests(
    embeddings: Embeddings, dataset: Dataset, windows: Windows, truths: Truths
) -> pl.DataFrame | None:
    """Vectors used, by the number of planted interests, of users with enough items."""
    if truths.interests is None or not len(embeddings.items):
        return None
    items = ItemSets.of_events(dataset, windows.history_start, windows.target_end)
    wins_UC = wins(embeddings, dataset, items)
    planted = label_column(truths.interests, "num_interests", dataset.users.series)
    used = pl.DataFrame({"interests": planted, "items": wins_UC.sum(axis=1), "used": vectors_used(wins_UC)})
    shown = used.drop_nulls().filter(pl.col("interests") > 0, pl.col("items") >= LEAST_ITEMS)  # bots have 0
    groups = shown.partition_by("interests", as_dict=True)
    rows = [_interest_row(int(key[0]), group) for key, group in sorted(groups.items())]
    if not rows:
        raise DataError(f"no user of the synthetic shop has {LEAST_ITEMS} items with vectors")
    return pl.DataFrame(rows)


def _interest_row(interests: int, group: pl.DataFrame) -> dict[str, Any]:
    values_B1 = group["used"].cast(pl.Float64).to_numpy()[:, None]
    about = estimate(values_B1, resampled_means(values_B1))[0]
    items = float(group["items"].to_numpy().mean())
    return {
        "interests": interests,
        "users": about.users,
        "items_per_user": items,
        "vectors_used": about.value,
        "low": about.low,
        "high": about.high,
    }
