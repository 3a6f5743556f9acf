"""The catalogue: one row per item, first come first kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from polyvec.data.checks import DECIMALS, IdType, to_ids, to_text
from polyvec.data.columns import ITEM, ITEM_NAMES, find_roles
from polyvec.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polyvec.data.quarantine import Quarantine
    from polyvec.data.table import Table

WORDS = ("title", "category", "brand", "shop")  # stay text even where every value is a number


@dataclass(frozen=True)
class CatalogueSource:
    """A table of items and which of its columns plays which role."""

    table: Table
    roles: dict[str, str]


@dataclass
class CatalogueCounts:
    """What became of the catalogue's rows: read = kept + duplicates + quarantined."""

    read: int = 0
    kept: int = 0
    duplicates: int = 0
    quarantined: int = 0
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The four counts."""
        return {name: getattr(self, name) for name in ("read", "kept", "duplicates", "quarantined")}


def catalogue_sources(
    tables: Sequence[Table], told: Mapping[str, str]
) -> tuple[list[CatalogueSource], list[str]]:
    """Find the roles of the columns of every table, and notes of what was guessed."""
    sources, notes = [], []
    for table in tables:
        roles = find_roles(table, told, ITEM_NAMES, required=(ITEM,), option="--item-column")
        _refuse_clashes(table, roles.columns)
        sources.append(CatalogueSource(table, roles.columns))
        notes += [f"catalogue: {guess}" for guess in roles.guesses]
    return sources, notes


def read_catalogue(
    sources: Sequence[CatalogueSource], item_type: IdType, quarantine: Quarantine
) -> tuple[pl.DataFrame, CatalogueCounts]:
    """Read all rows: ``item_id`` distinct and never null, and every other column of the tables.

    Rows without an id are quarantined; of rows with one id the first is kept.
    """
    counts = CatalogueCounts()
    parts = [
        _typed(_read_one(source, item_type, quarantine, counts), source.table.is_text) for source in sources
    ]
    rows = _stacked(parts)
    items = rows.unique(ITEM, keep="first", maintain_order=True)
    counts.kept, counts.duplicates = len(items), len(rows) - len(items)
    if counts.duplicates:
        counts.notes.append(f"catalogue: {counts.duplicates:,} rows repeat an item_id; the first was kept")
    if "price" in items.columns and items["price"].dtype == pl.String:
        prices = items["price"].drop_nulls()
        unread = prices.filter(prices.cast(pl.Float64, strict=False).is_null())
        if len(unread):
            counts.notes.append(
                f"catalogue: price is no number in {len(unread):,} rows, such as {unread[0]!r}: it is kept "
                f"as text, and no task asks about prices; {DECIMALS}"
            )
    return items, counts


def _read_one(
    source: CatalogueSource, item_type: IdType, quarantine: Quarantine, counts: CatalogueCounts
) -> pl.DataFrame:
    parts = []
    for chunk in source.table.chunks(list(source.table.schema)):
        items = _renamed(chunk.frame, source.roles)
        items = items.with_columns(to_ids(items[ITEM], item_type).alias(ITEM))
        empty = items[ITEM].is_null()
        bad = chunk.frame.filter(empty)
        reasons = pl.Series([f"catalogue: {ITEM} is empty"], dtype=pl.String).new_from_index(0, len(bad))
        quarantine.add(source.table.name, chunk.rows[empty.to_numpy()], reasons, bad)
        quarantine.add_malformed(source.table.name, chunk.malformed, prefix="catalogue: ")
        counts.read += len(items) + len(chunk.malformed)
        counts.quarantined += len(bad) + len(chunk.malformed)
        parts.append(items.filter(~empty))
    return pl.concat(parts) if parts else _renamed(pl.DataFrame(schema=source.table.schema), source.roles)


def _renamed(frame: pl.DataFrame, roles: dict[str, str]) -> pl.DataFrame:
    """Every role's column under its role's name, all others as they are."""
    return frame.rename({column: role for role, column in roles.items()})


def _refuse_clashes(table: Table, roles: dict[str, str]) -> None:
    """Refuse a mapping that would give two columns one name, or one column two."""
    others = set(table.schema) - set(roles.values())
    for role, column in roles.items():
        if role in others:
            raise DataError(
                f"'{column}' is to become {role}, and there is a column '{role}' already",
                file=table.name,
                column=role,
                expected="distinct column names",
                mend=f"drop or rename one of them, or leave out --item-column {role}={column}",
            )
    if len(set(roles.values())) < len(roles):
        raise DataError(
            "one column of the catalogue has two roles",
            file=table.name,
            expected="one role for each column",
            mend="name each column once in --item-column",
        )


def _typed(items: pl.DataFrame, is_text: bool) -> pl.DataFrame:
    """Words as text; and columns of CSV files as numbers where every value is written as one."""
    columns = []
    for series in items.iter_columns():
        if series.name in WORDS and not series.dtype.is_nested():
            columns.append(to_text(series))
        elif is_text and series.name != ITEM:
            columns.append(_number_if_all_are(series))
        else:
            columns.append(series)
    return pl.DataFrame(columns)


def _number_if_all_are(texts: pl.Series) -> pl.Series:
    """Int64 or Float64 where no value would lose anything (leading zeros do), else the text itself."""
    pattern = r"^-?(0|[1-9]\d{0,14})(\.\d+)?$"
    if texts.null_count() == len(texts) or not texts.drop_nulls().str.contains(pattern).all():
        return texts
    whole = not texts.drop_nulls().str.contains(".", literal=True).any()
    return texts.cast(pl.Int64 if whole else pl.Float64)


def _stacked(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """All rows of tables that may have different columns; types that differ become text."""
    if len(parts) == 1:
        return parts[0]
    try:
        return pl.concat(parts, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"the catalogue's tables do not fit together: {str(error).splitlines()[0]}",
            expected="columns of one name to be of one type",
            mend="convert the columns, or give one table",
        ) from error
