"""Events on their way: spread over files by user, so that one file at a time fits into memory."""

from __future__ import annotations

import io
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc

from polyvec.data.checks import TIME
from polyvec.data.columns import USER
from polyvec.ids import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

HEADER_BYTES = 128
COMPACT_ROWS = 4 * 2**20


class Interner:
    """Gives every distinct value a code, in the order of first appearance."""

    def __init__(self, dtype: pl.DataType | type[pl.DataType]) -> None:
        self._known = pl.DataFrame(schema={"value": dtype, "code": pl.UInt32})

    def __len__(self) -> int:
        return len(self._known)

    @property
    def values(self) -> pl.Series:
        """Distinct values in code order."""
        return self._known["value"]

    def codes(self, values: pl.Series) -> pl.Series:
        """UInt32 code of every value, null for null."""
        asked = pl.DataFrame({"value": values})
        codes = self._lookup(asked)
        new = asked.filter(codes.is_null() & values.is_not_null())["value"].unique(maintain_order=True)
        if not len(new):
            return codes
        first = len(self._known)
        numbers = pl.int_range(first, first + len(new), dtype=pl.UInt32, eager=True)
        self._known = pl.concat([self._known, pl.DataFrame({"value": new, "code": numbers})]).rechunk()
        return self._lookup(asked)

    def _lookup(self, asked: pl.DataFrame) -> pl.Series:
        return asked.join(self._known, on="value", how="left", maintain_order="left")["code"]


class Spill:
    """Events spread over files by a hash of the user; a context manager that closes the files."""

    def __init__(self, folder: Path, partitions: int) -> None:
        self._paths = [folder / f"{number:04d}.arrow" for number in range(partitions)]
        self._writers: list[Any] = []
        self._open = ExitStack()
        folder.mkdir()

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._open.close()

    def add(self, events: pl.DataFrame) -> None:
        """Append events, in their order, to the files of their users."""
        if len(self._paths) == 1:
            self._append(0, events)
            return
        partition = (events[USER].hash() % len(self._paths)).cast(pl.UInt16).alias("partition")
        parts = events.with_columns(partition).partition_by("partition", include_key=False, as_dict=True)
        for (number,), part in parts.items():
            self._append(int(str(number)), part)

    def _append(self, number: int, part: pl.DataFrame) -> None:
        table = part.to_arrow()
        if not self._writers:
            self._start(table.schema)
        self._writers[number].write_table(table)

    def _start(self, schema: Any) -> None:
        for path in self._paths:
            stream = self._open.enter_context(pa.OSFile(str(path), "wb"))
            self._writers.append(self._open.enter_context(pa.ipc.new_stream(stream, schema)))

    def partitions(self) -> Iterator[Iterator[pl.DataFrame]]:
        """Give back the events, file by file and batch by batch; every file is removed once read."""
        self._open.close()
        for path in self._paths:
            yield _batches(path)
            path.unlink(missing_ok=True)


def _batches(path: Path) -> Iterator[pl.DataFrame]:
    if not path.exists():
        return
    with pa.OSFile(str(path)) as stream, pa.ipc.open_stream(stream) as reader:
        for batch in reader:
            yield pl.DataFrame(pl.from_arrow(batch))


