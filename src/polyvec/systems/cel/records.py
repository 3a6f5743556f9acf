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

    from polyvec.systems.cel.past import Past


@dataclass(frozen=True)
class Records:
    """P interactions.

    Attributes
    ----------
    users, items
        Row numbers, int64 ``[P]``.
    labels
        Ratings, or 1 for a click and 0 for none; float ``[P]``.
    past
        What the user did before each, for interactions that look at it.
    """

    users: Tensor
    items: Tensor
    labels: Tensor
    past: Past | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_tokens(self) -> int:
        """Interactions."""
        return len(self.labels)

    def take(self, rows_P: Tensor) -> Records:
        """Some of them."""
        past = None if self.past is None else self.past.take(rows_P)
        return Records(self.users[rows_P], self.items[rows_P], self.labels[rows_P], past)

    def past_items(self) -> tuple[Tensor, Tensor]:
        """Items of all histories, and the record that each belongs to; int64 ``[H]`` each."""
        if self.past is None:
            return self.items[:0], self.items[:0]
        return self.past.flat()

    def all_items(self) -> Tensor:
        """Items wherever they occur, as targets and in histories; int64 ``[P + H]``."""
        return torch.cat([self.items, self.past_items()[0]])


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

    def some_of(
        self, entities_M: Tensor, labels: Tensor, most: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`of`, but of each entity at most ``most`` records with labels above 0, and as many others.

        Rare clicks are not lost among the items that were drawn against them.

        Returns
        -------
        rows, places, weights
            int64, int64 and float ``[P]``: the weight is how many records of its kind a drawn one stands for.
        """
        rows, places = self.of(entities_M)
        kinds = 2 * places + (labels[rows] > 0)
        shuffled = torch.randperm(len(rows), generator=generator)
        order = shuffled[kinds[shuffled].argsort(stable=True)]
        counts = torch.bincount(kinds, minlength=2 * len(entities_M))
        begins = (counts.cumsum(0) - counts)[kinds[order]]
        kept = order[torch.arange(len(rows)) - begins < most]
        weights = (counts / counts.clamp(max=most)).to(labels.dtype)
        return rows[kept], places[kept], weights[kinds[kept]]


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
