"""One pass over ratings in order of time: CEL-Lite beside full and hashed tables that learn alike."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from polyvec.ids import Vocabulary
from polyvec.retrieval.found import rank_within
from polyvec.systems.cel.lite import CELLite, LiteConfig, Side

BATCH = 16
RATES = (0.01, 0.02, 0.03, 0.05, 0.1)
WARM = 10  # earlier ratings of a user or item that is not cold


@dataclass(frozen=True)
class Method:
    """CEL-Lite with some settings, or tables of so many rows an entity is hashed into (0: one for each)."""

    settings: dict[str, Any] = field(default_factory=dict)
    rows: int | None = None


METHODS = {
    "CEL-Lite": Method(),
    "CEL-Lite, γ = 1.2": Method({"growth": 1.2}),
    "CEL-Lite, γ = 2": Method({"growth": 2.0}),
    "CEL-Lite, d = 500": Method({"volume": 500}),
    "CEL-Lite, d = 2000": Method({"volume": 2000}),
    "CEL-Lite, B = 10": Method({"buffer": 10}),
    "CEL-Lite, B = 200": Method({"buffer": 200}),
    "CEL-Lite, 4 near and 4 drawn": Method({"near": 4, "random": 4}),
    "full tables": Method(rows=0),
    "modulo hash": Method(rows=50),
}


class Tables:
    """Matrix factorisation with the same steps, and rows that never change hands."""

    def __init__(self, config: LiteConfig, level: float, users: int, items: int) -> None:
        random = np.random.default_rng(config.seed)
        self._sides = [Side(rows, config, level, random) for rows in (users, items)]

    def learn(self, users_P: np.ndarray, items_P: np.ndarray, labels_P: np.ndarray) -> np.ndarray:
        """Take in a batch; what was foretold of it beforehand."""
        places = [some % len(side.rows) for side, some in zip(self._sides, (users_P, items_P), strict=True)]
        rows = [side.rows[place] for side, place in zip(self._sides, places, strict=True)]
        scores_P = (rows[0] * rows[1]).sum(axis=1)
        errors_P1 = 2 * (scores_P - labels_P)[:, None]
        for number, side in enumerate(self._sides):
            side.update(places[number], errors_P1 * rows[1 - number])
        return scores_P


@dataclass(frozen=True)
class Stream:
    """Ratings in order of time."""

    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray

    @classmethod
    def read(cls, file: Path, most: int | None = None) -> Stream:
        """Number the ids."""
        columns = ["user_id", "item_id", "rating", "timestamp"]
        table = pl.read_parquet(file, columns=columns).drop_nulls().sort("timestamp", maintain_order=True)
        table = table.head(most) if most else table
        users, items = (
            Vocabulary(table[name].unique().sort(), name).rows(table[name]) for name in ("user_id", "item_id")
        )
        return cls(users, items, table["rating"].cast(pl.Float32).to_numpy())


def run_stream(file: Path, name: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Pass over the stream once for every step size; figures of the one that is best on the first half."""
    stream, method = Stream.read(file, 5000 if quick else None), METHODS[name]
    return min((_pass(stream, method, rate, seed) for rate in RATES), key=lambda one: one["first half"])


def _pass(stream: Stream, method: Method, rate: float, seed: int) -> dict[str, Any]:
    config = replace(LiteConfig(seed=seed, rate=rate), **method.settings)
    mean = float(stream.labels[:1000].mean())
    num_users, num_items = int(stream.users.max()) + 1, int(stream.items.max()) + 1
    model: CELLite | Tables = CELLite(config, mean)
    if method.rows is not None:
        sizes = method.rows or num_users, method.rows or num_items
        model = Tables(config, (mean / config.width) ** 0.5, *sizes)
    started, foretold = time.perf_counter(), []
    for at in range(0, len(stream.labels), BATCH):
        batch = slice(at, at + BATCH)
        foretold.append(model.learn(stream.users[batch], stream.items[batch], stream.labels[batch]))
    seconds = time.perf_counter() - started
    errors = (np.concatenate(foretold) - stream.labels) ** 2
    half = len(errors) // 2
    earlier = [_earlier(some) for some in (stream.users, stream.items)]
    is_warm = (earlier[0] >= WARM) & (earlier[1] >= WARM)
    costs = model.costs if isinstance(model, CELLite) else None
    return {
        "rate": rate,
        "first half": float(errors[:half].mean()),
        "last half": float(errors[half:].mean()),
        "warm": float(errors[is_warm].mean()),
        "cold item": float(errors[earlier[1] < WARM].mean()),
        "rows": sum(config_rows(method, config, num_users, num_items)),
        "evaluations": costs.evaluations / costs.interactions if costs else 0.0,
        "seconds": seconds,
    }


def config_rows(method: Method, config: LiteConfig, users: int, items: int) -> tuple[int, int]:
    """Rows of both tables."""
    if method.rows is None:
        return config.user_clusters, config.item_clusters
    return method.rows or users, method.rows or items


def _earlier(entities: np.ndarray) -> np.ndarray:
    """Earlier records of the same entity, for every record."""
    order = np.argsort(entities, kind="stable")
    earlier = np.empty(len(entities), np.int64)
    earlier[order] = rank_within(entities[order])
    return earlier