@dataclass
class Histories:
    """Turns the events of one partition into histories, and counts what that removed.

    Attributes
    ----------
    keep_duplicates
        Whether events equal in all columns stay.
    max_history
        Latest events to keep of each user; None keeps all.
    duplicates, cut
        Events removed so far, as repeated and as beyond ``max_history``.
    users_cut
        Users that lost events to ``max_history``.
    """

    keep_duplicates: bool
    max_history: int | None
    duplicates: int = 0
    cut: int = 0
    users_cut: int = 0

    def build(self, batches: Iterator[pl.DataFrame]) -> tuple[pl.Series, pl.DataFrame]:
        """Distinct users, sorted, and their events sorted by (user, time, source order).

        The column ``user_id`` of the events becomes ``user``, an index into the users. With ``max_history``
        memory is bounded by what is kept, however many events one user has.
        """
        waiting: list[pl.DataFrame] = []
        cut_users: set[Any] = set()
        fresh = 0
        for batch in batches:
            waiting.append(batch)
            fresh += len(batch)
            if self.max_history is not None and fresh > COMPACT_ROWS:
                users, events, was_cut = self._tidy(pl.concat(waiting, rechunk=True))
                cut_users.update(was_cut)
                back = users.gather(events["user"]).alias(USER)
                waiting, fresh = [events.drop("user").insert_column(0, back)], 0
        if not waiting:
            return pl.Series(USER, [], dtype=pl.String), pl.DataFrame()
        users, events, was_cut = self._tidy(pl.concat(waiting, rechunk=True))
        self.users_cut += len(cut_users.union(was_cut))
        return users, events

    def _tidy(self, events: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame, list[Any]]:
        users = events[USER].unique().sort()
        rows = Vocabulary(users, USER).rows(events[USER])
        order = stable_order(rows, events[TIME].to_numpy())
        events = events.drop(USER).insert_column(0, pl.Series("user", rows))[order]
        if not self.keep_duplicates:
            distinct = _drop_repeated(events)
            self.duplicates += len(events) - len(distinct)
            events = distinct
        if self.max_history is None:
            return users, events, []
        latest, was_cut = _latest(events, self.max_history)
        self.cut += len(events) - len(latest)
        return users, latest, users.gather(was_cut).to_list()


def stable_order(users: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Order by (user, time) that leaves ties as they are.

    One packed 63-bit key, where user and time fit into it, costs a third of a sort by two keys.
    """
    first, last = int(times.min()), int(times.max())
    if last - first < 2**62:
        since = times - first
        step = int(np.gcd.reduce(since)) or 1
        span = (last - first) // step + 1
        if (int(users.max()) + 1) * span < 2**63:
            return np.argsort(users * span + since // step, kind="stable")
    return np.lexsort((times, users))


def _drop_repeated(events: pl.DataFrame) -> pl.DataFrame:
    """Keep the first of equal events. Equal ones have equal times, so only ties are compared."""
    user, time = events["user"].to_numpy(), events[TIME].to_numpy()
    tied = np.flatnonzero((user[1:] == user[:-1]) & (time[1:] == time[:-1]))
    if not len(tied):
        return events
    among = np.unique(np.concatenate([tied, tied + 1]))
    first = events[among].select(~pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    keep = np.ones(len(events), dtype=np.bool_)
    keep[among[first]] = False
    return events.filter(pl.Series(keep))


def _latest(events: pl.DataFrame, number: int) -> tuple[pl.DataFrame, npt.NDArray[np.int64]]:
    """The last ``number`` events of each user of sorted events, and the users that had more."""
    user = events["user"].to_numpy()
    counts = np.bincount(user)
    from_end = np.cumsum(counts)[user] - np.arange(len(user))
    return events.filter(pl.Series(from_end <= number)), np.flatnonzero(counts > number)


class NpyWriter:
    """Appends to a one-dimensional .npy file whose length is known only at the end; a context manager."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._rows = 0
        self._stream = path.open("wb")
        self._stream.seek(HEADER_BYTES)

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        with self._stream:
            if kind is None:
                self._stream.seek(0)
                self._stream.write(self._header())

    def append(self, values: npt.NDArray[Any]) -> None:
        """Write more values, converted to the file's type."""
        self._stream.write(np.ascontiguousarray(values, dtype=self._dtype).data)
        self._rows += len(values)

    def _header(self) -> bytes:
        """Header of format 1.0, which NumPy pads so that it can grow in place."""
        header = io.BytesIO()
        fields = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows,),
        }
        np.lib.format.write_array_header_1_0(header, fields)
        if header.tell() != HEADER_BYTES:
            raise ValueError(f"an .npy header of {header.tell()} bytes where {HEADER_BYTES} were reserved")
        return header.getvalue()
