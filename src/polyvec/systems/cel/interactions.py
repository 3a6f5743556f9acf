"""Interaction models f(u, v): from a user's and an item's row to a score.

All of them are inner products of features of the user and features of the item, so that all pairs of two sets
of rows cost one matrix product.

**A** rows, **D** width of a row, **F** features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN = 16
FIRST_MIXTURE = -1.0


class Interaction(nn.Module, ABC):
    """An interaction model."""

    @abstractmethod
    def users(self, rows_AD: Tensor) -> Tensor:
        """Features of users. ``[A, D] → [A, F]``."""

    @abstractmethod
    def items(self, rows_AD: Tensor) -> Tensor:
        """Features of items. ``[A, D] → [A, F]``."""


class Dot(Interaction):
    """Matrix factorisation: the rows are the features; where they are kept non-negative, NMF."""

    def users(self, rows_AD: Tensor) -> Tensor:
        """Features of users. ``[A, D] → [A, D]``."""
        return rows_AD

    def items(self, rows_AD: Tensor) -> Tensor:
        """Features of items. ``[A, D] → [A, D]``."""
        return rows_AD


class MLP(Interaction):
    """Two towers D → D/2 → 16 with ReLU after each layer, as in the authors' code.

    Parameters
    ----------
    width
        D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.user_tower, self.item_tower = _tower(width), _tower(width)

    def users(self, rows_AD: Tensor) -> Tensor:
        """Features of users. ``[A, D] → [A, 16]``."""
        features_AF: Tensor = self.user_tower(rows_AD)
        return features_AF

    def items(self, rows_AD: Tensor) -> Tensor:
        """Features of items. ``[A, D] → [A, 16]``."""
        features_AF: Tensor = self.item_tower(rows_AD)
        return features_AF


class NeuNMF(Interaction):
    """p·MLP + (1 − p)·inner product, with p = sigmoid of a learned number that starts at −1.

    Parameters
    ----------
    width
        D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.towers = MLP(width)
        self.mixture = nn.Parameter(torch.tensor(FIRST_MIXTURE))

    def users(self, rows_AD: Tensor) -> Tensor:
        """Features of users, with p in them. ``[A, D] → [A, 16 + D]``."""
        share = self.mixture.sigmoid()
        return torch.cat([share * self.towers.users(rows_AD), (1 - share) * rows_AD], dim=1)

    def items(self, rows_AD: Tensor) -> Tensor:
        """Features of items. ``[A, D] → [A, 16 + D]``."""
        return torch.cat([self.towers.items(rows_AD), rows_AD], dim=1)


def _tower(width: int) -> nn.Sequential:
    """Weights N(0, 1) over the square root of half the rows, or of half the geometric mean of both sides."""
    half = width // 2
    first, second = nn.Linear(width, half), nn.Linear(half, HIDDEN)
    nn.init.normal_(first.weight, std=half**-0.5)
    nn.init.normal_(second.weight, std=(0.5 * (HIDDEN * width) ** 0.5) ** -0.5)
    for layer in (first, second):
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


INTERACTIONS: dict[str, Callable[[int], Interaction]] = {
    "dot": lambda _width: Dot(),
    "mlp": MLP,
    "neunmf": NeuNMF,
}
