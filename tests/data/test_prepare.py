"""From sources to a Dataset: the same from every source, exact, ordered, bounded, whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyvec.artifact import kind_of, verify
from polyvec.data import plan, spill
from polyvec.data.dataset import Dataset, parse_time, read_profile, to_microseconds
from polyvec.data.prepare import PrepareOptions, prepare
from polyvec.errors import ArtifactError, PolyvecError, UsageError

Faults = Callable[..., Iterator[tuple[Path, str]]]
START = 1_700_000_000


def shop_events(rows: int = 400, seed: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": [f"u{n:03d}" for n in random.integers(0, 30, rows)],
            "item_id": [f"{n:04d}" for n in random.zipf(1.5, rows) % 50],
            "timestamp": [
                datetime(2024, 1, 1) + timedelta(hours=int(h)) for h in random.integers(0, 90, rows)
            ],
            "action": [["click", "purchase", None][n] for n in random.integers(0, 3, rows)],
            "price": (random.integers(1, 400, rows) / 4).tolist(),
        }
    )


def histories(dataset: Dataset) -> list[tuple[Any, ...]]:
    """Every event in the Dataset's order, in raw ids and texts."""
    per_user = np.diff(dataset.user_offsets)
    columns = [
        dataset.users.take(np.repeat(np.arange(dataset.num_users), per_user)).to_list(),
        dataset.items.take(dataset.item_rows).to_list(),
        dataset.times.tolist(),
    ]
    for name in sorted(dataset.columns):
        values = dataset.columns[name].tolist()
        texts = [*dataset.codes[name], None] if name in dataset.codes else None
        columns.append([texts[code] for code in values] if texts else values)
    return list(zip(*columns, strict=True))


def expected_histories(events: pl.DataFrame) -> list[tuple[Any, ...]]:
    """The same by a plain transcription of the rules with Polars."""
    time = pl.col("timestamp").cast(pl.Datetime("us")).to_physical()
    plain = (
        events.with_columns(time)
        .unique(maintain_order=True)
        .sort("user_id", "timestamp", maintain_order=True)
    )
    further = sorted(set(plain.columns) - {"user_id", "item_id", "timestamp"})
    return plain.select("user_id", "item_id", "timestamp", *further).rows()


def prepared(events: Any, folder: Path, items: Any = None, **options: Any) -> Dataset:
    options = {"overwrite": True, **options}
    return prepare(events, folder / "shop.dataset", items=items, options=PrepareOptions(**options))


def profile_of(folder: Path) -> dict[str, Any]:
    return read_profile(folder / "shop.dataset")


# ---- the same from every source ---------------------------------------------------------------------------


def as_csv(events: pl.DataFrame, folder: Path) -> Any:
    events.write_csv(folder / "events.csv")
    return folder / "events.csv"


def as_gzip(events: pl.DataFrame, folder: Path) -> Any:
    events.to_pandas().to_csv(folder / "events.csv.gz", index=False)
    return str(folder / "events.csv.gz")


def as_tsv(events: pl.DataFrame, folder: Path) -> Any:
    events.write_csv(folder / "events.tsv", separator="\t", include_bom=True)
    return folder / "events.tsv"


def as_semicolons(events: pl.DataFrame, folder: Path) -> Any:
    events.write_csv(folder / "events.csv", separator=";", quote_style="always", line_terminator="\r\n")
    return folder / "events.csv"


def as_parquet(events: pl.DataFrame, folder: Path) -> Any:
    events.write_parquet(folder / "events.parquet", row_group_size=64)
    return folder / "events.parquet"


def as_feather(events: pl.DataFrame, folder: Path) -> Any:
    events.write_ipc(folder / "events.feather", compression="zstd")
    return folder / "events.feather"


def as_arrow_stream(events: pl.DataFrame, folder: Path) -> Any:
    events.write_ipc_stream(folder / "events.arrow")
    return folder / "events.arrow"


def as_glob(events: pl.DataFrame, folder: Path) -> Any:
    for number in range(4):
        events[number * 100 : number * 100 + 100].write_parquet(folder / f"part-{number}.parquet")
    return str(folder / "part-*.parquet")


