"""Consumer profile prediction: what is known of a user's person from the vectors? GUIM, section 4.2.2.

The C·D numbers of a user are the only features of a three-layer feed-forward network; its accuracy on users
held out is the answer. A linear probe, boosted trees, the majority class and a user's hand-made aggregates
stand beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.errors import DataError, nearest_name
from polyvec.evaluation.classification import accuracy, auc, macro_f1
from polyvec.evaluation.trials import LEAST_USERS, SEEDS, Problem, attempt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from polyvec.evaluation.probes import Features

MOST_CLASSES = 50
MEASURES = {"accuracy": accuracy, "auc": auc, "macro_f1": macro_f1}


def profile(
    features: Mapping[str, Features | Sequence[Features]],
    labels: pl.Series,
    seeds: Sequence[int] = SEEDS,
    reference: str | None = None,
) -> pl.DataFrame:
    """Predict one label of users from each kind of features.

    Parameters
    ----------
    features
        By name, a sequence for several runs; row i of each belongs to the user of ``labels[i]``.
        :func:`polyvec.evaluation.probes.of_vectors` makes them of vectors.
    labels
        One class per user, its name is the label's; null where it is not known. Classes of fewer than 20
        users are left out.
    seeds
        One split into training (70 %) and test users (30 %, same classes' shares) and one start of the probe
        for each.
    reference
        Features that the others' differences are taken from, paired by seed.

    Returns
    -------
    polars.DataFrame
        The table described in :func:`polyvec.evaluation.trials.attempt`; ``metric`` is ``accuracy``, ``auc``
        (for several classes the mean of one against the rest) or ``macro_f1`` (mean over classes).

    Raises
    ------
    DataError
        If the label has one class only, or more than 50.
    """
    return attempt(features, _problem(labels), MEASURES, seeds, reference)


def profiles(
    features: Mapping[str, Features | Sequence[Features]],
    known: Mapping[str, pl.Series],
    seeds: Sequence[int] = SEEDS,
    reference: str | None = None,
) -> tuple[list[pl.DataFrame], list[str]]:
    """Predict labels, each as :func:`profile` does; and say which cannot be told: the others still are."""
    tables, notes = [], []
    for label, values in known.items():
        try:
            tables.append(profile(features, values, seeds, reference))
        except DataError as error:
            notes.append(f"profile {label} was not asked: {error.what}; expected {error.expected}")
    return tables, notes


def check_columns(profiles: pl.DataFrame, labels: Sequence[str], file: Path | None = None) -> None:
    """Make sure that a table tells users and these labels of them.

    Raises
    ------
    DataError
        Naming the first column that is missing, and the file if it is known.
    """
    for column in ("user_id", *labels):
        if column not in profiles.columns:
            raise DataError(
                f"the profiles have no column {column}",
                file=file,
                column=column,
                expected=nearest_name(column, profiles.columns),
                mend=None if column == "user_id" else "name columns of --profiles with --labels",
            )


def label_column(profiles: pl.DataFrame, name: str, user_ids: pl.Series) -> pl.Series:
    """Find the label of each user, null where the profiles do not tell.

    Raises
    ------
    DataError
        If there is no such column, or a user has two profiles.
    """
    check_columns(profiles, [name])
    if profiles["user_id"].is_duplicated().any():
        raise DataError("a user has two profiles", column="user_id", expected="one row per user")
    asked = pl.DataFrame({"user_id": user_ids.cast(pl.String)})
    told = profiles.select(pl.col("user_id").cast(pl.String), pl.col(name))
    return asked.join(told, on="user_id", how="left", maintain_order="left")[name]


def _problem(labels: pl.Series) -> Problem:
    """Users with a label of a class that is large enough, and their class from 0."""
    names = labels.cast(pl.String)
    sizes = names.drop_nulls().value_counts(name="users").filter(pl.col("users") >= LEAST_USERS)
    kept = sizes[names.name].sort().to_list()
    if not 2 <= len(kept) <= MOST_CLASSES:
        raise DataError(
            f"{len(kept)} classes have at least {LEAST_USERS} users with vectors",
            column=labels.name,
            expected=f"2 to {MOST_CLASSES} classes",
            mend="group the label's values, or bring profiles of more of the users",
        )
    numbers = names.replace_strict(kept, list(range(len(kept))), default=-1, return_dtype=pl.Int64)
    codes = numbers.fill_null(-1).to_numpy()
    rows = np.flatnonzero(codes >= 0)
    return Problem("profile", labels.name, rows, codes[rows])
