"""Any source of a table: files, globs of files, and frames of pandas, Polars and Arrow."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from polyvec.data.csv_file import csv_table
from polyvec.data.table import Chunk, Table, reading, refuse_repeated_names
from polyvec.errors import DataError, UsageError

Source = object
"""A path, a glob, a pandas, Polars or Arrow frame, or a list of these."""
CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
CHUNK_ROWS = 2**20
CHUNK_BYTES = 128 * 2**20
READ_ROWS = 2**17


def open_tables(source: Source, delimiter: str | None = None, encoding: str = "utf-8") -> list[Table]:
    """Open every table of a source, in the order given (files of a glob by name).

    Parameters
    ----------
    source
        A path, a glob, a pandas, Polars (also lazy) or Arrow frame, or a list of these.
    delimiter, encoding
        For CSV files; None guesses the delimiter from the header.

    Raises
    ------
    DataError
        If a file is missing, damaged, a folder, of an unknown kind, or has two columns of one name.
    UsageError
        If a source is none of the above.
    """
    sources = list(source) if isinstance(source, list | tuple) else [source]
    tables = [table for one in sources for table in _open(one, delimiter, encoding)]
    if not tables:
        raise UsageError("no source was given", expected="at least one file or frame")
    return tables


def read_whole(source: Source) -> pl.DataFrame:
    """Read a small table whole, such as labels of users; what is empty in a CSV file is null.

    Raises
    ------
    DataError
        If it cannot be opened (see :func:`open_tables`), or a row cannot be cut into fields.
    """
    frames = []
    for table in open_tables(source):
        for chunk in table.chunks(list(table.schema)):
            if chunk.malformed:
                raise DataError(
                    f"a row has not as many fields as the header: {chunk.malformed[0].text[:80]!r}",
                    file=table.name,
                    row=chunk.malformed[0].row,
                    expected=f"{len(table.schema)} fields",
                    mend="quote fields that hold the delimiter",
                )
            is_text = pl.String if table.is_text else ()
            frames.append(chunk.frame.with_columns(pl.col(is_text).replace("", None)))
        if not frames:
            frames.append(pl.DataFrame(schema=table.schema))
    return pl.concat(frames)


def _open(source: Source, delimiter: str | None, encoding: str) -> Iterator[Table]:
    if isinstance(source, str | Path):
        for path in _expand(str(source)):
            yield _open_file(path, delimiter, encoding)
    else:
        yield _open_frame(source)


def _expand(pattern: str) -> list[Path]:
    """Files that a path or glob names."""
    path = Path(pattern)
    if path.is_dir():
        raise DataError(
            f"{pattern} is a folder",
            file=pattern,
            expected="files",
            mend=f"name the files in it, for example '{path / '*.parquet'}'",
        )
    if path.exists():
        return [path]
    found = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []  # noqa: PTH207
    if not found:
        what = f"no file matches {pattern}" if glob.has_magic(pattern) else f"{pattern} does not exist"
        raise DataError(what, file=pattern, expected="an existing file", mend="check the path")
    return [file for name in found for file in _expand(glob.escape(name) if name == pattern else name)]


def _open_file(path: Path, delimiter: str | None, encoding: str) -> Table:
    name = path.name.lower()
    if name.endswith(CSV):
        return csv_table(path, delimiter, encoding)
    if name.endswith(PARQUET):
        return _parquet_table(path)
    if name.endswith(ARROW):
        return _arrow_table(path)
    raise DataError(
        f"{path} is of an unknown kind",
        file=path,
        expected="a name that ends in " + ", ".join(CSV + PARQUET + ARROW),
        mend="rename the file or convert it to Parquet",
    )


def _parquet_table(path: Path) -> Table:
    with reading(str(path), "Parquet"), pq.ParquetFile(path) as file:
        rows, schema = file.metadata.num_rows, _polars_schema(file.schema_arrow, str(path))

    def chunks(columns: list[str]) -> Iterator[Chunk]:
        with (
            reading(str(path), "Parquet"),
            pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file,
        ):
            yield from _chunks(file.iter_batches(READ_ROWS, columns=columns), columns)

    return Table(str(path), schema, rows, is_text=False, chunks=chunks)


def _arrow_table(path: Path) -> Table:
    with reading(str(path), "Arrow"), pa.memory_map(str(path)) as file:
        schema = _polars_schema(_arrow_reader(file).schema, str(path))

    def chunks(columns: list[str]) -> Iterator[Chunk]:
        with reading(str(path), "Arrow"), pa.memory_map(str(path)) as file:
            reader = _arrow_reader(file)
            stream = isinstance(reader, pa.RecordBatchReader)
            batches = reader if stream else map(reader.get_batch, range(reader.num_record_batches))
            yield from _chunks(batches, columns)

    return Table(str(path), schema, path.stat().st_size // 32, is_text=False, chunks=chunks)


def _arrow_reader(file: Any) -> Any:
    """Reader of an Arrow file or, if it is one, stream."""
    try:
        return pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_stream(file)


def _open_frame(frame: Source) -> Table:
    if isinstance(frame, pl.DataFrame | pl.LazyFrame):
        return _polars_table(frame)
    if isinstance(frame, pa.Table | pa.RecordBatch):
        return _arrow_frame_table(frame)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return _pandas_table(frame)
    raise UsageError(
        f"a {type(frame).__name__} is no source of rows",
        expected="a path, a glob, a pandas, Polars or Arrow frame, or a list of these",
    )


def _polars_table(frame: pl.DataFrame | pl.LazyFrame) -> Table:
    lazy = frame.lazy()

    def chunks(columns: list[str]) -> Iterator[Chunk]:
        with _frame_reading("<Polars frame>"):
            batches = lazy.select(columns).collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True)
            yield from _numbered(batches)

    with _frame_reading("<Polars frame>"):
        rows = int(lazy.select(pl.len()).collect().item())
        return Table("<Polars frame>", dict(lazy.collect_schema()), rows, is_text=False, chunks=chunks)


def _arrow_frame_table(frame: Any) -> Table:
    table = frame if isinstance(frame, pa.Table) else pa.Table.from_batches([frame])

    def chunks(columns: list[str]) -> Iterator[Chunk]:
        with _frame_reading("<Arrow table>"):
            yield from _chunks(table.select(columns).to_batches(CHUNK_ROWS), columns)

    schema = _polars_schema(table.schema, "<Arrow table>")
    return Table("<Arrow table>", schema, table.num_rows, is_text=False, chunks=chunks)


def _pandas_table(frame: Any) -> Table:
    """Convert slice by slice, so that the frame is never copied whole."""
    name = "<pandas frame>"
    refuse_repeated_names([str(column) for column in frame.columns], name)
    with _frame_reading(name):
        schema = pa.Schema.from_pandas(frame, preserve_index=False)

    def chunks(columns: list[str]) -> Iterator[Chunk]:
        part = pa.schema([schema.field(column) for column in columns])
        with _frame_reading(name):
            batches = (
                pa.RecordBatch.from_pandas(frame.iloc[start : start + READ_ROWS], part, preserve_index=False)
                for start in range(0, len(frame), READ_ROWS)
            )
            yield from _chunks(batches, columns)

    return Table(name, _polars_schema(schema, name), len(frame), is_text=False, chunks=chunks)


def _frame_reading(name: str) -> AbstractContextManager[None]:
    return reading(
        name,
        "a table",
        expected="columns that each have one type",
        mend="convert mixed columns to text (in pandas: df[c].astype('string'))",
    )


def _polars_schema(schema: Any, name: str) -> dict[str, pl.DataType]:
    refuse_repeated_names(schema.names, name)
    with _frame_reading(name):
        return {field.name: pl.Series(pa.array([], field.type)).dtype for field in schema}


def _chunks(batches: Iterable[Any], columns: list[str]) -> Iterator[Chunk]:
    """Gather small record batches and cut large ones, so that chunks are neither."""
    return _numbered(pl.DataFrame(pl.from_arrow(table)) for table in _gathered(batches, columns))


def _gathered(batches: Iterable[Any], columns: list[str]) -> Iterator[Any]:
    waiting: list[Any] = []
    for whole in batches:
        for start in range(0, whole.num_rows, CHUNK_ROWS):
            waiting.append(whole.select(columns).slice(start, CHUNK_ROWS))
            if _is_enough(waiting):
                yield pa.Table.from_batches(waiting)
                waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _is_enough(batches: Sequence[Any]) -> bool:
    rows: int = sum(batch.num_rows for batch in batches)
    size: int = sum(batch.nbytes for batch in batches)
    return rows >= CHUNK_ROWS or size >= CHUNK_BYTES


def _numbered(frames: Iterable[pl.DataFrame]) -> Iterator[Chunk]:
    before = 0
    for frame in frames:
        yield Chunk(frame, np.arange(before + 1, before + 1 + len(frame)))
        before += len(frame)
