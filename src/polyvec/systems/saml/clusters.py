"""What CEL's cluster steps are told by a batch of a ranker: how items would fare in other clusters.

**B** samples, **R** of them, some several times, **T** events of all histories.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvec.systems.saml.network import Batch
    from polyvec.training.cluster_steps import ClusterSteps

ASKED = 0.1  # of a batch's samples: with nine clusters each, about as much work as the batch itself


@torch.no_grad()
def tell(
    clusters: ClusterSteps, network: nn.Module, batch: Batch, loss_of: Callable[[Batch, Tensor], Tensor]
) -> None:
    """Score some samples with the item in its candidate clusters.

    Parameters
    ----------
    clusters
        Whom to tell.
    network
        SAML or a rival.
    batch
        Samples; the first field of an item is its id.
    loss_of
        Loss of each of some samples, which are taken from places ``[R]`` of the batch: ``[R]``.
    """

    def losses_of(places_R: Tensor, entities_R: Tensor) -> Tensor:
        return loss_of(replace(taken(batch, places_R), stand_ins=entities_R + 1), places_R)

    was_training = network.training
    network.eval()
    clusters.ask(batch.item[:, 0] - 1, losses_of, ASKED)
    network.train(was_training)


def taken(batch: Batch, places_R: Tensor) -> Batch:
    """Some samples, each as often as it is named, with their histories."""
    lengths_B = torch.bincount(batch.owners, minlength=len(batch))
    starts_B = lengths_B.cumsum(0) - lengths_B
    lengths_R = lengths_B[places_R]
    owners = torch.repeat_interleave(torch.arange(len(places_R), device=places_R.device), lengths_R)
    within = torch.arange(len(owners), device=owners.device) - (lengths_R.cumsum(0) - lengths_R)[owners]
    return replace(
        batch,
        scenarios=batch.scenarios[places_R],
        context=batch.context[places_R],
        item=batch.item[places_R],
        history=batch.history[starts_B[places_R][owners] + within],
        owners=owners,
        dense=batch.dense[places_R],
        labels=batch.labels[places_R],
    )
