"""Dataset: the event log checked, ids numbered, one time-ordered history per user, memory-mapped.

On disk (``E`` events, ``U`` users, ``N`` items)::

    users.parquet          user_id, in row order
    items.parquet          item_id and the catalogue's columns, in row order (N rows; null = unknown)
    user_offsets.npy       int64 [U+1]; user u owns events user_offsets[u] : user_offsets[u+1]
    item.npy               int32 [E]; item row of every event, sorted by (user, time, source order)
    time.npy               int64 [E]; microseconds since 1970 (of UTC or a zone's clock), or the order column
    columns/NAME.npy       one more column of events: float32 [E] for numbers, int32 codes [E] for text
    columns/NAME.parquet   the texts behind the codes (column NAME, in code order; code -1 = missing)
    profile.json           the data's profile
    quarantine.parquet     rows that were set aside, with reasons
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from polyvec.artifact import Manifest, read_manifest
from polyvec.errors import DataError, UsageError, nearest_name
from polyvec.ids import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

TimeKind = Literal["timestamp", "order"]
MICROSECONDS_PER_DAY = 86_400_000_000
PURCHASE = "purchase"


@dataclass(frozen=True)
class Dataset:
    """Histories of all users as flat arrays with offsets. Immutable; knows nothing of models.

    Attributes
    ----------
    users, items
        Vocabularies of raw ids.
    item_table
        One row per item in row order: ``item_id`` and whatever the catalogue has (``title``, ``category`` …).
    user_offsets
        int64 ``[U+1]``.
    item_rows
        Integer ``[E]``, item of every event.
    times
        int64 ``[E]``: microseconds since 1970, of UTC or of the clock of :attr:`time_zone`, or the order
        column's values.
    time_kind
        ``timestamp`` or ``order``; windows in days exist only for ``timestamp``.
    columns
        Further columns ``[E]``: float32 numbers, or int32 codes into ``codes[name]`` (−1 = missing).
    codes
        Texts behind the codes of every text column.
    manifest
        The folder's manifest; None for a Dataset made in memory.
    """

    users: Vocabulary
    items: Vocabulary
    item_table: pl.DataFrame
    user_offsets: npt.NDArray[np.int64]
    item_rows: npt.NDArray[np.integer[Any]]
    times: npt.NDArray[np.int64]
    time_kind: TimeKind
    columns: dict[str, npt.NDArray[Any]]
    codes: dict[str, list[str]]
    manifest: Manifest | None = None

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.items)

    @property
    def num_events(self) -> int:
        """E."""
        return int(self.user_offsets[-1])

    @property
    def time_zone(self) -> str | None:
        """Zone by whose clock times are told; None for UTC, or if nothing is known."""
        told = self.manifest.meta.get("options", {}) if self.manifest else {}
        return told.get("time_zone")

    @cached_property
    def time_span(self) -> tuple[int, int]:
        """Earliest and latest time of any event; (0, 0) if there is none."""
        return (int(self.times.min()), int(self.times.max())) if self.num_events else (0, 0)

    def item_counts(self, until: int | None = None) -> npt.NDArray[np.int64]:
        """Events of every item before ``until`` (all without it), int64 ``[N]``."""
        rows = self.item_rows if until is None else self.item_rows[self.times < until]
        return np.bincount(rows, minlength=self.num_items).astype(np.int64)

    def only_action(self, action: str = PURCHASE) -> Dataset:
        """Dataset of the events with one action; the Dataset itself if it has no ``action`` column.

        The selected events are copied into memory unless all are selected.

        Raises
        ------
        UsageError
            If no event has that action.
        """
        if "action" not in self.columns:
            return self
        if action not in self.codes["action"]:
            raise no_such_action(action, self.codes["action"])
        return self.keep(np.asarray(self.columns["action"] == self.codes["action"].index(action)))

    def keep(self, kept: npt.NDArray[np.bool_]) -> Dataset:
        """Dataset of some events, bool ``[E]``, copied into memory; users and items stay.

        The Dataset itself if all are kept.
        """
        if kept.all():
            return self
        before = np.concatenate([[0], np.cumsum(kept)])
        return replace(
            self,
            user_offsets=before[self.user_offsets],
            item_rows=self.item_rows[kept],
            times=self.times[kept],
            columns={name: column[kept] for name, column in self.columns.items()},
        )

    @classmethod
    def open(cls, path: Path | str) -> Dataset:
        """Map a Dataset folder into memory.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged or of another kind.
        """
        path = Path(path)
        manifest = read_manifest(path, "dataset")
        columns, codes = {}, {}
        for name in manifest.meta["columns"]:
            columns[name] = _map(path / "columns" / f"{name}.npy")
            dictionary = path / "columns" / f"{name}.parquet"
            if dictionary.is_file():
                codes[name] = pl.read_parquet(dictionary)[name].to_list()
        item_table = pl.read_parquet(path / "items.parquet")
        return cls(
            users=Vocabulary.load(path / "users.parquet", "user_id"),
            items=Vocabulary(item_table["item_id"], "item_id"),
            item_table=item_table,
            user_offsets=np.load(path / "user_offsets.npy", allow_pickle=False),
            item_rows=_map(path / "item.npy"),
            times=_map(path / "time.npy"),
            time_kind=manifest.meta["time_kind"],
            columns=columns,
            codes=codes,
            manifest=manifest,
        )

    @classmethod
    def from_rows(
        cls,
        events: Sequence[tuple[Any, Any, int]],
        item_table: pl.DataFrame | None = None,
        time_kind: TimeKind = "timestamp",
    ) -> Dataset:
        """Small Dataset in memory from (user_id, item_id, time) rows: for tests and examples.

        >>> dataset = Dataset.from_rows([("ann", "pen", 1), ("bob", "ink", 2), ("ann", "ink", 3)])
        >>> dataset.num_users, dataset.num_items, dataset.item_rows.tolist()
        (2, 2, [1, 0, 0])
        """
        frame = pl.DataFrame(list(events), schema=["user_id", "item_id", "time"], orient="row")
        frame = frame.sort(["user_id", "time"], maintain_order=True)
        users = Vocabulary(frame["user_id"].unique().sort(), "user_id")
        if item_table is None:
            item_table = frame.select(pl.col("item_id").unique().sort())
        items = Vocabulary(item_table["item_id"], "item_id")
        per_user = np.bincount(users.rows(frame["user_id"]), minlength=len(users))
        return cls(
            users=users,
            items=items,
            item_table=item_table,
            user_offsets=np.concatenate([[0], np.cumsum(per_user)]).astype(np.int64),
            item_rows=items.rows(frame["item_id"]).astype(np.int32),
            times=frame["time"].cast(pl.Int64).to_numpy(),
            time_kind=time_kind,
            columns={},
            codes={},
        )


def read_profile(path: Path) -> dict[str, Any]:
    """Read the data's profile that ``prepare`` saved with the Dataset."""
    profile: dict[str, Any] = json.loads((path / "profile.json").read_text("utf-8"))
    return profile


