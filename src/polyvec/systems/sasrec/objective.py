"""SASRec's task: from every prefix of a history foretell its next item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from polyvec.objectives.full_softmax import full_softmax_loss
from polyvec.systems.sasrec.clusters import tell

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from polyvec.data.batches import Batch
    from polyvec.systems.sasrec.config import SASRecConfig
    from polyvec.systems.sasrec.network import SASRecNetwork
    from polyvec.training.cluster_steps import ClusterSteps


@dataclass(frozen=True)
class Objective:
    """Loss of a batch.

    Attributes
    ----------
    network, config
        The model.
    slots
        Slot of every item of the Dataset, int64 ``[N]``.
    device
        Where to compute.
    clusters
        Told how items would fare in other clusters; None without clusters.
    """

    network: SASRecNetwork
    config: SASRecConfig
    slots: npt.NDArray[np.int64]
    device: torch.device
    clusters: ClusterSteps | None = None

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss (a scalar to descend) and nothing else to report."""
        slots_BL = torch.as_tensor(self.slots[batch.distinct_M[batch.items_BL]], device=self.device)
        lengths_B = torch.as_tensor(batch.lengths_B, device=self.device)
        is_real_BL = torch.arange(slots_BL.shape[1], device=self.device) < lengths_B[:, None]
        tokens_BTD = self.network(slots_BL[:, :-1], (lengths_B - 1).clamp(min=0))
        is_asked_BL = is_real_BL & (slots_BL > 0)  # of items without a vector nothing can be foretold
        queries_PD, targets_P = tokens_BTD[is_asked_BL].float(), slots_BL[is_asked_BL]
        if not len(targets_P):
            return 0 * tokens_BTD.sum(), {}
        if self.config.negatives == "catalogue":
            items_ND = self.network.items.all()
            if self.clusters is not None:
                tell(self.clusters, queries_PD, items_ND, targets_P)
            return full_softmax_loss(queries_PD, items_ND, targets_P), {}
        return self._sampled(queries_PD, targets_P), {}

    def _sampled(self, queries_PD: Tensor, targets_P: Tensor) -> Tensor:
        """Cross-entropy against K items drawn for the batch, less those that are the target itself."""
        table = self.network.items
        drawn_K = torch.randint(table.num_rows, (self.config.num_negatives,), device=self.device)
        positives_P = (queries_PD * table(targets_P)).sum(dim=1)
        scores_PK = (queries_PD @ table(drawn_K).T).float()
        scores_PK = scores_PK.masked_fill(drawn_K == targets_P[:, None], -torch.inf)
        scores_PK = torch.cat([positives_P[:, None], scores_PK], dim=1)
        return cross_entropy(scores_PK, torch.zeros_like(targets_P))
