"""Catalogue of a synthetic shop: what its items are called, who makes and sells them, what they cost."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.data.synthetic.words import NOISE_WORDS, brand_name, topic_words
from polyvec.data.synthetic.world import CATALOGUE, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyvec.data.synthetic.world import Floats, Ints, ShopPlan, World

BRANDS_PER_TOPIC = 6
SHOPS_PER_TOPIC = 3
NO_TITLE = 0.02
NO_CATEGORY = 0.02


def catalogue_table(plan: ShopPlan, world: World, item_ids: pl.Series) -> pl.DataFrame:
    """Columns item_id, title, category, brand, shop, price; two percent of titles and categories are empty.

    A title has two words of the item's category, perhaps one of its topic, and one to three noise words.
    """
    rng = stream(plan.seed, CATALOGUE)
    topic_N = world.category_topic_G[world.item_category_N]
    brand_N = topic_N * BRANDS_PER_TOPIC + rng.integers(BRANDS_PER_TOPIC, size=plan.items)
    shop_N = topic_N * SHOPS_PER_TOPIC + rng.integers(SHOPS_PER_TOPIC, size=plan.items)
    brands = [brand_name(number) for number in range(plan.interests * BRANDS_PER_TOPIC)]
    shops = [f"shop{number:04d}" for number in range(plan.interests * SHOPS_PER_TOPIC)]
    category = _gather(world.categories, world.item_category_N)
    return pl.DataFrame(
        {
            "item_id": item_ids,
            "title": _empty_some(_titles(plan, world, rng), NO_TITLE, rng),
            "category": _empty_some(category, NO_CATEGORY, rng),
            "brand": _gather(brands, brand_N),
            "shop": _gather(shops, shop_N),
            "price": _prices(world, rng),
        }
    )


def _titles(plan: ShopPlan, world: World, rng: np.random.Generator) -> pl.Series:
    names = [topic_words(topic) for topic in range(plan.interests)]
    of_category = list(chain.from_iterable(categories.values() for _, _, categories in names))
    of_topic = [words for _, words, _ in names]
    category_N = world.item_category_N
    topic_N = world.category_topic_G[category_N]
    noise = [NOISE_WORDS]
    words = {
        "n1": _pick(noise, np.zeros_like(topic_N), rng, present=0.7),
        "c1": _pick(of_category, category_N, rng),
        "n2": _pick(noise, np.zeros_like(topic_N), rng),
        "c2": _pick(of_category, category_N, rng),
        "t": _pick(of_topic, topic_N, rng, present=0.5),
        "n3": _pick(noise, np.zeros_like(topic_N), rng, present=0.5),
    }
    return pl.select(pl.concat_str(list(words.values()), separator=" ", ignore_nulls=True)).to_series()


def _pick(
    lists: Sequence[Sequence[str]], which_N: Ints, rng: np.random.Generator, present: float = 1.0
) -> pl.Series:
    """One random word for every item from the list it points to; null with probability 1 − present."""
    length = np.array([len(words) for words in lists])
    first = np.concatenate([[0], np.cumsum(length)[:-1]])
    chosen = first[which_N] + (rng.random(len(which_N)) * length[which_N]).astype(np.int64)
    return _empty_some(_gather(list(chain.from_iterable(lists)), chosen), 1 - present, rng)


def _gather(texts: list[str], codes_N: Ints) -> pl.Series:
    return pl.Series(texts, dtype=pl.String).gather(codes_N)


def _empty_some(texts: pl.Series, share: float, rng: np.random.Generator) -> pl.Series:
    return texts.set(pl.Series(rng.random(len(texts)) < share), None)


def _prices(world: World, rng: np.random.Generator) -> Floats:
    """Lognormal around the category's level, rounded to cents."""
    level_G = rng.normal(3.0, 0.8, size=len(world.categories))
    prices: Floats = np.exp(rng.normal(level_G[world.item_category_N], 0.4)).round(2)
    return prices
