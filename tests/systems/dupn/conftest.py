"""A shop in which people buy of the category that they put into the cart; what they view says nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.systems.dupn import DUPNConfig, Task
from polyvec.training.options import TrainingOptions

ITEMS, CATEGORIES, DAYS = 48, 4, 40
ACTIONS = ["view", "cart", "purchase"]
HOUR = 3_600_000_000


def made(users: int = 150, visits: int = 8, seed: int = 0) -> Dataset:
    """Visits of views of anything, one cart among them, and a purchase of the carted category."""
    random = np.random.default_rng(seed)
    rows, actions, prices, genders, queries = [], [], [], [], []
    for user in range(users):
        begins = np.sort(random.choice(DAYS * 20, size=visits, replace=False)) * HOUR
        for begin in begins.tolist():
            carted = int(random.integers(CATEGORIES))
            steps = [(0, int(random.integers(ITEMS))) for _ in range(3)]
            steps.insert(int(random.integers(4)), (1, pick(random, carted)))
            steps.append((2, pick(random, carted)))
            for place, (action, item) in enumerate(steps):
                rows.append((f"u{user:03}", f"i{item:02}", begin + place * 60_000_000))
                actions.append(action)
                prices.append(1.0 + item % CATEGORIES)
                genders.append(user % 2)
                queries.append(item % CATEGORIES if action == 2 else -1)
    table = pl.DataFrame({
        "item_id": [f"i{item:02}" for item in range(ITEMS)],
        "category": [f"c{item % CATEGORIES}" for item in range(ITEMS)],
        "brand": [f"b{item % CATEGORIES}" for item in range(ITEMS)],
        "title": [f"thing of kind{item % CATEGORIES}" for item in range(ITEMS)],
        "weight": [float(item % CATEGORIES) for item in range(ITEMS)],
    })  # fmt: skip
    return replace(
        Dataset.from_rows(rows, table),
        columns={
            "action": np.array(actions, np.int32),
            "price": np.array(prices, np.float32),
            "gender": np.array(genders, np.int32),
            "query": np.array(queries, np.int32),
        },
        codes={
            "action": ACTIONS,
            "gender": ["f", "m"],
            "query": [f"Kind{kind} please" for kind in range(CATEGORIES)],
        },
    )


def pick(random: np.random.Generator, category: int) -> int:
    """An item of a category."""
    return int(random.integers(ITEMS // CATEGORIES)) * CATEGORIES + category


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return made()


@pytest.fixture(scope="session")
def plant() -> Callable[..., Dataset]:
    return made


@pytest.fixture(scope="session")
def tasks() -> dict[str, Task]:
    return {
        "next": Task("next"),
        "click": Task("item"),
        "price": Task("class", column="price", levels=4),
        "brand": Task("entity", column="brand", entity_width=8),
        "sort": Task("rank", numbers=("weight",), windows=(7,)),
    }


@pytest.fixture(scope="session")
def config(tasks) -> DUPNConfig:
    return DUPNConfig(
        tasks=tasks, max_length=12, id_width=8, brand_width=4, category_width=8, word_width=4, field_width=4,
        property_width=8, profile_width=8, query_words=0, query_width=4, item_width=16, width=16,
        head_width=16, dropout=0.0, validation_days=6,
    )  # fmt: skip


@pytest.fixture(scope="session")
def options() -> TrainingOptions:
    return TrainingOptions(
        epochs=8, batch_size=256, learning_rate=1e-2, warmup=0, weight_decay=0, patience=0,
        precision="float32",
    )  # fmt: skip


@pytest.fixture(scope="session")
def last_week() -> int:
    """Begin of the days that are not trained on."""
    return (DAYS * 20 // 24 - 7) * MICROSECONDS_PER_DAY
