"""The order in which samples of several tasks are asked: batches of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import torch

    from polyvec.systems.dupn.batch import Batch
    from polyvec.systems.dupn.features import Encoder
    from polyvec.systems.dupn.samples import Samples

    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TaskPlan:
    """Batches of samples of several tasks in an order that is a pure function of (seed, epoch).

    Every batch has samples of every task, the more the more samples the task has, in proportion to the square
    root: a small task is asked more often than its samples are many. An epoch has as many steps as all
    samples together fill batches.

    Attributes
    ----------
    tasks
        Samples by task.
    encoder
        What turns them into batches.
    batch_size
        Samples of a batch, about.
    seed
        Of the order.
    device
        Where the tensors are made.
    covers_all
        Whether an epoch goes on until every sample was asked once: the most numerous tasks are asked less
        than that otherwise, and in the next epoch.
    """

    tasks: dict[str, Samples]
    encoder: Encoder
    batch_size: int
    seed: int
    device: torch.device
    covers_all: bool = False
    _orders: dict[tuple[str, int], Ints] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        if self.covers_all:
            return max(-(-len(samples) // self.shares[name]) for name, samples in self.tasks.items())
        return -(-sum(len(samples) for samples in self.tasks.values()) // self.batch_size)

    @cached_property
    def shares(self) -> dict[str, int]:
        """Samples of every task in a batch."""
        roots = {name: len(samples) ** 0.5 for name, samples in self.tasks.items()}
        total = sum(roots.values())
        return {
            name: min(max(round(self.batch_size * root / total), 1), len(self.tasks[name]))
            for name, root in roots.items()
        }

    @cached_property
    def expected(self) -> npt.NDArray[np.float32]:
        """How often every item is expected in a batch, in its histories and as what is asked about; ``[N]``.

        An event is in the histories of all later samples of its user: late ones in few.
        """
        dataset = self.encoder.dataset
        opened, asked = np.zeros(dataset.num_events + 1), np.zeros(dataset.num_items)
        for name, samples in self.tasks.items():
            often = self.shares[name] / max(len(samples), 1)
            opened += often * np.bincount(samples.start, minlength=len(opened))
            opened -= often * np.bincount(samples.stop, minlength=len(opened))
            asked += often * np.bincount(samples.items[samples.items >= 0], minlength=len(asked))
        read = np.bincount(dataset.item_rows, np.cumsum(opened)[:-1], minlength=len(asked))
        return (read + asked).astype(np.float32)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from number ``skip`` on."""
        for step in range(skip, len(self)):
            yield self._batch(epoch * len(self) + step)

    def widest(self) -> Batch:
        """Of every task the samples of the longest histories."""
        chosen = {}
        for name, samples in self.tasks.items():
            longest = np.argsort(samples.start - samples.stop, kind="stable")
            chosen[name] = samples.take(longest[: self.shares[name]])
        return self.encoder.batch(chosen, self.device, expected_N=self.expected)

    def _batch(self, step: int) -> Batch:
        chosen = {}
        for name, samples in self.tasks.items():
            places = np.arange(step * self.shares[name], (step + 1) * self.shares[name])
            rounds, places = np.divmod(places, len(samples))
            rows = np.empty_like(places)
            for turn in np.unique(rounds):
                rows[rounds == turn] = self._order(name, int(turn))[places[rounds == turn]]
            chosen[name] = samples.take(rows)
        return self.encoder.batch(chosen, self.device, expected_N=self.expected)

    def _order(self, name: str, turn: int) -> Ints:
        """Order in which a task's samples are asked in a round."""
        if (name, turn) not in self._orders:
            for old in [key for key in self._orders if key[0] == name and key[1] < turn - 1]:
                del self._orders[old]
            place = list(self.tasks).index(name)
            random = np.random.default_rng((self.seed, place, turn))
            self._orders[name, turn] = random.permutation(len(self.tasks[name]))
        return self._orders[name, turn]