def as_mixture(events: pl.DataFrame, folder: Path) -> Any:
    events[100:300].write_csv(folder / "b.csv")
    return [events[:100].to_pandas(), folder / "b.csv", events[300:].to_arrow()]


SOURCES = {
    "CSV": as_csv,
    "gzip": as_gzip,
    "TSV with a byte order mark": as_tsv,
    "semicolons, quotes and CRLF": as_semicolons,
    "Parquet in small row groups": as_parquet,
    "Feather": as_feather,
    "Arrow stream": as_arrow_stream,
    "glob": as_glob,
    "mixture": as_mixture,
    "Polars": lambda events, folder: events,
    "lazy Polars": lambda events, folder: events.lazy().filter(pl.lit(value=True)),
    "pandas": lambda events, folder: events.to_pandas(),
    "pandas categories": lambda events, folder: events.to_pandas().astype({"user_id": "category"}),
    "Arrow": lambda events, folder: events.to_arrow(),
    "Arrow batch": lambda events, folder: events.rechunk().to_arrow().to_batches()[0],
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_gives_the_same_dataset(
    tmp_path: Path, source: Callable[[pl.DataFrame, Path], Any]
) -> None:
    events = shop_events()
    dataset = prepared(source(events, tmp_path), tmp_path)
    assert histories(dataset) == expected_histories(events)
    assert dataset.items.series.to_list() == sorted(events["item_id"].unique())
    assert dataset.item_rows.dtype == np.int32
    assert dataset.times.dtype == np.int64
    assert dataset.columns["price"].dtype == np.float32
    assert dataset.columns["action"].dtype == np.int32
    rows = profile_of(tmp_path)["rows"]
    assert rows["read"] == 400 == rows["kept"] + rows["duplicates"]


def test_many_partitions_hold_the_same_histories_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = shop_events(5000)
    whole = prepared(events, tmp_path)
    monkeypatch.setattr(plan, "PARTITION_ROWS", 500)
    monkeypatch.setattr("polyvec.data.read.CHUNK_ROWS", 700)
    split = prepared(events, tmp_path)
    assert split.users.series.to_list() != whole.users.series.to_list()  # numbered partition by partition
    assert sorted(histories(split), key=lambda row: row[0]) == histories(whole)
    assert not list((tmp_path / "shop.dataset").rglob("*.arrow"))


def test_the_manifest_names_what_is_in_the_folder(tmp_path: Path) -> None:
    prepared(shop_events(), tmp_path)
    manifest = verify(tmp_path / "shop.dataset", "dataset")
    assert set(manifest.files) == {
        "users.parquet", "items.parquet", "user_offsets.npy", "item.npy", "time.npy", "columns/action.npy",
        "columns/action.parquet", "columns/price.npy", "profile.json", "quarantine.parquet",
    }  # fmt: skip
    assert manifest.meta["time_kind"] == "timestamp"
    assert manifest.meta["columns"] == ["action", "price"]
    assert manifest.meta["users"] == 30


# ---- ids and texts stay what they are ---------------------------------------------------------------------


def test_ids_of_csv_files_are_never_numbers(tmp_path: Path) -> None:
    ids = ["007", "7", "7.0", "1e3", "NA", "null", "None", "9223372036854775808", " x", "Ω🙂"]
    lines = "".join(f"{user},i,2024-01-01\n" for user in ids)
    (tmp_path / "e.csv").write_text("user_id,item_id,timestamp\n" + lines, "utf-8")
    assert set(prepared(tmp_path / "e.csv", tmp_path).users.series) == set(ids)


def test_integer_ids_stay_integers_of_any_size(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [2**62, -5], "item_id": [2**53 + 1, 2**53], "timestamp": START})
    dataset = prepared(events, tmp_path)
    assert dataset.users.series.to_list() == [-5, 2**62]
    assert dataset.items.series.to_list() == [2**53, 2**53 + 1]


