"""What an item's own loss would be with another vector: cluster reassignment under a softmax over items.

**P** pairs of a state and its target, **R** states that stand for all, **M** items, **Q** candidate vectors
of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Positives:
    """Pairs in which an item is the target.

    Attributes
    ----------
    items_P
        Place of the target among the M items, int64 ``[P]``.
    scores_PQ
        Score of the state with every candidate vector of its target, ``[P, Q]``.
    weights_P
        Weight of the pair in the loss, ``[P]``.
    """

    items_P: Tensor
    scores_PQ: Tensor
    weights_P: Tensor


@dataclass(frozen=True)
class Rivals:
    """States in whose softmax an item is a rival of the target.

    Attributes
    ----------
    scores_RMQ
        Score of every state with every candidate vector of every item, ``[R, M, Q]``.
    own_RM
        Score of every state with the vector that the item has, ``[R, M]``.
    normalisers_R
        Log-sum-exp of the scores of all items, ``[R]``.
    weights_R
        Weight of the state's targets in the loss, together, times the states that it stands for; ``[R]``.
    """

    scores_RMQ: Tensor
    own_RM: Tensor
    normalisers_R: Tensor
    weights_R: Tensor


def candidate_losses(positives: Positives, rivals: Rivals) -> tuple[Tensor, Tensor]:
    """Loss with every candidate vector of an item in the place of its own, but for a constant of the item.

    Moving item j to candidate q changes −log softmax of a state by ``log(1 + (e^{s_jq} − e^{s_j}) / Z)``, and
    by ``s_j − s_jq`` besides where j is the target: exact if one item moves alone, and a state has one target
    (of several, GUIM's loss leaves the others out of each one's softmax).

    Returns
    -------
    tuple of Tensor
        Losses ``[M, Q]``; and how unsure they are: the sum of the squares of what each pair adds to the
        difference to the first candidate, ``[M, Q]``.
    """
    shape = rivals.scores_RMQ.shape[1:]
    normalisers_R11 = rivals.normalisers_R[:, None, None]
    share_RMQ = (rivals.scores_RMQ - normalisers_R11).exp()
    share_RMQ -= (rivals.own_RM[..., None] - normalisers_R11).exp()
    pushed_MQ = torch.einsum("r,rmq->mq", rivals.weights_R, torch.log1p(share_RMQ.clamp(min=-1 + 1e-6)))
    pulled_MQ = positives.scores_PQ.new_zeros(shape).index_add_(
        0, positives.items_P, positives.weights_P[:, None] * positives.scores_PQ
    )
    differences_PQ = positives.weights_P[:, None] * (positives.scores_PQ - positives.scores_PQ[:, :1])
    squares_MQ = torch.zeros_like(pulled_MQ).index_add_(0, positives.items_P, differences_PQ.square())
    return pushed_MQ - pulled_MQ, squares_MQ
