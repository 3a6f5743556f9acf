"""InfoNCE: tell the positive among negatives (GUIM eq. 4; van den Oord et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def info_nce(positives_P: Tensor, negatives_P: Tensor) -> Tensor:
    """Return −log softmax of every positive against its negatives.

    Parameters
    ----------
    positives_P
        Score of every positive, ``[P]``.
    negatives_P
        Log-sum-exp of the scores of its negatives, ``[P]``; −inf where there is none (the loss is then 0).

    Returns
    -------
    Tensor
        Loss of every positive, ``[P]``.
    """
    return torch.logaddexp(positives_P, negatives_P) - positives_P


def log_sum_exp(scores_PM: Tensor, excluded_PM: Tensor) -> Tensor:
    """Log-sum-exp over the last axis, leaving out what is excluded. ``[P, M] → [P]``."""
    return torch.logsumexp(scores_PM.masked_fill(excluded_PM, -torch.inf), dim=-1)