def test_unsigned_ids_beyond_int64_survive(tmp_path: Path) -> None:
    users = pl.Series("user_id", [2**63 + 1, 5], dtype=pl.UInt64)
    dataset = prepared(pl.DataFrame({"user_id": users, "item_id": [1, 2], "timestamp": START}), tmp_path)
    assert dataset.users.series.to_list() == [5, 2**63 + 1]


def test_text_wins_over_integers_between_files_and_against_the_catalogue(tmp_path: Path) -> None:
    numbers = pl.DataFrame({"user_id": [7], "item_id": [1], "timestamp": [START]})
    texts = pl.DataFrame({"user_id": ["7"], "item_id": [2], "timestamp": [START]})
    items = pl.DataFrame({"item_id": ["1", "02"], "title": ["one", "two"]})
    dataset = prepared([numbers, texts], tmp_path, items=items)
    assert dataset.users.series.to_list() == ["7"]
    assert dataset.item_table.rows() == [("02", "two"), ("1", "one"), ("2", None)]
    assert [note for note in profile_of(tmp_path)["notes"] if "text" in note] == [
        "user_id is text in one source and integers in another: all read as text ('7' for 7)",
        "item_id is text in one source and integers in another: all read as text ('7' for 7)",
    ]


def test_titles_survive_whatever_they_hold(tmp_path: Path) -> None:
    titles = ["NA", "null", "None", "1984", "007", "עברית", "🙂", 'a "quoted" one', "two\nlines", "nul\0byte"]
    titles.append("x" * 2**20)
    items = pl.DataFrame({"item_id": [f"i{n:02d}" for n in range(len(titles))], "title": titles})
    items.write_csv(tmp_path / "items.csv")
    events = pl.DataFrame({"user_id": "u", "item_id": items["item_id"], "timestamp": START})
    dataset = prepared(events, tmp_path, items=tmp_path / "items.csv")
    assert dataset.item_table["title"].to_list() == titles


@settings(max_examples=15)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")), min_size=1, max_size=5
    )
)
def test_any_text_comes_back_from_csv(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("texts")
    events = pl.DataFrame({"user_id": "u", "item_id": range(len(texts)), "timestamp": START, "query": texts})
    events.write_csv(folder / "e.csv", quote_style="always")
    dataset = prepared(folder / "e.csv", folder)
    assert [query for *_, query in histories(dataset)] == [text or None for text in texts]


# ---- times ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_integer_times_is_found_by_plausibility_and_said(tmp_path: Path, unit: str) -> None:
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    events = pl.DataFrame(
        {"user_id": [1, 1], "item_id": [1, 2], "ts": [START * factor, (START + 60) * factor]}
    )
    dataset = prepared(events, tmp_path)
    assert dataset.times.tolist() == [START * 10**6, (START + 60) * 10**6]
    name = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
    assert profile_of(tmp_path)["notes"] == ["timestamp = ts", f"ts read as {name} since 1970"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-03-01", "2024-03-01T00:00:00+00:00"),
        ("2024-03-01 09:30", "2024-03-01T09:30:00+00:00"),
        ("2024-03-01T09:30:15", "2024-03-01T09:30:15+00:00"),
        ("2024-03-01 09:30:15.123456", "2024-03-01T09:30:15.123456+00:00"),
        ("2024-03-01T09:30:15Z", "2024-03-01T09:30:15+00:00"),
        ("2024-03-01T09:30:15.5+02:00", "2024-03-01T07:30:15.5+00:00"),
        ("2024-03-01 09:30-0500", "2024-03-01T14:30:00+00:00"),
        ("13/03/2024 09:30", "2024-03-13T09:30:00+00:00"),
        ("03/13/2024 9:30 PM", "2024-03-13T21:30:00+00:00"),
        ("13.03.2024", "2024-03-13T00:00:00+00:00"),
        ("1709285415000", "2024-03-01T09:30:15+00:00"),
    ],
)
def test_text_times_are_read_as_utc(tmp_path: Path, text: str, moment: str) -> None:
    events = pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": [text]})
    expected = to_microseconds(datetime.fromisoformat(moment).astimezone(UTC))
    assert prepared(events, tmp_path).times.tolist() == [expected]


