"""What a person may say about an event log when preparing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args
from zoneinfo import ZoneInfo

import polars as pl

from polyvec.data.columns import EVENT_NAMES, ITEM_NAMES, TIMESTAMP
from polyvec.errors import UsageError, nearest_name

TimeUnit = Literal["s", "ms", "us", "ns"]
Returns = Literal["mark", "drop", "keep"]


@dataclass(frozen=True)
class PrepareOptions:
    """Rules of :func:`polyvec.data.prepare.prepare`.

    Attributes
    ----------
    columns
        Which column of the events plays which role (``{"user_id": "CustomerID"}``); an empty name means
        that nothing plays it. Roles that are not named are guessed.
    item_columns
        The same for the catalogue.
    keep
        Further columns of events to keep.
    order
        Name of a column that gives the order of a user's events, instead of a timestamp.
    time_unit
        Unit of integer timestamps; None decides by what is plausible.
    time_format
        ``strftime`` pattern of text timestamps; None reads ISO 8601 and unambiguous dates.
    time_zone
        Name of a time zone (``Asia/Shanghai``) by whose clock days begin and end; None for UTC. Numbers, and
        dates that name a zone, are told by it; other dates are taken as its clock's already. In the hour in
        which a clock is set back its times come twice: events of that hour may change places, or be equal.
    purchases
        Actions that mean a purchase, besides ``purchase``; they are kept under that name.
    delimiter, encoding
        Of CSV files; None guesses the delimiter.
    returns
        Events with a negative quantity: ``mark`` gives them the action ``return``, ``drop`` quarantines them,
        ``keep`` has no rule for them.
    max_history
        Keep only so many latest events of each user; None keeps all.
    keep_duplicates
        Keep events that are equal in all kept columns.
    overwrite
        Replace an existing Dataset.

    Raises
    ------
    UsageError
        If a value cannot be used.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    item_columns: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    order: str | None = None
    time_unit: TimeUnit | None = None
    time_format: str | None = None
    time_zone: str | None = None
    purchases: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str = "utf-8"
    returns: Returns = "mark"
    max_history: int | None = None
    keep_duplicates: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        _check_roles(self.columns, EVENT_NAMES, "--column")
        _check_roles(self.item_columns, ITEM_NAMES, "--item-column")
        _check_choice(self.returns, get_args(Returns), "--returns")
        _check_choice(self.time_unit, (None, *get_args(TimeUnit)), "--time-unit")
        self._check_keep()
        self._check_reading()
        if self.max_history is not None and self.max_history < 1:
            raise UsageError(
                f"--max-history is {self.max_history}", expected="a number of events of at least 1"
            )
        told = self.time_unit, self.time_format, self.time_zone
        if self.order is not None and (any(told) or TIMESTAMP in self.columns):
            raise UsageError(
                "--order and a timestamp are both given",
                expected="either an order column or a timestamp",
                mend="drop --order, or drop --time-unit, --time-format, --time-zone and --column timestamp=…",
            )

    def _check_keep(self) -> None:
        for name in self.keep:
            if not name or "/" in name or "\0" in name or name.startswith(".") or name in EVENT_NAMES:
                raise UsageError(
                    f"--keep '{name}' cannot be used",
                    expected="a column whose name is no role, does not begin with a dot and has no slash",
                    mend="columns with a role are kept anyway; rename the others",
                )

    def _check_reading(self) -> None:
        if self.time_zone is not None:
            _check_zone(self.time_zone)
        delimiter = self.delimiter
        if delimiter is not None and (len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n'):
            raise UsageError(
                f"--delimiter {delimiter!r} cannot be used",
                expected="one ASCII character that is neither quote nor line end",
            )
        try:
            "".encode(self.encoding)
        except LookupError:
            raise UsageError(
                f"--encoding '{self.encoding}' is unknown", expected="an encoding such as utf-8 or latin-1"
            ) from None


def _check_zone(name: str) -> None:
    try:
        pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(name)
        ZoneInfo(name)
    except (pl.exceptions.PolarsError, ValueError, OSError, KeyError):
        raise UsageError(
            f"--time-zone '{name}' is unknown", expected="a name such as Europe/Berlin or Asia/Shanghai"
        ) from None


def _check_roles(mapping: Mapping[str, str], roles: Mapping[str, object], option: str) -> None:
    for role in mapping:
        if role not in roles:
            raise UsageError(
                f"{option} {role}={mapping[role]}: '{role}' is no role of a column",
                expected=nearest_name(role, roles),
                mend="write ROLE=COLUMN; further columns of events are kept with --keep",
            )


def _check_choice(value: str | None, choices: tuple[str | None, ...], option: str) -> None:
    if value not in choices:
        names = ", ".join(choice for choice in choices if choice)
        raise UsageError(f"{option} '{value}' is unknown", expected=f"one of {names}")
