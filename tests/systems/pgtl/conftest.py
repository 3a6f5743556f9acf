"""Two markets over one catalogue: the small one groups half of its categories as the large one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.systems.pgtl.config import PGTLConfig
from polyvec.training.options import TrainingOptions

CATEGORIES, ITEMS_EACH, DAYS = 8, 10, 60
GROUPS = {"big": [(0, 1), (2, 3), (4, 5), (6, 7)], "small": [(0, 1), (2, 3), (4, 6), (5, 7)]}
"""Categories that users buy together: the first four alike in both markets, the others not."""


def made(users: dict[str, int], seed: int = 0, sold: float = 0.9) -> Dataset:
    """Users of one group each, who buy from its two categories; not every item is sold in both markets."""
    random = np.random.default_rng(seed)
    count = CATEGORIES * ITEMS_EACH
    is_sold = {market: random.random(count) < sold for market in users}
    rows, markets = [], []
    for market, number in users.items():
        for user in range(number):
            group = GROUPS[market][random.integers(4)]
            for day in np.sort(random.integers(0, DAYS, 12)):
                item = ITEMS_EACH * group[random.integers(2)] + random.integers(ITEMS_EACH)
                if is_sold[market][item]:
                    seconds = int(random.integers(86_400))
                    rows.append(
                        (
                            f"{market}{user:04}",
                            f"i{item:03}",
                            int(day) * MICROSECONDS_PER_DAY + seconds * 10**6,
                        )
                    )
                    markets.append(market)
    table = pl.DataFrame({
        "item_id": [f"i{item:03}" for item in range(count)],
        "category": [f"c{item // ITEMS_EACH}" for item in range(count)],
        "brand": [f"b{item % 3}" for item in range(count)],
        "price": [float(1 + item % 5) for item in range(count)],
        "title": [f"thing of {item % 7}" for item in range(count)],
    })  # fmt: skip
    order = sorted(range(len(rows)), key=lambda row: (rows[row][0], rows[row][2]))
    dataset = Dataset.from_rows([rows[row] for row in order], table)
    codes = np.array([0 if markets[row] == "big" else 1 for row in order], np.int32)
    return replace(dataset, columns={"scenario": codes}, codes={"scenario": ["big", "small"]})


@dataclass(frozen=True)
class Setting:
    """A small model that is trained in seconds."""

    config: PGTLConfig
    options: TrainingOptions


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return made({"big": 300, "small": 40})


@pytest.fixture(scope="session")
def setting() -> Setting:
    config = PGTLConfig(
        source="big", target="small", windows=(7, 0), buckets=4, field_width=4, attention=(3,), width=8,
        discriminator=(8,), dropout=0.1, input_dropout=0, steps_per_epoch=40, target_days=10,
        max_pairs=6000, guard="off",
    )  # fmt: skip
    options = TrainingOptions(
        epochs=3,
        batch_size=128,
        learning_rate=0.02,
        warmup=0,
        weight_decay=0,
        patience=0,
        precision="float32",
    )
    return Setting(config, options)


@pytest.fixture(scope="session")
def plant() -> Callable[..., Dataset]:
    return made
