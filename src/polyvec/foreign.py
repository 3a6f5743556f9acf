"""Vectors made elsewhere become Embeddings, which every other verb reads.

Shapes: **U** users, **C** vectors per user, **N** items, **D** width, **R** rows of a table.

What is understood::

    users.npy      [U, D] or [U, C, D], and user ids in the same order
    items.npy      [N, D], and item ids in the same order
    users.parquet  user_id, vector [D]               one row per user of one vector
                   user_id, interest, vector [D]     one row per vector, interest 0 … C-1
                   user_id, vectors [C·D]            one row per user, the vectors one after another
    items.parquet  item_id, vector [D]
    FOLDER         written by ``polyvec export``, or a submission of the RecSys Challenge 2025

Files of ids are ``.npy``, ``.parquet`` (one column), ``.txt`` or ``.csv`` (one id per line, kept as text:
``007`` is not ``7``). In a join with a Dataset text and integers meet if written alike: ``7`` and ``"7"``.
"""

from __future__ import annotations

import csv
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from polyvec.artifact import MANIFEST, read_manifest, refuse_existing
from polyvec.data.overlap import check_overlap
from polyvec.embeddings import Embeddings, Side
from polyvec.errors import DataError, UsageError
from polyvec.ids import Vocabulary, normalise_ids
from polyvec.npy import read_npy
from polyvec.recsys2025 import CLIENT_IDS, read_submission

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from polyvec.artifact import Manifest
    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Score

VECTOR_COLUMNS = ("vector", "vectors")
OTHER_COLUMNS = {*VECTOR_COLUMNS, "interest", "events", "state"}
SIDES = {"user_id": "users", "item_id": "items"}


@dataclass(frozen=True, eq=False)
class _Found:
    """Vectors of one side as they were found.

    Attributes
    ----------
    file
        Where.
    ids
        One per row of ``vectors``.
    vectors
        ``[rows, numbers]`` or ``[U, C, D]``.
    joined
        Whether a row of ``[rows, numbers]`` may hold several vectors one after another.
    """

    file: Path
    ids: pl.Series
    vectors: npt.NDArray[Any]
    joined: bool = False


def import_vectors(
    users: Path | str,
    out: Path | str,
    *,
    items: Path | str | None = None,
    user_ids: Path | str | None = None,
    item_ids: Path | str | None = None,
    score: Score | None = None,
    provenance: dict[str, Any] | None = None,
    dataset: Dataset | None = None,
    overwrite: bool = False,
) -> Embeddings:
    """Read vectors from files and write Embeddings into the folder ``out``, whole or not at all.

    Parameters
    ----------
    users
        ``.npy`` or ``.parquet`` file, or a folder (see the module's own text). A folder of ``polyvec export``
        brings its items along, and its score and provenance.
    out
        Folder to write.
    items
        The same for items. Without any the Embeddings have none: profile tasks can be asked, matching cannot.
    user_ids, item_ids
        Ids of ``.npy`` vectors.
    score
        How users and items are compared; without it the export's own, or ``max_cosine``.
    provenance
        What is known of the making: ``system`` (name in reports), ``events_until``, ``trained_until``,
        ``held_back``, ``trained_held_back`` (see :class:`polyvec.embeddings.Embeddings`); checks for leaks
        rely on it.
    dataset
        Data that the vectors are of: then vectors of none of its users or items are refused.
    overwrite
        Whether Embeddings at ``out`` may be replaced.

    Raises
    ------
    UsageError
        If a file does not exist, is of an unknown kind, or its ids are missing.
    DataError
        If ids are empty, not distinct, neither text nor integers, or not one per vector; if vectors have
        another shape, or a number that is not finite, naming the id; if they are of none of the Dataset's
        users or items.
    ArtifactError
        If ``out`` is in the way, or an export is damaged.
    """
    refuse_existing(Path(out), "embeddings", overwrite=overwrite)
    if items is None and item_ids is not None:
        raise UsageError(
            "ids of items are given without items", file=item_ids, mend="name them: --items FILE"
        )
    manifest = _manifest(Path(users))
    told = {} if manifest is None else manifest.meta
    if items is None and told.get("format") in ("npy", "parquet"):
        items = users
    item_side = None if items is None else _item_side(_read(items, item_ids, "item_id"))
    found = _read(users, user_ids, "user_id")
    if manifest is not None:  # a submission, and a table without rows, do not tell C
        found = replace(found, vectors=found.vectors.reshape(len(found.ids), told["C"], told["D"]))
    user_side = _user_side(found, None if item_side is None else item_side.vectors.shape[1])
    embeddings = Embeddings(
        user_side,
        item_side or _no_items(user_side),
        score or told.get("score", "max_cosine"),
        {"system": "foreign"} | told.get("provenance", {}) | (provenance or {}),
    )
    if dataset is not None:
        check_overlap(embeddings, dataset)
    embeddings.save(Path(out), overwrite=overwrite, parents={"export": manifest} if manifest else None)
    return embeddings


