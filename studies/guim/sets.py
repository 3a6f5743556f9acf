"""The public data sets of the study: how each is read, what is foretold, how the recipe is fitted to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

import polyvec
from polyvec.data.dataset import parse_time
from polyvec.data.options import PrepareOptions
from polyvec.data.split import leave_last_out
from polyvec.evaluation.tasks.comparison import Question
from polyvec.evaluation.tasks.matching import ask, questions

QUICK_USERS = 250


@dataclass(frozen=True)
class DataSet:
    """One public data set.

    Attributes
    ----------
    folder
        Under DATA; holds events.parquet, and items.parquet and users.parquet where there are any.
    source
        Where the data come from.
    events, items
        How the tables become what ``polyvec prepare`` reads.
    cutoff
        Data with timestamps: the 30 days from here on are foretold from the year before.
    targets
        Data with an order: so many last events of every user are foretold.
    labels
        Profile labels, made of users.parquet.
    guim
        Changes to GUIM's configuration: lengths of windows, for all models alike.
    epochs
        Of every model trained with the default recipe: after which GUIM with C = 1 and C = 4 together are
        best on the window before the test's (``--choose-epochs``), of at most 12.
    """

    folder: str
    source: str
    events: Callable[[pl.DataFrame], pl.DataFrame]
    items: Callable[[pl.DataFrame], pl.DataFrame]
    epochs: int
    cutoff: str | None = None
    targets: int = 0
    labels: dict[str, pl.Expr] = field(default_factory=dict)
    guim: dict[str, Any] = field(default_factory=dict)

    def files(self, data: Path) -> list[Path]:
        """What is read of DATA."""
        names = ["events", "items", *(["users"] if self.labels else [])]
        return [data / self.folder / f"{name}.parquet" for name in names]

    def prepare(self, data: Path, out: Path, *, quick: bool) -> polyvec.Dataset:
        """Write the Dataset."""
        events = self.events(pl.read_parquet(data / self.folder / "events.parquet"))
        if quick:
            users = events["user_id"].unique().sort().head(QUICK_USERS)
            events = events.filter(pl.col("user_id").is_in(users.implode()))
        items = self.items(pl.read_parquet(data / self.folder / "items.parquet"))
        options = PrepareOptions(order=None if self.cutoff else "position")
        return polyvec.prepare(events, out, items=items, options=options)

    def moment(self, dataset: polyvec.Dataset) -> dict[str, int]:
        """What fit and embed are told, so that they read nothing of the test."""
        if self.cutoff is None:
            return {"held_back": self.targets}
        return {"until": parse_time(self.cutoff, dataset)}

    def questions(self, dataset: polyvec.Dataset) -> list[Question]:
        """CMP-L, CMP-S and CMP-N; with an order CMP-L (the last events) and CMP-N (the first of them)."""
        if self.cutoff is not None:
            return questions(dataset, parse_time(self.cutoff, dataset), 365, 30)
        long = leave_last_out(dataset, 0, self.targets)
        return [ask("CMP-L", dataset, long), ask("CMP-N", dataset, long.first_targets())]

    def profiles(self, data: Path) -> pl.DataFrame:
        """``user_id`` and the labels."""
        users = pl.read_parquet(data / self.folder / "users.parquet")
        return users.select("user_id", *[value.alias(name) for name, value in self.labels.items()])


def _with_position(events: pl.DataFrame) -> pl.DataFrame:
    """MovieLens: most users rate all films within one day, so an order says more than days do."""
    ordered = events.sort("user_id", "timestamp", "item_id")
    return ordered.select("user_id", "item_id", pl.int_range(pl.len()).over("user_id").alias("position"))


def _films(items: pl.DataFrame) -> pl.DataFrame:
    title = pl.col("title").str.replace(r"\s*\(\d{4}\)$", "")
    return items.select("item_id", title, pl.col("genres").list.join(" ").alias("category"))


AGE_GROUPS = (
    pl.when(pl.col("age") < 25).then(pl.lit("to 24"))
    .when(pl.col("age") < 35).then(pl.lit("25 to 34"))
    .when(pl.col("age") < 45).then(pl.lit("35 to 44"))
    .otherwise(pl.lit("from 45"))
)  # fmt: skip
SETS = {
    "online_retail": DataSet(
        folder="uci_online_retail",
        source="UCI Online Retail II, D. Chen, CC BY 4.0, https://doi.org/10.24432/C5CG6D",
        events=lambda rows: rows,
        items=lambda rows: rows.select("item_id", "title"),
        cutoff="2011-11-01",
        epochs=3,
    ),
    "ml1m": DataSet(
        folder="movielens_1m",
        source="MovieLens 1M, GroupLens (Harper and Konstan 2015)",
        events=lambda rows: rows.drop_nulls("position").select("user_id", "item_id", "position"),
        items=_films,
        targets=10,
        epochs=11,  # of C = 1 alone
        labels={
            "gender": pl.col("gender"),
            "age group": pl.col("age_group"),
            "occupation": pl.col("occupation_name"),
        },
        guim={"target_events": 10, "num_cutoffs": 4},
    ),
    "beauty": DataSet(
        folder="amazon_beauty",
        source="Amazon reviews 2014, 5-core, Beauty (McAuley et al. 2015)",
        events=lambda rows: rows.drop_nulls("position").select("user_id", "item_id", "position"),
        items=lambda rows: rows.select("item_id", pl.col("generated_text").alias("title")),
        targets=2,
        epochs=3,
        guim={"target_events": 2, "num_cutoffs": 4, "max_length": 50},
    ),
    "journey": DataSet(
        folder="complete_journey",
        source="Complete Journey 2.0, 84.51° (R package completejourney, CC0): a 5 % sample of the lines",
        events=lambda rows: rows.select("user_id", "item_id", "timestamp", "quantity"),
        items=lambda rows: rows.select(
            "item_id",
            pl.col("product_category").alias("category"),
            pl.concat_str("department", "product_type", separator=" ", ignore_nulls=True).alias("title"),
        ),
        cutoff="2017-12-01",
        epochs=5,
        labels={
            "has child": pl.col("kids_count") != "0",
            "age": pl.col("age"),
            "household size": pl.col("household_size"),
        },
    ),
    "ml100k": DataSet(
        folder="movielens_100k",
        source="MovieLens 100K, GroupLens (Harper and Konstan 2015)",
        events=_with_position,
        items=_films,
        targets=10,
        epochs=12,
        labels={"gender": pl.col("gender"), "age group": AGE_GROUPS, "occupation": pl.col("occupation")},
        guim={"target_events": 10, "num_cutoffs": 8},
    ),
}
