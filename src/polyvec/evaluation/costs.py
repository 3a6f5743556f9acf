"""What the vectors of systems take: bytes, parameters, seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from polyvec.evaluation.curves import stem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polyvec.embeddings import Embeddings

UNNAMED = "foreign"  # the system's name where import was told none
COSTS: dict[str, pl.DataType] = {
    "system": pl.String(),
    "kind": pl.String(),
    "seeds": pl.Int64(),
    "C": pl.Int64(),
    "D": pl.Int64(),
    "bytes_per_user": pl.Int64(),
    "bytes_per_item": pl.Int64(),
    "score": pl.String(),
    "parameters": pl.Int64(),
    "model_bytes": pl.Int64(),
    "item_table_bytes": pl.Int64(),
    "training_seconds": pl.Float64(),
    "encode_seconds": pl.Float64(),
    "users_per_second": pl.Float64(),
}


def costs_of(systems: Mapping[str, Sequence[Embeddings]]) -> pl.DataFrame:
    """Size of every system's vectors, and what making them cost."""
    return pl.DataFrame([_cost(name, runs) for name, runs in systems.items()], schema=COSTS)


def _cost(name: str, runs: Sequence[Embeddings]) -> dict[str, Any]:
    one = runs[0]
    return {
        "system": name,
        "kind": kind_of(name, one),
        "seeds": len(runs),
        "C": one.num_vectors,
        "D": one.width,
        "bytes_per_user": one.num_vectors * one.width * one.users.vectors.dtype.itemsize,
        "bytes_per_item": one.width * one.items.vectors.dtype.itemsize,
        "score": one.score,
        "parameters": one.provenance.get("parameters"),
        "model_bytes": one.provenance.get("bytes"),
        "item_table_bytes": one.provenance.get("item_table_bytes"),
        "training_seconds": _mean([run.provenance.get("training_seconds") for run in runs]),
        "encode_seconds": _mean([run.provenance.get("encode_seconds") for run in runs]),
        "users_per_second": _mean([_users_per_second(run) for run in runs]),
    }


def kind_of(name: str, embeddings: Embeddings) -> str:
    """What made the vectors: the system or its variant, as the provenance tells.

    Vectors made elsewhere of which no system is told go by the name that they are benchmarked under, without
    a number at its end.
    """
    made = embeddings.provenance
    told = made.get("variant") or made.get("system")
    return str(told) if told not in (None, UNNAMED) else stem(name)


def _users_per_second(embeddings: Embeddings) -> float | None:
    seconds = embeddings.provenance.get("encode_users_seconds")
    return len(embeddings.users) / seconds if seconds else None


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
