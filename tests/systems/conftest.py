"""A shop of three blocks of items with planted tastes, and a GUIM small enough to train in a second."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset, TimeKind
from polyvec.systems.guim import GUIM, GUIMConfig, fit
from polyvec.training.options import TrainingOptions

BLOCKS = {"toys": "red train", "books": "thick novel", "food": "dark bread"}
ITEMS_PER_BLOCK = 8
DAYS = 120


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tests run side by side; and the bits of a run depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """A test of what several threads would put in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def killed_at() -> Callable[[type, str, int], AbstractContextManager[None]]:
    """Die where the block calls a method for the n-th time: ``with killed_at(owner, name, n)``."""

    @contextmanager
    def killed(owner: type, name: str, number: int) -> Iterator[None]:
        real, calls = getattr(owner, name), count(1)

        def dying(*arguments: Any, **named: Any) -> Any:
            if next(calls) == number:
                raise RuntimeError("killed")
            return real(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, dying)
            with pytest.raises(RuntimeError, match="killed"):
                yield

    return killed


@pytest.fixture(autouse=True, scope="module")
def no_fsync() -> Iterator[None]:
    """Many small folders; that they are flushed is tested with the artefacts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def catalogue() -> pl.DataFrame:
    """Items i0 … i23, eight per block, and one that nobody buys."""
    rows = [
        (f"i{number * ITEMS_PER_BLOCK + n}", block, f"{title} {n}")
        for number, (block, title) in enumerate(BLOCKS.items())
        for n in range(ITEMS_PER_BLOCK)
    ]
    return pl.DataFrame(
        [*rows, ("unsold", "toys", "red kite")], schema=["item_id", "category", "title"], orient="row"
    )


@pytest.fixture(scope="session")
def make_shop() -> Callable[..., Dataset]:
    """Return a function that makes the shop: user n likes block n % 3 and, with two tastes, the next."""

    def make(
        users: int = 60, events: int = 12, tastes: int = 1, time_kind: TimeKind = "timestamp"
    ) -> Dataset:
        random = np.random.default_rng(0)
        rows = []
        for user in range(users):
            times = sorted(random.integers(0, DAYS * MICROSECONDS_PER_DAY, events).tolist())
            blocks = (user + random.integers(0, tastes, events)) % 3
            items = blocks * ITEMS_PER_BLOCK + random.integers(0, ITEMS_PER_BLOCK, events)
            if time_kind == "order":
                times = list(range(events))
            rows += [(f"u{user:03}", f"i{item}", time) for item, time in zip(items, times, strict=True)]
        return Dataset.from_rows(rows, catalogue(), time_kind)

    return make


@pytest.fixture(scope="session")
def shop(make_shop: Callable[..., Dataset]) -> Dataset:
    """Sixty users of one taste each, with timestamps."""
    return make_shop()


@pytest.fixture(scope="session")
def tiny() -> Callable[..., GUIMConfig]:
    """Return a function that makes a tiny configuration."""

    def make(**changes: Any) -> GUIMConfig:
        sizes = {"num_vectors": 2, "width": 16, "num_layers": 1, "num_heads": 2}
        tables = {"id_width": 8, "category_width": 4, "word_width": 4}
        windows = {
            "history_days": 60,
            "target_days": 20,
            "num_cutoffs": 3,
            "stride_days": 10,
            "max_length": 12,
        }
        return GUIMConfig(**(sizes | tables | windows | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def short() -> Callable[..., TrainingOptions]:
    """Return a function that makes the options of a short run."""

    def make(**changes: Any) -> TrainingOptions:
        options = {"epochs": 1, "batch_size": 32, "precision": "float32", "device": "cpu"}
        return TrainingOptions(**(options | changes))

    return make


@pytest.fixture(scope="session")
def fitted(
    shop: Dataset,
    tiny: Callable[..., GUIMConfig],
    short: Callable[..., TrainingOptions],
    tmp_path_factory: pytest.TempPathFactory,
) -> GUIM:
    """Return a tiny model of the shop, trained for an epoch on what happened before day 100."""
    out = tmp_path_factory.mktemp("fitted") / "shop.model"
    return fit(shop, out, tiny(), short(), until=100 * MICROSECONDS_PER_DAY)


@pytest.fixture(scope="session")
def weights_of() -> Callable[[Path], bytes]:
    """Return a function that reads the bytes of a Model's weights."""
    return lambda path: (path / "weights.safetensors").read_bytes()
