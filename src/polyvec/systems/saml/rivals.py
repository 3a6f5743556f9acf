"""What SAML is compared with, on the same features, attention and widths."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from polyvec.layers.branches import BranchLinear
from polyvec.layers.dropout import Dropout
from polyvec.systems.saml.network import Batch, Order, SAMLNetwork, Scores, Shape, View

if TYPE_CHECKING:
    from polyvec.systems.saml.config import SAMLConfig


class MixedNetwork(nn.Module):
    """One network for all scenarios, the scenario one more feature (DIN's attention, Zhou et al. 2018)."""

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__()
        self.view = View(config, shape)
        self.scenarios = nn.Embedding(shape.scenarios, config.global_width)
        inputs = self.view.independent + config.global_width
        self.hidden = _layers((inputs, *config.hidden), config.dropout)
        self.output = nn.Linear(config.hidden[-1], 1)

    def forward(self, batch: Batch) -> Scores:
        """Logits of every sample."""
        features = torch.cat([self.view(batch)[0], self.scenarios(batch.scenarios)], dim=1)
        return Scores(self.output(self.hidden(features))[:, 0])


class SharedBottom(nn.Module):
    """Lower layers for all scenarios, the last hidden layer and the output for each (Caruana 1997)."""

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__()
        self.view = View(config, shape)
        *shared, last = config.hidden
        widths = (self.view.independent, *shared)
        self.count = shape.scenarios
        self.hidden = _layers(widths, config.dropout)
        self.tower = BranchLinear(shape.scenarios, widths[-1], last)
        self.output = BranchLinear(shape.scenarios, last, 1)

    def forward(self, batch: Batch) -> Scores:
        """Logits of every sample in its own scenario."""
        order = Order.of(batch.scenarios, self.count)
        hidden = self.hidden(self.view(batch)[0][order.rows])
        tower = torch.relu(self.tower.own(hidden, order.sizes))
        return Scores(order.undo(self.output.own(tower, order.sizes)[:, 0]))


def make_network(config: SAMLConfig, shape: Shape) -> nn.Module:
    """The network of a method."""
    if config.method == "mixed":
        return MixedNetwork(config, shape)
    return SharedBottom(config, shape) if config.method == "shared_bottom" else SAMLNetwork(config, shape)


def _layers(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Hidden layers, dropout after each."""
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        parts += [nn.Linear(inputs, outputs), nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*parts)
