"""What CEL's cluster steps are told by a batch of pairs: how items would fare in other clusters.

**P** pairs of a market, **M** = 2 P items, the first ones of all pairs before the second ones, **R** of them,
some several times.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polyvec.systems.pgtl.network import Features, sizes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvec.systems.pgtl.network import PGTLNetwork
    from polyvec.systems.pgtl.objective import Part
    from polyvec.training.cluster_steps import ClusterSteps

    LossOf = Callable[[Part], Tensor]

ASKED = 0.1  # of a batch's items: with nine clusters each, about as much work as the batch itself


@torch.no_grad()
def tell(clusters: ClusterSteps, network: PGTLNetwork, part: Part, loss_of: LossOf) -> None:
    """Compare some pairs with one of their items in its candidate clusters.

    What is known beforehand of the pair stays as it is, though the item may be among it.

    Parameters
    ----------
    clusters
        Whom to tell.
    network
        Of any method.
    part
        Pairs of a market.
    loss_of
        Loss of each of some pairs, ``[R]``.
    """

    def losses_of(items_R: Tensor, entities_R: Tensor) -> Tensor:
        return 2 * loss_of(compared(part, items_R, entities_R))  # a mean over items is half of one over pairs

    was_training = network.training
    network.eval()
    clusters.ask(own_ids(part.features), losses_of, ASKED)
    network.train(was_training)


def own_ids(features: Features) -> Tensor:
    """Entity of each item's id, −1 for those that have none; int64 ``[M]``."""
    codes, offsets_M = features.bags[0]
    found_M = torch.full_like(offsets_M, -1)
    found_M[sizes_of(codes, offsets_M) > 0] = codes
    return found_M


def compared(part: Part, items_R: Tensor, entities_R: Tensor) -> Part:
    """The pairs of some items, in which other entities stand for these; each item has an id."""
    count, size = len(part), len(items_R)
    pairs_R = items_R % count
    both = torch.cat([pairs_R, pairs_R + count])
    features = part.features.take(both)
    stand_ins = own_ids(features)
    stand_ins[torch.arange(size, device=items_R.device) + size * (items_R >= count)] = entities_R
    ids = stand_ins[stand_ins >= 0], features.bags[0][1]
    return replace(
        part,
        features=replace(features, bags=[ids, *features.bags[1:]]),
        prior=None if part.prior is None else part.prior.take(both),
        labels=part.labels[pairs_R],
    )
