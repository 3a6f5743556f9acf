"""What CEL does between the steps of the optimizer: average, project, split, reassign, make personal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from polyvec.systems.cel.schedules import AfterEvery, AfterGrowing, AfterPrimes, Every, Schedule
from polyvec.training.loop import SEED_STRIDE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.optim import Optimizer

    from polyvec.layers.tables import ClusteredTable
    from polyvec.systems.cel.clustering import Clustering
    from polyvec.systems.cel.config import CELConfig
    from polyvec.systems.cel.network import CELNetwork
    from polyvec.systems.cel.records import Records

GROWTH = 1.5


@dataclass
class Steps:
    """Hooks of the training loop.

    Attributes
    ----------
    network, config
        The model.
    clustering
        Its cluster steps.
    optimizers
        Whose rows follow the splits.
    item_counts
        Training records of every item, int64 ``[N]``.
    seed
        Of damping, repairs and random cuts; a step is a function of (seed, step).
    """

    network: CELNetwork
    config: CELConfig
    clustering: Clustering
    optimizers: list[Optimizer]
    item_counts: Tensor
    seed: int

    def begin(self, step: int) -> None:
        """Split where it is due, before the batch is looked at; make items personal when their time comes."""
        if self._may_cluster(step) and Every(self.config.split_every)(step):
            self.clustering.split(self.optimizers, self._generator(step), step)
        if self.network.personal is not None and step == self.config.personal_from:
            self._make_personal()

    def before_update(self, batch: Records) -> None:
        """Average the rows' gradients."""
        for table, ids_P in self._shared(batch):
            if self.config.averaging == "record":
                table.average_gradients(ids_P, by="record")
            elif self.config.averaging == "entity":
                table.average_gradients(None if self.config.full_batch else ids_P, by="entity")

    def _shared(self, batch: Records) -> Iterable[tuple[ClusteredTable, Tensor]]:
        """Tables whose rows several entities share, and who of them is in the batch."""
        sides = [
            (self.config.user_table, self.network.users, batch.users),
            (self.config.item_table, self.network.items, batch.all_items()),
        ]
        return [(table, ids_P) for kind, table, ids_P in sides if kind != "full"]

    @torch.no_grad()
    def after_update(self, step: int) -> None:
        """Project; reassign where it is due; let personal vectors move their clusters."""
        if self.config.nonnegative:
            for table in (self.network.users, self.network.items):
                table.weight.clamp_(min=0)
            if self.network.personal is not None:
                self.network.personal.clamp_(min=0)
        if self._may_cluster(step) and reassignment(self.config)(step):
            self.clustering.reassign(self._generator(step))
        if bool(self.network.is_personal):
            self._follow_personal(step)

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: a step is a function of (seed, step) and the weights."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing to go on with."""

    def _may_cluster(self, step: int) -> bool:
        return not self.config.cluster_steps or step < self.config.cluster_steps

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * SEED_STRIDE + step)

    # --- personal vectors

    @torch.no_grad()
    def _make_personal(self) -> None:
        """Start every item's own vector at its cluster's row; items of few records go on following it."""
        network = self.network
        network.personal.copy_(network.item_vectors())  # type: ignore[union-attr]
        network.follows_N.copy_(self.item_counts < self.config.personal_events)
        network.is_personal.fill_(value=True)

    def _follow_personal(self, step: int) -> None:
        """Rows become the means of their members' vectors; every item goes to the nearest row (k-means)."""
        network = self.network
        own_N = (~network.follows_N).nonzero()[:, 0]
        vectors_MD = network.personal[own_N]  # type: ignore[index]
        set_to_means(network.items, own_N, vectors_MD)
        rows_KD = network.items.weight[: network.items.num_clusters]
        network.items.move(own_N, torch.cdist(vectors_MD, rows_KD).argmin(dim=1))
        network.items.repair(self._generator(step), step)


def set_to_means(table: ClusteredTable, entities_M: Tensor, vectors_MD: Tensor) -> None:
    """Set every row that has some of the entities to the mean of their vectors."""
    clusters_M = table.clusters_of(entities_M)
    sums_KD = torch.zeros_like(table.weight).index_add_(0, clusters_M, vectors_MD)
    counts_K = torch.bincount(clusters_M, minlength=table.max_clusters)
    means_KD = sums_KD / counts_K.clamp(min=1)[:, None]
    table.weight.copy_(torch.where(counts_K[:, None] > 0, means_KD, table.weight))


def reassignment(config: CELConfig) -> Schedule:
    """When entities are reassigned."""
    interval = config.reassign_every
    if not interval:
        return lambda _step: False
    if config.reassign_at == "growing":
        return AfterGrowing(interval, GROWTH)
    return AfterPrimes(interval) if config.reassign_at == "primes" else AfterEvery(interval)
