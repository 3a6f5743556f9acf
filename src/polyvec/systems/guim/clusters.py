"""What CEL's cluster steps are told by a batch of GUIM: how items would fare in other clusters.

**B** users, **C** vectors of each, **R** users who stand for all, **M** items, **P** pairs of a user and a
target, **Q** candidate clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polyvec.objectives.candidates import Positives, Rivals, candidate_losses
from polyvec.objectives.matching import cosines

if TYPE_CHECKING:
    from collections.abc import Callable

    from polyvec.layers.item_encoder import FieldTensors, ItemEncoder
    from polyvec.training.cluster_steps import ClusterSteps

NUM_RIVALS = 8
ITEMS_AT_ONCE = 2048  # whose vectors with all candidates are held together


@dataclass(frozen=True)
class Targets:
    """Pairs of a user and a target.

    Attributes
    ----------
    users_P, items_P
        Places among the batch's users and distinct items, int64 ``[P]``.
    weights_P
        Weights in the loss, ``[P]``.
    """

    users_P: Tensor
    items_P: Tensor
    weights_P: Tensor


@torch.no_grad()
def tell(
    clusters: ClusterSteps,
    f_i: ItemEncoder,
    fields: FieldTensors,
    users_BCD: Tensor,
    scores_BM: Tensor,
    targets: Targets,
    scores_of: Callable[[Tensor], Tensor],
) -> None:
    """Score every item of a batch with the rows of its candidate clusters.

    By all of its targets, and by a few users who stand for all of those in whose softmax it is a rival.

    Parameters
    ----------
    clusters
        Whom to tell.
    f_i, fields
        Makes vectors of the items.
    users_BCD, scores_BM
        Users' vectors, and their scores with the items as they are.
    targets
        Pairs of the matching task.
    scores_of
        From cosines ``[…, C, X]`` to scores ``[…, X]``.
    """
    users_P, items_P, weights_P = targets.users_P, targets.items_P, targets.weights_P
    weights_B = weights_P.new_zeros(len(users_BCD)).index_add_(0, users_P, weights_P)
    # drawn, for a batch is ordered by the length of histories
    rivals_R = torch.randperm(len(users_BCD), device=users_P.device)[:NUM_RIVALS]
    normalisers_R = scores_BM[rivals_R].logsumexp(dim=1)
    weights_R = weights_B[rivals_R] * len(users_BCD) / len(rivals_R)
    for start in range(0, len(fields.slots_M), ITEMS_AT_ONCE):
        stop = start + ITEMS_AT_ONCE
        part = fields.part(start, stop)
        vectors_MQD = _candidate_vectors(clusters, f_i, part)
        is_asked_P = (items_P >= start) & (items_P < stop)
        asked_P = items_P[is_asked_P] - start
        pairs_PCQ = cosines(users_BCD[users_P[is_asked_P]], vectors_MQD[asked_P])
        scores_RX = scores_of(cosines(users_BCD[rivals_R], vectors_MQD.flatten(end_dim=1)))
        losses_MQ, squares_MQ = candidate_losses(
            Positives(asked_P, scores_of(pairs_PCQ), weights_P[is_asked_P]),
            Rivals(
                scores_RX.unflatten(1, vectors_MQD.shape[:2]),
                scores_BM[rivals_R, start:stop],
                normalisers_R,
                weights_R,
            ),
        )
        entities_M = part.slots_M - 1  # slot 0 is in no cluster: worked out like the rest, then left out
        is_known_M, targets_P = entities_M >= 0, entities_M[asked_P]
        clusters.add_losses(
            entities_M[is_known_M], losses_MQ[is_known_M], squares_MQ[is_known_M], targets_P[targets_P >= 0]
        )


def _candidate_vectors(clusters: ClusterSteps, f_i: ItemEncoder, fields: FieldTensors) -> Tensor:
    """Vectors of items with the rows of their candidate clusters, their own first. ``→ [M, Q, D]``."""
    rows_MQX = clusters.table.weight[clusters.candidates((fields.slots_M - 1).clamp(min=0))]
    ids_MQX = f_i.ids(fields.slots_M)[:, None] + rows_MQX - rows_MQX[:, :1]
    return f_i.with_ids(fields, ids_MQX).float()
