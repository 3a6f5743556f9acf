"""CEL's network: rows of users and items, shared within clusters, and an interaction model over them.

**U** users, **N** items, **P** interactions, **K** rows of a table, **D** width, **F** features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polyvec.layers.tables import ClusteredTable
from polyvec.systems.cel.interactions import INTERACTIONS, Interaction
from polyvec.training.rehearsal import num_bytes

if TYPE_CHECKING:
    from polyvec.systems.cel.config import CELConfig, TableKind
    from polyvec.systems.cel.records import Records

AT_ONCE = 65_536  # entities whose initial vectors are in memory together
PRODUCT_PER_PAIR = 64  # numbers of a matrix product that cost as little as gathering the rows of one pair


class CELNetwork(nn.Module):
    """Scores of pairs of users and items.

    A table without clusters is one whose every entity is its own cluster, or (``hash``) one whose clusters
    never change.

    Parameters
    ----------
    config
        Sizes.
    num_users, num_items
        U and N.
    """

    def __init__(self, config: CELConfig, num_users: int, num_items: int) -> None:
        super().__init__()
        self.target, self.prior_events = config.target, config.prior_events
        self.users = _table(config, config.user_table, config.user_clusters, num_users)
        self.items = _table(config, config.item_table, config.item_clusters, num_items)
        for table in (self.users, self.items):
            if not table.weight.is_meta:  # of which only sizes are asked
                _start(table, nonnegative=config.nonnegative)
        self.interaction: Interaction = INTERACTIONS[config.interaction](config.width)
        self.personal = nn.Parameter(torch.zeros(num_items, config.width)) if config.personal_from else None
        self.register_buffer("is_personal", torch.tensor(False))
        self.register_buffer("follows_N", torch.zeros(num_items, dtype=torch.bool))

    is_personal: Tensor
    follows_N: Tensor

    def user_features(self) -> Tensor:
        """Features of every row of the users' table in use, ``[K, F]``."""
        return self.interaction.users(self.users.weight[: self.users.num_clusters])

    def item_features(self) -> tuple[Tensor, Tensor]:
        """Features of distinct items' vectors ``[A, F]``, and which of them each item has, int64 ``[N]``."""
        if bool(self.is_personal):
            ids_N = torch.arange(self.items.num_rows, device=self.follows_N.device)
            return self.interaction.items(self.item_vectors()), ids_N
        rows_KD = self.items.weight[: self.items.num_clusters]
        return self.interaction.items(rows_KD), self.items.assign.long()

    def table_bytes(self) -> dict[str, int]:
        """Bytes that users' and items' vectors are read from: tables, and vectors of items' own."""
        own = [self.personal, self.follows_N] if self.personal is not None else []
        return {
            "users": self.users.bytes(),
            "items": self.items.bytes() + num_bytes(own),
        }

    def item_vectors(self) -> Tensor:
        """Vector of every item: its own X_i, or its cluster's row. ``→ [N, D]``.

        Once items have vectors of their own, the rows follow those and get no gradient.
        """
        ids_N = torch.arange(self.items.num_rows, device=self.follows_N.device)
        shared_ND = self.items(ids_N)
        if self.personal is None or not bool(self.is_personal):
            return shared_ND
        return torch.where(self.follows_N[:, None], shared_ND.detach(), self.personal)

    @torch.no_grad()
    def served(self, events_U: Tensor, events_N: Tensor) -> tuple[Tensor, Tensor]:
        """Features of every user and item as they are served, the last of one that is not known.

        Who has no training events has the mean of all who have some: nothing tells which cluster is theirs.
        Who has n of them has n / (n + κ) of their own, and the rest of the mean.

        Parameters
        ----------
        events_U, events_N
            Training events of every user and item.

        Returns
        -------
        users, items
            ``[U + 1, F]`` and ``[N + 1, F]``.
        """
        items_AF, places_N = self.item_features()
        users_UF = self.user_features()[self.users.assign.long()]
        return self._pulled(users_UF, events_U), self._pulled(items_AF[places_N], events_N)

    def _pulled(self, features_NF: Tensor, events_N: Tensor) -> Tensor:
        """Features nearer to the mean over who has events, the fewer the nearer; and that mean at the end."""
        mean_F = features_NF[events_N > 0].mean(dim=0)
        shares_N = torch.where(events_N > 0, events_N / (events_N + self.prior_events), 0)
        return torch.cat([torch.lerp(mean_F, features_NF, shares_N[:, None]), mean_F[None]])

    def forward(self, users_P: Tensor, items_P: Tensor) -> Tensor:
        """Scores of pairs. ``[P], [P] → [P]``."""
        users_KF, (items_AF, places_N) = self.user_features(), self.item_features()
        return pair_scores(users_KF, self.users.clusters_of(users_P), items_AF, places_N[items_P])

    def scores(self, records: Records) -> Tensor:
        """Scores of records. ``→ [P]``."""
        scores_P: Tensor = self(records.users, records.items)
        return scores_P


def pair_scores(left_AF: Tensor, left_P: Tensor, right_BF: Tensor, right_P: Tensor) -> Tensor:
    """Inner products of chosen rows. ``[A, F], [P], [B, F], [P] → [P]``.

    Where there are fewer pairs of rows than pairs asked for, one matrix product holds all answers.
    ``index_select``, unlike brackets, adds gradients up in the same order each time, on several threads, too.
    """
    if len(left_AF) * len(right_BF) <= PRODUCT_PER_PAIR * len(left_P):
        products_AB = left_AF @ right_BF.T
        return products_AB.flatten().index_select(0, left_P * len(right_BF) + right_P)
    return (left_AF.index_select(0, left_P) * right_BF.index_select(0, right_P)).sum(dim=1)


def _table(config: CELConfig, kind: TableKind, clusters: int, entities: int) -> ClusteredTable:
    rows = entities if kind == "full" else min(clusters, entities)
    start = min(config.start, rows) if kind == "clustered" else rows
    return ClusteredTable(entities, rows, config.width, start=start)


@torch.no_grad()
def _start(table: ClusteredTable, *, nonnegative: bool) -> None:
    """Rows are means over members of vectors from N(0, 1), divided by the largest number of all of them.

    As in the authors' code; with ``nonnegative`` rows are made so. No more than a part of the vectors is in
    memory at once.
    """
    sums_KD = torch.zeros_like(table.weight)
    largest = 0.0
    for ids in torch.arange(table.num_rows).split(AT_ONCE):
        drawn = torch.randn(len(ids), table.width)
        largest = max(largest, float(drawn.max()))
        sums_KD.index_add_(0, table.clusters_of(ids), drawn.abs() if nonnegative else drawn)
    table.weight[: table.num_clusters] = sums_KD[: table.num_clusters] / table.sizes()[:, None] / largest
