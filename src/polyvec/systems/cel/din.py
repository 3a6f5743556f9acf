"""CEL with a deep interaction: a network over rows that share clusters, not a product of features.

What :mod:`polyvec.systems.cel.clustering` works out for all records with a few matrix products is asked here
of a sample of them, by autograd and by forward passes. An item occurs as a target and in histories; both
look into one table.

**M** members or entities, **K** clusters in use, **A** vectors, **D** width, **P** records, **H** events of
their histories, **Q** candidate clusters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding

from polyvec.systems.cel.clustering import Clustering, Side
from polyvec.systems.cel.network import CELNetwork
from polyvec.systems.cel.objective import AT_ONCE, record_losses
from polyvec.systems.cel.records import Records

if TYPE_CHECKING:
    from polyvec.layers.tables import ClusteredTable
    from polyvec.systems.cel.config import CELConfig
    from polyvec.systems.cel.interactions import DIN

SAMPLE = 20_000  # records that a split, or the choice of what splits, looks at
SAMPLE_AT_ONCE = 2_048  # of them with gradients
OWN_RECORDS = 32  # records of an entity that its reassignment looks at: of clicks, and of others
NEAREST, DRAWN = 8, 8  # candidate clusters beside an entity's own
ENTITIES_AT_ONCE = 512

Vectors = tuple[Tensor, Tensor]
"""Distinct vectors ``[A, D]``, and which of them each entity has, int64 ``[n]``."""


class DINNetwork(CELNetwork):
    """Scores of records by the Deep Interest Network: see :class:`polyvec.systems.cel.interactions.DIN`."""

    interaction: DIN

    def forward(self, users_P: Tensor, items_P: Tensor) -> Tensor:
        """Scores of pairs of users who have no past, and items. ``[P], [P] → [P]``."""
        return self.scores(Records(users_P, items_P, torch.zeros(len(items_P))))

    def scores(self, records: Records) -> Tensor:
        """Scores of records. ``→ [P]``."""
        rows_KD = self.items.weight[: self.items.num_clusters]
        past_H, owners_H = records.past_items()
        targets_P, past_H = self.items.clusters_of(records.items), self.items.clusters_of(past_H)
        scores_P: Tensor = self.interaction(self.users(records.users), rows_KD, targets_P, past_H, owners_H)
        return scores_P


def make_network(config: CELConfig, num_users: int, num_items: int) -> CELNetwork:
    """New network of a configuration."""
    kind = DINNetwork if config.interaction == "din" else CELNetwork
    return kind(config, num_users, num_items)


class DeepClustering(Clustering):
    """Splits and reassigns the clustered sides of a deep network, by samples of the training records.

    For the parameters see :class:`polyvec.systems.cel.clustering.Clustering`.
    """

    _network: DINNetwork

    def _judged(self) -> Tensor:
        """The same sample each time: clusters that are compared are compared alike."""
        generator = torch.Generator().manual_seed(len(self._records))
        return torch.randperm(len(self._records), generator=generator)[:SAMPLE]

    def _by_gradient(self, side: Side) -> Tensor:
        weight = side.table.weight
        total_KD = torch.zeros_like(weight)
        for rows in self._judged().split(SAMPLE_AT_ONCE):
            records = self._records.take(rows)
            losses_P = record_losses(self._network.scores(records), records.labels, self._config.target)
            total_KD += torch.autograd.grad(losses_P.sum(), weight)[0]
        return total_KD[: side.table.num_clusters].square().sum(dim=1)

    # --- splits

    def own_gradients(
        self, side: Side, members_M: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Gradient of each member's own vector, at the row that it has now. ``[M] → [M, D]``.

        Summed over all its occurrences, as a target and in histories, in records drawn evenly from those that
        have a member; who is not a member is a constant.
        """
        mine = _with_own(side.table, members_M)
        users, items = self._vectors()
        vectors = (users, mine) if self._is_items(side) else (mine, items)
        leaves_AD = mine[0]
        total_AD = torch.zeros_like(leaves_AD)
        for rows in self._with_members(side, members_M, generator).split(SAMPLE_AT_ONCE):
            losses_P = self._losses(self._records.take(rows), vectors)
            total_AD += torch.autograd.grad(losses_P.sum(), leaves_AD)[0]
        return total_AD[-len(members_M) :]

    def _vectors(self) -> tuple[Vectors, Vectors]:
        return _vectors(self._network.users), _vectors(self._network.items)

    def _is_items(self, side: Side) -> bool:
        return side.table is self._network.items

    def _losses(
        self,
        records: Records,
        vectors: tuple[Vectors, Vectors],
        users_P: Tensor | None = None,
        targets_P: Tensor | None = None,
    ) -> Tensor:
        """Losses where entities have these vectors; or where users or targets have chosen ones. ``→ [P]``."""
        (users_AD, user_places), (items_AD, item_places) = vectors
        users_P = user_places[records.users] if users_P is None else users_P
        targets_P = item_places[records.items] if targets_P is None else targets_P
        past_H, owners_H = records.past_items()
        users_PD = embedding(users_P, users_AD)
        scores_P = self._network.interaction(users_PD, items_AD, targets_P, item_places[past_H], owners_H)
        return record_losses(scores_P, records.labels, self._config.target)

    def _with_members(self, side: Side, members_M: Tensor, generator: torch.Generator | None) -> Tensor:
        """At most ``SAMPLE`` records, drawn evenly from those in which some member occurs; int64 ``[P]``."""
        is_member_N = torch.zeros(side.table.num_rows, dtype=torch.bool)
        is_member_N[members_M] = True
        found: list[Tensor] = []
        for rows in torch.randperm(len(self._records), generator=generator).split(SAMPLE):
            has_member = is_member_N[side.index.own[rows]]
            if self._is_items(side):
                past_H, owners_H = self._records.take(rows).past_items()
                has_member[owners_H[is_member_N[past_H]]] = True
            found.append(rows[has_member])
            if sum(map(len, found)) >= SAMPLE:
                break
        return torch.cat(found)[:SAMPLE]

    # --- reassignment

    def _reassign(self, side: Side, generator: torch.Generator) -> int:
        entities_M = side.index.counts.nonzero()[:, 0]
        vectors = self._vectors()
        moved = 0
        for part in entities_M.split(ENTITIES_AT_ONCE):
            candidates_MQ = candidates(side.table, part, generator)
            losses_MQ = self.candidate_losses(side, part, candidates_MQ, generator, vectors)
            moved += side.table.reassign(
                part, candidates_MQ, losses_MQ, damping=self._config.damping, generator=generator
            )
        return moved

    @torch.no_grad()
    def candidate_losses(
        self,
        side: Side,
        entities_M: Tensor,
        candidates_MQ: Tensor,
        generator: torch.Generator,
        vectors: tuple[Vectors, Vectors],
    ) -> Tensor:
        """Loss of the records that are the entities' own, with the row of each candidate. ``→ [M, Q]``.

        An item's are those in which it is the target; its place in histories, which would couple all items,
        stays what it is. Of many records some are drawn: see :meth:`Index.some_of`.
        """
        rows_P, places_P, weights_P = side.index.some_of(
            entities_M, self._records.labels, OWN_RECORDS, generator
        )
        changed = "targets_P" if self._is_items(side) else "users_P"
        losses_MQ = torch.zeros(candidates_MQ.shape, dtype=torch.float64)
        for some in torch.arange(len(rows_P)).split(AT_ONCE):
            records, places = self._records.take(rows_P[some]), places_P[some]
            for q, chosen_M in enumerate(candidates_MQ.T):
                losses_P = self._losses(records, vectors, **{changed: chosen_M[places]})
                losses_MQ[:, q].index_add_(0, places, (weights_P[some] * losses_P).double())
        return losses_MQ