def test_forms_of_text_times_may_be_mixed(tmp_path: Path) -> None:
    texts = ["2024-03-01", "2024-03-01T10:00:00Z", "2024-03-01 09:30"]
    events = pl.DataFrame({"user_id": "u", "item_id": [1, 2, 3], "timestamp": texts})
    assert prepared(events, tmp_path).item_rows.tolist() == [0, 2, 1]


def test_datetimes_with_a_zone_and_dates_become_utc(tmp_path: Path) -> None:
    moment = datetime(2024, 3, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    zoned = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [moment]})
    dated = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [datetime(2024, 2, 29).date()]})
    times = prepared([zoned, dated], tmp_path).times.tolist()
    assert times == [to_microseconds(datetime(2024, 2, 29, tzinfo=UTC)), to_microseconds(moment)]


def test_fractions_of_seconds_count_in_floating_point_times(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": [START + 0.5, START + 0.25]})
    assert prepared(events, tmp_path).times.tolist() == [START * 10**6 + 250_000, START * 10**6 + 500_000]


def test_told_unit_and_format_overrule_plausibility(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": [5, 6]})
    assert prepared(events, tmp_path, time_unit="s").times.tolist() == [5_000_000, 6_000_000]
    events = events.with_columns(timestamp=pl.Series([20240102, 20240101]))
    assert prepared(events, tmp_path, time_format="%Y%m%d").item_rows.tolist() == [1, 0]


def test_fractions_of_seconds_count_in_text_too(tmp_path: Path) -> None:
    rows = "user_id,item_id,timestamp\nu,i,1700000000.5\nu,j,1700000001\n"
    (tmp_path / "events.csv").write_text(rows, "utf-8")
    assert prepared(tmp_path / "events.csv", tmp_path).times.tolist() == [1700000000500000, 1700000001000000]


def test_days_are_those_of_the_time_zone_and_dates_without_one_are_its_already(tmp_path: Path) -> None:
    moment = datetime(2024, 2, 29, 20, 30, tzinfo=UTC)  # half past four on the next day in Shanghai
    local, said = datetime(2024, 3, 1, 4, 30, tzinfo=UTC), []
    ways = [
        int(moment.timestamp()),
        moment,
        moment.isoformat(),
        "2024-02-29T21:30+01:00",
        "2024-02-29 20:30:00 UTC",
        local.replace(tzinfo=None),
        "2024-03-01 04:30",
    ]
    for number, way in enumerate(ways):
        events = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [way]})
        said += prepared(events, tmp_path / str(number), time_zone="Asia/Shanghai").times.tolist()
    assert said == [to_microseconds(local)] * len(ways)


def test_what_is_no_time_is_set_aside_with_a_time_zone_too(tmp_path: Path) -> None:
    times = [START * 10**6, START * 10**6 + 1, 2**63 - 1, -(2**62)]
    events = pl.DataFrame({"user_id": [1] * 4, "item_id": [1, 2, 3, 4], "timestamp": times})
    made = prepared(events, tmp_path, time_zone="Asia/Shanghai")
    assert made.num_events == 2
    assert made.times[0] - START * 10**6 == 8 * 3600 * 10**6


def test_a_pattern_that_names_utc_tells_moments(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": ["29.2.2024 20:30 UTC"]})
    made = prepared(events, tmp_path, time_zone="Asia/Shanghai", time_format="%d.%m.%Y %H:%M UTC")
    assert made.times.tolist() == [to_microseconds(datetime(2024, 3, 1, 4, 30, tzinfo=UTC))]


def test_a_moment_that_names_its_zone_is_told_by_the_datasets_clock(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [START]})
    made = prepared(events, tmp_path, time_zone="Asia/Shanghai")
    midnight = parse_time("2024-03-01", made)
    assert parse_time("2024-03-01T00:00+08:00", made) == midnight
    assert parse_time("2024-02-29T16:00Z", made) == midnight
    utc = prepared(events, tmp_path / "utc")
    assert parse_time("2024-02-29T16:00Z", utc) == parse_time("2024-02-29T16:00", utc)


