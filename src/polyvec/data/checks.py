"""Checks of one chunk of events: what is good goes on, what is not goes to the quarantine with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.data.columns import ACTION, ITEM, NUMBERS, QUANTITY, TEXTS, TIMESTAMP, USER
from polyvec.data.dataset import PURCHASE
from polyvec.data.times import EARLIEST, YEAR_ONE, TimeReader
from polyvec.errors import DataError
from polyvec.ids import normalise_ids

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyvec.data.options import Returns
    from polyvec.data.table import Table

TIME = "time"
RETURN = "return"
EMPTY_TIME = f"{TIMESTAMP} is empty"
EXACT_FLOAT32 = 2**24
IdType = pl.DataType | type[pl.DataType]


@dataclass(frozen=True)
class Fault:
    """One rule broken by some rows of a chunk: the reason and a Boolean mask."""

    reason: str
    rows: pl.Series


DECIMALS = "numbers are read with a decimal point, as 2.50, and without signs of a currency"


@dataclass(frozen=True)
class EventRules:
    """How the columns of one table of events become columns of the Dataset.

    Attributes
    ----------
    roles
        Source column by role; the roles of kept columns are their own names.
    texts, numbers
        Names of all further columns in the Dataset, of this table or another.
    user_type, item_type
        Common type of ids in all tables.
    times
        How this table's times are read; None while it has shown none.
    future
        The first time that lies in the future, in microseconds.
    exact
        Which numbers are kept in double precision: those that ``--keep`` names, which may be numbers of
        baskets; prices, ratings and quantities need no more than single precision.
    purchases
        Actions that mean a purchase, besides ``purchase``.
    returns
        What a negative quantity means.
    is_text
        Whether the source knows no types, so that a header may be repeated among the rows.
    """

    roles: dict[str, str]
    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    user_type: IdType
    item_type: IdType
    times: TimeReader | None
    future: int
    exact: tuple[str, ...]
    purchases: tuple[str, ...]
    returns: Returns
    is_text: bool

    def apply(self, raw: pl.DataFrame) -> tuple[pl.DataFrame, list[Fault]]:
        """Columns of the Dataset for a chunk of source rows, and the rules that rows broke."""
        faults = self._repeated_header(raw)
        users = to_ids(raw[self.roles[USER]], self.user_type)
        items = to_ids(raw[self.roles[ITEM]], self.item_type)
        faults += [Fault(f"{USER} is empty", users.is_null()), Fault(f"{ITEM} is empty", items.is_null())]
        times, time_faults = self._times(raw)
        numbers, number_faults = self._numbers(raw)
        texts = [self._text(raw, name) for name in self.texts]
        columns = [users.alias(USER), items.alias(ITEM), times.alias(TIME), *numbers, *texts]
        checked, return_faults = self._returns(pl.DataFrame(columns))
        return checked, faults + time_faults + number_faults + return_faults

    def _repeated_header(self, raw: pl.DataFrame) -> list[Fault]:
        if not self.is_text:
            return []
        same = [raw[name].eq_missing(pl.Series([name])) for name in (self.roles[USER], self.roles[ITEM])]
        return [Fault("repeated header", same[0] & same[1])]

    def _times(self, raw: pl.DataFrame) -> tuple[pl.Series, list[Fault]]:
        values = raw[self.roles[TIMESTAMP]]
        empty = is_empty(values)
        if self.times is None:
            return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(raw)), [Fault(EMPTY_TIME, empty)]
        times = self.times.read(values)
        if self.times.kind == "order":
            name = values.name
            faults = [Fault(f"{name} is empty", empty), Fault(f"{name} is not an integer", times.is_null())]
            return times, faults
        early = times < (EARLIEST if self.times.plausible else YEAR_ONE)
        return times, [
            Fault(EMPTY_TIME, empty),
            Fault("timestamp cannot be read", times.is_null()),
            Fault("timestamp is too early", early.fill_null(False)),
            Fault("timestamp is in the future", (times > self.future).fill_null(False)),
        ]

    def _numbers(self, raw: pl.DataFrame) -> tuple[list[pl.Series], list[Fault]]:
        columns, faults = [], []
        for name in self.numbers:
            dtype = pl.Float64() if name in self.exact else pl.Float32()
            if name not in self.roles:
                columns.append(pl.Series(name, [None], dtype=dtype).new_from_index(0, len(raw)))
                continue
            values = raw[self.roles[name]]
            column = to_numbers(values, dtype)
            columns.append(column.alias(name))
            if values.dtype == pl.String:
                unread = column.is_null() & (values != "").fill_null(False)
                faults.append(Fault(f"{name} is not a number", unread))
        return columns, faults

    def _text(self, raw: pl.DataFrame, name: str) -> pl.Series:
        if name not in self.roles:
            return pl.Series(name, [None], dtype=pl.String).new_from_index(0, len(raw))
        texts = to_text(raw[self.roles[name]]).alias(name)
        return texts.replace(self.purchases, PURCHASE) if name == ACTION and self.purchases else texts

    def _returns(self, events: pl.DataFrame) -> tuple[pl.DataFrame, list[Fault]]:
        if QUANTITY not in events.columns or self.returns == "keep":
            return events, []
        returned = (events[QUANTITY] < 0).fill_null(False)
        if self.returns == "drop":
            return events, [Fault("negative quantity", returned)]
        otherwise = pl.lit(PURCHASE) if ACTION not in self.roles else pl.col(ACTION)
        action = pl.when(returned).then(pl.lit(RETURN)).otherwise(otherwise)
        return events.with_columns(action.alias(ACTION)), []


def first_reasons(
    faults: list[Fault], rows: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], list[str]]:
    """For every row the index of the first rule it broke (−1 for none), and the reasons."""
    broken = np.full(rows, -1, dtype=np.int64)
    for index in range(len(faults) - 1, -1, -1):
        if faults[index].rows.any():
            broken[faults[index].rows.to_numpy()] = index
    return broken, [fault.reason for fault in faults]


def is_empty(values: pl.Series) -> pl.Series:
    """Mask of missing values: null, NaN or empty text."""
    if values.dtype == pl.String:
        return (values == "").fill_null(True)
    return values.is_nan().fill_null(True) if values.dtype.is_float() else values.is_null()


def to_ids(values: pl.Series, target: IdType) -> pl.Series:
    """Ids in the type common to all tables; empty text is null."""
    ids = values.cast(target)
    return ids.set(ids == "", None) if ids.dtype == pl.String else ids


def to_numbers(values: pl.Series, dtype: pl.Float32 | pl.Float64) -> pl.Series:
    """Numbers of a type; null where there is none (NaN and infinity are none)."""
    numbers = values.str.strip_chars() if values.dtype == pl.String else values
    numbers = numbers.cast(dtype, strict=False)
    return numbers.set(~numbers.is_finite(), None)


def to_text(values: pl.Series) -> pl.Series:
    """Text; null for empty text."""
    texts = values.cast(pl.String)
    return texts.set(texts == "", None)


def common_id_type(name: str, columns: Iterable[tuple[Table, str]]) -> tuple[IdType, str]:
    """Type that holds all ids of several tables exactly, and a note if some had to become text.

    Raises
    ------
    DataError
        If a column is floating point or anything else that is not text or integers.
    """
    types = {_id_type(table, column) for table, column in columns}
    if len(types) == 1:
        return types.pop(), ""
    what = "text in one source and integers" if pl.String() in types else "signed in one source and unsigned"
    return pl.String(), f"{name} is {what} in another: all read as text ('7' for 7)"


def _id_type(table: Table, column: str) -> IdType:
    """Text, Int64 or UInt64."""
    dtype = table.schema[column]
    if dtype == pl.UInt64:
        return dtype
    try:
        return normalise_ids(pl.Series(column, [], dtype=dtype), column).dtype
    except DataError as error:
        raise DataError(
            error.what, file=table.name, column=column, expected=error.expected, mend=error.mend
        ) from None


def column_kind(table: Table, name: str, column: str) -> str:
    """Whether a further column of events is stored as ``number`` or ``text``.

    Raises
    ------
    DataError
        If it is neither, as a list is.
    """
    dtype = table.schema[column]
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise DataError(
            f"{name} is of type {dtype}",
            file=table.name,
            column=column,
            expected="numbers or text",
            mend="convert the column, or leave it out",
        )
    if name in TEXTS:
        return "text"
    return "number" if name in NUMBERS or dtype.is_numeric() or dtype == pl.Boolean else "text"
