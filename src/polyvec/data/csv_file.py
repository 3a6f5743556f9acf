"""CSV and TSV files as streams of text: no value is ever turned into a number, no row is ever lost."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from polyvec.data.table import Chunk, Malformed, Table, reading, refuse_repeated_names
from polyvec.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

DELIMITERS = (",", ";", "\t", "|")
BLOCK_BYTES = 32 * 2**20
BYTES_PER_ROW = {".gz": 8, "": 40}  # only to guess how many rows a file has


def csv_table(path: Path, delimiter: str | None, encoding: str) -> Table:
    """Open a CSV file: read its header and nothing else.

    Parameters
    ----------
    path
        A ``.csv`` or ``.tsv`` file, or one of these with ``.gz``.
    delimiter
        One character; None guesses comma, semicolon, tab or bar from the header.
    encoding
        Any text encoding of Python.

    Raises
    ------
    DataError
        If the file is empty, damaged, not in that encoding, or has two columns of one name.
    """
    file = _CsvFile(path, delimiter, encoding)
    names = file.header()
    refuse_repeated_names(names, str(path))
    return Table(
        name=str(path),
        schema=dict.fromkeys(names, pl.String()),
        rows=path.stat().st_size // BYTES_PER_ROW.get(path.suffix, BYTES_PER_ROW[""]),
        is_text=True,
        chunks=file.chunks,
    )


@dataclass
class _CsvFile:
    path: Path
    delimiter: str | None
    encoding: str

    def header(self) -> list[str]:
        with self._guarded(), self._text() as stream:
            line = stream.readline()
            stream.seek(0)
            names = next(csv.reader(stream, delimiter=self._delimiter_of(line), strict=True), [])
        if not names:
            raise DataError(
                f"{self.path} is empty",
                file=self.path,
                expected="a header and at least one row",
                mend="remove the file from the list or export it again",
            )
        return names

    def chunks(self, columns: list[str]) -> Iterator[Chunk]:
        rows = _RowNumbers()
        with self._guarded(), self._bytes() as stream:
            reader = pa_csv.open_csv(
                stream,
                read_options=pa_csv.ReadOptions(
                    use_threads=False,  # no slower, and only so malformed rows come with their number
                    block_size=BLOCK_BYTES,
                    encoding=self.encoding,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._delimiter(), newlines_in_values=True, invalid_row_handler=rows.reject
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()),
                    include_columns=columns,
                    null_values=[""],  # NA, null and None are words
                    strings_can_be_null=True,
                ),
            )
            for batch in reader:
                self._refuse_open_quote(rows.malformed)
                yield rows.chunk(pl.from_arrow(batch))  # type: ignore[arg-type]
            self._refuse_open_quote(rows.malformed)
            yield rows.chunk(pl.DataFrame(schema=dict.fromkeys(columns, pl.String)))

    def _delimiter(self) -> str:
        with self._text() as stream:
            return self._delimiter_of(stream.readline())

    def _delimiter_of(self, line: str) -> str:
        return self.delimiter or max(DELIMITERS, key=line.count)

    def _text(self) -> io.TextIOWrapper:
        encoding = "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding
        return io.TextIOWrapper(self._raw(), encoding=encoding, newline="")

    def _raw(self) -> Any:
        return gzip.open(self.path, "rb") if self.path.suffix == ".gz" else self.path.open("rb")

    def _bytes(self) -> Any:
        return pa.input_stream(str(self.path), compression="gzip" if self.path.suffix == ".gz" else None)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Say of every failure which file it was, and where."""
        try:
            with reading(str(self.path), "gzip" if self.path.suffix == ".gz" else "CSV"):
                yield
        except UnicodeDecodeError as error:
            raise self._wrong_encoding() from error
        except csv.Error as error:
            raise DataError(
                f"the header of {self.path} cannot be cut into names: {error}",
                file=self.path,
                expected="names with a delimiter between them, quotes in pairs",
                mend="mend the first line of the file",
            ) from error
        except DataError as error:
            if "UTF8" in str(error.__cause__):
                raise self._wrong_encoding() from error
            if "straddling" in str(error.__cause__):
                raise self._endless_row() from error
            raise

    def _wrong_encoding(self) -> DataError:
        return DataError(
            f"{self.path} is not {self.encoding.upper()} text",
            file=self.path,
            row=self._first_bad_line(),
            expected=f"text in {self.encoding}",
            mend="name the file's encoding, for example --encoding latin-1",
        )

    def _first_bad_line(self) -> int | None:
        """Data row in which decoding fails (as lines are counted), to help a person find it."""
        decoder = codecs.getincrementaldecoder(self.encoding)()
        with self._raw() as stream:
            for number, line in enumerate(stream):
                try:
                    decoder.decode(line)
                except UnicodeDecodeError:
                    return number
        return None

    def _endless_row(self) -> DataError:
        return DataError(
            f"{self.path} has a row longer than {BLOCK_BYTES // 2**20} MiB",
            file=self.path,
            expected="rows that end",
            mend="look for a quote that is opened and never closed",
        )

    def _refuse_open_quote(self, malformed: list[Malformed]) -> None:
        for bad in malformed:
            if "\n" in bad.text and bad.text.count('"') % 2:
                raise DataError(
                    "a quote is opened and never closed",
                    file=self.path,
                    row=bad.row,
                    expected='quotes in pairs, a quote inside a text doubled: "5"" screen"',
                    mend="close the quote, or choose the right --delimiter",
                )


@dataclass
class _RowNumbers:
    """Counts data rows from 1 while malformed ones are taken out of the stream."""

    next_row: int = 1
    malformed: list[Malformed] = field(default_factory=list)

    def reject(self, row: Any) -> str:
        """Keep a row with the wrong number of fields aside (callback of the CSV reader)."""
        self.malformed.append(Malformed(row.number - 1, row.text or ""))
        return "skip"

    def chunk(self, frame: pl.DataFrame) -> Chunk:
        """Give the good rows of the next batch their numbers, and hand over the malformed ones."""
        rejected = np.array([bad.row for bad in self.malformed], dtype=np.int64)
        candidates = np.arange(self.next_row, self.next_row + len(frame) + len(rejected))
        rows: npt.NDArray[np.int64] = candidates[~np.isin(candidates, rejected)][: len(frame)]
        if len(rows):
            self.next_row = int(rows[-1]) + 1
        # the reader may be a block ahead: rows rejected beyond this batch stay for the next one
        ready = [bad for bad in self.malformed if bad.row < self.next_row or not len(rows)]
        self.malformed = [bad for bad in self.malformed if bad.row >= self.next_row and len(rows)]
        return Chunk(frame, rows, ready)