def test_files_may_keep_time_in_different_ways(tmp_path: Path) -> None:
    seconds = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [START]})
    millis = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [(START + 1) * 1000]})
    assert prepared([seconds, millis], tmp_path).times.tolist() == [START * 10**6, (START + 1) * 10**6]


def test_an_order_column_takes_the_place_of_times(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 3], "position": [9, -4, 2**60]})
    dataset = prepared(events, tmp_path, order="position")
    assert dataset.time_kind == "order"
    assert dataset.times.tolist() == [-4, 9, 2**60]


# ---- order, duplicates, caps, returns ---------------------------------------------------------------------


def test_ties_keep_the_order_of_the_source(tmp_path: Path) -> None:
    items = np.random.default_rng(1).permutation(3000)
    events = pl.DataFrame({"user_id": items % 3, "item_id": items, "timestamp": START + items % 2})
    dataset = prepared(events, tmp_path)
    for user in range(3):
        for time in range(2):
            own = (events["user_id"] == user) & (events["timestamp"] == START + time)
            rows = slice(dataset.user_offsets[user], dataset.user_offsets[user + 1])
            got = dataset.item_rows[rows][dataset.times[rows] == (START + time) * 10**6]
            assert got.tolist() == events.filter(own)["item_id"].to_list()


@given(
    keys=st.lists(st.tuples(st.integers(0, 4), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=30),
    far=st.booleans(),
)
def test_the_stable_order_is_that_of_a_sort_by_two_keys(keys: list[tuple[int, int]], far: bool) -> None:
    keys = keys if far else [(user, time % 7 * 1_000_000) for user, time in keys]
    users, times = (np.array(column, dtype=np.int64) for column in zip(*keys, strict=True))
    expected = sorted(range(len(keys)), key=lambda row: keys[row])
    assert spill.stable_order(users, times).tolist() == expected


def test_the_same_file_twice_is_the_file_once(tmp_path: Path) -> None:
    path = as_parquet(shop_events(), tmp_path)
    once = histories(prepared(path, tmp_path))
    assert histories(prepared([path, path], tmp_path)) == once
    rows = profile_of(tmp_path)["rows"]
    assert rows == {"read": 800, "kept": len(once), "duplicates": 800 - len(once), "quarantined": 0, "cut": 0}


def test_events_that_differ_in_a_kept_column_are_no_duplicates(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": 1, "item_id": 1, "timestamp": START, "invoice": ["a", "b", "b"]})
    assert prepared(events, tmp_path).num_events == 1
    assert prepared(events, tmp_path, keep=("invoice",)).num_events == 2
    assert prepared(events, tmp_path, keep_duplicates=True).num_events == 3


def test_kept_columns_are_numbers_or_texts(tmp_path: Path) -> None:
    events = pl.DataFrame(
        {
            "user_id": [1, 1, 1],
            "item_id": [1, 2, 3],
            "timestamp": START,
            "store": ["b", None, "a"],
            "discount": [0.5, None, float("inf")],
            "week": [1, 2, 3],
            "basket": [2**40, 2**40 + 1, 2**40],
            "held": [True, False, None],
        }
    )
    names = ("store", "discount", "week", "basket", "held")
    dataset = prepared(events, tmp_path, keep=names)
    assert dataset.codes["store"] == ["a", "b"]
    assert dataset.columns["store"].tolist() == [1, -1, 0]
    assert dataset.codes["basket"] == [str(2**40), str(2**40 + 1)]  # float32 could not tell them apart
    np.testing.assert_array_equal(dataset.columns["discount"], [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(dataset.columns["held"], [1, 0, np.nan])
    assert dataset.columns["week"].tolist() == [1, 2, 3]


def test_histories_are_capped_at_their_latest_events_and_the_cut_is_counted(tmp_path: Path) -> None:
    users = ["a"] * 5 + ["b"] * 2 + ["c"] * 3
    events = pl.DataFrame({"user_id": users, "item_id": range(10), "timestamp": range(START, START + 10)})
    dataset = prepared(events[::-1], tmp_path, max_history=2)
    assert [row[:2] for row in histories(dataset)] == [
        ("a", 3),
        ("a", 4),
        ("b", 5),
        ("b", 6),
        ("c", 8),
        ("c", 9),
    ]
    profile = profile_of(tmp_path)
    assert profile["rows"] == {"read": 10, "kept": 6, "duplicates": 0, "quarantined": 0, "cut": 4}
    assert profile["users_cut"] == 2


def test_a_capped_giant_is_never_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    users = np.where(random.random(20_000) < 0.9, 0, random.integers(1, 50, 20_000))
    events = pl.DataFrame({"user_id": users, "item_id": random.integers(0, 9, 20_000), "timestamp": START})
    events = events.with_columns(pl.col("timestamp") + pl.Series(random.permutation(20_000)))
    whole = histories(prepared(events, tmp_path, max_history=20))
    largest = 0
    real = spill.Histories._tidy

    def tidy(self: spill.Histories, frame: pl.DataFrame) -> Any:
        nonlocal largest
        largest = max(largest, len(frame))
        return real(self, frame)

    monkeypatch.setattr(spill.Histories, "_tidy", tidy)
    monkeypatch.setattr(spill, "COMPACT_ROWS", 1000)
    monkeypatch.setattr("polyvec.data.read.CHUNK_ROWS", 500)
    assert histories(prepared(events, tmp_path, max_history=20)) == whole
    assert largest <= 1000 + 500 + 50 * 20
    rows = profile_of(tmp_path)["rows"]
    assert rows["read"] == rows["kept"] + rows["cut"] == 20_000
    assert profile_of(tmp_path)["users_cut"] == 50


RETURNED = pl.DataFrame({"user_id": 1, "item_id": [1, 2, 3], "timestamp": START, "quantity": [2, -1, None]})


def test_actions_that_mean_a_purchase_are_kept_as_purchases(tmp_path: Path) -> None:
    rows = pl.DataFrame({
        "user_id": [1] * 4,
        "item_id": [1, 2, 3, 4],
        "timestamp": [1_700_000_000 + n for n in range(4)],
        "action": ["buy", "click", "purchase", "Order"],
    })  # fmt: skip
    dataset = prepare(rows, tmp_path / "d", options=PrepareOptions(purchases=("buy", "Order")))
    assert dataset.codes["action"] == ["click", "purchase"]
    assert dataset.only_action().item_rows.tolist() == [0, 2, 3]
    assert not any("no event has action" in note for note in read_profile(tmp_path / "d")["notes"])


def test_a_log_without_purchases_is_noted_with_what_there_is_and_the_option_that_names_them(
    tmp_path: Path,
) -> None:
    rows = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [1_700_000_000], "action": ["buy"]})
    dataset = prepare(rows, tmp_path / "d")
    (note,) = [note for note in read_profile(tmp_path / "d")["notes"] if "purchase" in note]
    assert note.startswith("no event has action 'purchase'")
    assert note.endswith("but buy: say which means it, --purchase ACTION")
    with pytest.raises(UsageError, match="no event has action 'purchase'") as caught:
        dataset.only_action()
    assert caught.value.mend == "say which means it: polyvec prepare … --purchase ACTION"


def test_returns_are_marked_and_are_no_purchases(tmp_path: Path) -> None:
    dataset = prepared(RETURNED, tmp_path)
    assert dataset.codes["action"] == ["purchase", "return"]
    assert dataset.only_action("purchase").item_rows.tolist() == [0, 2]
    assert profile_of(tmp_path)["actions"] == {"purchase": 2, "return": 1}


def test_returns_keep_other_actions_and_may_be_dropped_or_kept(tmp_path: Path) -> None:
    events = RETURNED.with_columns(action=pl.Series(["cart", "purchase", None]))
    assert [row[3] for row in histories(prepared(events, tmp_path))] == ["cart", "return", None]
    assert prepared(events, tmp_path, returns="keep").columns["action"].tolist() == [0, 1, -1]
    assert prepared(events, tmp_path, returns="drop").num_events == 2
    assert profile_of(tmp_path)["quarantined_by_reason"] == {"negative quantity": 1}
    assert "action" not in prepared(RETURNED, tmp_path, returns="drop").columns


# ---- columns and catalogue --------------------------------------------------------------------------------


def test_common_names_are_guessed_and_the_guesses_told(tmp_path: Path) -> None:
    events = pl.DataFrame(
        {
            "Customer ID": [1],
            "StockCode": ["a"],
            "InvoiceDate": ["2024-01-01"],
            "Country": ["FR"],
            "Unit Price": [2.5],
        }
    )
    items = pl.DataFrame({"sku": ["a"], "product_name": ["Pen"], "category_id": [5]})
    dataset = prepared(events, tmp_path, items=items)
    assert sorted(dataset.columns) == ["price", "scenario"]
    assert dataset.item_table.rows() == [("a", "Pen", "5")]
    assert profile_of(tmp_path)["notes"] == [
        "user_id = Customer ID", "item_id = StockCode", "timestamp = InvoiceDate", "scenario = Country",
        "price = Unit Price", "catalogue: item_id = sku", "catalogue: title = product_name",
        "catalogue: category = category_id",
    ]  # fmt: skip


def test_told_columns_overrule_guesses(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1], "payer": [9], "item_id": [1], "time": [START], "country": ["FR"]})
    dataset = prepared(events, tmp_path, columns={"user_id": "payer", "scenario": ""})
    assert dataset.users.series.to_list() == [9]
    assert dataset.columns == {}


