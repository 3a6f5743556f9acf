"""Attention: scaled dot products, with a path for training on CPUs, and readers that compete for tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from torch import Tensor

HEADS_AT_ONCE = 32
"""Attention matrices worked on at once: 32 of 200 × 200 in bf16 fill 2.5 MB, about one core's cache."""


def attend(
    queries_BHQE: Tensor,
    keys_BHTE: Tensor,
    values_BHTE: Tensor,
    visible_BT: Tensor | None,
    *,
    causal: bool = False,
) -> Tensor:
    """Softmax(QKᵀ/√E)V over the visible tokens. ``→ [B, H, Q, E]``.

    With ``causal`` token q sees tokens 0 … q only (Q = T); ``visible_BT`` must be None then: padding at the
    end is seen by padding alone.

    The fused kernel is used everywhere but where a CPU trains in bf16: there its backward pass takes three
    times as long as :class:`CachedAttention`.
    """
    if torch.is_grad_enabled() and queries_BHQE.device.type == "cpu" and queries_BHQE.dtype == torch.bfloat16:
        bias = _causal_bias(queries_BHQE) if causal else _bias(queries_BHQE, visible_BT)
        return _attend_in_cache(queries_BHQE, keys_BHTE, values_BHTE, bias)
    mask_B11T = None if visible_BT is None else visible_BT[:, None, None, :]
    return scaled_dot_product_attention(
        queries_BHQE, keys_BHTE, values_BHTE, attn_mask=mask_B11T, is_causal=causal
    )


def compete(
    queries_BHCE: Tensor, keys_BHTE: Tensor, values_BHTE: Tensor, visible_BT: Tensor | None
) -> Tensor:
    """Attention of C readers that compete for the tokens. ``→ [B, H, C, E]``.

    Every token is shared out among the readers (a softmax over C of QKᵀ/√E), and what a reader gets is the
    mean of the visible tokens, weighted by its shares: slot attention's normalisation (Locatello et al. 2020,
    section 2.1, without its ε). A token that one reader resembles more than the others goes to it, so that
    readers cannot all describe the same tokens.
    """
    logits_BHCT = (queries_BHCE @ keys_BHTE.transpose(-1, -2)).float() * queries_BHCE.shape[-1] ** -0.5
    log_shares_BHCT = torch.log_softmax(logits_BHCT, dim=2)
    if visible_BT is not None:
        log_shares_BHCT = log_shares_BHCT.masked_fill(~visible_BT[:, None, None, :], -torch.inf)
    return torch.softmax(log_shares_BHCT, dim=-1).to(values_BHTE.dtype) @ values_BHTE


def _causal_bias(queries_BHQE: Tensor) -> Tensor:
    """−∞ where a token would see a later one, ``[1, T, T]``."""
    length = queries_BHQE.shape[2]
    return torch.full((1, length, length), -torch.inf, dtype=queries_BHQE.dtype).triu(1)


def _bias(queries_BHQE: Tensor, visible_BT: Tensor | None) -> Tensor | None:
    """−∞ where a token is hidden, ``[B·H, 1, T]``."""
    if visible_BT is None:
        return None
    bias_BT = torch.zeros(visible_BT.shape, dtype=queries_BHQE.dtype).masked_fill(~visible_BT, -torch.inf)
    return bias_BT.repeat_interleave(queries_BHQE.shape[1], dim=0)[:, None, :]


def _attend_in_cache(
    queries_BHQE: Tensor, keys_BHTE: Tensor, values_BHTE: Tensor, bias: Tensor | None
) -> Tensor:
    num_heads, width = queries_BHQE.shape[1], queries_BHQE.shape[3]
    scaled_GQE = queries_BHQE.flatten(0, 1) * width**-0.5
    attended_GQE: Tensor = CachedAttention.apply(  # type: ignore[no-untyped-call]
        scaled_GQE, keys_BHTE.flatten(0, 1), values_BHTE.flatten(0, 1), bias
    )
    return attended_GQE.unflatten(0, (-1, num_heads))


class CachedAttention(torch.autograd.Function):
    """Attention over G = B·H heads, a cacheful at a time, forward and backward.

    Inputs: scaled queries ``[G, Q, E]``, keys and values ``[G, T, E]``, bias
    ``[G, 1, T]``, ``[1, Q, T]`` or None.
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
                    scores += bias[heads] if len(bias) == len(queries) else bias
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
