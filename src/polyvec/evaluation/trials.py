"""Trials: probes learn from some users and are measured on others, once per seed, for features side by side.

A system that was trained several times brings features of every run. Runs take turns: the split of place s
is asked of run s mod R, which costs as much as one run does. A value is then a mean over splits and runs at
once (where R does not divide the number of splits, the first runs have one more). Every split is the same for
all features, so differences stay paired by split. The interval is made from the spread over splits, and that
holds what differs from run to run, too. Where nothing else differs, 95 % intervals of five splits held the
truth in 99 of 100 cases with five runs, 97 with four, 92 with three and 75 with two. With a single run, the
value and its interval are about that run alone.

Shapes: **B** users, **F** features, **K** classes or labels, **S** seeds, **M** rows of the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from scipy.stats import t
from sklearn.model_selection import train_test_split

from polyvec.evaluation.metrics import LEVEL, estimate, resampled_means
from polyvec.evaluation.probes import LABEL_PROBES, learn_and_score
from polyvec.evaluation.runs import means_of_runs, runs_of
from polyvec.retrieval.found import rank_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from polyvec.evaluation.classification import Measure
    from polyvec.evaluation.probes import Features

TEST_SHARE = 0.3
MOST_USERS = 50_000  # more are drawn from at random
LEAST_USERS = 20  # with fewer, neither learning nor measuring a class or label means anything
SEEDS = (0, 1, 2, 3, 4)
SCHEMA = pl.Schema(
    {
        "task": pl.String(),
        "label": pl.String(),
        "features": pl.String(),
        "probe": pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "users_low": pl.Float64(),
        "users_high": pl.Float64(),
        "users": pl.Int64(),
        "train_users": pl.Int64(),
        "classes": pl.Int64(),
        "difference": pl.Float64(),
        "difference_low": pl.Float64(),
        "difference_high": pl.Float64(),
        "per_seed": pl.List(pl.Float64()),
        "per_run": pl.List(pl.Float64()),
    }
)


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be foretold of B users.

    Attributes
    ----------
    task, label
        Names.
    rows
        Row of each user in the features, int64 ``[B]``.
    answers
        A class from 0 per user, int64 ``[B]``; or which of K labels hold, bool ``[B, K]``.
    train_share
        Share of the training users whose answers a probe is told, above 0 to 1.
    """

    task: str
    label: str
    rows: npt.NDArray[np.int64]
    answers: npt.NDArray[Any]
    train_share: float = 1.0

    def truth(self) -> npt.NDArray[np.bool_]:
        """Which classes or labels hold, bool ``[B, K]``."""
        if self.answers.ndim == 2:
            return self.answers
        return self.answers[:, None] == np.arange(self.answers.max(initial=0) + 1)

    def at_most(self, users: int) -> Problem:
        """Draw so many users if there are more, always the same; and 20 of every class that has them."""
        if len(self.rows) <= users:
            return self
        generator = np.random.default_rng(0)
        kept = generator.choice(len(self.rows), users, replace=False)
        if self.answers.ndim == 1:
            drawn = np.bincount(self.answers[kept], minlength=self.answers.max() + 1)
            others = np.setdiff1d(np.arange(len(self.rows)), kept)
            for rare in np.flatnonzero(drawn < LEAST_USERS):
                more = generator.permutation(others[self.answers[others] == rare])
                kept = np.append(kept, more[: LEAST_USERS - drawn[rare]])
        kept.sort()
        return replace(self, rows=self.rows[kept], answers=self.answers[kept])

    def split(self, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Part users into training (70 %) and test (30 %), classes in equal shares.

        With a smaller ``train_share`` the test users stay, and fewer are trained on: so many of every class,
        one at least, among them those of any share smaller still.
        """
        strata = self.answers if self.answers.ndim == 1 else None
        train, test = train_test_split(
            np.arange(len(self.rows)), test_size=TEST_SHARE, stratify=strata, random_state=seed
        )
        return train if self.train_share == 1 else self._some(train, seed), test

    def _some(self, train: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
        """Draw ``train_share`` of the training users of every class, rounded up."""
        drawn = np.random.default_rng(seed).permutation(train)
        strata = self.answers[drawn] if self.answers.ndim == 1 else np.zeros(len(drawn), np.int64)
        by_class = np.argsort(strata, kind="stable")
        wanted = np.ceil(self.train_share * np.bincount(strata) - 1e-9)  # 0.1 · 70 is above 7 in floats
        strata = strata[by_class]
        return np.sort(drawn[by_class][rank_within(strata) < wanted[strata]])


class Key(NamedTuple):
    """What a row of the table is about."""

    features: str
    probe: str
    metric: str


def attempt(
    features: Mapping[str, Features | Sequence[Features]],
    problem: Problem,
    measures: Mapping[str, Measure],
    seeds: Sequence[int] = SEEDS,
    reference: str | None = None,
) -> pl.DataFrame:
    """Ask every probe of every kind of features one problem.

    Parameters
    ----------
    features
        By name; a sequence holds those of every run of the same system, which take turns.
    problem
        More than 50,000 users are drawn from at random.
    measures
        By name: see :mod:`polyvec.evaluation.classification`.
    seeds
        One split into training and test users, and one start of the probe, for each; the same for all.
    reference
        Features that the others' differences are taken from, with the same probe; None for no differences.

    Returns
    -------
    polars.DataFrame
        One row per kind of features, probe and metric: ``value`` is the mean over seeds, ``low`` to ``high``
        its 95 % interval by :func:`seed_interval`; ``users_low`` to ``users_high`` a 95 % bootstrap interval
        over test users, the probes held fixed; ``users`` and ``classes`` were counted, ``train_users`` of
        them learned from in the first seed (in others as many, but for rounding). ``difference`` from
        the reference, with the interval of its values paired by seed. ``per_seed`` holds the value of every
        seed, in order, so that tables of two runs can be paired, too; ``per_run`` the mean over the seeds
        that each run of the system was asked: as many runs as it has entries are in the value. Unknown values
        are null.
    """
    problem = problem.at_most(MOST_USERS)
    keys, per_seed_MS, values_BM = _measure_all(features, problem, measures, seeds)
    about = {
        "task": problem.task,
        "label": problem.label,
        "users": len(problem.rows),
        "train_users": len(problem.split(seeds[0])[0]),
        "classes": problem.truth().shape[1],
    }
    estimates = estimate(values_BM, resampled_means(values_BM))
    place = {key: row for row, key in enumerate(keys)}
    table = []
    for key, values_S, resampled in zip(keys, per_seed_MS, estimates, strict=True):
        row = about | key._asdict() | _named(values_S, "value", "low", "high")
        row |= {"users_low": resampled.low, "users_high": resampled.high, "per_seed": values_S.tolist()}
        row["per_run"] = means_of_runs(values_S, len(runs_of(features[key.features])))
        other = (
            place.get(key._replace(features=reference)) if key.features != reference and reference else None
        )
        if other is not None:
            row |= _named(values_S - per_seed_MS[other], "difference", "difference_low", "difference_high")
        table.append(row)
    return pl.DataFrame(table, schema=SCHEMA).fill_nan(None)


def attempt_all(
    features: Mapping[str, Features | Sequence[Features]],
    problems: Sequence[Problem],
    measures: Mapping[str, Measure],
    seeds: Sequence[int] = SEEDS,
    reference: str | None = None,
) -> pl.DataFrame:
    """:func:`attempt` of every problem in one table; no rows without any."""
    tables = [attempt(features, problem, measures, seeds, reference) for problem in problems]
    return pl.concat([pl.DataFrame(schema=SCHEMA), *tables])


def seed_interval(values_S: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean over seeds by Student's t; NaN with one seed.

    Splits share most of their users, so values of seeds are alike and their spread alone is too narrow: the
    variance of the mean is (1/S + test/training users) of the values' variance, not 1/S of it (Nadeau &
    Bengio, Inference for the generalization error, 2003). For two kinds of features, give it paired
    differences.
    """
    seeds = len(values_S)
    if seeds < 2:
        return float("nan"), float("nan")
    variance = (1 / seeds + TEST_SHARE / (1 - TEST_SHARE)) * np.var(values_S, ddof=1)
    half = float(t.ppf((1 + LEVEL) / 2, seeds - 1) * np.sqrt(variance))
    mean = float(np.mean(values_S))
    return mean - half, mean + half


def _named(values_S: npt.NDArray[np.float64], *names: str) -> dict[str, Any]:
    """Mean over seeds and its interval, under these names."""
    return dict(zip(names, (float(np.mean(values_S)), *seed_interval(values_S)), strict=True))


def _measure_all(
    features: Mapping[str, Features | Sequence[Features]],
    problem: Problem,
    measures: Mapping[str, Measure],
    seeds: Sequence[int],
) -> tuple[list[Key], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Key, values of the seeds ``[M, S]`` and values of the users ``[B, M]`` for every row of the table."""
    splits = [problem.split(seed) for seed in seeds]
    truths = [problem.truth()[test] for _, test in splits]
    keys, per_seed, columns = [], [], []
    for name, probe, scores in _scores(features, problem, seeds, splits):
        for metric, measure in measures.items():
            values = [measure(*pair) for pair in zip(truths, scores, strict=True)]
            keys.append(Key(name, probe, metric))
            per_seed.append([value.mean() for value in values])
            columns.append(_over_seeds(values, [test for _, test in splits], len(problem.rows)))
    return keys, np.array(per_seed), np.stack(columns, axis=1)


def _scores(
    features: Mapping[str, Features | Sequence[Features]],
    problem: Problem,
    seeds: Sequence[int],
    splits: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
) -> Iterator[tuple[str, str, list[npt.NDArray[np.floating]]]]:
    """Scores of the test users of every seed, by features and probe; runs take turns."""
    for name, one in features.items():
        runs = runs_of(one)
        asked = [run.numbers[problem.rows] for run in runs]
        for probe, make in (runs[0].probes if problem.answers.ndim == 1 else LABEL_PROBES).items():
            scores = [
                learn_and_score(make(seed), asked[place % len(asked)], problem.answers, *split)
                for place, (seed, split) in enumerate(zip(seeds, splits, strict=True))
            ]
            yield name, probe, scores


def _over_seeds(
    values: Sequence[npt.NDArray[np.float64]], tests: Sequence[npt.NDArray[np.int64]], users: int
) -> npt.NDArray[np.float64]:
    """One number per user whose mean is the mean over seeds, ``[B]``.

    A user adds its influence in the seeds that test it, and nothing in those that learn from it.
    """
    total_B = np.zeros(users)
    for value, test in zip(values, tests, strict=True):
        total_B += value.mean()
        total_B[test] += (value - value.mean()) * users / len(test)
    return total_B / len(values)
