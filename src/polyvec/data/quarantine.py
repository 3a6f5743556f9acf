"""Rows that were set aside: where they stood, why, and what they held."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

    from polyvec.data.table import Malformed

WRONG_FIELDS = "wrong number of fields"
SCHEMA = pa.schema(
    [("file", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("raw", pa.string())]
)


class Quarantine:
    """Appends bad rows to a Parquet file (``file, row, reason, raw``) and counts them by reason.

    ``row`` counts data rows from 1; ``raw`` is the row as JSON text, or its line where it could not be cut
    into fields. A context manager.
    """

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd", write_page_checksum=True)

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._writer.close()

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, file: str, rows: npt.NDArray[np.int64], reasons: pl.Series, raw: pl.DataFrame) -> None:
        """Set source rows aside."""
        if not len(raw):
            return
        text = raw.select(pl.struct(pl.all()).struct.json_encode()).to_series()
        self._write(file, pl.Series(rows), reasons, text)

    def add_malformed(self, file: str, malformed: list[Malformed], prefix: str = "") -> None:
        """Set rows aside that could not be cut into fields."""
        if malformed:
            rows, texts = (pl.Series(values) for values in zip(*malformed, strict=True))
            reasons = pl.Series([prefix + WRONG_FIELDS]).new_from_index(0, len(rows))
            self._write(file, rows, reasons, texts)

    def _write(self, file: str, rows: pl.Series, reasons: pl.Series, raw: pl.Series) -> None:
        frame = pl.DataFrame({"row": rows, "reason": reasons, "raw": raw})
        table = frame.select(pl.lit(file).alias("file"), "row", "reason", "raw").to_arrow().cast(SCHEMA)
        self._writer.write_table(table)
        self.counts.update(dict(frame["reason"].value_counts().iter_rows()))
