"""A small log of ratings with planted clusters of items, and a model over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from polyvec.systems.cel.clustering import Clustering
from polyvec.systems.cel.config import CELConfig
from polyvec.systems.cel.network import CELNetwork
from polyvec.systems.cel.objective import Objective
from polyvec.systems.cel.records import Index, Records
from polyvec.systems.cel.steps import Steps


@dataclass
class Run:
    """A model in training, step by step, in double precision."""

    config: CELConfig
    records: Records
    network: CELNetwork
    clustering: Clustering
    steps: Steps
    optimizer: torch.optim.Optimizer
    objective: Objective

    def step(self, number: int) -> None:
        """One step over all records."""
        self.steps.begin(number)
        self.optimizer.zero_grad()
        loss, _ = self.objective(self.records)
        loss.backward()
        self.steps.before_update(self.records)
        self.optimizer.step()
        self.steps.after_update(number)

    def loss(self) -> float:
        """Sum of the squared errors."""
        with torch.no_grad():
            scores = self.network(self.records.users, self.records.items)
        return float((scores - self.records.labels).square().sum())


def start(
    config: CELConfig, records: Records, num_users: int, num_items: int, rate: float, seed: int = 0
) -> Run:
    torch.manual_seed(seed)
    network = CELNetwork(config, num_users, num_items).double()
    indexes = Index(records.users, num_users), Index(records.items, num_items)
    clustering = Clustering(network, records, indexes, config)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    steps = Steps(network, config, clustering, [optimizer], indexes[1].counts, seed)
    return Run(
        config, records, network, clustering, steps, optimizer, Objective(network, config, len(records))
    )


@pytest.fixture
def begin() -> Callable[..., Run]:
    return start


@dataclass(frozen=True)
class Planted:
    """Ratings of items that are of six kinds, with noise; some are held out."""

    training: Records
    held_out: Records
    kinds: np.ndarray
    num_users: int
    num_items: int


@pytest.fixture(scope="session")
def plant() -> Callable[..., Planted]:
    def planted(
        seed: int, observed: float = 0.1, users: int = 300, items: int = 400, kinds: int = 6
    ) -> Planted:
        random = np.random.default_rng(seed)
        rows, centres = (1.35 * random.random((n, 4)) * (random.random((n, 4)) > 0.3) for n in (users, kinds))
        kind_of = random.integers(0, kinds, items)
        labels = rows @ centres[kind_of].T + 0.1 * random.normal(size=(users, items))
        seen = random.random((users, items)) < observed
        held = ~seen & (random.random((users, items)) < 0.05)

        def records(mask: np.ndarray) -> Records:
            u, i = np.nonzero(mask)
            return Records(torch.from_numpy(u), torch.from_numpy(i), torch.from_numpy(labels[mask]))

        return Planted(records(seen), records(held), kind_of, users, items)

    return planted


@pytest.fixture
def small(plant: Callable[..., Planted]) -> Planted:
    return plant(0, observed=0.3, users=20, items=30, kinds=3)


def brute_losses(run: Run, clusters: int) -> Tensor:
    """Loss of every item's records under every cluster, one forward pass each."""
    table, records = run.network.items, run.records
    before = table.assign.clone()
    losses = torch.zeros(table.num_rows, clusters, dtype=torch.float64)
    for q in range(clusters):
        table.assign[:] = q
        with torch.no_grad():
            errors = (run.network(records.users, records.items) - records.labels).square()
        losses[:, q].index_add_(0, records.items, errors)
    table.assign.copy_(before)
    return losses


@pytest.fixture
def losses_by_brute_force() -> Callable[[Run, int], Tensor]:
    return brute_losses
