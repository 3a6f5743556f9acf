"""CEL's loss: errors of the labels, decay of the rows and their pull to a common mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from polyvec.systems.cel.network import pair_scores

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvec.layers.tables import ClusteredTable
    from polyvec.systems.cel.config import CELConfig, TableKind
    from polyvec.systems.cel.network import CELNetwork
    from polyvec.systems.cel.records import Records

Target = Literal["rating", "click"]
AT_ONCE = 16_384  # records that are scored together


def record_losses(scores_P: Tensor, labels_P: Tensor, target: Target) -> Tensor:
    """Squared error of a rating, or log loss of a click. ``[P], [P] → [P]``."""
    if target == "rating":
        return (labels_P - scores_P).square()
    return binary_cross_entropy_with_logits(scores_P, labels_P, reduction="none")


@torch.no_grad()
def losses_of(network: CELNetwork, records: Records) -> Tensor:
    """Losses of records, some at a time. ``→ [P]``."""
    return _losses(network.scores, records, network.target)


@torch.no_grad()
def served_losses(network: CELNetwork, records: Records, events: tuple[Tensor, Tensor]) -> Tensor:
    """Losses of records as users and items of so many training events are served. ``→ [P]``."""
    users_UF, items_NF = network.served(*events)
    return _losses(
        lambda part: pair_scores(users_UF, part.users, items_NF, part.items), records, network.target
    )


def _losses(scores: Callable[[Records], Tensor], records: Records, target: Target) -> Tensor:
    parts = [records.take(rows) for rows in torch.arange(len(records)).split(AT_ONCE)]
    return torch.cat([record_losses(scores(part), part.labels, target) for part in parts])


@dataclass(frozen=True)
class Objective:
    """Loss of a batch: J of the authors' code.

    Penalties of a part of the records are of the rows that it looks at: those of few records are pulled, and
    decay, less often then.

    Attributes
    ----------
    network, config
        The model.
    num_records
        Training records; a batch of fewer stands for all of them.
    """

    network: CELNetwork
    config: CELConfig
    num_records: int

    def __call__(self, batch: Records) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss (a scalar to descend) and figures to report."""
        scores_P = self.network.scores(batch)
        losses_P = record_losses(scores_P, batch.labels, self.config.target)
        error = losses_P.sum() * (self.num_records / len(batch))
        clusters = torch.tensor(float(self.network.items.num_clusters))
        figures = {"error": losses_P.detach().mean(), "item_clusters": clusters}
        return error + self._penalties(batch), figures

    def _penalties(self, batch: Records) -> Tensor:
        network = self.network
        total = self._of_rows(network.users, self.config.user_table, batch.users)
        if network.personal is None or not bool(network.is_personal):
            return total + self._of_rows(network.items, self.config.item_table, batch.all_items())
        vectors_ND = network.item_vectors()
        shared_ND = network.items(torch.arange(network.items.num_rows)).detach()
        pull = self.config.pull * (vectors_ND - shared_ND).square().sum()
        return total + pull + self.config.decay * vectors_ND.square().sum()

    def _of_rows(self, table: ClusteredTable, kind: TableKind, ids_P: Tensor) -> Tensor:
        """Decay, and the pull of clusters to their common mean; of a batch, of the rows that it looks at."""
        rows_KD = table.weight[: table.num_clusters]
        common_D = rows_KD.detach().mean(dim=0)
        if not self.config.full_batch:
            rows_KD = rows_KD[table.clusters_of(ids_P).unique()]
        total = self.config.decay * rows_KD.square().sum()
        if self.config.shrinkage and kind == "clustered":
            total = total + self.config.shrinkage * (rows_KD - common_D).square().sum()
        return total
