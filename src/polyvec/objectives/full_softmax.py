"""Cross-entropy over the whole catalogue without the matrix of all scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SMALL_CATALOGUE = 20_000
"""Items up to which scoring all of them costs less than a step of the transformer."""
SCORES_AT_ONCE = 2**21
"""Scores worked on at once by a CPU: 8 MB in float32, about what a core keeps in its cache."""
SCORES_AT_ONCE_ELSEWHERE = 2**26
"""By a GPU, whose kernels should be large: 256 MB, to bound memory."""


def full_softmax_loss(
    queries_PD: Tensor, items_ND: Tensor, targets_P: Tensor, weights_P: Tensor | None = None
) -> Tensor:
    """Mean over queries, or weighted sum, of −log softmax over all N items of the target's dot product.

    The P × N scores are made, used for both gradients and forgotten a few rows at a time, so memory does not
    grow with P·N and the forward pass does the whole work: three matrix products, as with the matrix kept.
    They are multiplied in bfloat16 where autocast says so; all else, and the loss, is float32.

    Parameters
    ----------
    queries_PD
        What foretells each target, ``[P, D]``.
    items_ND
        All items, ``[N, D]``.
    targets_P
        Row of the right item, int64 ``[P]``.
    weights_P
        Weight of every query in the sum, ``[P]``, a constant: it gets no gradient. None weighs each 1/P.

    Returns
    -------
    Tensor
        A scalar.
    """
    if weights_P is None:
        weights_P = torch.full(targets_P.shape, 1 / max(len(targets_P), 1), device=queries_PD.device)
    loss: Tensor = _FullSoftmax.apply(  # type: ignore[no-untyped-call]
        queries_PD, items_ND, targets_P, weights_P.detach().float()
    )
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
        at_once = SCORES_AT_ONCE if device == "cpu" else SCORES_AT_ONCE_ELSEWHERE
        loss, rows_at_once = weights_P.new_zeros(()), max(at_once // len(items), 1)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(targets_P), rows_at_once):
                rows = slice(start, start + rows_at_once)
                scores = (queries[rows] @ items.T).float()
                targets = targets_P[rows, None]
                log_chances = torch.log_softmax(scores, dim=1)
                loss -= weights_P[rows] @ log_chances.gather(1, targets)[:, 0]
                errors = log_chances.exp_().scatter_add_(
                    1, targets, -torch.ones_like(targets, dtype=torch.float32)
                )
                errors = errors.to(number_type)  # only now: 1 less a chance near 1 needs the digits
                to_queries[rows] = weights_P[rows, None] * (errors @ items).float()
                to_items += (errors.T @ weighted[rows]).float()
        ctx.save_for_backward(to_queries, to_items)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_queries, to_items = ctx.saved_tensors
        return to_queries * gradients[0], to_items * gradients[0], None, None
