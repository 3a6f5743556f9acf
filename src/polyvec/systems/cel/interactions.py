"""Interaction models f(u, v): from a user's and an item's row to a score.

All but DIN are inner products of features of the user and features of the item, so that all pairs of two sets
of rows cost one matrix product.

**A** rows, **D** width of a row, **F** features, **P** records, **H** events of all their histories.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN = 16
FIRST_MIXTURE = -1.0
ATTENTION_HIDDEN, HEAD_HIDDEN = 36, (200, 80)  # of DIN's figure 2


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


class DIN(Interaction):
    """Deep Interest Network (Zhou et al. 2018, equation 3): a history is summed as the target asks for it.

    An event h of the history weighs what an MLP says of [h, t, h − t, h * t], t being the target; there is no
    softmax, so that strong interests stay strong. Another MLP makes the score of the user's vector, this sum
    and the target's vector.

    Parameters
    ----------
    width
        D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = HEAD_HIDDEN
        self.attention = nn.Sequential(
            nn.Linear(4 * width, ATTENTION_HIDDEN), nn.PReLU(), nn.Linear(ATTENTION_HIDDEN, 1)
        )
        self.head = nn.Sequential(
            *(nn.Linear(3 * width, first), nn.PReLU()),
            *(nn.Linear(first, second), nn.PReLU()),
            nn.Linear(second, 1),
        )

    def users(self, rows_AD: Tensor) -> Tensor:
        """The rows: without a history and a target there is nothing to say. ``[A, D] → [A, D]``."""
        return rows_AD

    def items(self, rows_AD: Tensor) -> Tensor:
        """The rows. ``[A, D] → [A, D]``."""
        return rows_AD

    def forward(
        self, users_PD: Tensor, items_AD: Tensor, targets_P: Tensor, past_H: Tensor, owners_H: Tensor
    ) -> Tensor:
        """Scores of records. ``→ [P]``.

        Parameters
        ----------
        users_PD
            Vector of every record's user.
        items_AD
            Distinct vectors of items.
        targets_P, past_H
            Which of these every target and every event of the histories has, int64.
        owners_H
            Record of every event, int64, ascending.
        """
        weights_H = self.weights(items_AD, past_H, targets_P.index_select(0, owners_H))
        begins_P = torch.searchsorted(owners_H, torch.arange(len(targets_P)))
        interests_PD = embedding_bag(
            past_H, items_AD, begins_P, mode="sum", per_sample_weights=weights_H.to(items_AD.dtype)
        )
        scores_P1: Tensor = self.head(torch.cat([users_PD, interests_PD, embedding(targets_P, items_AD)], 1))
        return scores_P1[:, 0]

    def weights(self, items_AD: Tensor, past_H: Tensor, targets_H: Tensor) -> Tensor:
        """Attention of targets to events. ``→ [H]``.

        It depends on the two rows alone. Where there are fewer pairs of rows than events, which is what
        clusters are for, every pair is looked at once.
        """
        rows = len(items_AD)
        if rows * rows > len(past_H):
            return self._attend(embedding(past_H, items_AD), embedding(targets_H, items_AD))
        pairs_AAD = items_AD[:, None].expand(rows, rows, -1), items_AD[None].expand(rows, rows, -1)
        return self._attend(*pairs_AAD).flatten().index_select(0, past_H * rows + targets_H)

    def _attend(self, past: Tensor, targets: Tensor) -> Tensor:
        """``[…, D], […, D] → […]``."""
        pairs = torch.cat([past, targets, past - targets, past * targets], dim=-1)
        weights: Tensor = self.attention(pairs)
        return weights[..., 0]


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
    "din": DIN,
}
