"""Learning happens: on a shop of three blocks of items, users find the items of their blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.split import cut
from polyvec.embeddings import unit
from polyvec.systems.guim import GUIM, GUIMConfig, fit, paper
from polyvec.training.options import TrainingOptions

UNTIL = 120 * MICROSECONDS_PER_DAY
BLOCK = 8
Fit = Callable[..., tuple[GUIM, Dataset]]


@pytest.fixture
def fit_shop(
    make_shop: Callable[..., Dataset],
    tiny: Callable[..., GUIMConfig],
    short: Callable[..., TrainingOptions],
    tmp_path: Path,
) -> Fit:
    """Return a function that trains a tiny model on a shop of so many tastes per user."""

    def run(tastes: int, epochs: int, **changes: Any) -> tuple[GUIM, Dataset]:
        shop = make_shop(users=90, events=24, tastes=tastes)
        options = short(epochs=epochs, learning_rate=0.01)
        return fit(shop, tmp_path / "m", tiny(**changes), options, validation="none"), shop

    return run


def cosines(model: GUIM, shop: Dataset) -> np.ndarray[Any, Any]:
    """Cosine of every vector of every user with the items of the three blocks, ``[U, C, 24]``."""
    users_UCD = unit(model.encode_users(shop, cut(shop, UNTIL, 60, 0)))
    items_ND = unit(model.encode_items(shop.item_table))
    rows = shop.items.rows([f"i{n}" for n in range(3 * BLOCK)])
    return users_UCD @ items_ND[rows].T


def share_found(scores_UN: np.ndarray[Any, Any], tastes: int) -> float:
    """Share of the items of a user's blocks among as many best items."""
    shares = []
    for user, scores in enumerate(scores_UN):
        best = np.argsort(-scores)[: tastes * BLOCK]
        blocks = {(user + n) % 3 for n in range(tastes)}
        shares.append(np.mean([item // BLOCK in blocks for item in best]))
    return float(np.mean(shares))


RECIPES: list[dict[str, Any]] = [
    {},
    {"negatives": "shared", "log_q": 1.0},
    {"mixture": "soft_max"},
    {"mixture": "attention"},
    {"masked_weight": 0},
    {"num_vectors": 1, "user_heads": 2},
    {"start": "bert", "negatives": "sampled", "weighting": "pairs", "epochs": 50},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: ",".join(map(str, recipe)) or "default")
def test_users_of_one_taste_find_its_items(fit_shop: Fit, recipe: dict[str, Any]) -> None:
    model, shop = fit_shop(1, **({"epochs": 12} | recipe))
    assert share_found(cosines(model, shop).max(axis=1), 1) > 0.95


def test_masked_items_alone_teach_the_taste(fit_shop: Fit) -> None:
    model, shop = fit_shop(1, epochs=20, matching_weight=0, num_vectors=1, masking=0.3)
    assert share_found(cosines(model, shop).max(axis=1), 1) > 0.95


def test_users_of_two_tastes_find_both_and_use_both_vectors(fit_shop: Fit) -> None:
    model, shop = fit_shop(2, epochs=60, masked_weight=0, mixture="soft_max")
    cosines_UCN = cosines(model, shop)
    assert share_found(cosines_UCN.max(axis=1), 2) > 0.9
    winners_UN = cosines_UCN.argmax(axis=1)
    own_items = [
        [winners_UN[user, item] for item in range(3 * BLOCK) if (item // BLOCK - user) % 3 < 2]
        for user in range(len(winners_UN))
    ]
    assert np.mean([len(set(winners)) == 2 for winners in own_items]) > 0.5


def test_an_item_that_nobody_bought_lies_with_its_category(fit_shop: Fit) -> None:
    model, shop = fit_shop(1, 12)
    items_ND = unit(model.encode_items(shop.item_table))
    rows = shop.items.rows([f"i{n}" for n in range(3 * BLOCK)])
    likeness = items_ND[rows] @ items_ND[shop.items.rows(["unsold"])[0]]
    assert likeness[:BLOCK].mean() > likeness[BLOCK:].mean() + 0.3


def test_the_papers_recipe_learns_in_its_own_size_of_batch(
    make_shop: Callable[..., Dataset], short: Callable[..., TrainingOptions], tmp_path: Path
) -> None:
    config, papers = paper(2)
    options = short(epochs=30, learning_rate=0.01, batch_size=papers.batch_size)
    small = replace(config, width=16, num_heads=2, num_layers=1, id_width=8, history_days=60, target_days=20)
    shop = make_shop(users=90, events=24)
    model = fit(shop, tmp_path / "m", small, options, validation="none")
    assert share_found(cosines(model, shop).max(axis=1), 1) > 0.95
