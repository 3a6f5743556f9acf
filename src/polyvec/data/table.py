"""Table: any source of rows, whatever its format, as a stream of chunks with row numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import error as ZlibError

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from polyvec.errors import DataError


class Malformed(NamedTuple):
    """A row that could not be cut into fields: its number and its text."""

    row: int
    text: str


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a table.

    Attributes
    ----------
    frame
        The rows that could be read.
    rows
        Number of each in its source, int64, counted from 1 without the header.
    malformed
        Rows in the same stretch that could not be cut into fields.
    """

    frame: pl.DataFrame
    rows: npt.NDArray[np.int64]
    malformed: list[Malformed] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """A source of rows, opened but not read.

    Attributes
    ----------
    name
        Path of the file, or what kind of frame it is: for messages.
    schema
        Type of every column.
    rows
        Number of rows, or a guess.
    is_text
        Whether every value is text because the format knows no types (CSV).
    chunks
        Reads the named columns from the beginning, in batches of bounded size.
    """

    name: str
    schema: dict[str, pl.DataType]
    rows: int
    is_text: bool
    chunks: Callable[[list[str]], Iterator[Chunk]]


@contextmanager
def reading(name: str, kind: str, expected: str | None = None, mend: str | None = None) -> Iterator[None]:
    """Turn what a reader throws into a :class:`~polyvec.errors.DataError` that names the source."""
    try:
        yield
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, EOFError, ZlibError) as error:
        said = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{name} cannot be read as {kind}: {said}",
            file=name,
            expected=expected or f"a whole, undamaged {kind} file",
            mend=mend or "copy or export the file again",
        ) from error


def refuse_repeated_names(names: list[str], table: str) -> None:
    """Raise :class:`~polyvec.errors.DataError` if two columns have one name."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"two columns are called '{repeated[0]}'",
            file=table,
            column=repeated[0],
            expected="distinct column names",
            mend="rename or remove one of them",
        )
