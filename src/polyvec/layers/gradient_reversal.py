"""Gradient reversal: what follows learns to tell domains apart, what comes before to hide them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, trade_off: float) -> Tensor:
        ctx.trade_off = trade_off
        return inputs.view_as(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.trade_off * gradients[0], None


def reverse_gradient(inputs: Tensor, trade_off: float) -> Tensor:
    """R_λ(x) = x, whose gradient is −λ (Ganin and Lempitsky 2015; PGTL equation 5).

    Parameters
    ----------
    inputs
        Any shape.
    trade_off
        λ.
    """
    reversed_: Tensor = _Reversal.apply(inputs, trade_off)  # type: ignore[no-untyped-call]
    return reversed_
