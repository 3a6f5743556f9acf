"""Embeddings: what every system writes and every task, index, exporter and server reads.

Shapes: **U** users, **C** vectors per user, **N** items, **D** width.

On disk::

    users/part-00000.parquet   user_id, events, state, vectors (C·D numbers per row), in row order
    items/part-00000.parquet   item_id, events, state, vectors (D numbers per row), in row order
    manifest.json              score, C, D, dtype, provenance

so that ``polars.read_parquet("shop.emb/users/*.parquet")`` or DuckDB's
``FROM 'shop.emb/users/*.parquet'`` reads them in one line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from polyvec.artifact import Manifest, read_manifest, writing
from polyvec.errors import DataError
from polyvec.ids import Vocabulary

if TYPE_CHECKING:
    import numpy.typing as npt

Score = Literal["max_cosine", "max_dot"]
STATES = ("warm", "cold", "empty", "unknown")
"""How an entity was known when it was encoded.

warm: it had events that the model was trained on; cold: it was encoded from events or fields alone;
empty: nothing was known of it, its vectors are the learned prior; unknown: the vectors were made elsewhere.
"""
WARM, COLD, EMPTY, UNKNOWN = range(len(STATES))
LARGE = 1e15  # numbers above it have squares whose sum float32 may not hold
PART_ROWS = 65_536


@dataclass(frozen=True)
class Side:
    """Vectors of one kind of entity.

    Attributes
    ----------
    ids
        Raw ids in row order.
    vectors
        ``[U, C, D]`` for users, ``[N, D]`` for items; float32 or float16.
    events
        Events that each entity was encoded from, int64 ``[rows]``.
    state
        Index into :data:`STATES`, uint8 ``[rows]``.
    """

    ids: Vocabulary
    vectors: npt.NDArray[Any]
    events: npt.NDArray[np.int64]
    state: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        rows = len(self.ids)
        for name, array in [("vectors", self.vectors), ("events", self.events), ("state", self.state)]:
            if len(array) != rows:
                raise DataError(
                    f"{len(array)} {name} for {rows} ids of {self.ids.name}", expected="one per id"
                )
        check_finite(self.vectors, self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_arrays(cls, ids: list[Any] | pl.Series, vectors: npt.NDArray[Any], name: str) -> Side:
        """Take vectors made anywhere; nothing is known of their making: 0 events, state ``unknown``.

        Parameters
        ----------
        ids
            Distinct raw ids.
        vectors
            ``[U, C, D]`` or ``[N, D]``; all but float16 and float32 become float32.
        name
            ``user_id`` or ``item_id``.

        Raises
        ------
        DataError
            If ids are not distinct text or integers, one per vector, or a number is not finite in float32.
        """
        vocabulary = Vocabulary(ids, name)
        rows = len(vocabulary)
        if vectors.dtype not in (np.float16, np.float32):
            vectors = _float32(vectors)
        return cls(vocabulary, vectors, np.zeros(rows, np.int64), np.full(rows, UNKNOWN, np.uint8))


@dataclass(frozen=True)
class Embeddings:
    """User vectors ``[U, C, D]``, item vectors ``[N, D]``, their raw ids and the score that joins them.

    The score of user u and item j is ``max over c of cos(u_c, v_j)`` (``max_cosine``, GUIM eq. 3) or the same
    with dot products (``max_dot``).

    Attributes
    ----------
    users, items
        The two sides.
    score
        ``max_cosine`` or ``max_dot``.
    provenance
        Where the vectors come from: system, fingerprints of model and dataset, ``events_until`` (int, the
        dataset's time unit: no event at or after it was used), ``trained_until`` (same, for training) and
        ``chosen_until`` (same, for the choice of the best epoch); of ordered data ``held_back`` and
        ``trained_held_back`` (last events of each user that were not used); what they cost: ``parameters``,
        ``training_seconds``, ``encode_seconds``, ``encode_users_seconds``.
    """

    users: Side
    items: Side
    score: Score = "max_cosine"
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.users.vectors.ndim != 3 or self.items.vectors.ndim != 2:
            raise DataError(
                f"user vectors have shape {self.users.vectors.shape}, "
                f"item vectors {self.items.vectors.shape}",
                expected="[users, C, D] and [items, D]",
            )
        if self.users.vectors.shape[2] != self.items.vectors.shape[1]:
            raise DataError(
                f"users are {self.users.vectors.shape[2]} wide, items {self.items.vectors.shape[1]}",
                expected="one width D for both",
            )

    @property
    def num_vectors(self) -> int:
        """C, vectors per user."""
        return int(self.users.vectors.shape[1])

    @property
    def width(self) -> int:
        """D, numbers per vector."""
        return int(self.items.vectors.shape[1])

    def unit_users(self) -> npt.NDArray[np.float32]:
        """User vectors ready for dot products: of length one if the score is a cosine. ``[U, C, D]``."""
        return unit(self.users.vectors) if self.score == "max_cosine" else _float32(self.users.vectors)

    def unit_items(self) -> npt.NDArray[np.float32]:
        """Item vectors ready for dot products, ``[N, D]``."""
        return unit(self.items.vectors) if self.score == "max_cosine" else _float32(self.items.vectors)

    @classmethod
    def from_arrays(
        cls,
        user_ids: list[Any] | pl.Series,
        user_vectors: npt.NDArray[Any],
        item_ids: list[Any] | pl.Series,
        item_vectors: npt.NDArray[Any],
        score: Score = "max_cosine",
        provenance: dict[str, Any] | None = None,
    ) -> Embeddings:
        """Take vectors made anywhere; user vectors may be ``[U, D]`` (one each) or ``[U, C, D]``."""
        users_UCD = user_vectors[:, None, :] if user_vectors.ndim == 2 else user_vectors
        return cls(
            Side.from_arrays(user_ids, users_UCD, "user_id"),
            Side.from_arrays(item_ids, item_vectors, "item_id"),
            score,
            provenance or {"system": "foreign"},
        )

    def save(
        self, path: Path, *, overwrite: bool = False, parents: dict[str, Manifest] | None = None
    ) -> None:
        """Write the folder ``path``, whole or not at all."""
        meta = describe(self.num_vectors, self.width, self.score, self.provenance)
        with writing(path, "embeddings", meta=meta, overwrite=overwrite, parents=parents) as stage:
            for name, side in [("users", self.users), ("items", self.items)]:
                for part, start in enumerate(range(0, max(len(side), 1), PART_ROWS)):
                    rows = slice(start, start + PART_ROWS)
                    write_part(
                        stage / name / part_name(part),
                        side.ids.series[rows],
                        side.vectors[rows],
                        side.events[rows],
                        side.state[rows],
                    )

    @classmethod
    def open(cls, path: Path | str) -> Embeddings:
        """Read a folder of embeddings.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged or of another kind.
        """
        path = Path(path)
        manifest = read_manifest(path, "embeddings")
        meta = manifest.meta
        users = _read_side(_parts(path, manifest, "users"), "user_id", meta["C"], meta["D"])
        items = _read_side(_parts(path, manifest, "items"), "item_id", meta["D"])
        return cls(users, items, meta["score"], meta["provenance"])


def describe(num_vectors: int, width: int, score: Score, provenance: dict[str, Any]) -> dict[str, Any]:
    """Manifest entries of an embeddings folder."""
    return {"C": num_vectors, "D": width, "score": score, "provenance": provenance}


def part_name(part: int) -> str:
    """File name of part number ``part`` of a side."""
    return f"part-{part:05d}.parquet"


def write_part(
    path: Path,
    ids: pl.Series,
    vectors: npt.NDArray[Any],
    events: npt.NDArray[Any],
    state: npt.NDArray[np.uint8],
) -> None:
    """Write one part of a side: vectors ``[rows, ...]``; ids, events and state ``[rows]``."""
    flat = np.ascontiguousarray(vectors).reshape(len(ids), int(np.prod(vectors.shape[1:])))
    numbers = pa.array(flat.reshape(-1))
    table = pa.table(
        {
            ids.name: ids.to_arrow(),
            "events": pa.array(np.asarray(events, dtype=np.int64)),
            "state": pa.array([STATES[code] for code in state], type=pa.string()),
            "vectors": pa.FixedSizeListArray.from_arrays(numbers, flat.shape[1]),
        }
    )
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, compression="none", use_dictionary=["state"], write_page_checksum=True)


def unit(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Scale vectors (last axis) to length one; zero vectors stay zero."""
    vectors = _float32(vectors)
    if max(vectors.max(initial=0), -vectors.min(initial=0)) > LARGE:
        largest = np.abs(vectors).max(axis=-1, keepdims=True)
        vectors = vectors / np.where(largest == 0, 1, largest)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norms == 0, 1, norms), dtype=np.float32)


