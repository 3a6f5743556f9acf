"""What CEL's cluster steps are told by a batch of SASRec: how items would fare in other clusters.

**P** places of histories, **R** of them that stand for all, **N** items, **K** clusters, **Q** candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from polyvec.objectives.candidates import Positives, Rivals, candidate_losses

if TYPE_CHECKING:
    from torch import Tensor

    from polyvec.training.cluster_steps import ClusterSteps

NUM_RIVALS = 32


@torch.no_grad()
def tell(clusters: ClusterSteps, queries_PD: Tensor, items_SD: Tensor, targets_P: Tensor) -> None:
    """Score every item with the rows of its candidate clusters.

    By all places that it comes next at, and by a few that stand for all others.

    Parameters
    ----------
    clusters
        Whom to tell.
    queries_PD
        What foretells each target.
    items_SD
        Vectors of all slots as they are, ``[1 + N, D]``.
    targets_P
        Slots of the targets, 0 for items that are not known, which are in no cluster.
    """
    queries_PD, targets_P = queries_PD[targets_P > 0], targets_P[targets_P > 0] - 1
    if not len(targets_P):
        return
    entities_N = torch.arange(len(items_SD) - 1, device=targets_P.device)
    candidates_NQ = clusters.candidates(entities_N)
    rows_KD = clusters.table.weight
    residuals_ND = items_SD[1:] - rows_KD[candidates_NQ[:, 0]]  # what an item has beside its cluster's row
    places_R = torch.randperm(len(targets_P), device=targets_P.device)[:NUM_RIVALS]
    vectors_PQD = rows_KD[candidates_NQ[targets_P]] + residuals_ND[targets_P, None]
    scores_PQ = torch.einsum("pd,pqd->pq", queries_PD, vectors_PQD).float()
    scores_RS = (queries_PD[places_R] @ items_SD.T).float()
    weight = 1 / len(targets_P)
    losses_NQ, squares_NQ = candidate_losses(
        Positives(targets_P, scores_PQ, torch.full_like(scores_PQ[:, 0], weight)),
        Rivals(
            (queries_PD[places_R] @ rows_KD.T).float()[:, candidates_NQ]
            + (queries_PD[places_R] @ residuals_ND.T).float()[..., None],
            scores_RS[:, 1:],
            scores_RS.logsumexp(dim=1),
            scores_RS.new_full((len(places_R),), 1 / len(places_R)),
        ),
    )
    clusters.add_losses(entities_N, losses_NQ, squares_NQ, targets_P)
