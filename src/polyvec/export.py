"""Embeddings as plain files for other tools: NumPy arrays, long Parquet tables, or a challenge's submission.

Shapes: **U** users, **C** vectors per user, **N** items, **D** width.

On disk, beside ``manifest.json``::

    npy        users.npy [U, C, D], items.npy [N, D],
               user_ids.parquet and item_ids.parquet (one column, in the rows' order)
    parquet    users.parquet: user_id, interest (0 … C-1), vector [D], U·C rows
               items.parquet: item_id, vector [D], N rows
    recsys2025 client_ids.npy [U], embeddings.npy [U, C·D]: users alone, see polyvec.recsys2025

Ids are Parquet in the first two: NumPy's fixed-width text drops trailing NULs and grows with the longest id.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polyvec.artifact import Manifest, read_manifest, writing
from polyvec.embeddings import PART_ROWS, Embeddings, Side, check_finite
from polyvec.errors import UsageError
from polyvec.recsys2025 import CLIENT_IDS, EMBEDDINGS, check_width, client_ids_of, read_submission

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

Format = Literal["npy", "parquet", "recsys2025"]
Precision = Literal["float32", "float16"]
SIDES: tuple[Literal["users", "items"], ...] = ("users", "items")


def export(
    embeddings: Embeddings,
    path: Path,
    file_format: Format = "npy",
    dtype: Precision | None = None,
    *,
    overwrite: bool = False,
    parents: Mapping[str, Manifest] | None = None,
) -> Manifest:
    """Write the folder ``path``, whole or not at all; the vectors are not scaled to length one.

    Parameters
    ----------
    embeddings
        What to write.
    path
        The folder to make.
    file_format
        ``npy``, ``parquet`` or ``recsys2025`` (users alone).
    dtype
        Precision of the numbers; without it float32, and float16 for ``recsys2025``, which knows no other.
    overwrite
        Whether an earlier export at ``path`` may be replaced.
    parents
        Manifests of what the vectors were made from, by role, for the export's own manifest.

    Returns
    -------
    Manifest
        Of the folder, of kind ``export``; ``meta["score"]`` says how users and items are to be compared,
        ``meta["provenance"]`` what the embeddings tell of their making.

    Raises
    ------
    ArtifactError
        If ``path`` is in the way.
    UsageError
        If a submission is wanted in float32.
    DataError
        If a number is too large for float16, naming the id; if users cannot be a submission: see
        :mod:`polyvec.recsys2025`.
    """
    precision = np.dtype(dtype or ("float16" if file_format == "recsys2025" else "float32"))
    meta = {
        "format": file_format,
        "dtype": precision.name,
        "users": len(embeddings.users),
        "items": 0 if file_format == "recsys2025" else len(embeddings.items),
        "C": embeddings.num_vectors,
        "D": embeddings.width,
        "score": embeddings.score,
        "provenance": embeddings.provenance,
    }
    with writing(path, "export", meta=meta, parents=parents, overwrite=overwrite) as stage:
        if file_format == "recsys2025":
            _write_submission(stage, embeddings.users, precision)
        else:
            write_side = _write_npy if file_format == "npy" else _write_parquet
            for name in SIDES:
                write_side(stage, name, getattr(embeddings, name), precision)
    return read_manifest(path, "export")


def _write_npy(stage: Path, name: str, side: Side, dtype: np.dtype[Any]) -> None:
    pieces = (vectors for _, vectors in _converted(side, dtype))
    _write_array(stage / f"{name}.npy", dtype, side.vectors.shape, pieces)
    side.ids.save(stage / f"{side.ids.name}s.parquet")


def _write_submission(stage: Path, users: Side, dtype: np.dtype[Any]) -> None:
    """Write users as a submission, and read it back as the validator would."""
    if dtype != np.float16:
        raise UsageError(f"a submission cannot be of {dtype.name}", expected="float16")
    shape = (len(users), math.prod(users.vectors.shape[1:]))
    check_width(shape[1])
    client_ids = client_ids_of(users.ids)
    _write_array(stage / CLIENT_IDS, client_ids.dtype, client_ids.shape, [client_ids])
    _write_array(stage / EMBEDDINGS, dtype, shape, (vectors for _, vectors in _converted(users, dtype)))
    read_submission(stage)


def _write_array(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], pieces: Iterable[npt.NDArray[Any]]
) -> None:
    """Write an array of this type and shape, the numbers of which come in pieces."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for piece in pieces:
            stream.write(piece.tobytes())


def _write_parquet(stage: Path, name: str, side: Side, dtype: np.dtype[Any]) -> None:
    with pq.ParquetWriter(
        stage / f"{name}.parquet", _schema(side, dtype), compression="none", write_page_checksum=True
    ) as writer:
        for rows, vectors in _converted(side, dtype):
            writer.write_table(_long_table(side, rows, vectors, writer.schema))


def _converted(side: Side, dtype: np.dtype[Any]) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Rows of a side and their vectors in the wanted precision, in pieces that fit into memory."""
    for start in range(0, len(side), PART_ROWS):
        rows = slice(start, min(start + PART_ROWS, len(side)))
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused by name
            vectors = side.vectors[rows].astype(dtype)
        check_finite(vectors, side.ids, start, f"finite numbers in {dtype.name}")
        yield rows, vectors


def _schema(side: Side, dtype: np.dtype[Any]) -> pa.Schema:
    fields = [pa.field(side.ids.name, pa.array(side.ids.series[:0].to_arrow()).type)]
    if side.vectors.ndim == 3:
        fields.append(pa.field("interest", pa.int32()))
    return pa.schema([*fields, ("vector", pa.list_(pa.from_numpy_dtype(dtype), side.vectors.shape[-1]))])


def _long_table(side: Side, rows: slice, vectors: npt.NDArray[Any], schema: pa.Schema) -> pa.Table:
    """One row per vector: ``[rows, C, D]`` of users becomes rows·C rows, ``[rows, D]`` of items stays."""
    per_id = vectors.shape[1] if vectors.ndim == 3 else 1
    ids = side.ids.take(np.repeat(np.arange(rows.start, rows.stop), per_id))
    columns = [
        ids.to_arrow(),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[-1]),
    ]
    if vectors.ndim == 3:
        columns.insert(1, pa.array(np.tile(np.arange(per_id, dtype=np.int32), len(vectors))))
    return pa.Table.from_arrays(columns, schema=schema)
