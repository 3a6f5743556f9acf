"""Samples of a task, and what it has learned of its answers before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.split import Windows
    from polyvec.ids import Vocabulary

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """P samples of one task.

    Attributes
    ----------
    users
        Rows of the Dataset, int64 ``[P]``.
    times
        In the Dataset's unit, int64 ``[P]``.
    start, stop
        The history of sample p is events ``start[p] : stop[p]`` of the Dataset; int64 ``[P]`` each.
    events
        The event that the sample is of, whose query is known: a row of the Dataset, −1 for none; int64
        ``[P]``.
    items
        The item that is asked about, −1 for none; int64 ``[P]``.
    entities
        Row of the entity that is asked about, −1 for none; int64 ``[P]``.
    answers
        0 or 1, or the number of the class; int64 ``[P]``.
    numbers
        Of the item, normalised, float32 ``[P, n]``.
    weights
        Of each sample in its task's loss, float32 ``[P]``.
    """

    users: Ints
    times: Ints
    start: Ints
    stop: Ints
    events: Ints
    items: Ints
    entities: Ints
    answers: Ints
    numbers: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: npt.NDArray[Any]) -> Samples:
        """Some samples."""
        return Samples(*(getattr(self, one.name)[rows] for one in fields(self)))

    def drawn(self, most: int, seed: int) -> Samples:
        """So many of them at random, in their order; fewer are part of more."""
        rows = np.random.default_rng(seed).permutation(len(self))[:most]
        return self.take(np.sort(rows))

    def joined(self, other: Samples) -> Samples:
        """These, then others of the same task."""
        return Samples(
            *(np.concatenate([getattr(self, one.name), getattr(other, one.name)]) for one in fields(self))
        )


@dataclass(frozen=True)
class Known:
    """What a task has learned from its training samples before anything is trained.

    Attributes
    ----------
    names
        Texts of the classes, or of the entities; None for other kinds.
    edges
        Between levels of a number, ascending.
    spreads
        Mean and deviation of every number of the item.
    """

    names: Vocabulary | None = None
    edges: tuple[float, ...] = ()
    spreads: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Answers there are."""
        return len(self.names) if self.names is not None else len(self.edges) + 1


def samples_at(windows: Windows, max_length: int) -> Samples:
    """Users at moments, about whom nothing is asked."""
    count, nothing = len(windows), np.full(len(windows), -1)
    return Samples(
        windows.user_rows,
        windows.cutoffs,
        np.maximum(windows.history_start, windows.history_end - max_length),
        windows.history_end,
        nothing,
        nothing,
        nothing,
        np.zeros(count, np.int64),
        np.empty((count, 0), np.float32),
        np.ones(count, np.float32),
    )
