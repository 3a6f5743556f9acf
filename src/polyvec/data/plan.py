"""What is read from where and becomes what: decided from options and schemas, before any event is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from polyvec.data.catalogue import CatalogueSource, catalogue_sources
from polyvec.data.checks import EXACT_FLOAT32, EventRules, IdType, column_kind, common_id_type
from polyvec.data.columns import (
    ACTION,
    EVENT_NAMES,
    ITEM,
    QUANTITY,
    REQUIRED,
    TIMESTAMP,
    USER,
    find_roles,
    require_column,
)
from polyvec.data.dataset import TimeKind
from polyvec.data.options import PrepareOptions
from polyvec.data.read import Source, open_tables
from polyvec.data.table import Table
from polyvec.data.times import day_after

PARTITION_ROWS = 2 * 2**20
MAX_PARTITIONS = 256


@dataclass(frozen=True)
class Plan:
    """Sources, the roles of their columns, and the columns of the Dataset.

    Attributes
    ----------
    events
        Tables of events in their order, each with its rules.
    catalogue
        Tables of items; none if there is no catalogue.
    texts, numbers
        Names of the Dataset's further columns.
    time_kind
        Whether events have timestamps or only an order.
    notes
        What was guessed, for people.
    """

    events: list[tuple[Table, EventRules]]
    catalogue: list[CatalogueSource]
    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    time_kind: TimeKind
    notes: list[str]

    @property
    def item_type(self) -> IdType:
        """Type that all item ids are brought to."""
        return self.events[0][1].item_type

    def partitions(self) -> int:
        """Into how many files the events are spread on their way."""
        rows = sum(table.rows for table, _ in self.events)
        return min(MAX_PARTITIONS, max(1, math.ceil(rows / PARTITION_ROWS)))


def make_plan(events: Source, items: Source | None, options: PrepareOptions) -> Plan:
    """Open all sources, give every column its role and its type.

    Raises
    ------
    DataError
        If a source cannot be opened, a column is missing or of the wrong type, or a guess is not unique.
    """
    tables = open_tables(events, options.delimiter, options.encoding)
    catalogue: list[CatalogueSource] = []
    notes: list[str] = []
    if items is not None:
        item_tables = open_tables(items, options.delimiter, options.encoding)
        catalogue, notes = catalogue_sources(item_tables, options.item_columns)
    roles, guesses = _event_roles(tables, options)
    texts, numbers = _further_columns(tables, roles, options)
    user_type, user_note = common_id_type(USER, [(t, r[USER]) for t, r in zip(tables, roles, strict=True)])
    item_columns = [(t, r[ITEM]) for t, r in zip(tables, roles, strict=True)]
    item_columns += [(source.table, source.roles[ITEM]) for source in catalogue]
    item_type, item_note = common_id_type(ITEM, item_columns)
    rules = EventRules(
        roles={},
        texts=texts,
        numbers=numbers,
        user_type=user_type,
        item_type=item_type,
        times=None,
        future=day_after(datetime.now(UTC)),
        exact=tuple(name for name in numbers if name in options.keep),
        purchases=tuple(options.purchases),
        returns=options.returns,
        is_text=False,
    )
    notes += _missing(tables, roles, [*texts, *numbers])
    return Plan(
        events=[(t, replace(rules, roles=r, is_text=t.is_text)) for t, r in zip(tables, roles, strict=True)],
        catalogue=catalogue,
        texts=texts,
        numbers=numbers,
        time_kind="order" if options.order else "timestamp",
        notes=_distinct([*guesses, *notes, user_note, item_note]),
    )


def _missing(tables: Sequence[Table], roles: Sequence[dict[str, str]], names: Sequence[str]) -> list[str]:
    """Say which tables lack what others have: it is empty there."""
    found = []
    for name in names:
        without = [table.name for table, one in zip(tables, roles, strict=True) if name not in one]
        if 0 < len(without) < len(tables):
            more = f" and {len(without) - 1} more" if len(without) > 1 else ""
            found.append(f"{without[0]}{more}: no column for {name}, which is empty there")
    return found


def _distinct(notes: list[str]) -> list[str]:
    return [note for note in dict.fromkeys(notes) if note]


def _event_roles(tables: Sequence[Table], options: PrepareOptions) -> tuple[list[dict[str, str]], list[str]]:
    """Column of every role, table by table, and what was guessed."""
    told, names = dict(options.columns), dict(EVENT_NAMES)
    if options.order is not None:
        told[TIMESTAMP] = options.order
    roles, guesses = [], []
    for table in tables:
        if options.order is not None:
            require_column(table, options.order, "--order")
        for name in options.keep:
            require_column(table, name, "--keep")
        found = find_roles(table, told, names, required=REQUIRED)
        roles.append(found.columns | {name: name for name in options.keep})
        guesses += found.guesses
    return roles, guesses


def _further_columns(
    tables: Sequence[Table], roles: Sequence[dict[str, str]], options: PrepareOptions
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the text and of the number columns that the Dataset will have."""
    names = dict.fromkeys(name for one in roles for name in one if name not in REQUIRED)
    kinds: dict[str, set[str]] = {name: set() for name in names}
    for table, one in zip(tables, roles, strict=True):
        for name in names:
            if name in one:
                kinds[name].add(_kind(table, name, one[name], options.keep))
    if QUANTITY in names and options.returns == "mark":
        kinds.setdefault(ACTION, set()).add("text")
    texts = tuple(name for name in kinds if "text" in kinds[name])
    return texts, tuple(name for name in kinds if name not in texts)


def _kind(table: Table, name: str, column: str, keep: tuple[str, ...]) -> str:
    """As :func:`column_kind`; kept integers that float32 cannot hold exactly are text, as invoice numbers."""
    kind = column_kind(table, name, column)
    if kind != "number" or name not in keep or not table.schema[column].is_integer():
        return kind
    first = next(table.chunks([column]), None)
    largest = None if first is None else first.frame[column].cast(pl.Float64).abs().max()
    return "text" if largest is not None and float(str(largest)) > EXACT_FLOAT32 else "number"