def check_finite(
    vectors: npt.NDArray[Any], ids: Vocabulary, first_row: int = 0, expected: str = "finite numbers"
) -> None:
    """Refuse NaN and infinity in the vectors of rows from ``first_row`` on, naming the first id that has one.

    Raises
    ------
    DataError
        If any number is not finite.
    """
    finite = np.isfinite(vectors).all(axis=tuple(range(1, vectors.ndim)))
    if not finite.all():
        row = first_row + int(np.argmin(finite))
        raise DataError(
            f"the vector of {ids.name} {ids.ids([row])[0]!r} is not finite",
            column=ids.name,
            row=row + 1,
            expected=expected,
        )


def _float32(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(vectors, dtype=np.float32)


def _parts(path: Path, manifest: Manifest, side: str) -> list[Path]:
    """Parts of a side that the manifest lists, in row order; other files in the folder are not ours."""
    return [path / name for name in sorted(manifest.files) if name.startswith(f"{side}/")]


def _read_side(parts: list[Path], name: str, *shape: int) -> Side:
    table = pa.concat_tables([pq.read_table(part) for part in parts])
    numbers = pa.concat_arrays([chunk.flatten() for chunk in table["vectors"].chunks])
    states = pl.Series(table["state"].to_pylist(), dtype=pl.Enum(STATES))
    return Side(
        Vocabulary(pl.Series(name, table[name]), name),
        numbers.to_numpy(zero_copy_only=False).reshape(-1, *shape),
        table["events"].to_numpy(),
        states.to_physical().to_numpy().astype(np.uint8),
    )
