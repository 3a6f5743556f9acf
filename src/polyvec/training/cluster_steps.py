"""The cluster steps of CEL between mini-batches, for the item table of any system (WWW 2023).

Rows of clusters are trained like all other weights. Meanwhile every batch tells where each item pulls its
row, and how it would fare in other clusters; at a few moments clusters then split and items move. Nothing
holds a vector for every item: per item there are 2 Q + 2 numbers, per cluster two rows.

**n** entities, **K** clusters, **M** entities of a batch, **D** width, **Q** candidate clusters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from polyvec.layers.tables import clusters_of
from polyvec.training.loop import SEED_STRIDE
from polyvec.training.optimizers import copy_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch.optim import Optimizer

    from polyvec.layers.tables import ClusteredTable, Table
    from polyvec.training.options import TrainingOptions

GROWTH_SHARE = 0.4  # of all steps: until then clusters split
GROWTH_EVENTS = 24  # moments at which they do; from one to the next, clusters grow by the same factor
LONGER = 1.1  # later moments lie further and further apart
SETTLED_SHARE = 0.9  # of all steps: from then on rows are trained alone
NEAR, DRAWN = 4, 4  # candidates of an entity besides its own cluster
DAMPING = 0.3085375  # Φ(−1/2), chance that an entity which should move stays: the authors' code
SURE = 1.5  # standard errors by which a move must pay: a batch's losses are a sample
TINY = 1e-30
ROWS_AT_ONCE = 1024


class ClusterSteps(nn.Module):
    """Hooks of the training loop.

    Everything that a resumed run needs is in its buffers.

    Parameters
    ----------
    table
        Whose clusters change.
    optimizers
        Whose rows follow the splits.
    total_steps
        Of the training.
    seed
        Of what is drawn; an event is a function of (seed, step) and the buffers.
    """

    axes_KD: Tensor
    along_N: Tensor
    candidates_KQ: Tensor
    losses_NQ: Tensor
    squares_NQ: Tensor
    targets_N: Tensor

    def __init__(
        self, table: ClusteredTable, optimizers: Sequence[Optimizer], total_steps: int, seed: int
    ) -> None:
        super().__init__()
        self._table, self._optimizers, self._seed = [table], optimizers, seed
        self._moments = moments(total_steps, table.num_clusters, table.max_clusters)
        size, num_clusters, device = table.num_rows, table.max_clusters, table.assign.device
        num_candidates = 1 + NEAR + DRAWN
        axes_KD = torch.zeros(num_clusters, table.width, dtype=torch.float64, device=device)
        self.register_buffer("axes_KD", axes_KD)
        self.register_buffer("along_N", torch.zeros(size, device=device))
        self.register_buffer("targets_N", torch.zeros(size, device=device))
        self.register_buffer("losses_NQ", torch.zeros(size, num_candidates, device=device))
        self.register_buffer("squares_NQ", torch.zeros(size, num_candidates, device=device))
        candidates_KQ = torch.zeros(num_clusters, num_candidates, dtype=torch.int64, device=device)
        self.register_buffer("candidates_KQ", candidates_KQ)
        table.lookups = []
        self._look_again(self._generator(0))

    @property
    def table(self) -> ClusteredTable:
        """Whose clusters change."""
        return self._table[0]

    # --- what the batches tell

    def candidates(self, entities_M: Tensor) -> Tensor:
        """Clusters that entities may move to, their own first; int64 ``[M, Q]``."""
        return self.candidates_KQ[self.table.clusters_of(entities_M)]

    @torch.no_grad()
    def add_losses(
        self, entities_M: Tensor, losses_MQ: Tensor, squares_MQ: Tensor, targets_P: Tensor
    ) -> None:
        """Add a batch's losses of distinct entities with every candidate, and who was a target.

        See :func:`polyvec.objectives.candidates.candidate_losses`.
        """
        self.losses_NQ.index_add_(0, entities_M, losses_MQ.float())
        self.squares_NQ.index_add_(0, entities_M, squares_MQ.float())
        self.targets_N.index_add_(0, targets_P, torch.ones_like(targets_P, dtype=self.targets_N.dtype))

    @torch.no_grad()
    def ask(
        self, entities_P: Tensor, losses_of: Callable[[Tensor, Tensor], Tensor], share: float = 1.0
    ) -> None:
        """Add what the losses of a batch's samples would be, were their entities in other clusters.

        For models that score one sample at a time.

        Parameters
        ----------
        entities_P
            Of every sample; below 0 for none that is known; int64 ``[P]``.
        losses_of
            Losses of R samples, some of them several times, whose entity is another: from the samples' places
            int64 ``[R]`` and the entities that stand for it, int64 ``[R]``, to ``[R]``.
        share
            Of the samples, drawn at random, that are asked; the losses weigh the more.
        """
        known_P = (entities_P >= 0).nonzero()[:, 0]
        count = max(round(share * len(known_P)), min(len(known_P), 1))
        places_R = known_P[torch.randperm(len(known_P), device=known_P.device)[:count]]
        if not len(places_R):
            return
        entities_R = entities_P[places_R]
        candidates_RQ = self.candidates(entities_R)
        stand_ins_RQ = self.table.num_rows + candidates_RQ
        repeated = places_R[:, None].expand_as(stand_ins_RQ)
        losses_RQ = losses_of(repeated.flatten(), stand_ins_RQ.flatten()).float().view_as(stand_ins_RQ)
        entities_M, places = entities_R.unique(return_inverse=True)
        sums_MQ = losses_RQ.new_zeros(len(entities_M), losses_RQ.shape[1])
        weight = len(known_P) / count / len(entities_P)
        losses_MQ = sums_MQ.index_add(0, places, weight * losses_RQ)
        differences_RQ = weight * (losses_RQ - losses_RQ[:, :1])
        squares_MQ = sums_MQ.index_add(0, places, differences_RQ.square())
        self.add_losses(entities_M, losses_MQ, squares_MQ, entities_P[known_P])

    def before_update(self, _batch: Any) -> None:
        """Follow the first principal axis of the members' gradients; make rows' gradients means over members.

        The axis is that of candid covariance-free incremental PCA (Weng et al. 2003).
        """
        entities_M, gradients_MD = self.table.take_gradients()
        clusters_M = self.table.clusters_of(entities_M)
        counts_K = torch.bincount(clusters_M, minlength=len(self.axes_KD))
        sums_KD = torch.zeros_like(self.axes_KD).index_add_(0, clusters_M, gradients_MD.double())
        centred_MD = gradients_MD - (sums_KD / counts_K.clamp(min=1)[:, None])[clusters_M]
        along_M = (centred_MD * normalize(self.axes_KD, dim=1, eps=TINY)[clusters_M]).sum(dim=1)
        self.axes_KD.index_add_(0, clusters_M, along_M[:, None] * centred_MD)
        self.along_N.index_add_(0, entities_M, along_M.float())
        self.table.average_gradients(entities_M)

    def after_update(self, step: int) -> None:
        """Nothing to do."""

    # --- events

    @torch.no_grad()
    def begin(self, step: int) -> None:
        """Move entities and split clusters, if it is time."""
        if step in self._moments:
            generator, table = self._generator(step), self.table
            entities_M = self.targets_N.nonzero()[:, 0]
            own_M, candidates_MQ = table.clusters_of(entities_M), self.candidates(entities_M)
            known = table.num_clusters
            # before anybody moves: where one lies along the axis of another cluster tells nothing
            self._split_until(self._moments[step], step)
            parents = table.lineage.parents[known : table.num_clusters].long()
            self._move(entities_M, own_M, candidates_MQ, parents, generator)
            self._look_again(generator)

    def _move(
        self,
        entities_M: Tensor,
        own_M: Tensor,
        candidates_MQ: Tensor,
        parents: Tensor,
        generator: torch.Generator,
    ) -> None:
        """Move entities, which were of clusters ``own_M`` before some split; nobody moves into those now."""
        losses_MQ = self.losses_NQ[entities_M] + SURE * self.squares_NQ[entities_M].sqrt()
        is_own_MQ = candidates_MQ == own_M[:, None]
        has_split_MQ = torch.isin(candidates_MQ, parents) & ~is_own_MQ
        now_M1 = self.table.clusters_of(entities_M)[:, None]  # one half of their own, perhaps the new one
        self.table.reassign(
            entities_M,
            torch.where(is_own_MQ, now_M1, candidates_MQ),
            losses_MQ.masked_fill(has_split_MQ, torch.inf),
            damping=DAMPING,
            generator=generator,
        )

    def _split_until(self, num_clusters: int, step: int) -> None:
        """Split the clusters of most targets, each at most once, across what their members pulled to."""
        table = self.table
        for cluster in table.totals(self.targets_N).argsort(descending=True, stable=True).tolist():
            if table.num_clusters >= num_clusters:
                return
            leaving_M = self.along_N[table.members(cluster)] < 0
            if leaving_M.any() and not leaving_M.all():
                new = table.split(cluster, leaving_M, step)
                copy_rows(self._optimizers, table.weight, cluster, new)

    def _look_again(self, generator: torch.Generator) -> None:
        """Choose candidates for the clusters that there are now; forget what was added up."""
        table = self.table
        for sums in (self.along_N, self.targets_N, self.losses_NQ, self.squares_NQ):
            sums.zero_()
        drawn_KD = torch.randn(self.axes_KD.shape, generator=generator, dtype=torch.float64)
        self.axes_KD.copy_(TINY**0.5 * drawn_KD)
        near_KQ = _nearest(table.weight[: table.num_clusters].detach().float(), 1 + NEAR)
        num_clusters, num_near = near_KQ.shape
        missing = self.candidates_KQ.shape[1] - num_near
        drawn_KQ = torch.randint(num_clusters, (num_clusters, missing), generator=generator)
        self.candidates_KQ[:num_clusters, :num_near] = near_KQ
        self.candidates_KQ[:num_clusters, num_near:] = drawn_KQ.to(near_KQ.device)

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed * SEED_STRIDE + step)


class Together(nn.Module):
    """Hooks of several tables, one after the other."""

    def __init__(self, steps: Iterable[ClusterSteps]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    @classmethod
    def of(cls, steps: Iterable[ClusterSteps]) -> Together | None:
        """None where there are none."""
        found = list(steps)
        return cls(found) if found else None

    def begin(self, step: int) -> None:
        """See :class:`ClusterSteps`."""
        for one in self.steps:
            cast("ClusterSteps", one).begin(step)

    def before_update(self, batch: Any) -> None:
        """See :class:`ClusterSteps`."""
        for one in self.steps:
            cast("ClusterSteps", one).before_update(batch)

    def after_update(self, step: int) -> None:
        """Nothing to do."""


def cluster_steps(
    table: Table, optimizers: Sequence[Optimizer], steps_per_epoch: int, options: TrainingOptions
) -> ClusterSteps | None:
    """Cluster steps of a table of :func:`polyvec.layers.tables.id_table`, if it is clustered."""
    clustered = clusters_of(table)
    if clustered is None:
        return None
    return ClusterSteps(clustered, optimizers, steps_per_epoch * options.epochs, options.seed)


def moments(total_steps: int, start: int, max_clusters: int) -> dict[int, int]:
    """Steps at which entities move and clusters split, and how many clusters there may be afterwards."""
    interval = GROWTH_SHARE * total_steps / GROWTH_EVENTS
    factor = (max_clusters / start) ** (1 / GROWTH_EVENTS)
    found = {
        max(round(interval * number), number): round(start * factor**number)
        for number in range(1, GROWTH_EVENTS + 1)
    }
    time = float(max(found))
    while (time := time + max(interval, 1)) < SETTLED_SHARE * total_steps:
        found[round(time)] = max_clusters
        interval *= LONGER
    return found


def _nearest(rows_KD: Tensor, count: int) -> Tensor:
    """Each row's own place, then those of the rows nearest to it: ``count`` in all. ``→ [K, count]``."""
    found = []
    for start in range(0, len(rows_KD), ROWS_AT_ONCE):
        some = rows_KD[start : start + ROWS_AT_ONCE]
        distances = torch.cdist(some, rows_KD)
        distances[torch.arange(len(some)), start + torch.arange(len(some))] = -1  # itself comes first
        found.append(distances.topk(min(count, len(rows_KD)), largest=False).indices)
    return torch.cat(found)
