"""The cluster steps of CEL over all training interactions: GPCA splits and reassignment by own loss.

Nothing here holds a number for every pair of an entity and a dimension, or of an entity and a cluster:
gradients are those of one cluster's members, losses are worked out for some entities and clusters at a time.

**M** members, **K** clusters in use, **Q** of them, **O** rows of the other side, **D** width, **F**
features, **P** records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from polyvec.layers.tables.clustered import gradient_cut
from polyvec.layers.tables.lineage import UNTOLD
from polyvec.systems.cel.network import pair_scores
from polyvec.systems.cel.objective import losses_of, record_losses
from polyvec.training.optimizers import copy_rows

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch.optim import Optimizer

    from polyvec.layers.tables import ClusteredTable
    from polyvec.systems.cel.config import CELConfig
    from polyvec.systems.cel.network import CELNetwork
    from polyvec.systems.cel.records import Index, Records

Features = Callable[[Tensor], Tensor]
Sums = tuple[csr_matrix, csr_matrix]
"""Number and sum of labels of every entity's records with each row of the other side, both ``[n, O]``."""
AT_ONCE, CLUSTERS_AT_ONCE = 16_384, 64  # entities, and clusters, whose losses are worked out together
SCORES_AT_ONCE = 2**22  # of clusters with the other side's rows


@dataclass(frozen=True)
class Side:
    """One side's table, seen from the records.

    Attributes
    ----------
    table
        Whose clusters change.
    index
        Records by this side's entity.
    features
        Features of this side's rows, ``[A, D] → [A, F]``.
    other
        Features of the other side's rows ``[O, F]``, and the row of every record, int64 ``[P]``.
    """

    table: ClusteredTable
    index: Index
    features: Features
    other: Callable[[], tuple[Tensor, Tensor]]


