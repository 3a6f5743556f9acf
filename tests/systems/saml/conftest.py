"""Three scenarios: two of like taste, and one in which what they like is disliked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.systems.saml import SAMLConfig
from polyvec.training.options import TrainingOptions

ITEMS, CATEGORIES, DAYS = 40, 4, 30
SCENARIOS = ("east", "north", "south")


def made(users_each: int = 60, events_each: int = 20, seed: int = 0) -> Dataset:
    """Users like two of four categories, by their gender; in the south the other two."""
    random = np.random.default_rng(seed)
    rows, scenarios, genders, labels = [], [], [], []
    for scenario in SCENARIOS:
        for user in range(users_each):
            gender = user % 2
            for second in np.sort(random.integers(0, DAYS * 86_400, events_each)):
                item = int(random.integers(ITEMS))
                likes = (item % CATEGORIES) // 2 == gender
                likes = likes != (scenario == "south")
                rows.append((f"{scenario}{user:03}", f"i{item:02}", int(second) * 10**6))
                scenarios.append(SCENARIOS.index(scenario))
                genders.append(gender)
                labels.append(float(random.random() < (0.85 if likes else 0.15)))
    table = pl.DataFrame({
        "item_id": [f"i{item:02}" for item in range(ITEMS)],
        "category": [f"c{item % CATEGORIES}" for item in range(ITEMS)],
        "price": [float(item) for item in range(ITEMS)],
    })  # fmt: skip
    order = sorted(range(len(rows)), key=lambda row: (rows[row][0], rows[row][2]))
    dataset = Dataset.from_rows([rows[row] for row in order], table)
    return replace(
        dataset,
        columns={
            "scenario": np.array(scenarios, np.int32)[order],
            "gender": np.array(genders, np.int32)[order],
            "label": np.array(labels, np.float32)[order],
        },
        codes={"scenario": list(SCENARIOS), "gender": ["f", "m"]},
    )


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return made()


@pytest.fixture(scope="session")
def plant() -> Callable[..., Dataset]:
    return made


@pytest.fixture(scope="session")
def config() -> SAMLConfig:
    return SAMLConfig(
        context_fields=("gender",), item_numbers=("price",), hidden=(32, 16), global_width=8,
        specific_width=4, heads=2, head_width=4, max_length=10, validation_days=6,
    )  # fmt: skip


@pytest.fixture(scope="session")
def options() -> TrainingOptions:
    return TrainingOptions(
        epochs=12,
        batch_size=128,
        learning_rate=5e-3,
        warmup=0,
        weight_decay=1e-3,
        patience=0,
        precision="float32",
    )


@pytest.fixture(scope="session")
def last_week() -> int:
    """Begin of the days that are not trained on."""
    return (DAYS - 7) * MICROSECONDS_PER_DAY
