"""The truth of a synthetic shop on disk: written beside its tables, read back by the oracle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from polyvec.artifact import read_manifest
from polyvec.data.synthetic.world import PlantedUsers, World

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from polyvec.data.synthetic.world import ShopPlan

KIND = "shop"
KINDS_OF_USERS = ("regular", "cold", "bot")
# Column of truth/users.parquet: field of PlantedUsers. Lists hold one value per slot (and spell).
USER_COLUMNS = {
    "country": "country_U",
    "kind": "kind_U",
    "join_day": "join_day_U",
    "purchases_per_day": "rate_U",
    "whim_share": "whim_share_U",
    "short_share": "short_share_U",
    "topics": "topic_UX",
    "favourites": "favourite_UX",
    "weights_start": "weight_start_UI",
    "weights_end": "weight_end_UI",
    "spell_phase": "spell_phase_U",
    "child_sex": "child_sex_U",
    "child_age": "child_age_U",
}


@dataclass(frozen=True)
class Truth:
    """What was planted in a shop.

    Attributes
    ----------
    world
        Topics, tastes and items.
    planted
        Users, in the order of ``user_ids``.
    user_ids, item_ids
        Raw ids in code order.
    """

    world: World
    planted: PlantedUsers
    user_ids: pl.Series
    item_ids: pl.Series

    @classmethod
    def open(cls, shop: Path) -> Truth:
        """Read the truth of a shop folder.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged or not a synthetic shop.
        """
        read_manifest(shop, KIND)
        users = pl.read_parquet(shop / "truth" / "users.parquet")
        items = pl.read_parquet(shop / "truth" / "items.parquet")
        planted = PlantedUsers(**{field: _array(users[name]) for name, field in USER_COLUMNS.items()})
        return cls(_read_world(shop, items), planted, users["user_id"], items["item_id"])


def text_ids(prefix: str, first: int, number: int) -> pl.Series:
    """Ids such as u0000012.

    >>> text_ids("u", 12, 2).to_list()
    ['u0000012', 'u0000013']
    """
    numbers = pl.int_range(first, first + number, eager=True).cast(pl.String)
    return prefix + numbers.str.zfill(7)


def truth_of_users(planted: PlantedUsers, user_ids: pa.Array) -> pa.Table:
    """Rows of ``truth/users.parquet`` for a block of users."""
    columns = {name: _column(getattr(planted, field)) for name, field in USER_COLUMNS.items()}
    return pa.table({"user_id": user_ids, "num_interests": planted.num_interests, **columns})


def write_truth_of_world(folder: Path, plan: ShopPlan, world: World, item_ids: pl.Series) -> None:
    """Write everything of the truth but the users."""
    facts = {
        "plan": asdict(plan),
        "countries": world.countries,
        "kinds_of_users": KINDS_OF_USERS,
        "repeat_share": world.repeat_share,
    }
    (folder / "world.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    tables = {
        "items": {
            "item_id": item_ids.to_arrow(),
            "category": world.item_category_N,
            "rank": world.rank_N,
            "launch_day": world.launch_day_N,
            "appeal": _column(np.ascontiguousarray(world.appeal_SN.T)),
        },
        "topics": {"topic": world.topics, "opposed": world.opposed_T, "season": _column(world.season_TY)},
        "categories": {"category": world.categories, "topic": world.category_topic_G},
        "tastes": {"categories": _column(world.taste_RG)},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", write_page_checksum=True)


def _read_world(shop: Path, items: pl.DataFrame) -> World:
    folder = shop / "truth"
    facts = json.loads((folder / "world.json").read_text("utf-8"))
    topics = pl.read_parquet(folder / "topics.parquet")
    categories = pl.read_parquet(folder / "categories.parquet")
    return World(
        days=facts["plan"]["days"],
        countries=facts["countries"],
        topics=topics["topic"].to_list(),
        categories=categories["category"].to_list(),
        category_topic_G=_array(categories["topic"]),
        season_TY=_array(topics["season"]),
        opposed_T=_array(topics["opposed"]),
        taste_RG=_array(pl.read_parquet(folder / "tastes.parquet")["categories"]),
        item_category_N=_array(items["category"]),
        rank_N=_array(items["rank"]),
        launch_day_N=_array(items["launch_day"]),
        appeal_SN=np.ascontiguousarray(_array(items["appeal"]).T),
        repeat_share=facts["repeat_share"],
    )


def _column(array: npt.NDArray[Any]) -> pa.Array:
    if array.ndim == 1:
        return pa.array(array)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def _array(column: pl.Series) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = column.to_numpy()
    return array
