from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyvec.data.dataset import read_profile
from polyvec.data.prepare import PrepareOptions, prepare
from polyvec.data.profile import events_per_user, value_counts

START = 1_700_000_000


def profile_of(folder: Path, events: pl.DataFrame, items: pl.DataFrame | None = None, **options: Any) -> Any:
    prepare(events, folder / "shop.dataset", items=items, options=PrepareOptions(**options))
    return read_profile(folder / "shop.dataset")


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=50))
def test_events_per_user_are_the_statistics_of_table_1(counts: list[int]) -> None:
    got = events_per_user(np.array(counts, dtype=np.int64))
    second = pl.Series(counts)
    assert got["mean"] == pytest.approx(second.mean())
    assert got["std"] == pytest.approx(second.std(ddof=0))
    assert (got["min"], got["max"]) == (second.min(), second.max())
    for name, share in [("q25", 0.25), ("q50", 0.5), ("q75", 0.75), ("q99", 0.99)]:
        assert got[name] == pytest.approx(second.quantile(share, interpolation="linear"))


def test_the_profile_counts_users_items_events_and_time(tmp_path: Path) -> None:
    events = pl.DataFrame(
        {
            "user_id": ["a", "a", "a", "b"],
            "item_id": [1, 2, 1, 9],
            "timestamp": ["2024-01-05", "2024-01-01", "2024-01-09 12:30", "2024-01-06"],
            "country": ["FR", "FR", None, "DE"],
        }
    )
    items = pl.DataFrame({"item_id": [1, 2, 3], "title": ["Pen", "", None], "category": ["x", None, "y"]})
    profile = profile_of(tmp_path, events, items)
    assert (profile["users"], profile["items"], profile["items_with_events"], profile["events"]) == (
        2,
        4,
        3,
        4,
    )
    assert (profile["first"], profile["last"]) == ("2024-01-01", "2024-01-09T12:30")
    assert profile["items_without_title"] == 3 / 4
    assert profile["items_without_category"] == 2 / 4
    assert profile["events_not_in_catalogue"] == 1 / 4
    assert profile["scenarios"] == {"FR": 2, "DE": 1, "": 1}
    assert profile["actions"] == {}
    assert profile["top_items"][0] == {"item_id": 1, "title": "Pen", "events": 2}
    assert profile["top_users"] == [
        {"user_id": "a", "events": 3, "suspect": False},
        {"user_id": "b", "events": 1, "suspect": False},
    ]


def test_shares_are_unknown_where_there_is_no_catalogue(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [START]}))
    for name in ("items_without_title", "items_without_category", "events_not_in_catalogue", "catalogue"):
        assert profile[name] is None
    assert profile["top_items"] == [{"item_id": 1, "title": None, "events": 1}]


def test_a_user_with_a_hundred_times_the_99th_percentile_is_a_suspect(tmp_path: Path) -> None:
    users = [*range(500), *[500] * 101, *[501] * 100]
    events = pl.DataFrame({"user_id": users, "item_id": range(len(users)), "timestamp": START})
    top = profile_of(tmp_path, events)["top_users"]
    assert len(top) == 10
    assert top[0] == {"user_id": 500, "events": 101, "suspect": True}
    assert top[1] == {"user_id": 501, "events": 100, "suspect": False}


def test_ordered_data_has_positions_for_times(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "position": [7, 3]})
    profile = profile_of(tmp_path, events, order="position")
    assert (profile["time_kind"], profile["first"], profile["last"]) == ("order", "3", "7")


def test_sources_are_listed_with_their_rows(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1, 2, 3], "item_id": [1, 2, 3], "timestamp": START})
    for number, rows in enumerate([events[:2], events[2:]]):
        rows.write_parquet(tmp_path / f"{number}.parquet")
    prepare(f"{tmp_path}/*.parquet", tmp_path / "shop.dataset")
    assert read_profile(tmp_path / "shop.dataset")["sources"] == [
        {"name": f"{tmp_path}/0.parquet", "rows": 2},
        {"name": f"{tmp_path}/1.parquet", "rows": 1},
    ]


def test_values_are_counted_the_most_frequent_first_and_without_zeros() -> None:
    assert list(value_counts(np.array([2, 0, 5, 1]), ["a", "b", "c"]).items()) == [
        ("c", 5),
        ("a", 2),
        ("", 1),
    ]