def candidates(table: ClusteredTable, entities_M: Tensor, generator: torch.Generator) -> Tensor:
    """Clusters that entities may move to: their own, those near it and some drawn; or all. ``→ [M, Q]``."""
    clusters = table.num_clusters
    if clusters <= 1 + NEAREST + DRAWN:
        return torch.arange(clusters).expand(len(entities_M), clusters)
    rows_KD = table.weight[:clusters].detach()
    distances_KK = torch.cdist(rows_KD, rows_KD).fill_diagonal_(-1)  # the own is nearest, twins or not
    nearest_KQ = distances_KK.topk(1 + NEAREST, largest=False).indices
    drawn_MQ = torch.randint(clusters, (len(entities_M), DRAWN), generator=generator)
    return torch.cat([nearest_KQ[table.clusters_of(entities_M)], drawn_MQ], dim=1)


def _vectors(table: ClusteredTable) -> Vectors:
    """The rows in use, as constants, and which of them each entity has."""
    return table.weight[: table.num_clusters].detach(), table.assign.long()


def _with_own(table: ClusteredTable, members_M: Tensor) -> Vectors:
    """The same with a copy of the row for each member, all of which gradients are asked of."""
    rows_KD, places_N = _vectors(table)
    places_N[members_M] = len(rows_KD) + torch.arange(len(members_M))
    leaves_AD = torch.cat([rows_KD, table(members_M).detach()]).requires_grad_()
    return leaves_AD, places_N
