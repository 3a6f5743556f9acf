"""A larger network that goes on where a smaller one stopped: tables have more rows, all else is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polyvec.training.checkpoint import read_optimizers, restore_optimizers

if TYPE_CHECKING:
    from pathlib import Path

    from torch.optim import Optimizer

SQUARES = "sum"  # what Adagrad calls the sums of squares that it divides by


@torch.no_grad()
def grow(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give a network the weights of a smaller one; rows that are new keep what they begin with.

    Parameters
    ----------
    network
        Has every weight of the smaller one, as wide, and with as many rows or more.
    weights
        State of the smaller one.
    """
    own = network.state_dict()
    for name, weight in weights.items():
        own[name][tuple(slice(size) for size in weight.shape)].copy_(weight)


def go_on(file: Path, optimizers: list[Optimizer], *, begin: float, decay: float) -> bool:
    """Give optimizers what those of a smaller network remembered; False if nothing is kept in ``file``.

    Parameters
    ----------
    file
        Written by :func:`polyvec.training.checkpoint.keep_optimizers`.
    optimizers
        Of the larger network.
    begin
        Adagrad's sums of squares of new rows; whatever other optimizers remember is 0 for them.
    decay
        γ, what Adagrad's sums are multiplied by: they only grow, and would stop all learning in the end.
    """
    if not file.is_file():
        return False
    states = read_optimizers(file)
    for optimizer, state in zip(optimizers, states, strict=False):  # the last may remember nothing yet
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        for number, remembered in state.items():
            for name, value in remembered.items():
                if isinstance(value, Tensor) and value.ndim:
                    is_sum = name == SQUARES
                    larger = torch.full_like(parameters[number], begin if is_sum else 0)
                    larger[tuple(slice(size) for size in value.shape)] = value * (decay if is_sum else 1)
                    remembered[name] = larger
    restore_optimizers(states, optimizers)
    return True
