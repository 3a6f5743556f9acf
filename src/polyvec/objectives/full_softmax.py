"""Cross-entropy over the whole catalogue without the matrix of all scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SMALL_CATALOGUE = 20_000
"""Items up to which scoring all of them costs less than a step of the transformer."""
SCORES_AT_ONCE = 2**21
"""Scores worked on at once: 8 MB in float32, about what a core keeps in its cache."""


def full_softmax_loss(
    queries_PD: Tensor, items_ND: Tensor, targets_P: Tensor, weights_P: Tensor | None = None
) -> Tensor:
    """Mean over queries, or weighted sum, of −log softmax over all N items of the target's dot product.

    The P × N scores are made, used for both gradients and forgotten a few rows at a time, so memory does not
    grow with P·N and the forward pass does the whole work: three matrix products, as with the matrix kept.
    They are multiplied in bfloat16 where autocast says so, and summed up in float32.

    Parameters
    ----------
    queries_PD
        What foretells each target, ``[P, D]``; P > 0.
    items_ND
        All items, ``[N, D]``.
    targets_P
        Row of the right item, int64 ``[P]``.
    weights_P
        Weight of every query in the sum, float32 ``[P]``, without a gradient; None weighs each 1/P.

    Returns
    -------
    Tensor
        A scalar.
    """
    if weights_P is None:
        weights_P = queries_PD.new_full((len(targets_P),), 1 / len(targets_P), dtype=torch.float32)
    loss: Tensor = _FullSoftmax.apply(queries_PD, items_ND, targets_P, weights_P)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries_PD: Tensor, items_ND: Tensor, targets_P: Tensor, weights_P: Tensor
    ) -> Tensor:
        device = queries_PD.device.type
        number_type = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        queries, items = queries_PD.to(number_type), items_ND.to(number_type)
        weighted = (weights_P[:, None] * queries_PD).to(number_type)
        to_queries = torch.empty_like(queries_PD, dtype=torch.float32)
        to_items = torch.zeros_like(items_ND, dtype=torch.float32)
        losses, rows_at_once = [], max(SCORES_AT_ONCE // len(items), 1)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(targets_P), rows_at_once):
                rows = slice(start, start + rows_at_once)
                scores = queries[rows] @ items.T
                chances = torch.softmax(scores, dim=1)
                targets = targets_P[rows, None]
                losses_R1 = _normalisers(scores, chances) - scores.gather(1, targets).float()
                losses.append(weights_P[rows] @ losses_R1[:, 0])
                chances.scatter_add_(1, targets, torch.full_like(targets, -1, dtype=number_type))
                to_queries[rows] = weights_P[rows, None] * (chances @ items).float()
                to_items += (chances.T @ weighted[rows]).float()
        ctx.save_for_backward(to_queries, to_items)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_queries, to_items = ctx.saved_tensors
        return to_queries * gradients[0], to_items * gradients[0], None, None


def _normalisers(scores_RN: Tensor, chances_RN: Tensor) -> Tensor:
    """Log-sum-exp of every row, from its softmax: the likeliest item's chance is never too small for it."""
    return scores_RN.amax(dim=1, keepdim=True).float() - chances_RN.amax(dim=1, keepdim=True).float().log()
