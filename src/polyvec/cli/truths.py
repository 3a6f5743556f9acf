"""What is known of users beyond their events, from the options of a verb that evaluates."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    UsageError
        If a file does not exist.
    DataError
        If the profiles are no Parquet table, or lack a label.
    ArtifactError
        If the shop is none.
    """
    from polyvec.errors import DataError, nearest_name
    from polyvec.evaluation.evaluate import Truths

    table = None if profiles is None else _read_table(profiles)
    asked = () if table is None else _labels(table, labels)
    for label in asked:
        if table is not None and label not in table.columns:
            raise DataError(
                f"the profiles have no column {label}",
                file=profiles,
                column=label,
                expected=nearest_name(label, table.columns),
                mend="name columns of --profiles with --labels",
            )
    if shop is None:
        return Truths(table, asked)
    from polyvec.data.synthetic.oracle import Oracle
    from polyvec.data.synthetic.truth import Truth

    Truth.open(shop)  # refuses a folder that is no shop
    interests = _read_table(shop / "truth" / "users.parquet").select("user_id", "num_interests")
    return Truths(table, asked, lambda cutoff: Oracle(shop, dataset, cutoff, target_days), interests)


def _read_table(path: Path) -> pl.DataFrame:
    import polars as pl

    from polyvec.errors import DataError, UsageError

    if not path.is_file():
        raise UsageError(f"{path} does not exist", file=path, expected="a Parquet file")
    try:
        return pl.read_parquet(path)
    except pl.exceptions.ComputeError as error:
        raise DataError(f"this is not a Parquet file: {error}", file=path) from error


def _labels(profiles: pl.DataFrame, labels: str | None) -> tuple[str, ...]:
    if labels is not None:
        return tuple(label.strip() for label in labels.split(","))
    return tuple(column for column in profiles.columns if column != "user_id")
