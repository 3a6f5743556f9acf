"""The logs of the study: public ones, and two whose truth is planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

import polyvec
from polyvec.data.options import PrepareOptions

DAY = 86_400
COUNTRIES = {"a1": 12_000, "a2": 6_000, "b1": 9_000, "b2": 600}
"""Offers before the test, by country: a's are alike, and b's are; b2 is tiny."""
TEST_OFFERS = 4_000  # of each country
ITEMS, CATEGORIES, SEGMENTS, AGES, TRUTHS = 300, 12, 16, 6, 6
TRAINING_DAYS, DAYS = 80, 100
HOME = "United Kingdom"


@dataclass(frozen=True)
class DataSet:
    """A log of several scenarios.

    Attributes
    ----------
    source
        Where the data come from.
    folder
        Under DATA; empty for what is planted.
    prepare
        Writes the Dataset: DATA, the folder to write, and the seed of what is planted.
    split
        ``time``: what is at or after ``cutoff`` is the test; ``order``: the last 10 events of every user are,
        and the 10 before them choose the epoch; ``random``: a tenth of the rows is, and a tenth chooses.
    changes, training
        To the configuration and the training, for all methods alike.
    cutoff, end
        Dates.
    """

    source: str
    folder: str
    prepare: Callable[[Path, Path, int], object]
    split: Literal["time", "order", "random"]
    changes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    cutoff: str = ""
    end: str = ""

    @property
    def is_planted(self) -> bool:
        """Whether it is made up."""
        return not self.folder


def plant(
    *, effects: bool, seed: int = 0, countries: dict[str, int] | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Offers with labels, and a catalogue.

    Users have a segment and an age, items an id and a category, all of them with vectors of truth. The logit
    of an offer is what segment and age like of the item everywhere, what they like in that group of
    countries, and a category's bias; with ``effects`` also what the item itself is worth in that group.
    """
    random = np.random.default_rng(seed)
    segment, age = random.normal(size=(SEGMENTS, TRUTHS)), random.normal(size=(AGES, TRUTHS))
    item, bias = random.normal(size=(ITEMS, TRUTHS)), random.normal(size=CATEGORIES)
    category = np.arange(ITEMS) % CATEGORIES
    item += 2 * random.normal(size=(CATEGORIES, TRUTHS))[category]
    everywhere = random.normal(size=(TRUTHS, TRUTHS)) / TRUTHS
    here = {group: random.normal(size=(TRUTHS, TRUTHS)) / TRUTHS for group in "ab"}
    worth = {group: random.normal(size=ITEMS) for group in "ab"}
    parts = []
    for country, before in (countries or COUNTRIES).items():
        group = country[0]
        for offers, days in ((before, (0, TRAINING_DAYS)), (TEST_OFFERS, (TRAINING_DAYS, DAYS))):
            users = random.integers(max(before // 20, 5), size=offers)
            # who somebody is follows from the number, so that users are the same before and after
            segments, ages = (users * 7 + ord(country[1])) % SEGMENTS, (users * 5) % AGES
            items = random.integers(ITEMS, size=offers)
            tastes = segment[segments] + age[ages]
            logits = np.einsum("pi,ij,pj->p", tastes, everywhere + here[group], item[items])
            logits += bias[category[items]] + effects * 1.5 * worth[group][items]
            parts.append(pl.DataFrame({
                "user_id": [f"{country} {user}" for user in users],
                "item_id": [f"i{one:03}" for one in items],
                "second": random.integers(days[0] * DAY, days[1] * DAY, size=offers),
                "country": [country] * offers,
                "segment": [f"s{one}" for one in segments],
                "age": [f"a{one}" for one in ages],
                "label": (random.random(offers) < 1 / (1 + np.exp(-logits))).astype(np.int8),
            }))  # fmt: skip
    begin = pl.datetime(2024, 1, 1, time_zone="UTC")
    events = pl.concat(parts).with_columns(timestamp=begin + pl.duration(seconds=pl.col("second")))
    names = [f"i{one:03}" for one in range(ITEMS)]
    return events.drop("second"), pl.DataFrame(
        {"item_id": names, "category": [f"c{one}" for one in category]}
    )


def _planted(*, effects: bool) -> DataSet:
    def prepare(_: Path, out: Path, seed: int) -> object:
        events, items = plant(effects=effects, seed=seed)
        options = PrepareOptions(columns={"scenario": "country"}, keep=("segment", "age"))
        return polyvec.prepare(events, out, items=items, options=options)

    changes = {"context_fields": ("segment", "age"), "validation_days": 10, "hidden": (128, 64, 32)}
    return DataSet("planted", "", prepare, "time", changes, {"batch_size": 256}, "2024-03-21", "2024-04-10")


def _movielens(data: Path, out: Path, _: int) -> object:
    """Users' ages are the scenarios, as in published comparisons: {1, 18}, {25}, {35, 45, 50, 56}."""
    folder = data / "movielens_1m"
    texts = [pl.col(name).cast(pl.String) for name in ("gender", "age", "occupation", "zip_code")]
    people = pl.read_parquet(folder / "users.parquet").select("user_id", *texts)
    young, middle = pl.col("age").is_in(["1", "18"]), pl.col("age") == "25"
    group = pl.when(young).then(pl.lit("1, 18")).when(middle).then(pl.lit("25")).otherwise(pl.lit("35 on"))
    events = pl.read_parquet(folder / "events.parquet").join(people, on="user_id").with_columns(group=group)
    items = pl.read_parquet(folder / "items.parquet")
    items = items.select("item_id", "title", category=pl.col("genres").list.first())
    kept = ("gender", "age", "occupation", "zip_code")
    options = PrepareOptions(columns={"scenario": "group"}, order="position", keep=kept)
    return polyvec.prepare(events, out, items=items, options=options)


def _shop(folder: str, column: str) -> Callable[[Path, Path, int], object]:
    def prepare(data: Path, out: Path, _: int) -> object:
        catalogue = data / folder / "items.parquet"
        items = pl.read_parquet(catalogue).select("item_id", "title") if catalogue.is_file() else None
        events = pl.read_parquet(data / folder / "events.parquet")
        options = PrepareOptions(columns={"scenario": column})
        return polyvec.prepare(events, out, items=items, options=options)

    return prepare


def _retail(data: Path, out: Path, _: int) -> object:
    """Five countries; of the home country, which has nine tenths of the events, one user in five."""
    events = pl.read_parquet(data / "uci_online_retail" / "events.parquet")
    events = events.filter((pl.col("country") != HOME) | (pl.col("user_id") % 5 == 0))
    items = pl.read_parquet(data / "uci_online_retail" / "items.parquet").select("item_id", "title")
    options = PrepareOptions(columns={"scenario": "country"})
    return polyvec.prepare(events, out, items=items, options=options)


MOVIES = {
    "labels": "rating", "like_above": 3, "user_ids": True, "specific_width": 16,
    "context_fields": ("gender", "age", "occupation", "zip_code"), "hidden": (128, 64, 32),
}  # fmt: skip
SETS = {
    "planted": _planted(effects=False),
    "planted, items differ": _planted(effects=True),
    "movielens, random rows": DataSet(
        "MovieLens 1M (GroupLens)", "movielens_1m", _movielens, "random", MOVIES | {"max_length": 0},
        {"batch_size": 2048, "epochs": 10},
    ),
    "movielens, by position": DataSet(
        "MovieLens 1M (GroupLens)", "movielens_1m", _movielens, "order", MOVIES | {"max_length": 10},
        {"batch_size": 2048, "epochs": 5},
    ),
    "xmarket": DataSet(
        "XMarket Electronics (Bonab et al., CIKM 2021)", "xmarket_electronics",
        _shop("xmarket_electronics", "market"), "time",
        {"labels": "drawn", "validation_days": 180, "hidden": (128, 64, 32)}, {},
        "2019-07-01", "2020-12-31",
    ),
    "online_retail": DataSet(
        "UCI Online Retail II (D. Chen, CC BY 4.0)", "uci_online_retail", _retail, "time",
        {
            "labels": "drawn", "validation_days": 28, "hidden": (128, 64, 32), "max_length": 100,
            "scenarios": (HOME, "EIRE", "Germany", "France", "Netherlands"),
        },
        {"batch_size": 1024, "epochs": 6},
        "2011-10-01", "2011-12-10",
    ),
}  # fmt: skip