def test_files_may_lack_optional_columns(tmp_path: Path) -> None:
    first = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [START], "price": [2.0]})
    second = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [START], "action": ["click"]})
    dataset = prepared([first, second], tmp_path)
    assert dataset.columns["action"].tolist() == [-1, 0]
    np.testing.assert_array_equal(dataset.columns["price"], [2.0, np.nan])


def test_catalogue_items_without_events_and_events_without_catalogue_items_are_kept(tmp_path: Path) -> None:
    events = pl.DataFrame(
        {"user_id": 1, "item_id": ["b", "z", "z", "b"], "timestamp": range(START, START + 4)}
    )
    items = pl.DataFrame(
        {"item_id": ["c", "b", "b"], "title": ["C", "B", "later"], "genres": [["x"], ["y", "z"], []]}
    )
    dataset = prepared(events, tmp_path, items=items)
    assert dataset.item_table.rows() == [("b", "B", ["y", "z"]), ("c", "C", ["x"]), ("z", None, None)]
    profile = profile_of(tmp_path)
    assert profile["catalogue"] == {"read": 3, "kept": 2, "duplicates": 1, "quarantined": 0}
    assert profile["items_not_in_catalogue"] == 1
    assert profile["events_not_in_catalogue"] == 0.5


def test_numbers_of_csv_catalogues_become_numbers_unless_that_would_change_them(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,price,stock,zip,brand\n1,2.50,3,007,12\n2,,4,123,13\n")
    events = pl.DataFrame({"user_id": [1], "item_id": ["1"], "timestamp": [START]})
    table = prepared(events, tmp_path, items=tmp_path / "items.csv").item_table
    assert table.rows() == [("1", 2.5, 3, "007", "12"), ("2", None, 4, "123", "13")]


def test_catalogues_in_several_tables_are_joined_below_one_another(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [START]})
    items = [
        pl.DataFrame({"item_id": [1], "title": ["A"]}),
        pl.DataFrame({"item_id": [2, 1], "size": [3, 4]}),
    ]
    assert prepared(events, tmp_path, items=items).item_table.rows() == [(1, "A", None), (2, None, 3)]


