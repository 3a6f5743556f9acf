"""A small shop of two tastes, and vectors that know them."""

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.embeddings import Embeddings

CUTOFF_DAY = 100


@pytest.fixture(scope="session")
def taste_shop():
    """A shop of two tastes: (Dataset, user taste by id, vectors that know the tastes)."""
    generator = np.random.default_rng(0)
    tastes = generator.integers(0, 2, 80)
    rows = []
    for user, taste in enumerate(tastes):
        for _ in range(generator.integers(4, 30)):
            item = int(generator.integers(0, 60)) * 2 + taste
            rows.append((f"u{user:02d}", f"i{item:03d}", int(generator.integers(1, 130)) * DAY))
    items = [f"i{item:03d}" for item in range(120)]
    titles = [f"<b>title & {item}</b>" if item % 7 else None for item in range(120)]
    dataset = Dataset.from_rows(rows, pl.DataFrame({"item_id": items, "title": titles}))
    directions = np.eye(2, 8)
    noise = generator.normal(size=(120, 8)) * 0.1
    item_vectors = directions[np.arange(120) % 2] + noise
    mine = tastes[[int(user[1:]) for user in dataset.users.series]]
    user_vectors = np.stack([directions[mine], generator.normal(size=(len(mine), 8))], axis=1)
    made = Embeddings.from_arrays(
        dataset.users.series,
        user_vectors,
        items,
        item_vectors,
        provenance={"system": "planted", "events_until": CUTOFF_DAY * DAY, "trained_until": CUTOFF_DAY * DAY},
    )
    return dataset, mine, made
