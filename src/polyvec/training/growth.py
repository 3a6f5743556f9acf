"""A larger network that goes on where a smaller one stopped: tables have more rows, all else is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from polyvec.training.checkpoint import read_optimizers, restore_optimizers

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
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


@torch.no_grad()
def begin_at_means(
    weight: Tensor, rows_N: npt.NDArray[np.int64], groups_N: npt.NDArray[np.int64], known: int
) -> None:
    """Let rows that are new begin at the mean of the known rows of their group.

    Parameters
    ----------
    weight
        Of a table ``[n, D]``; changed in place.
    rows_N
        Row of every item, 0 for none of its own.
    groups_N
        Group of every item, 0 for none: such a row stays as it is.
    known
        Rows from here on are new.
    """
    old, new = np.flatnonzero((rows_N > 0) & (rows_N < known)), np.flatnonzero(rows_N >= known)
    counts = np.bincount(groups_N[old], minlength=int(groups_N.max(initial=0)) + 1)
    new = new[(groups_N[new] > 0) & (counts[groups_N[new]] > 0)]
    places_old, places_new = (torch.from_numpy(groups_N[some]).to(weight.device) for some in (old, new))
    rows_old, rows_new = (torch.from_numpy(rows_N[some]).to(weight.device) for some in (old, new))
    sums = weight.new_zeros(len(counts), weight.shape[1]).index_add_(0, places_old, weight[rows_old])
    means = sums / torch.from_numpy(np.maximum(counts, 1)).to(weight)[:, None]
    weight[rows_new] = means[places_new]


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