# ---- whole or absent --------------------------------------------------------------------------------------


def test_a_dataset_interrupted_at_any_file_operation_is_absent_or_whole(
    tmp_path_factory: pytest.TempPathFactory, fail_at_operation: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # counted and failing, too, but not slow
    source = tmp_path_factory.mktemp("source")
    columns = ["user_id", "item_id", "timestamp", "action"]
    old, new = (shop_events(40, seed).select(columns) for seed in (0, 1))

    def write(folder: Path) -> None:
        try:
            prepared(new, folder)
        except ArtifactError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            raise error.__cause__ from None

    write(source)
    after = verify(source / "shop.dataset", "dataset").fingerprint
    prepared(old, source)
    before = verify(source / "shop.dataset", "dataset").fingerprint
    assert before != after
    for folder, fault in fail_at_operation(
        write, lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True)
    ):
        if kind_of(folder / "shop.dataset") is not None:
            assert verify(folder / "shop.dataset", "dataset").fingerprint in (before, after), fault
        write(folder)
        assert verify(folder / "shop.dataset", "dataset").fingerprint == after, fault
        assert os.listdir(folder) == ["shop.dataset"], fault  # noqa: PTH208


def test_a_failure_while_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    events = tmp_path / "events.parquet"
    shop_events().write_parquet(events)
    content = bytearray(events.read_bytes())
    content[4:2000] = bytes(1996)
    events.write_bytes(content)
    with pytest.raises(PolyvecError):
        prepare(events, tmp_path / "shop.dataset")
    assert os.listdir(tmp_path) == ["events.parquet"]  # noqa: PTH208


