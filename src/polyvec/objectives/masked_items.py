"""Masked items: name the item behind a mask (GUIM section 3.2, the MLM task with InfoNCE)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

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
    if log_q_M is not None:
        scores_PM = scores_PM - log_q_M
    rows_P = torch.arange(len(scores_PM), device=scores_PM.device)
    positives_P = scores_PM[rows_P, masked_items_P]
    if negatives is not None:
        drawn_PK = scores_PM[rows_P[:, None], negatives.items_PK]
        return info_nce(positives_P, log_sum_exp(drawn_PK, negatives.excluded_PK))
    is_positive_PM = torch.zeros_like(scores_PM, dtype=torch.bool)
    is_positive_PM[rows_P, masked_items_P] = True
    return info_nce(positives_P, log_sum_exp(scores_PM, is_positive_PM))
