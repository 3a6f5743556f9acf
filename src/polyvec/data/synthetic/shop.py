"""A shop whose truth is known: events, catalogue and profiles drawn from a planted world.

The folder holds what a user of polyvec would bring, and the truth behind it::

    events.parquet         user_id, item_id, timestamp, action, scenario, label, price, quantity
    items.parquet          item_id, title, category, brand, shop, price
    users.parquet          user_id, has_child, child_gender, child_age_group
    truth/users.parquet    number of interests, their topics, weights and drift; kind of user; child
    truth/items.parquet    category, popularity rank, first day of sale, appeal by country
    truth/topics.parquet   demand by day of the year, whether countries have opposite tastes
    truth/categories.parquet, truth/tastes.parquet, truth/world.json

Users are drawn in blocks, each from its own stream of random numbers, so memory does not grow with the
number of events. See :mod:`polyvec.data.synthetic.world` for the model and
:mod:`polyvec.data.synthetic.oracle` for the best possible ranking.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polyvec.artifact import writing
from polyvec.data.synthetic.catalogue import catalogue_table
from polyvec.data.synthetic.events import ACTIONS, Naming, Sampler, draw_log, log_table
from polyvec.data.synthetic.truth import KIND, text_ids, truth_of_users, write_truth_of_world
from polyvec.data.synthetic.world import EVENTS, USERS, build_world, child_age_group, plant_users, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from polyvec.data.synthetic.world import Floats, Ints, PlantedUsers, ShopPlan, World

START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
BLOCK_EVENTS = 500_000  # expected events of a block of users
BLOCK_USERS = 20_000
SEXES = ("girl", "boy")
EVENT_FILE, USER_FILE, TRUTH_FILE = "events.parquet", "users.parquet", "truth/users.parquet"


def write_shop(
    plan: ShopPlan,
    path: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, int]:
    """Generate a shop into the folder ``path``, which is whole or absent afterwards.

    Parameters
    ----------
    plan
        What to generate.
    path
        Folder to make, an artefact of kind ``shop``.
    overwrite
        Replace a shop that stands there.
    progress
        Called after every block of users with the number of users done.

    Returns
    -------
    dict[str, int]
        Number of events by action.

    Raises
    ------
    ArtifactError
        If ``path`` exists and may not be replaced.
    """
    meta: dict[str, Any] = {"plan": asdict(plan)}
    with writing(path, KIND, meta=meta, overwrite=overwrite) as stage:
        (stage / "truth").mkdir()
        world = build_world(plan)
        item_ids = text_ids("i", 0, plan.items)
        write_truth_of_world(stage / "truth", plan, world, item_ids)
        items = catalogue_table(plan, world, item_ids)
        pq.write_table(items.to_arrow(), stage / "items.parquet", write_page_checksum=True)
        blocks = _blocks(plan, world, item_ids.to_list(), items["price"].to_numpy())
        meta["events"] = _write_blocks(stage, blocks, progress)
    return dict(meta["events"])


def _blocks(
    plan: ShopPlan, world: World, item_ids: list[str], price_N: Floats
) -> Iterator[dict[str, pa.Table]]:
    """Tables of every block of users, by file name."""
    sampler, item_texts = Sampler(world), pa.array(item_ids)
    size = max(1, min(BLOCK_USERS, BLOCK_EVENTS * plan.users // plan.events))
    for block, first in enumerate(range(0, plan.users, size)):
        number = min(size, plan.users - first)
        planted = plant_users(plan, world, number, stream(plan.seed, USERS, block))
        log = draw_log(world, sampler, planted, stream(plan.seed, EVENTS, block))
        user_texts = pa.array(text_ids("u", first, number).to_list())
        naming = Naming(user_texts, item_texts, world.countries, planted.country_U, price_N, START)
        yield {
            EVENT_FILE: log_table(log, naming),
            USER_FILE: _profiles(planted, user_texts, plan.days),
            TRUTH_FILE: truth_of_users(planted, user_texts),
        }


def _write_blocks(
    stage: Path, blocks: Iterator[dict[str, pa.Table]], progress: Callable[[int], None] | None
) -> dict[str, int]:
    """Append every block to its files; returns the number of events by action."""
    counts, users = np.zeros(len(ACTIONS), dtype=np.int64), 0
    with ExitStack() as files:
        writers: dict[str, pq.ParquetWriter] = {}
        for tables in blocks:
            writers = writers or {
                name: files.enter_context(_writer(stage / name, table.schema))
                for name, table in tables.items()
            }
            for name, table in tables.items():
                writers[name].write_table(table)
            counts += _actions(tables[EVENT_FILE])
            users += len(tables[USER_FILE])
            if progress is not None:
                progress(users)
    return dict(zip(ACTIONS, counts.tolist(), strict=True))


def _actions(events: pa.Table) -> Ints:
    """Events by action code."""
    codes = events["action"].combine_chunks().indices.to_numpy()
    return np.bincount(codes, minlength=len(ACTIONS))


def _writer(file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a Parquet file. Dictionaries of the event log are an economy of ours: readers shall see texts."""
    return pq.ParquetWriter(file, schema, store_schema=file.name != EVENT_FILE, write_page_checksum=True)


def _profiles(planted: PlantedUsers, user_ids: pa.Array, days: int) -> pa.Table:
    """Labels of users as of the last day; the child's are empty where there is none."""
    childless = planted.child_sex_U < 0
    age_U = child_age_group(planted.child_age_U, days, days - 1)
    sex = pa.DictionaryArray.from_arrays(pa.array(planted.child_sex_U, mask=childless), pa.array(SEXES))
    return pa.table(
        {
            "user_id": user_ids,
            "has_child": pa.array(~childless),
            "child_gender": sex.dictionary_decode(),
            "child_age_group": pa.array(age_U, mask=childless),
        }
    )
