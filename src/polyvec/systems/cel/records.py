"""Interactions to learn from: who rated or clicked what, and how they are found by entity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polyvec.data.item_sets import expand_ranges
from polyvec.training.loop import SEED_STRIDE

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Records:
    """P interactions.

    Attributes
    ----------
    users, items
        Row numbers, int64 ``[P]``.
    labels
        Ratings, or 1 for a click and 0 for none; float ``[P]``.
    """

    users: Tensor
    items: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_tokens(self) -> int:
        """Interactions."""
        return len(self.labels)

    def take(self, rows_P: Tensor) -> Records:
        """Some of them."""
        return Records(self.users[rows_P], self.items[rows_P], self.labels[rows_P])


@dataclass(frozen=True)
class Index:
    """Records by one of their entities.

    Attributes
    ----------
    own
        The entity of every record, int64 ``[P]``.
    num_entities
        n.
    """

    own: Tensor
    num_entities: int

    @cached_property
    def counts(self) -> Tensor:
        """Records of every entity, int64 ``[n]``."""
        return torch.bincount(self.own, minlength=self.num_entities)

    @cached_property
    def _order(self) -> Tensor:
        return self.own.argsort(stable=True)

    @cached_property
    def _stops(self) -> Tensor:
        return self.counts.cumsum(0)

    def of(self, entities_M: Tensor) -> tuple[Tensor, Tensor]:
        """Records of some entities, and the place of each record's entity among them; int64 ``[P]`` each."""
        stops_M = self._stops[entities_M]
        places, at = expand_ranges((stops_M - self.counts[entities_M]).numpy(), stops_M.numpy())
        return self._order[torch.from_numpy(at)], torch.from_numpy(places)


@dataclass(frozen=True)
class RecordPlan:
    """Batches of records: all of them ``steps`` times an epoch, or shuffled ones of ``batch_size``.

    Attributes
    ----------
    records
        All.
    batch_size
        Records of a batch; 0 stands for all.
    steps
        Of an epoch, where every batch holds all records.
    seed
        Of the shuffling.
    """

    records: Records
    batch_size: int
    steps: int
    seed: int

    def __len__(self) -> int:
        return -(-len(self.records) // self.batch_size) if self.batch_size else self.steps

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Records]:
        """Batches of an epoch from number ``skip`` on."""
        if not self.batch_size:
            yield from (self.records for _ in range(skip, self.steps))
            return
        generator = torch.Generator().manual_seed(self.seed * SEED_STRIDE + epoch)
        order = torch.randperm(len(self.records), generator=generator)
        yield from (self.records.take(rows) for rows in order.split(self.batch_size)[skip:])

    def widest(self) -> Records:
        """The first batch of the first epoch: no other has more records."""
        return next(self.epoch(0))
