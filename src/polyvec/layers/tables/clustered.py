"""A table whose rows are clusters of entities that split and reassign while training (CEL, WWW 2023).

**n** entities, **M** of them, **K** clusters in use, **D** width, **Q** candidate clusters. In the paper
``weight`` is C and ``assign`` (one-hot) is S.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from polyvec.layers.tables.lineage import UNTOLD, Lineage
from polyvec.layers.tables.table import INITIAL_STD, Table

if TYPE_CHECKING:
    from collections.abc import Callable

Averaging = Literal["entity", "record"]
Cut = Literal["zero", "median", "interactions"]
FLAT = 1e-12  # share of the gradients' energy below which members agree where to go


class ClusteredTable(Table):
    """Entities of a cluster share its row: ``forward(ids)`` is ``weight[assign[ids]]``.

    Rows from ``num_clusters`` on are not in use. The steps that change who belongs where, :meth:`split`,
    :meth:`reassign` and :meth:`repair`, are called by whoever trains, between two steps of the optimizer;
    none of them leaves a cluster in use empty. ``lineage`` remembers what they did.

    Parameters
    ----------
    num_rows
        n, entities.
    max_clusters
        Most rows that there will ever be.
    width
        D.
    start
        Clusters to start from: entity i is in cluster i mod ``start``.
    """

    assign: Tensor
    in_use: Tensor

    def __init__(self, num_rows: int, max_clusters: int, width: int, *, start: int = 1) -> None:
        super().__init__()
        self.num_rows, self.width = num_rows, width
        weight_KD = torch.zeros(max_clusters, width)
        weight_KD[:start].normal_(std=INITIAL_STD)
        self.weight = nn.Parameter(weight_KD)
        number_type = _smallest_type(max_clusters)
        self.register_buffer("assign", (torch.arange(num_rows) % start).to(number_type))
        self.register_buffer("in_use", torch.tensor(start))
        self.lookups: list[tuple[Tensor, Tensor]] | None = None
        self.lineage = Lineage(num_rows, max_clusters, number_type)

    @property
    def num_clusters(self) -> int:
        """K, clusters in use."""
        return int(self.in_use)

    @property
    def max_clusters(self) -> int:
        """Rows of the table."""
        return len(self.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Rows of the entities' clusters. int64 ``[…] → […, D]``."""
        rows = nn.functional.embedding(self.clusters_of(ids), self.weight)
        if self.lookups is not None and self.training and rows.requires_grad:
            rows.retain_grad()
            self.lookups.append((ids, rows))
        return rows

    @torch.no_grad()
    def take_gradients(self) -> tuple[Tensor, Tensor]:
        """Distinct entities looked up since the last call, and the gradient of each at its row.

        After ``backward``, if ``lookups`` was set to a list before. Of an entity that was looked up several
        times it is the sum. ``→ int64 [M], [M, D]``.
        """
        looked_up, self.lookups = self.lookups or [], []
        found = [
            (ids.flatten(), rows.grad.flatten(end_dim=-2)) for ids, rows in looked_up if rows.grad is not None
        ]
        ids_P = torch.cat([self.assign.new_zeros(0, dtype=torch.int64), *(ids for ids, _ in found)])
        gradients_PD = torch.cat([self.weight.new_zeros(0, self.width), *(rows for _, rows in found)])
        entities_M, places_P = ids_P.unique(return_inverse=True)
        sums_MD = gradients_PD.new_zeros(len(entities_M), self.width).index_add_(0, places_P, gradients_PD)
        return entities_M, sums_MD

    def clusters_of(self, ids: Tensor) -> Tensor:
        """Cluster of each entity, int64 ``[…]``; n + k stands for anybody in cluster k."""
        own = self.assign[ids.clamp(max=self.num_rows - 1)].long()
        return torch.where(ids < self.num_rows, own, ids - self.num_rows)

    def members(self, cluster: int) -> Tensor:
        """Entities of a cluster, ascending; int64 ``[M]``."""
        return (self.assign == cluster).nonzero()[:, 0]

    def sizes(self) -> Tensor:
        """Entities n_q of every cluster in use, int64 ``[K]``."""
        return self.totals(torch.ones(self.num_rows, dtype=torch.int64, device=self.assign.device))

    def totals(self, values_N: Tensor) -> Tensor:
        """Sum of a value of the entities over every cluster in use, ``[K]``.

        Of training interactions it is d_q.
        """
        zeros_K = torch.zeros(self.num_clusters, dtype=values_N.dtype, device=values_N.device)
        return zeros_K.index_add_(0, self.assign.long(), values_N)

    @torch.no_grad()
    def average_gradients(self, ids: Tensor | None = None, by: Averaging = "entity") -> None:
        """Make every row's gradient a mean over who shares the row, instead of their sum; after ``backward``.

        Without it a row moves the further the more entities share it, and one learning rate does not fit all.

        Parameters
        ----------
        ids
            Entities of the batch, int64 ``[…]``; None stands for all entities.
        by
            ``entity``: the mean over the distinct entities of the batch. ``record``: over their occurrences.
        """
        if self.weight.grad is None:
            return
        if ids is None:
            counts_K = self.sizes()
        else:
            shared = ids.unique() if by == "entity" else ids.flatten()
            counts_K = torch.bincount(self.clusters_of(shared), minlength=self.num_clusters)
        self.weight.grad[: self.num_clusters] /= counts_K.clamp(min=1)[:, None]

    @torch.no_grad()
    def split(self, cluster: int, leaving_M: Tensor, step: int = UNTOLD) -> int:
        """Move some members to a new cluster, whose row is a copy: no answer changes at this instant.

        Parameters
        ----------
        cluster
            Which.
        leaving_M
            Which of :meth:`members` leave, bool ``[M]``: see :func:`gradient_cut`. At least one, not all.
        step
            Step of the training, for the lineage.

        Returns
        -------
        int
            The new cluster. The optimizer's row must be copied, too:
            :func:`polyvec.training.optimizers.copy_rows`.

        Raises
        ------
        ValueError
            If all rows are in use, or one side would be empty.
        """
        new = self.num_clusters
        if new == self.max_clusters:
            raise ValueError(f"all {new} rows are in use")
        if not leaving_M.any() or leaving_M.all():
            raise ValueError(f"a split of cluster {cluster} leaves one side empty")
        self.assign[self.members(cluster)[leaving_M]] = new
        self.weight[new] = self.weight[cluster]
        self.lineage.split(cluster, new, step)
        self.in_use += 1
        return new

    @torch.no_grad()
    def reassign(
        self,
        entities_M: Tensor,
        candidates_MQ: Tensor,
        losses_MQ: Tensor,
        *,
        damping: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> int:
        """Move entities to the candidate under which their own training loss is least.

        Who gains nothing stays: twins that have just split share one row, and a tie must not merge them. The
        member that gains least stays where a cluster would be left empty.

        Parameters
        ----------
        entities_M
            Distinct entities, int64 ``[M]``; those without training interactions have no loss and belong
            not here.
        candidates_MQ
            Clusters to choose from, the entity's own among them, int64 ``[M, Q]``; or ``[Q]`` for all alike.
        losses_MQ
            The entity's loss with the candidate's row, ``[M, Q]``.
        damping
            Chance that an entity stays all the same.
        generator
            Of the damping.

        Returns
        -------
        int
            Entities that moved.
        """
        own_M = self.clusters_of(entities_M)
        candidates_MQ = candidates_MQ.expand_as(losses_MQ)
        is_own_MQ = candidates_MQ == own_M[:, None]
        own_loss_M = losses_MQ.masked_fill(~is_own_MQ, torch.inf).amin(dim=1)
        best_loss_M, place_M = losses_MQ.min(dim=1)
        best_M = candidates_MQ.gather(1, place_M[:, None])[:, 0]
        moves_M = best_loss_M < own_loss_M
        if damping:
            draws_M = torch.rand(len(moves_M), generator=generator).to(moves_M.device)
            moves_M &= draws_M >= damping
        self._keep_one_of_each(entities_M, own_M, best_M, own_loss_M - best_loss_M, moves_M)
        return self.move(entities_M[moves_M], best_M[moves_M])

    @torch.no_grad()
    def move(self, entities_M: Tensor, clusters_M: Tensor) -> int:
        """Put distinct entities where they are told to go, even if that leaves a cluster empty.

        Parameters
        ----------
        entities_M, clusters_M
            Entities and the cluster of each, int64 ``[M]``.

        Returns
        -------
        int
            Entities that were somewhere else before.
        """
        moved_M = entities_M[self.clusters_of(entities_M) != clusters_M]
        self.assign[entities_M] = clusters_M.to(self.assign.dtype)
        self.lineage.count(moved_M)
        return len(moved_M)

    def _keep_one_of_each(
        self, entities_M: Tensor, own_M: Tensor, best_M: Tensor, gains_M: Tensor, moves_M: Tensor
    ) -> None:
        """Let the member of least gain stay, in place, wherever moves would leave a cluster empty."""
        by_gain = gains_M.argsort(descending=True, stable=True)
        while True:
            after = self.assign.long()
            after[entities_M[moves_M]] = best_M[moves_M]
            is_empty_K = torch.bincount(after, minlength=self.num_clusters) == 0
            abandoned = by_gain[(moves_M & is_empty_K[own_M])[by_gain]]
            if not len(abandoned):
                return
            places = torch.arange(len(abandoned), device=own_M.device)
            last_K = places.new_full((self.num_clusters,), -1)
            last_K.scatter_reduce_(0, own_M[abandoned], places, "amax")  # the one of least gain
            moves_M[abandoned[last_K[last_K >= 0]]] = False

    @torch.no_grad()
    def repair(self, generator: torch.Generator | None = None, step: int = UNTOLD) -> list[tuple[int, int]]:
        """Give every empty cluster a random half of the largest one, and a copy of its row.

        Parameters
        ----------
        generator
            Of the halves.
        step
            Step of the training, for the lineage.

        Returns
        -------
        list of tuple
            Pairs (from, to), whose optimizer rows must be copied, too.
        """
        copied = []
        for empty in (self.sizes() == 0).nonzero()[:, 0].tolist():
            largest = int(self.sizes().argmax())
            members_M = self.members(largest)
            order = torch.randperm(len(members_M), generator=generator).to(members_M.device)
            self.assign[members_M[order[: len(order) // 2]]] = empty
            self.weight[empty] = self.weight[largest]
            self.lineage.reseed(empty, largest, step)
            copied.append((largest, empty))
        return copied


@torch.no_grad()
def gradient_cut(
    gradients_MD: Tensor, cut: Cut = "zero", interactions_M: Tensor | None = None
) -> Tensor | None:
    """GPCA: part the members of a cluster by where their own gradients pull its row.

    The members agree where the row is and disagree where it should go; they are parted across the first
    principal component of their gradients.

    Parameters
    ----------
    gradients_MD
        Gradient of each member's own loss, a sum over its interactions, at the shared row; ``[M, D]``.
    cut
        Where along the component: at ``zero``, the gradients' mean; at the ``median``, half of the members on
        either side; or so that ``interactions`` are halved.
    interactions_M
        Training interactions of each member, for the last.

    Returns
    -------
    Tensor or None
        Which members leave, bool ``[M]``; a member at the cut stays. None if the members cannot be parted:
        fewer than two, or they agree.
    """
    if len(gradients_MD) < 2:
        return None
    gradients_MD = gradients_MD.double()
    centred_MD = gradients_MD - gradients_MD.mean(dim=0)
    energies, directions = torch.linalg.eigh(centred_MD.T @ centred_MD)  # ascending
    if energies[-1] <= FLAT * gradients_MD.square().sum():
        return None
    leaving_M = _CUTS[cut](centred_MD @ directions[:, -1], interactions_M)
    return leaving_M if leaving_M.any() and not leaving_M.all() else None


def _at_zero(along_M: Tensor, _interactions_M: Tensor | None) -> Tensor:
    return along_M < 0


def _at_median(along_M: Tensor, _interactions_M: Tensor | None) -> Tensor:
    leaving_M = torch.zeros_like(along_M, dtype=torch.bool)
    leaving_M[along_M.argsort(stable=True)[: len(along_M) // 2]] = True
    return leaving_M


def _at_half_of_interactions(along_M: Tensor, interactions_M: Tensor | None) -> Tensor:
    if interactions_M is None:
        raise ValueError("a cut that halves the interactions needs to know them")
    order_M = along_M.argsort(stable=True)
    before_M = interactions_M[order_M].cumsum(0) - interactions_M[order_M]
    leaving_M = torch.zeros_like(along_M, dtype=torch.bool)
    leaving_M[order_M] = 2 * before_M < interactions_M.sum()
    leaving_M[order_M[-1]] = False
    return leaving_M


_CUTS: dict[Cut, Callable[[Tensor, Tensor | None], Tensor]] = {
    "zero": _at_zero,
    "median": _at_median,
    "interactions": _at_half_of_interactions,
}


def _smallest_type(clusters: int) -> torch.dtype:
    """Smallest integer type that numbers so many clusters."""
    if clusters <= torch.iinfo(torch.uint8).max + 1:
        return torch.uint8
    return torch.int16 if clusters <= torch.iinfo(torch.int16).max + 1 else torch.int32
