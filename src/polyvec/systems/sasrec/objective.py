"""SASRec's task: from every prefix of a history foretell its next item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from polyvec.objectives.full_softmax import full_softmax_loss

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from polyvec.data.batches import Batch
    from polyvec.systems.sasrec.config import SASRecConfig
    from polyvec.systems.sasrec.network import SASRecNetwork


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
    """

    network: SASRecNetwork
    config: SASRecConfig
    slots: npt.NDArray[np.int64]
    device: torch.device

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss (a scalar to descend) and nothing else to report."""
        slots_BL = torch.as_tensor(self.slots[batch.distinct_M[batch.items_BL]], device=self.device)
        lengths_B = torch.as_tensor(batch.lengths_B, device=self.device)
        is_real_BL = torch.arange(slots_BL.shape[1], device=self.device) < lengths_B[:, None]
        tokens_BTD = self.network(slots_BL[:, :-1], (lengths_B - 1).clamp(min=0))
        queries_PD, targets_P = tokens_BTD[is_real_BL].float(), slots_BL[is_real_BL]
        if self.config.negatives == "catalogue":
            return full_softmax_loss(queries_PD, self.network.items.weight, targets_P), {}
        return self._sampled(queries_PD, targets_P), {}

    def _sampled(self, queries_PD: Tensor, targets_P: Tensor) -> Tensor:
        """Cross-entropy against K items drawn for the batch, less those that are the target itself."""
        weight_ND = self.network.items.weight
        drawn_K = torch.randint(len(weight_ND), (self.config.num_negatives,), device=self.device)
        positives_P = (queries_PD * weight_ND[targets_P]).sum(dim=1)
        scores_PK = (queries_PD @ weight_ND[drawn_K].T).float()
        scores_PK = scores_PK.masked_fill(drawn_K == targets_P[:, None], -torch.inf)
        scores_PK = torch.cat([positives_P[:, None], scores_PK], dim=1)
        return cross_entropy(scores_PK, torch.zeros_like(targets_P))
