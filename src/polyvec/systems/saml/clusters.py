"""What CEL's cluster steps are told by a batch of a ranker: how items and users would fare in other clusters.

**B** samples, **R** of them, some several times, **T** events of all histories.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polyvec.layers.ranges import expand_ranges
from polyvec.systems.saml.network import ITEM_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvec.systems.saml.network import Batch
    from polyvec.training.cluster_steps import ClusterSteps

ASKED = 0.1  # of a batch's samples: with nine clusters each, about as much work as the batch itself


@torch.no_grad()
def tell(
    clusters: ClusterSteps,
    name: str,
    network: nn.Module,
    batch: Batch,
    loss_of: Callable[[Batch, Tensor], Tensor],
) -> None:
    """Score some samples with the item, or the user, in its candidate clusters.

    Parameters
    ----------
    clusters
        Whom to tell.
    name
        The field that is clustered: ``item_id``, the first of an item's, or ``user_id``, the last of the
        moment's.
    network
        SAML or a rival.
    batch
        Samples.
    loss_of
        Loss of each of some samples, which are taken from places ``[R]`` of the batch: ``[R]``.
    """

    def losses_of(places_R: Tensor, entities_R: Tensor) -> Tensor:
        some = taken(batch, places_R)
        if name == ITEM_ID:
            return loss_of(replace(some, stand_ins=entities_R + 1), places_R)
        return loss_of(replace(some, user_stand_ins=entities_R + 1), places_R)

    was_training = network.training
    network.eval()
    codes = batch.item[:, 0] if name == ITEM_ID else batch.context[:, -1]
    clusters.ask(codes - 1, losses_of, ASKED)
    network.train(was_training)


def taken(batch: Batch, places_R: Tensor) -> Batch:
    """Some samples, each as often as it is named, with their histories."""
    lengths_B = torch.bincount(batch.owners, minlength=len(batch))
    starts_B = lengths_B.cumsum(0) - lengths_B
    owners, events = expand_ranges(starts_B[places_R], lengths_B[places_R])
    return replace(
        batch,
        scenarios=batch.scenarios[places_R],
        context=batch.context[places_R],
        item=batch.item[places_R],
        history=batch.history[events],
        owners=owners,
        dense=batch.dense[places_R],
        labels=batch.labels[places_R],
    )