def _manifest(path: Path) -> Manifest | None:
    """Manifest of an export; None if the path is no folder of polyvec's."""
    return read_manifest(path, "export") if (path / MANIFEST).is_file() else None


# --- from what was found to the sides of Embeddings


def _item_side(found: _Found) -> Side:
    _check_shape(found, (2,), "[items, D]")
    return _side(found, "item_id")


def _user_side(found: _Found, width: int | None) -> Side:
    """Give every user C vectors; those that were found one after another are cut to ``width``."""
    _check_shape(found, (2, 3), "[users, D] or [users, C, D]")
    if found.vectors.ndim == 2:
        numbers = found.vectors.shape[1]
        each = width if found.joined and width else numbers
        if numbers % each:
            raise DataError(
                f"each user has {numbers} numbers",
                file=found.file,
                expected=f"a multiple of {each}, the width of the items",
            )
        found = replace(found, vectors=found.vectors.reshape(len(found.vectors), numbers // each, each))
    return _side(found, "user_id")


def _side(found: _Found, name: str) -> Side:
    if found.vectors.dtype.kind not in "fiu":
        raise DataError(f"the vectors are of type {found.vectors.dtype}", file=found.file, expected="numbers")
    with _naming(found.file), np.errstate(over="ignore"):  # what does not fit float32 is refused by name
        return Side.from_arrays(_distinct(found.ids, name), found.vectors, name)


def _no_items(users: Side) -> Side:
    return Side.from_arrays([], np.zeros((0, users.vectors.shape[2]), users.vectors.dtype), "item_id")


def _check_shape(found: _Found, dimensions: tuple[int, ...], expected: str) -> None:
    shape = found.vectors.shape
    if len(shape) not in dimensions or 0 in shape[1:]:
        raise DataError(
            f"the vectors have shape {list(shape)}",
            file=found.file,
            expected=f"{expected}, with at least one number in a vector",
        )


def _distinct(ids: pl.Series, name: str) -> pl.Series:
    """Refuse empty and repeated ids, naming the row."""
    if ids.null_count():
        row = int(ids.is_null().arg_true()[0]) + 1
        raise DataError(f"{name} is empty", column=name, row=row, expected="an id in every row")
    again = (~ids.is_first_distinct()).arg_true()
    if len(again):
        raise DataError(
            f"{name} {ids[int(again[0])]!r} appears twice",
            column=name,
            row=int(again[0]) + 1,
            expected="distinct ids",
        )
    return ids


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Add the file to errors that do not know it."""
    try:
        yield
    except DataError as error:
        error.file = error.file or str(file)
        raise


# --- files and folders


def _read(source: Path | str, ids: Path | str | None, name: str) -> _Found:
    path = Path(source)
    if path.is_dir() or path.suffix == ".parquet":
        if ids is not None:
            kind = "a folder" if path.is_dir() else "a Parquet table"
            raise UsageError(f"{path} has ids of its own", file=ids, expected=f"no other ids beside {kind}")
        return _read_folder(path, name) if path.is_dir() else _read_table(path, name)
    if path.suffix != ".npy":
        raise UsageError(f"{path} is of an unknown kind", file=path, expected=".npy, .parquet or a folder")
    if not path.is_file():
        raise UsageError(f"{path} does not exist", file=path, expected="a .npy file")
    if ids is None:
        raise UsageError(
            f"{path} has no ids",
            expected="a file with one id per vector, in the same order",
            mend=f"name it: --{name.replace('_', '-')}s FILE",
        )
    return _read_arrays(path, Path(ids), name)


def _read_folder(path: Path, name: str) -> _Found:
    side = SIDES[name]
    if name == "user_id" and (path / CLIENT_IDS).is_file():
        client_ids, embeddings = read_submission(path)
        return _Found(path, pl.Series(name, np.asarray(client_ids)), embeddings, joined=True)
    if (path / f"{side}.npy").is_file():
        return _read_arrays(path / f"{side}.npy", path / f"{name}s.parquet", name)
    if (path / f"{side}.parquet").is_file():
        return _read_table(path / f"{side}.parquet", name)
    raise UsageError(
        f"{path} has no {side}",
        file=path,
        expected=f"{side}.npy, {side}.parquet" + (f" or {CLIENT_IDS}" if name == "user_id" else ""),
        mend="name a folder of polyvec export, or a file",
    )


def _read_arrays(path: Path, ids_path: Path, name: str) -> _Found:
    vectors = read_npy(path)
    with _naming(ids_path):
        ids = normalise_ids(_read_ids(ids_path, name), name)
    if vectors.ndim == 0 or len(vectors) != len(ids):
        raise DataError(
            f"{len(ids):,} ids for vectors of shape {list(vectors.shape)}",
            file=ids_path,
            column=name,
            expected=f"one id per vector of {path}, in the same order",
            mend=f"a header line counts as an id unless it is {name} in a .csv file"
            if _is_text(ids_path)
            else None,
        )
    return _Found(path, ids, vectors)


def _is_text(path: Path) -> bool:
    return path.suffix in (".txt", ".csv")


def _read_ids(path: Path, name: str) -> pl.Series:
    """Ids in the order of the file."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist", file=path, expected="a file of ids")
    if path.suffix == ".npy":
        return _ids_of_array(read_npy(path), name)
    if path.suffix == ".parquet":
        table = _parquet(path)
        return _series(table, _id_column(table, name), name)
    if _is_text(path):
        return _ids_of_lines(path, name)
    raise UsageError(f"{path} is of an unknown kind", file=path, expected=".npy, .parquet, .txt or .csv")


def _ids_of_array(ids: npt.NDArray[Any], name: str) -> pl.Series:
    if ids.ndim != 1 or ids.dtype.kind not in "iuU":
        raise DataError(
            f"the ids are of type {ids.dtype} and shape {list(ids.shape)}",
            column=name,
            expected="one dimension of integers or text",
            mend="save them as array.astype('int64') or array.astype(str)",
        )
    return pl.Series(name, ids.tolist() if ids.dtype.kind == "U" else ids.astype(ids.dtype.newbyteorder("=")))


def _ids_of_lines(path: Path, name: str) -> pl.Series:
    """One id per line; a ``.csv`` file may have quotes, and a header that is the ids' own name."""
    try:
        lines = path.read_text("utf-8-sig").removesuffix("\n").split("\n")
        rows = list(csv.reader(lines, strict=True)) if path.suffix == ".csv" else [[line] for line in lines]
    except UnicodeDecodeError as error:
        raise DataError("this is not UTF-8 text", file=path, expected="one id per line") from error
    except csv.Error as error:
        raise DataError(f"this is not CSV: {error}", file=path, expected="one id per line") from error
    if path.suffix == ".csv" and rows[0] == [name]:
        rows = rows[1:]
    if rows == [[""]] or rows == [[]]:  # an empty file has one empty line
        rows = []
    for number, fields in enumerate(rows, start=1):
        if len(fields) != 1 or not fields[0].strip():
            raise DataError(
                f"this row has {len(fields)} columns" if len(fields) > 1 else "this row is empty",
                file=path,
                column=name,
                row=number,
                expected="one id per line, in the order of the vectors",
            )
    return pl.Series(name, [fields[0] for fields in rows], dtype=pl.String)


# --- Parquet tables


def _parquet(path: Path) -> pa.Table:
    if not path.is_file():
        raise UsageError(f"{path} does not exist", file=path, expected="a Parquet file")
    try:
        return pq.read_table(path, partitioning=None, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"this is not a whole Parquet file: {error}", file=path) from error


def _id_column(table: pa.Table, name: str) -> str:
    """Column of the ids: the one of that name, or the only one that is nothing else."""
    others = [column for column in table.column_names if column not in OTHER_COLUMNS]
    if name in others:
        return name
    if len(others) != 1:
        raise DataError(
            f"there is no column {name}", expected=f"{name}, or one column that can only be the ids"
        )
    return str(others[0])


def _series(table: pa.Table, column: str, name: str) -> pl.Series:
    return pl.Series(name, pl.from_arrow(table[column]))


def _read_table(path: Path, name: str) -> _Found:
    table = _parquet(path)
    column = next((column for column in VECTOR_COLUMNS if column in table.column_names), None)
    with _naming(path):
        if column is None:
            raise DataError(
                "there is no column of vectors",
                expected=" or ".join(VECTOR_COLUMNS),
                mend=f"rename the one that holds them; the table has {', '.join(table.column_names)}",
            )
        ids = normalise_ids(_series(table, _id_column(table, name), name), name)
        vectors = _numbers(table[column], column, ids)
        if name == "user_id" and "interest" in table.column_names:
            return _by_user(path, ids, _series(table, "interest", "interest"), vectors)
    return _Found(path, ids, vectors, joined=column == "vectors")


def _numbers(lists: pa.ChunkedArray, column: str, ids: pl.Series) -> npt.NDArray[Any]:
    """Lists of equal length as an array ``[R, length]``."""
    is_list = [pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list]
    if not any(test(lists.type) for test in is_list) or not _is_number(lists.type.value_type):
        raise DataError(
            f"{column} is of type {lists.type}", column=column, expected="a list of numbers per row"
        )
    lengths = pc.fill_null(pc.list_value_length(lists), -1).to_numpy()
    fixed = pa.types.is_fixed_size_list(lists.type)
    length = lists.type.list_size if fixed else int(lengths[0]) if len(lengths) else 0
    _refuse(lengths < 0, "has no vector", column, ids, "a list of numbers in every row")
    _refuse(lengths != length, f"has not {length} numbers", column, ids, "lists of one length")
    numbers = pa.chunked_array([chunk.flatten() for chunk in lists.chunks], lists.type.value_type)
    if numbers.null_count:
        missing = numbers.is_null().to_numpy().reshape(-1, length).any(axis=1)
        _refuse(missing, "has an empty place in its vector", column, ids, "a number in every place")
    flat = numbers.to_numpy() if len(numbers) else np.zeros(0, lists.type.value_type.to_pandas_dtype())
    return flat.reshape(len(lists), length)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _by_user(path: Path, ids: pl.Series, interest: pl.Series, vectors: npt.NDArray[Any]) -> _Found:
    """Gather ``[R, D]`` of one row per (user, interest), in any order, into ``[U, C, D]``."""
    if not interest.dtype.is_integer() or interest.null_count() or (interest < 0).any():
        raise DataError(
            "interest is not a place from 0", column="interest", expected="integers from 0 to C-1"
        )
    _distinct_pairs(ids, interest)
    users = Vocabulary(ids.unique(maintain_order=True), "user_id")
    owners, places = users.rows(ids), interest.cast(pl.Int64).to_numpy()
    most = int(places.max(initial=0)) + 1
    counts = np.bincount(owners, minlength=len(users))
    _refuse(
        counts != most, f"has not {most} vectors", "interest", users.series, f"interests 0 to {most - 1} each"
    )
    gathered = vectors
    target = owners * most + places
    if (np.diff(target) != 1).any():
        gathered = np.empty_like(vectors)
        gathered[target] = vectors
    return _Found(path, users.series, gathered.reshape(len(users), most, vectors.shape[1]))


def _distinct_pairs(ids: pl.Series, interest: pl.Series) -> None:
    pairs = pl.DataFrame({"id": ids, "interest": interest})
    again = (~pairs.select(pl.struct(pl.all()).is_first_distinct()).to_series()).arg_true()
    if len(again):
        user, place = pairs.row(int(again[0]))
        raise DataError(
            f"user_id {user!r} has interest {place} twice",
            column="interest",
            row=int(again[0]) + 1,
            expected="one row per user and interest",
        )


def _refuse(wrong: npt.NDArray[np.bool_], what: str, column: str, ids: pl.Series, expected: str) -> None:
    """Name the first id for which something is wrong."""
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{ids.name} {ids[row]!r} {what}", column=column, row=row + 1, expected=expected)