class Clustering:
    """Splits and reassigns the clustered sides of a network, by all training records.

    Parameters
    ----------
    network
        Whose tables change, in place.
    records
        Training interactions.
    indexes
        The same by user and by item.
    config
        How.
    """

    def __init__(
        self, network: CELNetwork, records: Records, indexes: tuple[Index, Index], config: CELConfig
    ) -> None:
        self._records, self._config = records, config
        by_user, by_item = indexes
        self.sides = []
        if config.user_table == "clustered":
            self.sides.append(Side(network.users, by_user, network.interaction.users, self._items))
        if config.item_table == "clustered":
            self.sides.append(Side(network.items, by_item, network.interaction.items, self._users))
        self._network = network

    def _users(self) -> tuple[Tensor, Tensor]:
        return self._network.user_features(), self._network.users.clusters_of(self._records.users)

    def _items(self) -> tuple[Tensor, Tensor]:
        features_AF, places_N = self._network.item_features()
        return features_AF, places_N[self._records.items]

    # --- splits

    def split(self, optimizers: list[Optimizer], generator: torch.Generator, step: int = UNTOLD) -> None:
        """Split one cluster of each side that has rows left."""
        for side in self.sides:
            if side.table.num_clusters < side.table.max_clusters:
                self._split(side, optimizers, generator, step)
                self._place_unseen(side)

    def _split(self, side: Side, optimizers: list[Optimizer], generator: torch.Generator, step: int) -> None:
        """Split the first cluster by the criterion that can be parted."""
        for cluster in self.ranked(side):
            members_M = side.table.members(cluster)
            is_seen_M = side.index.counts[members_M] > 0  # others have nothing to part them by
            leaving_M = self._leaving(side, members_M[is_seen_M], generator)
            if leaving_M is not None:
                new = side.table.split(cluster, is_seen_M.masked_scatter(is_seen_M, leaving_M), step)
                copy_rows(optimizers, side.table.weight, cluster, new)
                return

    def _leaving(self, side: Side, members_M: Tensor, generator: torch.Generator) -> Tensor | None:
        if self._config.cut == "random":
            leaving_M = torch.rand(len(members_M), generator=generator) < 0.5
            return leaving_M if leaving_M.any() and not leaving_M.all() else None
        gradients_MD = self.own_gradients(side, members_M, generator)
        return gradient_cut(gradients_MD, self._config.cut, side.index.counts[members_M])

    def ranked(self, side: Side) -> list[int]:
        """Clusters of a side by the criterion, the one to split first."""
        values_K = getattr(self, f"_by_{self._config.criterion}")(side)
        return values_K.argsort(descending=True, stable=True).tolist()

    def _by_interactions(self, side: Side) -> Tensor:
        return side.table.totals(side.index.counts)

    def _by_entities(self, side: Side) -> Tensor:
        return side.table.sizes()

    def _by_loss(self, side: Side) -> Tensor:
        own_losses_N = torch.zeros(side.table.num_rows, dtype=torch.float64)
        rows_P = self._judged()
        losses_P = losses_of(self._network, self._records.take(rows_P))
        own_losses_N.index_add_(0, side.index.own[rows_P], losses_P.double())
        return side.table.totals(own_losses_N)

    def _by_mean_loss(self, side: Side) -> Tensor:
        return self._by_loss(side) / side.table.sizes()

    def _by_gradient(self, side: Side) -> Tensor:
        rows_KD = side.table.weight[: side.table.num_clusters].detach().requires_grad_()
        clusters_P = side.table.clusters_of(side.index.own)
        (gradient_KD,) = torch.autograd.grad(self._loss_with(side, rows_KD, clusters_P, slice(None)), rows_KD)
        return gradient_KD.square().sum(dim=1)

    def _judged(self) -> Tensor:
        """Records whose losses clusters are ranked by, int64 ``[P]``."""
        return torch.arange(len(self._records))

    def own_gradients(
        self, side: Side, members_M: Tensor, _generator: torch.Generator | None = None
    ) -> Tensor:
        """Gradient of each member's own loss, at the row that it has now. ``[M] → [M, D]``."""
        rows_P, places_P = side.index.of(members_M)
        own_MD = side.table(members_M).detach().requires_grad_()
        (gradients_MD,) = torch.autograd.grad(self._loss_with(side, own_MD, places_P, rows_P), own_MD)
        return gradients_MD

    def _loss_with(self, side: Side, own_AD: Tensor, places_P: Tensor, rows: Tensor | slice) -> Tensor:
        """Loss of some records where this side's vectors are these."""
        other_OF, other_P = side.other()
        scores_P = pair_scores(other_OF.detach(), other_P[rows], side.features(own_AD), places_P)
        return record_losses(scores_P, self._records.labels[rows], self._config.target).sum()

    # --- reassignment

    def reassign(self, generator: torch.Generator) -> list[int]:
        """Move every entity that has records to the cluster of its least loss; the moves of each side.

        Users first: items then move by the users' new rows.
        """
        moves = [self._reassign(side, generator) for side in self.sides]
        for side in self.sides:
            self._place_unseen(side)
        return moves

    def _place_unseen(self, side: Side) -> None:
        """Put entities without records, of which any cluster is as good, where most interactions are.

        There they change least: rows learn the mean over all who share them. They are not served from there:
        see :meth:`CELNetwork.served`.
        """
        entities_M = (side.index.counts == 0).nonzero()[:, 0]
        most = self._by_interactions(side).argmax()
        entities_M = entities_M[side.table.clusters_of(entities_M) != most]
        own_M = side.table.clusters_of(entities_M)
        losses_M2 = torch.tensor([1.0, 0.0]).expand(len(entities_M), 2)
        side.table.reassign(entities_M, torch.stack([own_M, most.expand_as(own_M)], dim=1), losses_M2)

    def _reassign(self, side: Side, generator: torch.Generator) -> int:
        entities_M = side.index.counts.nonzero()[:, 0]
        own_M = side.table.clusters_of(entities_M)
        best_M, (own_losses_M, best_losses_M) = own_M.clone(), torch.full((2, len(own_M)), torch.inf).double()
        other = side.other()
        sums = self.sums(side, other)
        together = min(CLUSTERS_AT_ONCE, max(SCORES_AT_ONCE // max(len(other[0]), 1), 1))
        for clusters_Q in torch.arange(side.table.num_clusters).split(together):
            scores_OQ = self.scores(side, other[0], clusters_Q)
            for some in torch.arange(len(entities_M)).split(AT_ONCE):
                losses_MQ = self.own_losses(entities_M[some], sums, scores_OQ)
                is_own_MQ = clusters_Q == own_M[some, None]
                own_losses_M[some[is_own_MQ.any(dim=1)]] = losses_MQ[is_own_MQ]
                least_M, places_M = losses_MQ.min(dim=1)
                is_better_M = least_M < best_losses_M[some]
                best_losses_M[some[is_better_M]] = least_M[is_better_M]
                best_M[some[is_better_M]] = clusters_Q[places_M[is_better_M]]
        groups_K = _twins(side.table)
        is_twin_M = groups_K[best_M] == groups_K[own_M]  # whatever rounding says
        best_losses_M[is_twin_M] = own_losses_M[is_twin_M]
        return side.table.reassign(
            entities_M,
            torch.stack([own_M, best_M], dim=1),
            torch.stack([own_losses_M, best_losses_M], dim=1),
            damping=self._config.damping,
            generator=generator,
        )

    def sums(self, side: Side, other: tuple[Tensor, Tensor]) -> Sums:
        """What losses under all clusters are made of: see :data:`Sums`."""
        other_OF, other_P = other
        shape = side.table.num_rows, len(other_OF)
        places = side.index.own.numpy(), other_P.numpy()
        labels = self._records.labels.numpy().astype(np.float64)
        return csr_matrix((np.ones(len(labels)), places), shape), csr_matrix((labels, places), shape)

    @torch.no_grad()
    def scores(self, side: Side, other_OF: Tensor, clusters_Q: Tensor) -> npt.NDArray[np.float64]:
        """Scores of the other side's rows with some clusters, ``[O, Q]``."""
        scores_OQ = other_OF @ side.features(side.table.weight[clusters_Q]).T
        return scores_OQ.double().numpy()

    def own_losses(self, entities_M: Tensor, sums: Sums, scores_OQ: npt.NDArray[np.float64]) -> Tensor:
        """Loss of the entities' records under some clusters, but for a constant of each entity.

        With p the score of a row of the other side and a cluster, squared errors are p² − 2·a·p + a² and log
        losses softplus(p) − a·p: two products with sparse matrices instead of one forward pass for every
        cluster. ``→ [M, Q]``, float64.
        """
        counts, labels = (matrix[entities_M.numpy()] for matrix in sums)
        if self._config.target == "rating":
            losses_MQ = counts @ np.square(scores_OQ) - 2 * (labels @ scores_OQ)
        else:
            losses_MQ = counts @ np.logaddexp(0, scores_OQ) - labels @ scores_OQ
        return torch.from_numpy(losses_MQ)


def _twins(table: ClusteredTable) -> Tensor:
    """Number of the row that every cluster in use has, alike for clusters of equal rows; int64 ``[K]``."""
    return table.weight[: table.num_clusters].detach().unique(dim=0, return_inverse=True)[1]
