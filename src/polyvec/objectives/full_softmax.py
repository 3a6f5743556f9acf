"""Cross-entropy over the whole catalogue without the matrix of all scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SMALL_CATALOGUE = 20_000
"""Items up to which scoring all of them costs less than a step of the transformer."""
SCORES_AT_ONCE = 2**21
"""Scores worked on at once: 8 MB in float32, about what a core keeps in its cache."""


def full_softmax_loss(queries_PD: Tensor, items_ND: Tensor, targets_P: Tensor) -> Tensor:
    """Mean over queries of −log softmax over all N items of the target's dot product.

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

    Returns
    -------
    Tensor
        A scalar.
    """
    loss: Tensor = _FullSoftmax.apply(queries_PD, items_ND, targets_P)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries_PD: Tensor, items_ND: Tensor, targets_P: Tensor) -> Tensor:
        device = queries_PD.device.type
        number_type = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        queries, items = queries_PD.to(number_type), items_ND.to(number_type)
        to_queries = torch.empty_like(queries_PD, dtype=torch.float32)
        to_items = torch.zeros_like(items_ND, dtype=torch.float32)
        losses, rows_at_once = [], max(SCORES_AT_ONCE // len(items), 1)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(targets_P), rows_at_once):
                rows = slice(start, start + rows_at_once)
                scores = queries[rows] @ items.T
                chances = torch.softmax(scores, dim=1)
                targets = targets_P[rows, None]
                losses.append((_normalisers(scores, chances) - scores.gather(1, targets).float()).sum())
                chances.scatter_add_(1, targets, torch.full_like(targets, -1, dtype=number_type))
                to_queries[rows] = (chances @ items).float()
                to_items += (chances.T @ queries[rows]).float()
        ctx.save_for_backward(to_queries, to_items)
        ctx.count = len(targets_P)
        return torch.stack(losses).sum() / ctx.count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        to_queries, to_items = ctx.saved_tensors
        scale = gradients[0] / ctx.count
        return to_queries * scale, to_items * scale, None


def _normalisers(scores_RN: Tensor, chances_RN: Tensor) -> Tensor:
    """Log-sum-exp of every row, from its softmax: the likeliest item's chance is never too small for it."""
    return scores_RN.amax(dim=1, keepdim=True).float() - chances_RN.amax(dim=1, keepdim=True).float().log()
