"""Differences of rankers, of one run of the benchmark or of two, paired by user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.errors import DataError
from polyvec.evaluation.metrics import interval, resampled_means

if TYPE_CHECKING:
    from polyvec.data.dataset import Dataset
    from polyvec.evaluation.tasks.comparison import Answers

KEPT = ("recall@100", "ndcg@10")
PARTS = ("all", "repeats", "new")
PAIR_SCHEMA: dict[str, pl.DataType] = {
    "task": pl.String(),
    "part": pl.String(),
    "metric": pl.String(),
    "ranker": pl.String(),
    "against": pl.String(),
    "difference": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "users": pl.Int64(),
}


def paired(left: pl.DataFrame, right: pl.DataFrame, ranker: str, against: str, seed: int = 0) -> pl.DataFrame:
    """Differences of two rankers, of one run or of two, paired by user.

    Parameters
    ----------
    left, right
        ``per_user`` tables in which ``ranker`` and ``against`` are found.
    ranker, against
        Names.
    seed
        Of the bootstrap.

    Returns
    -------
    polars.DataFrame
        One row per ``task``, ``part`` and ``metric`` that both have: mean ``difference`` over the users that
        both count, and its 95 % bootstrap interval ``low`` to ``high`` over users.

    Raises
    ------
    DataError
        If the two have no user in common.
    """
    keys = ["task", "part", "metric", "user_id"]
    ours = left.filter(pl.col("ranker") == ranker)
    theirs = right.filter(pl.col("ranker") == against)
    both = ours.join(theirs, on=keys, suffix="_against", maintain_order="left")
    if not len(both):
        raise DataError(
            f"{ranker} and {against} have no user of the same task in common",
            expected="runs on the same data at the same cut-off",
        )
    rows = []
    for key, group in both.group_by("task", "part", "metric", maintain_order=True):
        values_B1 = (group["value"] - group["value_against"]).cast(pl.Float64).to_numpy()[:, None]
        low, high = interval(resampled_means(values_B1, seed))
        names = dict(zip(("task", "part", "metric"), key, strict=True))
        about = {"ranker": ranker, "against": against, "users": len(group)}
        rows.append(names | about | {"difference": float(values_B1.mean()), "low": low[0], "high": high[0]})
    return pl.DataFrame(rows, schema=PAIR_SCHEMA)


def per_user(answers: Answers, dataset: Dataset) -> pl.DataFrame:
    """Values of the measures that runs are compared by, one row for each user.

    Parameters
    ----------
    answers
        What the rankers answered to one question.
    dataset
        Of the question; its rows tell the users.

    Returns
    -------
    polars.DataFrame
        ``task, part, metric, ranker, user_id, value``: recall@100 and NDCG@10 of all targets, repeats and
        new items, float32; a mean over runs where a ranker has several. Users whom a measure does not count
        have no row.
    """
    users = dataset.users.take(answers.question.windows.user_rows)
    frames = []
    for column, key in enumerate(answers.keys):
        if key.metric in KEPT and key.part in PARTS:
            values_B = answers.values_BM[:, column].astype(np.float32)
            counted = np.isfinite(values_B)
            frames.append(
                pl.DataFrame({"user_id": users, "value": values_B})
                .filter(pl.Series(counted))
                .select(
                    pl.lit(answers.question.name).alias("task"),
                    pl.lit(key.part).alias("part"),
                    pl.lit(key.metric).alias("metric"),
                    pl.lit(key.ranker).alias("ranker"),
                    pl.all(),
                )
            )
    return pl.concat(frames)


def all_pairs(per_user: pl.DataFrame, own: list[str], seed: int) -> pl.DataFrame:
    """Differences of every system from every other ranker in its first measure."""
    measured = per_user.filter(pl.col("metric") == KEPT[0], pl.col("part") == "all")
    others = measured["ranker"].unique(maintain_order=True).to_list()
    tables = [
        paired(measured, measured, name, other, seed) for name in own for other in others if other != name
    ]
    return pl.concat([pl.DataFrame(schema=PAIR_SCHEMA), *tables])
