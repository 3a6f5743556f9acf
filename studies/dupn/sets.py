"""The logs of the study, and what is asked of them: public ones, and one whose truth is planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import planted
import polars as pl

import polyvec
from polyvec.data.dataset import parse_date
from polyvec.data.options import PrepareOptions
from polyvec.systems.dupn import Task

HELD_BACK = 10  # last events of every user that are the test of ordered data, and as many before that choose
SMALL = {
    "id_width": 16, "brand_width": 8, "category_width": 8, "property_width": 8, "item_width": 32, "width": 32,
    "head_width": 32, "item_fields": ("brand", "category"),
}  # fmt: skip
MEDIUM = {"item_width": 64, "width": 64, "head_width": 64, "word_width": 32}


@dataclass(frozen=True)
class DataSet:
    """A log and what is asked of it.

    Attributes
    ----------
    source
        Where the data come from.
    folder
        Under DATA; empty for what is planted.
    prepare
        Writes the Dataset: DATA, the folder to write, and the seed of what is planted.
    tasks
        What DUPN is trained on.
    held_out
        What it is not, for transfer; by name.
    cutoff, end
        Of the test, dates; empty for ordered data, whose last events of every user are the test.
    changes, training
        To the configuration and the training, for all methods alike.
    of_users
        Tasks whose answer is of the user, not of a moment: a fifth of the users are the test, a tenth choose.
    most
        Samples of a task to train on, drawn at random out of those there are.
    steps
        Of training, at most, of every method.
    looked_at
        The task of whose test the attention is told; empty for none.
    weights
        λ of tasks that are not 1 where weights are chosen by hand; empty where they are not.
    """

    source: str
    folder: str
    prepare: Callable[[Path, Path, int], object]
    tasks: dict[str, Task]
    held_out: dict[str, Task] = field(default_factory=dict)
    cutoff: str = ""
    end: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    of_users: tuple[str, ...] = ()
    most: int = 40_000
    steps: int = 1_500
    looked_at: str = ""
    weights: dict[str, float] = field(default_factory=dict)

    @property
    def is_planted(self) -> bool:
        """Whether it is made up."""
        return not self.folder

    @property
    def test(self) -> tuple[int, int]:
        """First time of the test, and first time after it; of ordered data places from the end."""
        return (parse_date(self.cutoff), parse_date(self.end)) if self.cutoff else (-HELD_BACK, 0)


def _planted(_: Path, out: Path, seed: int) -> object:
    events, items = planted.plant(seed)
    return polyvec.prepare(events, out, items=items)


def taobao(data: Path, out: Path, _: int = 0) -> object:
    """Nine days of Beijing; without the purchases that the source keeps back, whose time is not told."""
    events = pl.read_parquet(data / "taobao_behaviour" / "events.parquet").drop_nulls("timestamp")
    events = events.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC")).drop("held_out_last_buy")
    return polyvec.prepare(events, out, options=PrepareOptions(time_zone="Asia/Shanghai"))


def _retail(data: Path, out: Path, _: int) -> object:
    """Lines with a customer and a price; the catalogue with families of products."""
    folder = data / "uci_online_retail"
    events = pl.read_parquet(folder / "events.parquet").drop_nulls("user_id").filter(pl.col("price") > 0)
    events = events.select("user_id", "item_id", "timestamp", "quantity", "price")
    items = pl.read_parquet(folder / "items.parquet").select("item_id", "title")
    return polyvec.prepare(events, out, items=items.with_columns(family=families(items["title"])))


def families(titles: pl.Series, least: int = 10) -> pl.Series:
    """Family of a product: of the words of its title the one that most titles end with, if ``least`` do.

    Examples
    --------
    >>> families(pl.Series(["RED BAG", "BAG OF TOYS", "BIG BAG", None, "BOX"]), least=2).to_list()
    ['BAG', 'BAG', 'BAG', None, None]
    """
    words = titles.str.to_uppercase().str.extract_all(r"[A-Z]{3,}").rename("word")
    ends = words.list.last().drop_nulls().value_counts(name="titles").filter(pl.col("titles") >= least)
    told = words.to_frame().with_row_index("row").explode("word").join(ends, on="word", how="inner")
    best = told.sort(["titles", "word"], descending=[True, False]).unique("row", keep="first")
    rows = pl.DataFrame({"row": pl.Series(range(len(titles)), dtype=pl.UInt32)})
    return rows.join(best, on="row", how="left", maintain_order="left")["word"]


def _movielens(data: Path, out: Path, _: int) -> object:
    """A rating above 3 is a like; profiles are told by every event, and read by no model."""
    folder = data / "movielens_1m"
    texts = [pl.col(name).cast(pl.String) for name in PROFILE]
    people = pl.read_parquet(folder / "users.parquet").select("user_id", *texts)
    like = pl.when(pl.col("rating") > 3).then(pl.lit("like")).otherwise(pl.lit("pass"))
    events = pl.read_parquet(folder / "events.parquet").drop_nulls("position").with_columns(action=like)
    items = pl.read_parquet(folder / "items.parquet")
    items = items.select("item_id", "title", genre=pl.col("genres").list.first())
    options = PrepareOptions(order="position", keep=PROFILE)
    return polyvec.prepare(events.join(people, on="user_id"), out, items=items, options=options)


PROFILE = ("gender", "age", "occupation")
CLICK = {"action": "click", "labels": "exposed"}
SETS = {
    "planted": DataSet(
        "Made by planted.py", "", _planted,
        {
            "click": Task("item", **CLICK),
            "rank": Task("rank", numbers=planted.NUMBERS, windows=(), **CLICK),
            "price": Task("class", column="price"),
            "icon": Task("entity", action="follow", column="icon", new_only=True, entity_width=16),
        },
        {"shop": Task("entity", column="shop", entity_width=16)},
        "2024-02-27", "2024-03-11", SMALL | {"max_length": 24}, {"batch_size": 256},
        steps=2_500,
    ),
    "taobao": DataSet(
        "Taobao user behaviour 2017 (Alibaba Tianchi; purchases, carts, favourites)", "taobao_behaviour",
        taobao,
        {
            "next": Task("next", action="buy"),
            "buy": Task("item", action="buy", labels="drawn"),
            "action": Task("class", action="", column="action"),
        },
        {}, "2017-12-03", "2017-12-04", MEDIUM | {"max_length": 50, "validation_days": 1},
        looked_at="next",
    ),
    "online_retail": DataSet(
        "UCI Online Retail II (D. Chen, CC BY 4.0)", "uci_online_retail", _retail,
        {
            "next": Task("next"),
            "price": Task("class", column="price"),
            "churn": Task("window", days=14),
            "spend": Task("window", days=14, measure="spend", levels=4),
        },
        {"family": Task("entity", column="family", new_only=True, entity_width=32)},
        "2011-10-01", "2011-12-10", MEDIUM | {"max_length": 60, "validation_days": 35},
        {"batch_size": 256}, most=12_000, steps=500, weights={"churn": 0.1, "spend": 0.1},
    ),
    "movielens": DataSet(
        "MovieLens 1M (GroupLens; Harper and Konstan 2015)", "movielens_1m", _movielens,
        {
            "like": Task("item", action="like", labels="rating"),
            "genre": Task("class", action="", column="genre"),
            "gender": Task("class", action="", column="gender"),
            "age": Task("class", action="", column="age"),
        },
        {"occupation": Task("class", action="", column="occupation")},
        changes=MEDIUM | {"max_length": 50, "validation_days": HELD_BACK}, training={"batch_size": 256},
        of_users=(*PROFILE,), most=15_000, steps=600,
    ),
}  # fmt: skip
