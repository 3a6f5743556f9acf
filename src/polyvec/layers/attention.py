"""Scaled dot-product attention, with a training path for CPUs that stays in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from torch import Tensor

HEADS_AT_ONCE = 32
"""Attention matrices worked on at once: 32 of 200 × 200 in bf16 fill 2.5 MB, about one core's cache."""


def attend(queries_BHQE: Tensor, keys_BHTE: Tensor, values_BHTE: Tensor, visible_BT: Tensor | None) -> Tensor:
    """Softmax(QKᵀ/√E)V over the visible tokens. ``→ [B, H, Q, E]``.

    The fused kernel is used everywhere but where a CPU trains in bf16: there its backward pass takes three
    times as long as :class:`CachedAttention`.
    """
    if torch.is_grad_enabled() and queries_BHQE.device.type == "cpu" and queries_BHQE.dtype == torch.bfloat16:
        return _attend_in_cache(queries_BHQE, keys_BHTE, values_BHTE, visible_BT)
    mask_B11T = None if visible_BT is None else visible_BT[:, None, None, :]
    return scaled_dot_product_attention(queries_BHQE, keys_BHTE, values_BHTE, attn_mask=mask_B11T)


def _attend_in_cache(
    queries_BHQE: Tensor, keys_BHTE: Tensor, values_BHTE: Tensor, visible_BT: Tensor | None
) -> Tensor:
    num_heads, width = queries_BHQE.shape[1], queries_BHQE.shape[3]
    scaled_GQE = queries_BHQE.flatten(0, 1) * width**-0.5
    bias_G1T = None
    if visible_BT is not None:
        bias_BT = torch.zeros(visible_BT.shape, dtype=scaled_GQE.dtype).masked_fill(~visible_BT, -torch.inf)
        bias_G1T = bias_BT.repeat_interleave(num_heads, dim=0)[:, None, :]
    attended_GQE: Tensor = CachedAttention.apply(  # type: ignore[no-untyped-call]
        scaled_GQE, keys_BHTE.flatten(0, 1), values_BHTE.flatten(0, 1), bias_G1T
    )
    return attended_GQE.unflatten(0, (-1, num_heads))


class CachedAttention(torch.autograd.Function):
    """Attention over G = B·H heads, a cacheful at a time, forward and backward.

    Inputs: scaled queries ``[G, Q, E]``, keys and values ``[G, T, E]``, bias ``[G, 1, T]`` or None.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Return the attended values and keep the attention weights for the backward pass."""
        outputs = torch.empty_like(queries)
        weights = queries.new_empty(queries.shape[0], queries.shape[1], keys.shape[1])
        with torch.autocast("cpu", enabled=False):
            for heads in _cachefuls(len(queries)):
                scores = torch.bmm(queries[heads], keys[heads].transpose(1, 2))
                if bias is not None:
                    scores += bias[heads]
                torch.softmax(scores, dim=-1, out=weights[heads])
                torch.bmm(weights[heads], values[heads], out=outputs[heads])
        ctx.save_for_backward(queries, keys, values, weights)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of queries, keys and values."""
        (gradient,) = gradients
        queries, keys, values, weights = ctx.saved_tensors
        to_queries, to_keys, to_values = (torch.empty_like(tensor) for tensor in (queries, keys, values))
        for heads in _cachefuls(len(queries)):
            torch.bmm(weights[heads].transpose(1, 2), gradient[heads], out=to_values[heads])
            to_weights = torch.bmm(gradient[heads], values[heads].transpose(1, 2))
            to_scores = torch._softmax_backward_data(to_weights, weights[heads], -1, weights.dtype)
            torch.bmm(to_scores, keys[heads], out=to_queries[heads])
            torch.bmm(to_scores.transpose(1, 2), queries[heads], out=to_keys[heads])
        return to_queries, to_keys, to_values, None


def _cachefuls(count: int) -> list[slice]:
    return [slice(start, start + HEADS_AT_ONCE) for start in range(0, count, HEADS_AT_ONCE)]
