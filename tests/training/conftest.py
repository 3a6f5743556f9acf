"""A small network with a sparse table and a plan of its own, to train without any system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polyvec.layers.dropout import Dropout
from polyvec.layers.tables import PopularTable
from polyvec.training.loop import Trainer
from polyvec.training.options import TrainingOptions


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tests run side by side; and the bits of a run depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Small(nn.Module):
    """Table, dropout, matrix: everything that needs its own care in a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.table = PopularTable(20, 4)
        self.dropout = Dropout(0.2)
        self.norm = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 1)

    def forward(self, slots_M: Tensor) -> Tensor:
        """One number per slot."""
        result: Tensor = self.linear(self.norm(self.dropout(self.table(slots_M))))[:, 0]
        return result


@dataclass(frozen=True)
class Numbers:
    """A batch: slots and the numbers to learn."""

    slots_M: Tensor
    wanted_M: Tensor

    @property
    def num_tokens(self) -> int:
        """Slots."""
        return len(self.slots_M)


@dataclass(frozen=True)
class NumbersPlan:
    """Seven batches per epoch, each a pure function of (epoch, index)."""

    batches: int = 7

    def __len__(self) -> int:
        return self.batches

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Numbers]:
        """Batches of an epoch from number ``skip`` on."""
        for index in range(skip, self.batches):
            slots = np.random.default_rng([epoch, index]).integers(0, 21, 6)
            yield Numbers(torch.from_numpy(slots), torch.from_numpy(slots % 3).float())


@pytest.fixture(scope="session")
def trainer_in() -> Callable[..., Trainer]:
    """Return a function that makes a fresh Trainer of :class:`Small` in a folder."""

    def make(folder: Path, **changes: object) -> Trainer:
        torch.manual_seed(0)
        network = Small()
        folder.mkdir(exist_ok=True)

        def loss_of(batch: Numbers) -> tuple[Tensor, dict[str, Tensor]]:
            loss = (network(batch.slots_M) - batch.wanted_M).square().mean()
            return loss, {"wins": torch.tensor([0.25, 0.75])}

        parts: dict[str, object] = {
            "loss_of": loss_of,
            "plan": NumbersPlan(),
            "validate": None,
            "options": TrainingOptions(epochs=3, checkpoint_every=2, learning_rate=0.1, precision="float32"),
        }
        return Trainer(network=network, workspace=folder, **(parts | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_trainer(tmp_path: Path, trainer_in: Callable[..., Trainer]) -> Callable[..., Trainer]:
    """Return a function that makes a fresh Trainer of :class:`Small` in a folder of this name."""
    return lambda name="run", **changes: trainer_in(tmp_path / name, **changes)
