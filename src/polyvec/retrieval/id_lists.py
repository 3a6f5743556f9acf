"""Lists of ids in files: which users to answer for, which items are allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from polyvec.errors import DataError, UsageError, nearest_name

if TYPE_CHECKING:
    from pathlib import Path

    from polyvec.ids import RawId, Vocabulary


def read_ids(path: Path, vocabulary: Vocabulary) -> list[RawId]:
    """Read ids from a file: the column named like the vocabulary of a Parquet file, or one id per line.

    Ids keep their order; repetitions are dropped. Blank lines of a text file are skipped, as is a first line
    that is the column's name.

    Raises
    ------
    UsageError
        If there is no such file.
    DataError
        If it cannot be read, has no such column, or an id is not of the vocabulary's type.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist", file=path, expected="a file of ids")
    if path.suffix == ".parquet":
        return _from_parquet(path, vocabulary.name)
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError("this is not UTF-8 text", file=path, expected="one id per line") from error
    return list(dict.fromkeys(_parsed(path, lines, vocabulary)))


def _from_parquet(path: Path, column: str) -> list[RawId]:
    try:
        table = pl.read_parquet(path)
    except pl.exceptions.ComputeError as error:
        raise DataError(f"this is not a Parquet file: {error}", file=path) from error
    if column not in table.columns:
        raise DataError(
            f"there is no column {column}", file=path, expected=nearest_name(column, table.columns)
        )
    return table[column].drop_nulls().unique(maintain_order=True).to_list()


def _parsed(path: Path, lines: list[str], vocabulary: Vocabulary) -> list[RawId]:
    ids = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or (number == 1 and text == vocabulary.name):
            continue
        try:
            ids.append(vocabulary.parse(text))
        except DataError as error:
            raise DataError(
                error.what, file=path, column=vocabulary.name, row=number, expected=error.expected
            ) from None
    return ids