def no_such_action(action: str, known: Sequence[str]) -> UsageError:
    """Error for an action that no event of a Dataset has."""
    is_purchase = action == PURCHASE
    return UsageError(
        f"no event has action '{action}'",
        column="action",
        expected=nearest_name(action, known),
        mend="say which means it: polyvec prepare … --purchase ACTION" if is_purchase else None,
    )


def parse_time(text: str, dataset: Dataset) -> int:
    """Time in the Dataset's unit from what a person types: ``2011-10-01``, ``2011-10-01T12:00``, or an order.

    A moment that names its zone is told by the clock of the Dataset's.

    Raises
    ------
    UsageError
        If the text is neither a date nor, for ordered data, an integer.
    """
    if dataset.time_kind == "order":
        try:
            return int(text)
        except ValueError:
            raise UsageError(
                f"'{text}' is not a position",
                expected="an integer: this data has an order column, no timestamps",
            ) from None
    return parse_date(text, dataset.time_zone)


def parse_date(text: str, zone: str | None = None) -> int:
    """Microseconds since 1970 of what a person types: ``2011-10-01`` or ``2011-10-01T12:00``.

    A moment that names its zone is told by the clock of ``zone``, or UTC's.

    Raises
    ------
    UsageError
        If the text is not a date.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a date", expected="a date such as 2011-10-01") from None
    if moment.tzinfo and zone is not None:
        moment = moment.astimezone(ZoneInfo(zone))
        return to_microseconds(moment.replace(tzinfo=UTC))
    return to_microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exactly."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def days(number: float) -> int:
    """Length of so many days in microseconds."""
    return round(number * MICROSECONDS_PER_DAY)


def format_time(time: int, kind: TimeKind) -> str:
    """Print a time of a Dataset: a date (with hours if it is not midnight), or the order's value."""
    if kind == "order":
        return str(time)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)
    if time % MICROSECONDS_PER_DAY == 0:
        return date(moment.year, moment.month, moment.day).isoformat()
    return moment.strftime("%Y-%m-%dT%H:%M")


def require_timestamps(dataset: Dataset, wanted: str) -> None:
    """Refuse windows in days on data that has only an order.

    Raises
    ------
    DataError
        If the Dataset has no timestamps.
    """
    if dataset.time_kind != "timestamp":
        raise DataError(
            f"{wanted} needs timestamps, and this data has only an order column",
            column="timestamp",
            expected="a timestamp for every event",
            mend="prepare the data with a timestamp column",
        )


def _map(path: Path) -> npt.NDArray[Any]:
    try:
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an empty array cannot be mapped
        mapped = np.load(path, allow_pickle=False)
    return mapped
