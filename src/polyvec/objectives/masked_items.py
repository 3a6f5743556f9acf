"""Masked items: name the item behind a mask (GUIM section 3.2, the MLM task with InfoNCE)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.functional import cross_entropy, normalize

from polyvec.objectives.info_nce import info_nce, log_sum_exp

if TYPE_CHECKING:
    from torch import Tensor

    from polyvec.objectives.matching import Negatives


def masked_item_loss(
    outputs_PD: Tensor,
    items_MD: Tensor,
    masked_items_P: Tensor,
    alpha: float,
    *,
    log_q_M: Tensor | None = None,
    negatives: Negatives | None = None,
) -> Tensor:
    """InfoNCE of every masked item with scores α·cos(o_n, v_j), against the batch's other items.

    Parameters
    ----------
    outputs_PD
        o_n at every masked position, ``[P, D]``.
    items_MD
        v_j of the batch's distinct items, ``[M, D]``.
    masked_items_P
        Which item stood there, int64 ``[P]``.
    alpha
        Scale α.
    log_q_M, negatives
        As in :func:`polyvec.objectives.matching.matching_loss`.

    Returns
    -------
    Tensor
        Loss of every masked position, ``[P]``.
    """
    scores_PM = alpha * normalize(outputs_PD, dim=-1) @ normalize(items_MD, dim=-1).T
    scores_PM = scores_PM.to(outputs_PD.dtype)  # autocast multiplies in bfloat16; all else needs more digits
    if log_q_M is not None:
        scores_PM = scores_PM - log_q_M
    if negatives is not None:
        positives_P = scores_PM.gather(1, masked_items_P[:, None])[:, 0]
        drawn_PK = scores_PM.gather(1, negatives.items_PK)
        return info_nce(positives_P, log_sum_exp(drawn_PK, negatives.excluded_PK))
    return cross_entropy(scores_PM, masked_items_P, reduction="none")  # InfoNCE with all others as negatives
