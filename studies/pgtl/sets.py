"""The logs of the study: public ones of several countries, and one whose truth is planted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import polyvec
from polyvec.data.options import PrepareOptions

DAY = 86_400
CATEGORIES, TASTES, ITEMS_EACH, DAYS = 8, 4, 30, 120
AGREEING = 4
"""Categories, from the first on, whose items are to the same tastes in both markets; else to others."""


@dataclass(frozen=True)
class DataSet:
    """A log of several markets.

    Attributes
    ----------
    source
        Where the data come from.
    folder
        Under DATA; empty for what is planted.
    market
        Column of the events that names the market.
    big, small
        The source, and the targets.
    cutoff, end
        Dates: what is before is learned from, what is from here on until the end is the test.
    changes
        To the configuration, for all methods alike.
    """

    source: str
    folder: str
    market: str
    big: str
    small: tuple[str, ...]
    cutoff: str
    end: str
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def curve(self) -> str:
        """The target whose users are also taken in part."""
        return self.small[min(1, len(self.small) - 1)]

    @property
    def is_planted(self) -> bool:
        """Whether the log is made, another one for every seed."""
        return not self.folder

    def prepare(self, data: Path, out: Path, seed: int = 0, *, quick: bool = False) -> None:
        """Write the Dataset; of the catalogue only titles, for its other columns know the future."""
        items = None
        if self.folder:
            events = pl.read_parquet(data / self.folder / "events.parquet")
            catalogue = data / self.folder / "items.parquet"
            items = pl.read_parquet(catalogue).select("item_id", "title") if catalogue.is_file() else None
        else:
            events, items = plant(seed)
        if quick:
            keep = events.filter(pl.col(self.market) == self.big)["user_id"].unique().sort()[200:]
            events = events.filter(~pl.col("user_id").is_in(keep.implode()))
        options = PrepareOptions(columns={"scenario": self.market})
        polyvec.prepare(events, out, items=items, options=options)


SETS = {
    "planted": DataSet(
        "planted", "", "market", "big", ("small",), "2024-04-10", "2024-05-01",
        {"windows": (7, 30), "target_days": 14, "history_days": 60},
    ),
    "online_retail": DataSet(
        "UCI Online Retail II (D. Chen, CC BY 4.0)", "uci_online_retail", "country", "United Kingdom",
        ("EIRE", "Germany", "France"), "2011-10-01", "2011-12-10",
        {"target_days": 28, "max_pairs": 200_000},
    ),
    "xmarket": DataSet(
        "XMarket Electronics (Bonab et al., CIKM 2021)", "xmarket_electronics", "market", "ca",
        ("de", "fr", "mx"), "2019-07-01", "2020-12-31",
        {"target_days": 180, "windows": (30, 365, 0), "history_days": 3650, "max_pairs": 200_000},
    ),
}  # fmt: skip


def plant(seed: int = 0, users: tuple[int, int, int] = (2000, 60, 500)) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and catalogue: each user buys items to one taste, of all categories, now and then any item.

    ``users`` are those of the big market, of the small one, and of the small one after the cut-off alone, so
    that the test has more pairs than the training.

    Each item is to one of four tastes, which the catalogue does not tell. In half of the categories it is the
    same one in both markets, in the other half what the big market says of an item is false in the small one.
    A tenth of the items is not sold in each.
    """
    random = np.random.default_rng(seed)
    count = CATEGORIES * ITEMS_EACH
    category = np.arange(count) // ITEMS_EACH
    taste_of = {"big": np.arange(count) % TASTES}
    others = taste_of["big"].copy()
    for opposed in range(AGREEING, CATEGORIES):
        others[category == opposed] = random.permutation(others[category == opposed])
    taste_of["small"] = others
    rows = []
    on_sale = {market: np.flatnonzero(random.random(count) < 0.9) for market in taste_of}
    for market, number, first_day in zip(("big", "small", "small"), users, (0, 0, 100), strict=True):
        sold = on_sale[market]
        by_taste = [sold[taste_of[market][sold] == taste] for taste in range(TASTES)]
        for user in range(number):
            liked = by_taste[random.integers(TASTES)]
            for moment in random.integers(first_day * DAY, DAYS * DAY, 20):
                shelf = liked if random.random() < 0.85 else sold
                name = f"{market}{user:04} from {first_day}"
                rows.append((name, f"i{random.choice(shelf):03}", int(moment), market))
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "second", "market"], orient="row")
    begin = pl.datetime(2024, 1, 1, time_zone="UTC")
    events = events.with_columns(timestamp=begin + pl.duration(seconds=pl.col("second"))).drop("second")
    names = [f"i{item:03}" for item in range(count)]
    categories = [f"c{one}" for one in category]
    return events, pl.DataFrame({"item_id": names, "category": categories})
