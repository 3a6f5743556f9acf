"""What one pass over a stream will take, told before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polyvec.systems.cel.config import LiteConfig
from polyvec.systems.cel.lite import PER_ENTITY, CELLite
from polyvec.systems.cel.lite_fit import Stream
from polyvec.systems.cel.means import SIDES
from polyvec.systems.cel.ring import PER_INTERACTION
from polyvec.training.loop import peak_rss

if TYPE_CHECKING:
    from polyvec.data.dataset import Dataset

AT_WORK = 160
"""Bytes of an interaction of the stream: in order of time, what was foretold of it, what had been before."""


@dataclass(frozen=True)
class LitePlan:
    """Sizes of a stream's Model and of the pass, in bytes.

    Attributes
    ----------
    interactions, users, items
        Of the stream.
    model
        The Model as it will be kept, at most: with all clusters in use.
    learner
        The same while it learns, with room for as many users and items again.
    stream
        The interactions, and what is said of each.
    process
        Most memory of this process so far: libraries and data.
    """

    interactions: int
    users: int
    items: int
    model: int
    learner: int
    stream: int
    process: int

    @property
    def peak(self) -> int:
        """Memory at the most, on the way."""
        return self.learner + self.stream + self.process


def plan(dataset: Dataset, config: LiteConfig | None = None, *, until: int | None = None) -> LitePlan:
    """Tell what :func:`polyvec.systems.cel.fit_stream` will take with the same arguments.

    Raises
    ------
    DataError
        See :func:`polyvec.systems.cel.fit_stream`.
    """
    config, so_far = config or LiteConfig(), peak_rss()
    stream = Stream.of(dataset, config.column, until)
    users, items = (len(np.unique(rows_P)) for rows_P in (stream.users, stream.items))
    model, learner = _sizes(config, len(stream), (users, items))
    return LitePlan(len(stream), users, items, model, learner, AT_WORK * len(stream), so_far)


def _sizes(config: LiteConfig, interactions: int, entities: tuple[int, int]) -> tuple[int, int]:
    """Bytes of a learner that has met everyone and split as often as it can: as it is kept, and at work."""
    learner = CELLite(config, 1.0)
    for place, side in enumerate((learner.users, learner.items)):
        side.admit(np.arange(entities[place]))
        side.nearest = np.zeros((len(side.rows), min(config.near, len(side.rows) - 1)), np.int64)
        learner.means.sums[place] = np.ones(entities[place])
    learner.ring.written = interactions
    kept = {name: array.nbytes for name, array in learner.state()[0].items()}
    of_entities = [f"{side}.{name}" for side in SIDES for name in PER_ENTITY] + [
        f"means.{side}" for side in SIDES
    ]
    room = sum(kept[name] for name in of_entities)
    unused = sum(getattr(learner.ring, name).nbytes - kept[f"ring.{name}"] for name in PER_INTERACTION)
    return sum(kept.values()), sum(kept.values()) + room + unused
