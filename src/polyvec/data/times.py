"""Timestamps of every kind as int64 microseconds since 1970, or an order column as int64.

In UTC, or by the clock of a time zone: days, weekdays and parts of the day are then those of the shop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from polyvec.data.dataset import MICROSECONDS_PER_DAY, to_microseconds
from polyvec.errors import DataError

if TYPE_CHECKING:
    from polyvec.data.options import PrepareOptions

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
EARLIEST = to_microseconds(datetime(1990, 1, 1, tzinfo=UTC))
YEAR_ONE = to_microseconds(datetime(1, 1, 1, tzinfo=UTC))
LATEST = to_microseconds(datetime(2100, 1, 1, tzinfo=UTC))
ISO_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M%#z",
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
DAY_FIRST = tuple("%d/%m/%Y" + clock for clock in CLOCKS)
MONTH_FIRST = tuple("%m/%d/%Y" + clock for clock in CLOCKS)
NAMES_UTC = r"UTC|GMT|%s"
SLASHED = r"^(\d{1,2})[/.-](\d{1,2})[/.-]\d{4}"


@dataclass(frozen=True)
class TimeReader:
    """Reads one table's column of times in the way that was decided for it.

    Attributes
    ----------
    kind
        ``order``, ``datetime``, ``number`` or ``text``.
    unit
        Of numbers.
    formats
        Patterns of text, tried in turn.
    plausible
        Whether numbers before 1990 are faults (not if the person named the unit).
    note
        What was decided, for people; empty if nothing was.
    zone
        By whose clock times are told, of those that are moments: numbers, and dates that name their zone.
        Others are taken as its clock's already. None stands for UTC.
    """

    kind: str
    unit: str = "us"
    formats: tuple[str, ...] = ()
    plausible: bool = False
    note: str = ""
    zone: str | None = None

    def read(self, values: pl.Series) -> pl.Series:
        """Int64 times; null where a value is missing or cannot be read."""
        if self.kind == "datetime":
            is_moment = isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is not None
            times = values.cast(pl.Datetime("us"), strict=False).to_physical()
            return on_clock(times, self.zone) if is_moment else times
        if self.kind == "text":
            return parse_text(values.cast(pl.String), self.formats, self.zone)
        if self.kind == "order":
            return whole_numbers(values)
        return on_clock(_to_microseconds(values, self.unit), self.zone)


def time_reader(sample: pl.Series, table: str, column: str, options: PrepareOptions) -> TimeReader:
    """Decide how a column of times is to be read, from its type and a sample of its values.

    Parameters
    ----------
    sample
        Non-null values from the beginning of the column.
    table, column
        Where they stand, for messages.
    options
        ``order``, ``time_unit`` and ``time_format`` overrule what would be decided; ``time_zone``.

    Raises
    ------
    DataError
        If the times cannot be understood: implausible integers, text in no known form, day and month that
        cannot be told apart.
    """
    if options.order is not None:
        return TimeReader("order")
    return replace(_decided(sample, table, column, options), zone=options.time_zone)


def _decided(sample: pl.Series, table: str, column: str, options: PrepareOptions) -> TimeReader:
    if options.time_format is not None:
        return _told_format(sample, table, column, options.time_format)
    if sample.dtype.is_temporal() and sample.dtype != pl.Time:
        return TimeReader("datetime")
    if sample.dtype.is_numeric() or _is_digits(sample):
        return _number_reader(sample, table, column, options.time_unit)
    if sample.dtype == pl.String:
        return _text_reader(sample, table, column)
    raise _not_understood(sample, table, column, f"of type {sample.dtype}")


def whole_numbers(values: pl.Series) -> pl.Series:
    """Int64 of integers, whole floats and digits; null for everything else."""
    if values.dtype.is_float():
        return values.set(values != values.floor(), None).cast(pl.Int64, strict=False)
    return values.cast(pl.Int64, strict=False)


def on_clock(times: pl.Series, zone: str | None) -> pl.Series:
    """What a zone's clock shows at moments of UTC, both int64 microseconds; the moments themselves for None.

    In the hour that a clock is set back, its times come twice.
    """
    if zone is None:
        return times
    is_moment = times.is_between(YEAR_ONE, LATEST)  # others are refused later, as they are
    moments = times.set(~is_moment, None).cast(pl.Datetime("us", "UTC"))
    shown = moments.dt.convert_time_zone(zone).dt.replace_time_zone(None).to_physical()
    return shown.zip_with(is_moment, times)


def parse_text(texts: pl.Series, formats: tuple[str, ...], zone: str | None = None) -> pl.Series:
    """Int64 microseconds of texts in any of the formats; null where none fits."""
    plain = texts.str.strip_chars()
    if formats == ISO_FORMATS:
        plain = plain.str.replace(r" ?(Z|UTC|GMT)$", "+00:00").str.replace("T", " ", literal=True)
    elif formats in (DAY_FIRST, MONTH_FIRST):
        plain = plain.str.replace(r"^(\d+)[.-](\d+)[.-]", "${1}/${2}/")
    times = pl.Series(texts.name, [None], dtype=pl.Int64).new_from_index(0, len(texts))
    for pattern in formats:
        left = times.is_null() & plain.is_not_null()
        if not left.any():
            break
        parsed = plain.set(~left, None).str.to_datetime(pattern, time_unit="us", strict=False)
        is_moment = isinstance(parsed.dtype, pl.Datetime) and parsed.dtype.time_zone is not None
        is_moment |= re.search(NAMES_UTC, pattern) is not None
        found = parsed.to_physical()
        times = times.zip_with(times.is_not_null(), on_clock(found, zone) if is_moment else found)
    return times


def _told_format(sample: pl.Series, table: str, column: str, pattern: str) -> TimeReader:
    reader = TimeReader("text", formats=(pattern,))
    try:
        parsed = reader.read(sample)
    except pl.exceptions.PolarsError as error:
        said = str(error).splitlines()[0]
        raise DataError(
            f"--time-format '{pattern}' cannot be used: {said}",
            expected="a strftime pattern such as %d/%m/%Y %H:%M",
        ) from error
    if not parsed.is_not_null().any():
        raise _not_understood(sample, table, column, f"not in the format '{pattern}'")
    return reader


def _number_reader(numbers: pl.Series, table: str, column: str, told: str | None) -> TimeReader:
    if told is not None:
        return TimeReader("number", unit=told)
    shares = {unit: _plausible_share(numbers, unit) for unit in PER_SECOND}
    unit = max(shares, key=lambda name: shares[name])
    if shares[unit] < 0.5:
        raise DataError(
            f"{column} holds {_show(numbers)}: no time between 1990 and 2100 in seconds, milliseconds, "
            "microseconds or nanoseconds",
            file=table,
            column=column,
            expected="seconds (10 digits), milliseconds (13), microseconds (16) or nanoseconds (19)",
            mend="name the unit with --time-unit, a pattern with --time-format (for 20111231: %Y%m%d), "
            f"or use the column as a mere order: --order {column}",
        )
    return TimeReader(
        "number", unit=unit, plausible=True, note=f"{column} read as {UNIT_NAMES[unit]} since 1970"
    )


def _plausible_share(numbers: pl.Series, unit: str) -> float:
    times = _to_microseconds(numbers, unit)
    return float(times.is_between(EARLIEST, LATEST).fill_null(False).sum()) / max(1, len(numbers))


def _to_microseconds(values: pl.Series, unit: str) -> pl.Series:
    """Int64; fractions of a unit count in floating-point columns and in text with a point."""
    if values.dtype.is_float():
        return (values * (PER_SECOND["us"] / PER_SECOND[unit])).round().cast(pl.Int64, strict=False)
    if values.dtype == pl.String:
        has_point = values.str.contains(".", literal=True).fill_null(value=False)
        if has_point.any():
            parts = values.set(~has_point, None).cast(pl.Float64, strict=False), values.set(has_point, None)
            with_point, whole = (_to_microseconds(part, unit) for part in parts)
            return with_point.zip_with(has_point, whole)
    numbers = values.cast(pl.Int64, strict=False)
    if unit == "ns":
        return numbers // 1000
    factor = PER_SECOND["us"] // PER_SECOND[unit]
    limit = 2**63 // factor - 1  # beyond it the product would not fit and is no time anyway
    return numbers.set(~numbers.is_between(-limit, limit), None) * factor


def _text_reader(sample: pl.Series, table: str, column: str) -> TimeReader:
    if parse_text(sample, ISO_FORMATS).is_not_null().any():
        return TimeReader("text", formats=ISO_FORMATS)
    first, second = (sample.str.extract(SLASHED, group).cast(pl.Int64) for group in (1, 2))
    if not first.is_not_null().any():
        raise _not_understood(sample, table, column, "in no known form")
    day_first, month_first = bool((first > 12).any()), bool((second > 12).any())
    if day_first == month_first:
        raise DataError(
            f"{column} holds {_show(sample)}: day and month cannot be told apart",
            file=table,
            column=column,
            expected="dates such as 2011-12-31, or a pattern",
            mend="name the pattern: --time-format '%d/%m/%Y %H:%M' or '%m/%d/%Y %H:%M'",
        )
    order = "day/month/year" if day_first else "month/day/year"
    return TimeReader(
        "text", formats=DAY_FIRST if day_first else MONTH_FIRST, note=f"{column} read as {order}"
    )


def _is_digits(sample: pl.Series) -> bool:
    return sample.dtype == pl.String and all(
        re.fullmatch(r"-?\d+(\.\d+)?", text) for text in sample.head(100)
    )


def _not_understood(sample: pl.Series, table: str, column: str, why: str) -> DataError:
    return DataError(
        f"{column} holds {_show(sample)}, {why}",
        file=table,
        column=column,
        expected="dates and times: a datetime column, ISO 8601 text, or integers since 1970",
        mend="name the pattern with --time-format, or use the column as a mere order: --order " + column,
    )


def _show(values: pl.Series) -> str:
    return ", ".join(map(repr, values.head(3).to_list()))


def day_after(now: datetime) -> int:
    """The latest time that is not in the future: a day of grace for clocks and time zones."""
    return to_microseconds(now) + MICROSECONDS_PER_DAY
