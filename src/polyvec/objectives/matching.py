"""Matching: a user's set of vectors against the items of the target window (GUIM section 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn.functional import normalize

from polyvec.objectives.info_nce import info_nce, log_sum_exp

if TYPE_CHECKING:
    from torch import Tensor

Mixture = Literal["max", "soft_max", "attention"]
LEAST_PART = 1e-9  # of the targets, that a vector has: its logarithm is asked for


@dataclass(frozen=True)
class Negatives:
    """K sampled negatives for each of P positives (the paper's recipe).

    Attributes
    ----------
    items_PK
        Index of every negative among the batch's items, int64 ``[P, K]``.
    excluded_PK
        Draws that are positives of the same user and must not count, bool ``[P, K]``.
    """

    items_PK: Tensor
    excluded_PK: Tensor


def cosines(users_BCD: Tensor, items_MD: Tensor) -> Tensor:
    """Cosine of every user vector with every item. ``[B, C, D], [M, D] → [B, C, M]``.

    Or with items of the user's own: ``[B, C, D], [B, M, D] → [B, C, M]``.
    """
    return normalize(users_BCD, dim=-1) @ normalize(items_MD, dim=-1).mT


def mix(cosines_BCM: Tensor, alpha: float, mixture: Mixture = "max", sharpness: float = 20.0) -> Tensor:
    """Score users and items from the cosines of the users' vectors. ``[B, C, M] → [B, M]``.

    Parameters
    ----------
    cosines_BCM
        cos(u_c, v_j); C is the second axis.
    alpha
        Scale α of eq. 2 and 3: scores lie in [−α, α].
    mixture
        ``max`` is eq. 3, ``α max_c cos(u_c, v_j)``: the gradient reaches the winning vector only.
        ``attention`` is eq. 2, ``α Σ_c π_c cos(u_c, v_j)`` with π = softmax_c(sharpness · cos).
        ``soft_max`` is the smooth upper bound of eq. 3, ``α/s · log(1/C Σ_c exp(s cos))`` with s = sharpness:
        every vector gets its share of the gradient; at retrieval the max stands in for it.
    sharpness
        Inverse temperature of ``attention`` and ``soft_max``; both tend to ``max`` as it grows.
    """
    if mixture == "max":
        return alpha * cosines_BCM.max(dim=1).values
    if mixture == "attention":
        weights_BCM = torch.softmax(sharpness * cosines_BCM, dim=1)
        return alpha * (weights_BCM * cosines_BCM).sum(dim=1)
    pooled_BM = torch.logsumexp(sharpness * cosines_BCM, dim=1)
    return alpha / sharpness * (pooled_BM - math.log(cosines_BCM.shape[1]))


@torch.no_grad()
def balanced_shares(
    cosines_PC: Tensor, weights_P: Tensor, sharpness: float, balance: float = 1.0, rounds: int = 20
) -> Tensor:
    """Share every target out among the user's vectors, so that none of them is left without any.

    The shares are softmax_c(sharpness · cos(u_c, v_j) + b_c) with the b of Sinkhorn's iteration (Cuturi 2013)
    for which the C vectors have the parts of the batch's targets that they should have: ``balance`` of the
    way from the parts that they win to equal ones. Not in the paper.

    Parameters
    ----------
    cosines_PC
        Of the user's vectors with the target, ``[P, C]``.
    weights_P
        Of the targets, above zero, ``[P]``.
    sharpness
        How much the nearest vector has of a target where all vectors have enough.
    balance
        0 … 1.
    rounds
        Of the iteration.

    Returns
    -------
    Tensor
        ``[P, C]``, every row sums to one. No gradient passes.
    """
    weights_P1 = (weights_P / weights_P.sum())[:, None]
    num_vectors = cosines_PC.shape[1]
    wins_PC = torch.nn.functional.one_hot(cosines_PC.argmax(dim=1), num_vectors)
    goal_C = (1 - balance) * (weights_P1 * wins_PC).sum(dim=0) + balance / num_vectors
    logits_PC = sharpness * cosines_PC
    for _ in range(rounds):
        parts_C = (weights_P1 * logits_PC.softmax(dim=1)).sum(dim=0)
        logits_PC = logits_PC + (goal_C.clamp(min=LEAST_PART) / parts_C.clamp(min=LEAST_PART)).log()
    return logits_PC.softmax(dim=1)


def matching_loss(
    scores_BM: Tensor,
    target_users_P: Tensor,
    target_items_P: Tensor,
    *,
    positives_P: Tensor | None = None,
    log_q_M: Tensor | None = None,
    negatives: Negatives | None = None,
) -> Tensor:
    """InfoNCE of every target item against the batch's other items (eq. 4).

    All targets of a user are left out of that user's negatives, so an item bought by two users of the batch
    is never a false negative of either.

    Parameters
    ----------
    scores_BM
        Score of every user of the batch with every distinct item of the batch, ``[B, M]``.
    target_users_P, target_items_P
        Positives: user ``target_users_P[p]`` takes item ``target_items_P[p]``; int64 ``[P]``.
    positives_P
        Their scores, ``[P]``, where they are not those of ``scores_BM``.
    log_q_M
        Log-probability that an item is drawn as a negative; subtracted from the scores (sampled-softmax
        correction). None leaves scores as they are, as in the paper.
    negatives
        K drawn negatives per positive; None takes all distinct items of the batch.

    Returns
    -------
    Tensor
        Loss of every positive, ``[P]``.
    """
    if positives_P is None:
        positives_P = scores_BM[target_users_P, target_items_P]
    if log_q_M is not None:
        scores_BM, positives_P = scores_BM - log_q_M, positives_P - log_q_M[target_items_P]
    if negatives is not None:
        drawn_PK = scores_BM[target_users_P[:, None], negatives.items_PK]
        return info_nce(positives_P, log_sum_exp(drawn_PK, negatives.excluded_PK))
    is_target_BM = torch.zeros_like(scores_BM, dtype=torch.bool)
    is_target_BM[target_users_P, target_items_P] = True
    return info_nce(positives_P, log_sum_exp(scores_BM, is_target_BM).index_select(0, target_users_P))
