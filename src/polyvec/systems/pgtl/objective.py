"""Losses and batches of PGTL (equations 1 to 10)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from polyvec.objectives.domains import mean_discrepancy
from polyvec.systems.pgtl.clusters import tell
from polyvec.systems.pgtl.network import Encoded, Features, PGTLNetwork
from polyvec.training.loop import SEED_STRIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from polyvec.systems.pgtl.view import Samples
    from polyvec.training.cluster_steps import ClusterSteps

STEEPNESS = 10.0  # of the rise of λ: Ganin and Lempitsky 2015


@dataclass(frozen=True)
class Part:
    """Pairs of one market: features of the first items of all, then of the second ones."""

    features: Features
    prior: Features | None
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PairBatch:
    """Pairs of both markets, or of the one that is trained.

    Attributes
    ----------
    source, target
        Pairs by market.
    progress
        Share of the training that is done.
    """

    source: Part | None
    target: Part | None
    progress: float

    @property
    def num_tokens(self) -> int:
        """Items that are encoded."""
        return sum(2 * len(part) for part in (self.source, self.target) if part is not None)


@dataclass(frozen=True)
class PairPlan:
    """As many pairs of each market in every batch, in an order of its own, begun anew when it ends.

    Attributes
    ----------
    source, target
        All pairs; None of a market that is not trained.
    batch_size
        Pairs of each market.
    steps
        Of an epoch.
    epochs
        Planned, for the progress.
    seed
        Of the orders.
    device
        Where the tensors are made.
    """

    source: Samples | None
    target: Samples | None
    batch_size: int
    steps: int
    epochs: int
    seed: int
    device: torch.device

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[PairBatch]:
        """Batches of an epoch from number ``skip`` on."""
        for step in range(epoch * self.steps + skip, (epoch + 1) * self.steps):
            parts = [
                None if samples is None else part_of(samples, self._rows(samples, step, market), self.device)
                for market, samples in enumerate((self.source, self.target))
            ]
            yield PairBatch(parts[0], parts[1], step / (self.steps * self.epochs))

    def widest(self) -> PairBatch:
        """The first batch: all are alike."""
        return next(self.epoch(0))

    def _rows(self, samples: Samples, step: int, market: int) -> npt.NDArray[np.int64]:
        """Pairs of a step: part of one turn through them all, or the end of one and the begin of the next."""
        count = len(samples)
        size = min(self.batch_size, count)
        turn, place = divmod(step * size, count)
        found = _order(self.seed * SEED_STRIDE + turn, market, count)[place : place + size]
        if len(found) == size:
            return found
        more = _order(self.seed * SEED_STRIDE + turn + 1, market, count)[: size - len(found)]
        return np.concatenate([found, more])


@lru_cache(maxsize=4)  # this turn's and the next one's of both markets
def _order(seed: int, market: int, count: int) -> npt.NDArray[np.int64]:
    """Order of one turn through the pairs of a market."""
    return np.random.default_rng((seed, market)).permutation(count)


def part_of(samples: Samples, rows: npt.NDArray[np.int64], device: torch.device) -> Part:
    """Pairs of a market as tensors."""
    flat = samples.rows_2P[:, rows].reshape(-1)
    prior = None if samples.prior is None else samples.prior.take(flat, device)
    labels = torch.from_numpy(samples.labels_P[rows].astype(np.float32)).to(device)
    return Part(samples.instances.take(flat, device), prior, labels)


@dataclass(frozen=True)
class Objective:
    """Loss of a batch: L1 + L2 + βΩ (equation 10).

    Attributes
    ----------
    network
        What is trained.
    clusters
        Told how items would fare in other clusters; None without clusters.
    """

    network: PGTLNetwork
    clusters: ClusterSteps | None = None

    def __call__(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss, and what it is made of."""
        network, config = self.network, self.network.config
        figures: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        aligned: list[Tensor] = []
        if batch.source is not None:
            encoded = network.source(batch.source.features)
            losses.append(self._task(encoded, batch.source.labels).mean())
            figures["source"] = losses[-1].detach()
            self._tell(batch.source, lambda part: self._task(network.source(part.features), part.labels))
            if encoded.aligned is not None:
                aligned.append(encoded.aligned)
        if batch.target is not None:
            encoded = network.target(batch.target.features, batch.target.prior)
            loss = self._task(encoded, batch.target.labels).mean()
            figures["target"] = loss.detach()
            if batch.source is None or batch.progress >= config.lead:
                losses.append(loss)
                self._tell(
                    batch.target,
                    lambda part: self._task(network.target(part.features, part.prior), part.labels),
                )
            if encoded.aligned is not None:
                aligned.append(encoded.aligned)
            if encoded.gate is not None:
                figures["gate"] = encoded.gate.detach().mean()
        if network.aligns and config.trade_off:
            losses.append(self._align(aligned, batch.progress, figures))
        if config.decay:
            squares = [weight.square().sum() for weight in network.parameters()]
            losses.append(config.decay * torch.stack(squares).sum())
        return torch.stack(losses).sum(), figures

    def _task(self, encoded: Encoded, labels_P: Tensor) -> Tensor:
        """Equation 1 of every pair of a market, without regularisation: equations 4 and 9; ``[P]``."""
        logits_P = self.network.logits(*halves(encoded))
        return nn.functional.binary_cross_entropy_with_logits(logits_P, labels_P, reduction="none")

    def _tell(self, part: Part, loss_of: Callable[[Part], Tensor]) -> None:
        if self.clusters is not None:
            tell(self.clusters, self.network, part, loss_of)

    def _align(self, aligned: list[Tensor], progress: float, figures: dict[str, Tensor]) -> Tensor:
        """What draws the markets together: the second part of equation 6, or of equation 3."""
        source, target = aligned
        config = self.network.config
        if config.alignment == "mmd":
            found = mean_discrepancy(source, target)
            figures["discrepancy"] = found.detach()
            return config.trade_off * found
        scores, truth = self.network.tell_apart(source, target, config.trade_off * risen(progress))
        figures["told_apart"] = ((scores > 0) == (truth > 0)).float().mean()
        return nn.functional.binary_cross_entropy_with_logits(scores, truth)


def risen(progress: float) -> float:
    """Share of λ that is in force: from 0 to 1, most of the way in the first half of training."""
    return 2 / (1 + math.exp(-STEEPNESS * progress)) - 1


def halves(encoded: Encoded) -> tuple[Encoded, Encoded]:
    """First and second items of pairs that were encoded together."""
    split = [block.chunk(2) for block in encoded.blocks]
    return tuple(Encoded(tuple(pair[side] for pair in split)) for side in (0, 1))  # type: ignore[return-value]
