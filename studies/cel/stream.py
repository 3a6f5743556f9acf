"""One pass over ratings in order of time: CEL-Lite beside full and hashed tables that learn alike.

All learn what running means leave over, as CEL-Lite does by default; or, "rows alone", the ratings.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl

from polyvec.ids import Vocabulary
from polyvec.retrieval.found import rank_within
from polyvec.systems.cel.config import LiteConfig
from polyvec.systems.cel.lite import CELLite, Side
from polyvec.systems.cel.means import Means

BATCH = 16
RATES = (0.01, 0.02, 0.03, 0.05, 0.1)
ROWS_ALONE = {"residual": False}
WARM = 10  # earlier ratings of a user or item that is not cold


@dataclass(frozen=True)
class Method:
    """Who learns, with which settings; of tables the rows that entities are hashed into (0: one for each)."""

    learner: Literal["lite", "tables", "means"] = "lite"
    settings: dict[str, Any] = field(default_factory=dict)
    rows: int = 0


METHODS = {
    "CEL-Lite": Method(),
    "CEL-Lite, rows alone": Method(settings=ROWS_ALONE),
    "CEL-Lite, γ = 1.2": Method(settings={"growth": 1.2}),
    "CEL-Lite, γ = 2": Method(settings={"growth": 2.0}),
    "CEL-Lite, d = 500": Method(settings={"volume": 500}),
    "CEL-Lite, d = 2000": Method(settings={"volume": 2000}),
    "CEL-Lite, B = 10": Method(settings={"buffer": 10}),
    "CEL-Lite, B = 200": Method(settings={"buffer": 200}),
    "CEL-Lite, 4 near and 4 drawn": Method(settings={"near": 4, "random": 4}),
    "full tables": Method("tables"),
    "full tables, rows alone": Method("tables", ROWS_ALONE),
    "modulo hash": Method("tables", rows=50),
    "modulo hash, rows alone": Method("tables", ROWS_ALONE, rows=50),
    "running means": Method("means"),
}


class Learner(Protocol):
    """What foretells a batch, then takes it in."""

    def learn(self, users_P: np.ndarray, items_P: np.ndarray, labels_P: np.ndarray) -> np.ndarray:
        """Take in a batch; what was foretold of it beforehand."""
        ...


class RunningMeans:
    """Mean + user + item, and the interactions that each has had."""

    def __init__(self, mean: float, entities: tuple[int, int]) -> None:
        self._means = Means(mean)
        self._events = [np.zeros(count, np.int64) for count in entities]

    def learn(self, users_P: np.ndarray, items_P: np.ndarray, labels_P: np.ndarray) -> np.ndarray:
        """Take in a batch; what was foretold of it beforehand."""
        entities_2P = np.stack([users_P, items_P])
        earlier_2P = np.stack([self._events[place][entities_2P[place]] for place in (0, 1)])
        for events, some_P in zip(self._events, entities_2P, strict=True):
            np.add.at(events, some_P, 1)
        return self._means.learn(entities_2P, earlier_2P, labels_P)


class Tables:
    """Matrix factorisation with the same steps, and rows that never change hands."""

    def __init__(
        self, config: LiteConfig, mean: float, entities: tuple[int, int], rows: tuple[int, int]
    ) -> None:
        random, level = np.random.default_rng(config.seed), (mean / config.width) ** 0.5
        self._sides = [Side(count, config, level, random) for count in rows]
        self._means = RunningMeans(mean, entities) if config.residual else None

    def learn(self, users_P: np.ndarray, items_P: np.ndarray, labels_P: np.ndarray) -> np.ndarray:
        """Take in a batch; what was foretold of it beforehand."""
        if self._means is None:
            return self._learn_rows(users_P, items_P, labels_P)
        means_P = self._means.learn(users_P, items_P, labels_P).astype(np.float32)
        return means_P + self._learn_rows(users_P, items_P, labels_P - means_P)

    def _learn_rows(self, users_P: np.ndarray, items_P: np.ndarray, labels_P: np.ndarray) -> np.ndarray:
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
    rates = RATES if method.learner != "means" else RATES[:1]  # they have no steps
    return min((_pass(stream, method, rate, seed) for rate in rates), key=lambda one: one["first half"])


def _pass(stream: Stream, method: Method, rate: float, seed: int) -> dict[str, Any]:
    config = replace(LiteConfig(seed=seed, rate=rate), **method.settings)
    mean = float(stream.labels[:1000].mean())
    entities = int(stream.users.max()) + 1, int(stream.items.max()) + 1
    rows = table_rows(method, config, entities)
    model: Learner = CELLite(config, mean)
    if method.learner == "tables":
        model = Tables(config, mean, entities, rows)
    elif method.learner == "means":
        model = RunningMeans(mean, entities)
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
        "rows": sum(rows),
        "evaluations": costs.evaluations / costs.interactions if costs else 0.0,
        "seconds": seconds,
    }


def table_rows(method: Method, config: LiteConfig, entities: tuple[int, int]) -> tuple[int, int]:
    """Rows of both tables."""
    if method.learner == "lite":
        return config.user_clusters, config.item_clusters
    if method.learner == "means":
        return 0, 0
    return method.rows or entities[0], method.rows or entities[1]


def _earlier(entities: np.ndarray) -> np.ndarray:
    """Earlier records of the same entity, for every record."""
    order = np.argsort(entities, kind="stable")
    earlier = np.empty(len(entities), np.int64)
    earlier[order] = rank_within(entities[order])
    return earlier
