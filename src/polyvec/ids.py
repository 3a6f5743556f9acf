"""Raw ids and row numbers, and the one class that translates between them.

A *raw id* is what the shop calls a user or an item: text or an integer, kept exactly as given
(``"007"`` is not ``7``). A *row* is a position in our arrays. Nothing else may index by raw id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

RawId = int | str
UNKNOWN = -1


class Vocabulary:
    """Distinct raw ids in row order; translates ids to int64 rows and back.

    Parameters
    ----------
    ids
        Distinct, non-null raw ids: text or integers, never floating point.
    name
        What the ids name, for error texts (``user_id``, ``item_id``).

    Raises
    ------
    DataError
        If ids repeat, are null, or are neither text nor integers.

    Examples
    --------
    >>> vocabulary = Vocabulary(["b", "a", "007"], name="item_id")
    >>> vocabulary.rows(["007", "a", "7"])
    array([ 2,  1, -1])
    >>> vocabulary.ids([0, 2])
    ['b', '007']
    """

    def __init__(self, ids: pl.Series | Iterable[RawId], name: str = "id") -> None:
        series = ids if isinstance(ids, pl.Series) else _series(ids, name)
        self.name = name
        self._ids = normalise_ids(series, name).alias(name).rechunk()
        if self._ids.null_count():
            raise DataError(f"{name} has empty values", column=name, expected="an id in every row")
        if self._ids.n_unique() != len(self._ids):
            repeated = self._ids.filter(self._ids.is_duplicated())[0]
            raise DataError(f"{name} {repeated!r} appears twice", column=name, expected="distinct ids")
        self._rows: pl.DataFrame | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._ids.equals(other._ids)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocabulary({self.name}: {len(self):,} ids of type {self._ids.dtype})"

    @property
    def series(self) -> pl.Series:
        """All raw ids in row order."""
        return self._ids

    @property
    def is_text(self) -> bool:
        """Whether raw ids are text (otherwise integers)."""
        return self._ids.dtype == pl.String

    def rows(self, ids: pl.Series | Iterable[RawId]) -> npt.NDArray[np.int64]:
        """Row of every raw id, ``-1`` where the id is unknown. Never raises for an unknown id."""
        series = ids if isinstance(ids, pl.Series) else pl.Series("id", list(ids), strict=False)
        if series.len() == 0:
            return np.empty(0, dtype=np.int64)
        asked = _as_type_of(series, self._ids.dtype)
        if self._rows is None:
            self._rows = pl.DataFrame({"id": self._ids}).with_row_index("row").cast({"row": pl.Int64})
        found = pl.DataFrame({"id": asked}).join(self._rows, on="id", how="left", maintain_order="left")
        return found["row"].fill_null(UNKNOWN).to_numpy().copy()

    def ids(self, rows: npt.ArrayLike) -> list[RawId]:
        """Raw ids of rows."""
        return self.take(rows).to_list()

    def take(self, rows: npt.ArrayLike) -> pl.Series:
        """Raw ids of rows, as a Polars series.

        Raises
        ------
        IndexError
            If a row is negative (as ``UNKNOWN`` is) or past the end: no id would be an honest answer.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} {self.name}s")
        return self._ids.gather(rows)

    def extended(self, ids: pl.Series, most: int | None = None) -> Vocabulary:
        """Vocabulary with those ids at its end that it does not know; the rows of known ids stay.

        With ``most``, ids beyond so many rows are left out; known ones all stay.

        Raises
        ------
        DataError
            If the ids are text and those of the vocabulary integers, or the other way round.

        Examples
        --------
        >>> Vocabulary(["b", "a"]).extended(pl.Series(["c", "a"])).ids([0, 1, 2])
        ['b', 'a', 'c']
        """
        asked = Vocabulary(ids, self.name)
        if not len(self):
            return asked if most is None else Vocabulary(asked.series.head(most), self.name)
        alike = asked.series.cast(self._ids.dtype, strict=False)  # integers with and without a sign
        if asked.is_text != self.is_text or alike.null_count():
            raise DataError(
                f"{self.name} is of type {asked.series.dtype}",
                column=self.name,
                expected=f"{self._ids.dtype}, as the ids that are known",
                mend="prepare the data with ids of that type",
            )
        new = alike.filter(self.rows(alike) == UNKNOWN)
        if most is not None:
            new = new.head(max(most - len(self), 0))
        return Vocabulary(pl.concat([self._ids, new]), self.name)

    def parse(self, text: str) -> RawId:
        """Turn an id typed by a person into a raw id of this vocabulary's type.

        Raises
        ------
        DataError
            If ids are integers and the text is not exactly one (``007`` is not ``7``).
        """
        if self.is_text:
            return text
        if str(_int_or_none(text)) != text:
            raise DataError(
                f"{text!r} is not a {self.name} of this data",
                column=self.name,
                expected="an integer, written without leading zeros",
            )
        return int(text)

    def save(self, path: Path) -> None:
        """Write the ids as one Parquet column, in row order."""
        pl.DataFrame({self.name: self._ids}).write_parquet(path)

    @classmethod
    def load(cls, path: Path, name: str) -> Vocabulary:
        """Read what :meth:`save` wrote."""
        return cls(pl.read_parquet(path)[name], name)


def normalise_ids(ids: pl.Series, name: str) -> pl.Series:
    """Bring ids to text, Int64 or (where they do not fit) UInt64, exactly; refuse everything else.

    Raises
    ------
    DataError
        If ids are floating point, dates, lists or anything else that is not text or integers, or integers
        that neither type holds.
    """
    if isinstance(ids.dtype, pl.Categorical | pl.Enum | pl.Null):
        return ids.cast(pl.String)
    if ids.dtype.is_integer():
        return _as_64_bits(ids, name)
    if ids.dtype != pl.String:
        raise DataError(
            f"{name} is of type {ids.dtype}",
            column=name,
            expected="text or integers: floating point cannot hold every id exactly",
            mend="store the column as text or as a 64-bit integer (in pandas: df[c].astype('Int64'))",
        )
    return ids


def _as_64_bits(ids: pl.Series, name: str) -> pl.Series:
    for dtype in (pl.Int64, pl.UInt64):
        numbers = ids.cast(dtype, strict=False)
        if numbers.null_count() == ids.null_count():
            return numbers
    raise DataError(
        f"{name} has integers from {ids.min()!r} to {ids.max()!r}",
        column=name,
        expected="integers that fit into 64 bits, all with or all without a sign",
        mend="make all ids text",
    )


def _as_type_of(asked: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Asked ids in the vocabulary's type; what cannot be converted exactly becomes null (unknown)."""
    if isinstance(asked.dtype, pl.Categorical | pl.Enum):
        asked = asked.cast(pl.String)
    if asked.dtype != pl.String and not asked.dtype.is_integer():  # never through float: 1.5 is not 1
        return pl.Series(asked.name, [None], dtype=dtype).new_from_index(0, len(asked))
    if asked.dtype == pl.String and dtype != pl.String:
        numbers = asked.cast(dtype, strict=False)
        return numbers.set(numbers.cast(pl.String).ne_missing(asked), None)
    return asked.cast(dtype, strict=False)


def _series(ids: Iterable[RawId], name: str) -> pl.Series:
    try:
        return pl.Series(name, list(ids))
    except (TypeError, OverflowError) as error:
        raise DataError(
            f"{name} mixes types",
            column=name,
            expected="all text, or all integers of at most 64 bits",
            mend="make all ids text",
        ) from error


def _int_or_none(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
