"""What SAML is compared with, on the same features, attention and widths.

Letters: B samples, S scenarios, E experts, H width of a hidden layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polyvec.layers.branches import BranchLinear
from polyvec.layers.dropout import Dropout
from polyvec.systems.saml.network import Batch, Order, SAMLNetwork, Scores, Shape, View

if TYPE_CHECKING:
    from polyvec.systems.saml.config import SAMLConfig


class Rival(nn.Module, ABC):
    """A network on [d; Z_g; G], all of it global.

    Parameters
    ----------
    config
        What to build.
    shape
        What the data has.
    """

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__()
        self.config, self.count = config, shape.scenarios
        self.view = View(config, shape)
        self.inputs = self.view.independent

    def forward(self, batch: Batch) -> Scores:
        """Logits of every sample in its own scenario."""
        order = Order.of(batch.scenarios, self.count)
        features = self.view(batch)[0][order.rows]
        return Scores(order.undo(self.logits(features, order)[:, 0]))

    @abstractmethod
    def logits(self, features: Tensor, order: Order) -> Tensor:
        """Logits of sorted samples, ``[B, 1]``."""

    def hidden(self, inputs: int, widths: tuple[int, ...]) -> nn.Sequential:
        """Hidden layers, dropout after each."""
        parts: list[nn.Module] = []
        for before, after in pairwise((inputs, *widths)):
            parts += [nn.Linear(before, after), nn.ReLU(), Dropout(self.config.dropout)]
        return nn.Sequential(*parts)


class Towers(nn.Module):
    """The last hidden layer and the output of every scenario."""

    def __init__(self, count: int, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.layer = BranchLinear(count, inputs, width)
        self.output = BranchLinear(count, width, 1)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, order: Order) -> Tensor:
        """Logits ``[B, 1]``."""
        own = self.dropout(torch.relu(self.layer.own(hidden, order.sizes)))
        return self.output.own(own, order.sizes)


class MixedNetwork(Rival):
    """One network for all scenarios, the scenario one more feature (DIN's attention, Zhou et al. 2018)."""

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.scenarios = nn.Embedding(shape.scenarios, config.global_width)
        self.layers = self.hidden(self.inputs + config.global_width, config.hidden)
        self.output = nn.Linear(config.hidden[-1], 1)

    def logits(self, features: Tensor, order: Order) -> Tensor:
        """See :meth:`Rival.logits`."""
        told: Tensor = self.output(self.layers(torch.cat([features, self.scenarios(order.scenarios)], dim=1)))
        return told


class SharedBottom(Rival):
    """Lower layers for all scenarios, the last hidden layer and the output for each (Caruana 1997)."""

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        *lower, last = config.hidden
        self.layers = self.hidden(self.inputs, tuple(lower))
        self.towers = Towers(self.count, (self.inputs, *lower)[-1], last, config.dropout)

    def logits(self, features: Tensor, order: Order) -> Tensor:
        """See :meth:`Rival.logits`."""
        told: Tensor = self.towers(self.layers(features), order)
        return told


class MMoE(Rival):
    """Experts for all scenarios, which every scenario weighs by a gate of its own (Ma et al. 2018)."""

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        *lower, last = config.hidden
        self.experts = nn.ModuleList(self.hidden(self.inputs, tuple(lower)) for _ in range(config.experts))
        self.gates = BranchLinear(self.count, self.inputs, config.experts)
        self.towers = Towers(self.count, (self.inputs, *lower)[-1], last, config.dropout)

    def logits(self, features: Tensor, order: Order) -> Tensor:
        """See :meth:`Rival.logits`."""
        experts_BEH = torch.stack([expert(features) for expert in self.experts], dim=1)
        told: Tensor = self.towers(_weighed(experts_BEH, self.gates.own(features, order.sizes)), order)
        return told


class PLE(Rival):
    """Experts for all and experts of each scenario, on two levels (Tang et al. 2020).

    Half of ``experts`` are shared, and as many are each scenario's. On the first level what is shared weighs
    all experts, those of other scenarios among them.
    """

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        first, *middle, last = config.hidden if len(config.hidden) > 1 else (self.inputs, *config.hidden)
        each = max(config.experts // 2, 1)
        everyone = each * (self.count + 1)
        self.each = each
        self.first = nn.ModuleList(self.hidden(self.inputs, (first,)) for _ in range(everyone))
        self.first_gates = BranchLinear(self.count, self.inputs, 2 * each)
        self.shared_gate = nn.Linear(self.inputs, everyone)
        widths = (first, *middle)
        self.second = nn.ModuleList(self.hidden(first, widths[1:] or (first,)) for _ in range(everyone))
        self.second_gates = BranchLinear(self.count, first, 2 * each)
        self.towers = Towers(self.count, widths[-1], last, config.dropout)

    def logits(self, features: Tensor, order: Order) -> Tensor:
        """See :meth:`Rival.logits`."""
        all_BEH = torch.stack([expert(features) for expert in self.first], dim=1)
        own_BEH = self._own(all_BEH, order)
        own = _weighed(own_BEH, self.first_gates.own(features, order.sizes))
        shared = _weighed(all_BEH, self.shared_gate(features))
        second = [expert(shared) for expert in self.second[: self.each]]
        second += self._of_each(own, order)
        both_BEH = torch.stack(second, dim=1)
        told: Tensor = self.towers(_weighed(both_BEH, self.second_gates.own(own, order.sizes)), order)
        return told

    def _own(self, all_BEH: Tensor, order: Order) -> Tensor:
        """The shared experts, which come first, and those of the sample's own scenario."""
        shared = torch.arange(self.each, device=all_BEH.device).expand(len(all_BEH), -1)
        places = torch.cat([shared, (order.scenarios[:, None] + 1) * self.each + shared], dim=1)
        return all_BEH.gather(1, places[..., None].expand(-1, -1, all_BEH.shape[-1]))

    def _of_each(self, own: Tensor, order: Order) -> list[Tensor]:
        """Second-level experts of the sample's own scenario."""
        parts = own.split(order.sizes)
        return [
            torch.cat([self.second[(place + 1) * self.each + one](part) for place, part in enumerate(parts)])
            for one in range(self.each)
        ]


class STAR(Rival):
    """Weights of a scenario times weights of all, after a normalisation of its own (Sheng et al. 2021)."""

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.norms = nn.ModuleList(nn.BatchNorm1d(self.inputs) for _ in range(self.count))
        self.shared_scale = nn.Parameter(torch.ones(self.inputs))
        self.shared_shift = nn.Parameter(torch.zeros(self.inputs))
        self.layers = nn.ModuleList(
            Star(self.count, before, after) for before, after in pairwise((self.inputs, *config.hidden, 1))
        )
        self.dropout = Dropout(config.dropout)
        self.scenarios = nn.Embedding(self.count, config.global_width)
        self.auxiliary = nn.Sequential(
            self.hidden(self.inputs + config.global_width, config.hidden[-1:]),
            nn.Linear(config.hidden[-1], 1),
        )

    def logits(self, features: Tensor, order: Order) -> Tensor:
        """See :meth:`Rival.logits`."""
        parts = zip(self.norms, features.split(order.sizes), strict=True)
        normed = torch.cat([self._normed(norm, part) for norm, part in parts])
        hidden = self.shared_scale * normed + self.shared_shift
        for place, layer in enumerate(self.layers):
            hidden = layer(hidden if not place else self.dropout(torch.relu(hidden)), order)
        told: Tensor = self.auxiliary(torch.cat([features, self.scenarios(order.scenarios)], dim=1))
        return hidden + told

    @staticmethod
    def _normed(norm: nn.Module, part: Tensor) -> Tensor:
        """Of one scenario; a single sample has no deviation, and is measured by the running ones."""
        if len(part) == 1 and norm.training:
            norm.eval()
            normed: Tensor = norm(part)
            norm.train()
            return normed
        return norm(part) if len(part) else part


class Star(nn.Module):
    """W ⊙ W_s and b + b_s; the scenario's part begins as the identity."""

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shared = nn.Linear(inputs, outputs)
        self.weight = nn.Parameter(torch.zeros(count, outputs, inputs))  # less 1, so that it may decay
        self.bias = nn.Parameter(torch.zeros(count, outputs))

    def forward(self, inputs: Tensor, order: Order) -> Tensor:
        """``[B, I] → [B, O]``."""
        parts = zip(inputs.split(order.sizes), self.weight.unbind(), self.bias.unbind(), strict=True)
        return torch.cat([
            nn.functional.linear(part, self.shared.weight * (1 + weight), self.shared.bias + bias)
            for part, weight, bias in parts
        ])  # fmt: skip


class PEPNet(Rival):
    """Gates that the scenario sets on the features, and user and item on every layer (Chang et al. 2023).

    The gates look at features that they do not train, but for the ids of item and, where it is a field, user.
    """

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.scenarios = nn.Embedding(self.count, config.global_width)
        self.features_gate = _gate(self.inputs + config.global_width, self.inputs)
        widths = (self.inputs, *config.hidden)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        width = config.global_width
        item = len(self.view.item) * width
        begin = self.inputs - item  # the item's id comes first of its fields, the user's last of the moment's
        self.ids = slice(begin - (width if config.user_ids else 0), begin + width)
        told = self.inputs + config.global_width + (self.ids.stop - self.ids.start)
        self.layer_gates = nn.ModuleList(_gate(told, width) for width in widths[1:])
        self.output = nn.Linear(widths[-1], 1)
        self.dropout = Dropout(config.dropout)

    def logits(self, features: Tensor, order: Order) -> Tensor:
        """See :meth:`Rival.logits`."""
        scenario = self.scenarios(order.scenarios)
        hidden = features * self.features_gate(torch.cat([features.detach(), scenario], dim=1))
        told = torch.cat([hidden.detach(), scenario, features[:, self.ids]], dim=1)
        for layer, gate in zip(self.layers, self.layer_gates, strict=True):
            hidden = self.dropout(torch.relu(layer(hidden)) * gate(told))
        logits: Tensor = self.output(hidden)
        return logits


class HMoE(Rival):
    """Every scenario weighs what the networks of all say, and trains its own alone (Li et al. 2020)."""

    def __init__(self, config: SAMLConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.layers = nn.ModuleList(
            BranchLinear(self.count, before, after)
            for before, after in pairwise((self.inputs, *config.hidden, 1))
        )
        self.gates = BranchLinear(self.count, self.inputs, self.count)
        self.dropout = Dropout(config.dropout)

    def logits(self, features: Tensor, order: Order) -> Tensor:
        """See :meth:`Rival.logits`."""
        itself_BS = nn.functional.one_hot(order.scenarios, self.count).bool()
        own, everyone = features, features
        for place, layer in enumerate(self.layers):
            if place:
                own = self.dropout(torch.relu(own))
                everyone = torch.relu(everyone)
            own = layer.own(own, order.sizes)  # type: ignore[operator]
            with torch.no_grad():
                everyone = layer.all(everyone)  # type: ignore[operator]
        said_BS = torch.where(itself_BS, own, everyone[..., 0])
        weights_BS = torch.softmax(self.gates.own(features, order.sizes), dim=1)
        return (weights_BS * said_BS).sum(dim=1, keepdim=True)


NETWORKS: dict[str, type[Rival]] = {
    "mixed": MixedNetwork,
    "shared_bottom": SharedBottom,
    "mmoe": MMoE,
    "ple": PLE,
    "star": STAR,
    "pepnet": PEPNet,
    "hmoe": HMoE,
}


def make_network(config: SAMLConfig, shape: Shape) -> SAMLNetwork | Rival:
    """The network of a method."""
    return SAMLNetwork(config, shape) if config.method == "saml" else NETWORKS[config.method](config, shape)


def _weighed(values_BEH: Tensor, logits_BE: Tensor) -> Tensor:
    """Mean of the experts, by a softmax. ``→ [B, H]``."""
    return torch.einsum("be,beh->bh", torch.softmax(logits_BE, dim=1), values_BEH)


def _gate(inputs: int, outputs: int) -> nn.Sequential:
    """Two layers that end between 0 and 2."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs), TwiceSigmoid())


class TwiceSigmoid(nn.Module):
    """2σ(x), 1 at 0."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Element by element."""
        return 2 * torch.sigmoid(inputs)
