"""What the verbs that evaluate share: lengths in days, and what is known of users beyond their events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

DAYS = click.FloatRange(min=0, min_open=True)
"""Length of a window, in days."""

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from polyvec.data.dataset import Dataset
    from polyvec.evaluation.evaluate import Truths


def truths_of(
    dataset: Dataset, profiles: Path | None, labels: str | None, shop: Path | None, target_days: float
) -> Truths:
    """Labels from the profiles, and what a synthetic shop knows.

    Raises
    ------
    DataError
        If the profiles are no table, or lack a label or the users' ids.
    ArtifactError
        If the shop is none.
    """
    from polyvec.data.read import read_whole
    from polyvec.evaluation.evaluate import Truths
    from polyvec.evaluation.tasks.profile import check_columns

    table = None if profiles is None else read_whole(profiles)
    asked = () if table is None else _labels(table, labels)
    if table is not None:
        check_columns(table, asked, profiles)
    if shop is None:
        return Truths(table, asked)
    from polyvec.data.synthetic.oracle import Oracle
    from polyvec.data.synthetic.truth import Truth

    Truth.open(shop)  # refuses a folder that is no shop
    interests = read_whole(shop / "truth" / "users.parquet").select("user_id", "num_interests")
    return Truths(table, asked, lambda cutoff: Oracle(shop, dataset, cutoff, target_days), interests)


def _labels(profiles: pl.DataFrame, labels: str | None) -> tuple[str, ...]:
    if labels is not None:
        return tuple(label.strip() for label in labels.split(","))
    return tuple(column for column in profiles.columns if column != "user_id")