def test_progress_tells_the_rows_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyvec.data.read.CHUNK_ROWS", 150)
    seen: list[int] = []
    prepare(shop_events(), tmp_path / "shop.dataset", on_progress=seen.append)
    assert seen == [150, 300, 400]


def test_wide_rows_are_gathered_into_chunks_of_bounded_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyvec.data.read.CHUNK_BYTES", 10_000)
    monkeypatch.setattr("polyvec.data.read.READ_ROWS", 10)
    events = shop_events(100).with_columns(query=pl.lit("x" * 500))
    seen: list[int] = []
    prepare(as_parquet(events, tmp_path), tmp_path / "shop.dataset", on_progress=seen.append)
    assert len(seen) == 5


# ---- real data --------------------------------------------------------------------------------------------


def test_online_retail_is_accounted_for_to_the_last_row(tmp_path: Path, real_data: Path) -> None:
    folder = real_data / "uci_online_retail"
    dataset = prepared(folder / "events.parquet", tmp_path, items=folder / "items.parquet")
    profile = profile_of(tmp_path)
    rows = profile["rows"]
    assert rows["read"] == 1_044_847
    assert rows["read"] == rows["kept"] + rows["duplicates"] + rows["quarantined"]
    assert profile["quarantined_by_reason"] == {"user_id is empty": 235_287}
    assert (dataset.num_users, dataset.num_items, dataset.num_events) == (5_942, 5_305, rows["kept"])
    events = pl.read_parquet(folder / "events.parquet").filter(pl.col("user_id").is_not_null())
    kept = events.unique(["user_id", "item_id", "timestamp", "quantity", "price", "country"])
    assert rows["kept"] == len(kept)
    assert profile["actions"]["return"] == int((kept["quantity"] < 0).sum())


def test_movielens_positions_give_the_histories_of_the_file(tmp_path: Path, real_data: Path) -> None:
    events = pl.read_parquet(real_data / "movielens_1m" / "events.parquet")
    dataset = prepared(real_data / "movielens_1m" / "events.parquet", tmp_path, order="position")
    assert profile_of(tmp_path)["quarantined_by_reason"] == {"position is empty": 598}
    expected = events.drop_nulls("position").sort("user_id", "position")
    assert dataset.items.take(dataset.item_rows).to_list() == expected["item_id"].to_list()


def test_json_of_the_profile_is_what_is_saved(tmp_path: Path) -> None:
    prepared(shop_events(), tmp_path)
    text = (tmp_path / "shop.dataset" / "profile.json").read_text("utf-8")
    assert json.loads(text) == profile_of(tmp_path)
