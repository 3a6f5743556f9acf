from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from polyvec.systems.dupn import DUPNConfig, Task

STUDY = Path(__file__).parents[2] / "studies" / "systems"


@pytest.fixture
def run() -> Iterator[ModuleType]:
    sys.path.insert(0, str(STUDY))
    yield importlib.import_module("run")
    sys.path.remove(str(STUDY))
    del sys.modules["run"]


def test_dupn_is_configured_for_every_log_and_learns_vectors_of_items(run):
    for log in run.SETS.values():
        told = tomllib.loads(run.DUPN.format(dupn=log.dupn, epochs=log.epochs))
        tasks = {name: Task(**one) for name, one in told["dupn"].pop("tasks").items()}
        assert DUPNConfig(**told["dupn"], tasks=tasks).tasks["next"].kind == "next"


def test_taobao_s_events_without_a_time_are_left_out_and_what_was_bought_is_a_purchase(run, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    events = pl.DataFrame(
        {
            "user_id": [1, 1, 2],
            "item_id": [1, 2, 3],
            "timestamp": pl.Series(["2017-11-30T20:00", None, "2017-11-30T02:00"]).str.to_datetime(),
            "action": ["buy", "buy", "fav"],
            "held_out_last_buy": [False, True, False],
        }
    )
    events.write_parquet(data / "events.parquet")
    run._taobao(data, tmp_path)
    found = pl.read_parquet(tmp_path / "events.parquet")
    assert found["action"].to_list() == ["purchase", "fav"]
    assert [f"{one:%d %H}" for one in found["timestamp"]] == ["01 04", "30 10"]
