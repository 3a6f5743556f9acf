from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyvec.artifact import read_manifest, writing
from polyvec.data.dataset import (
    MICROSECONDS_PER_DAY,
    Dataset,
    TimeKind,
    days,
    format_time,
    parse_time,
    read_profile,
    require_timestamps,
    to_microseconds,
)
from polyvec.errors import ArtifactError, DataError, UsageError

Faults = Callable[..., Iterator[tuple[Path, str]]]

EVENTS = [
    ("bob", "ink", 5),
    ("ann", "pen", 1),
    ("ann", "cup", 9),
    ("bob", "pen", 2),
    ("ann", "ink", 1),
    ("bob", "ink", 7),
]
ACTIONS = ["purchase", "click", "click", "purchase", "cart", "purchase"]


def with_actions() -> Dataset:
    """Dataset of EVENTS in the order ann 1, 1, 9, bob 2, 5, 7, with an action and a price each."""
    codes = ["purchase", "click", "cart"]
    return replace(
        Dataset.from_rows(EVENTS),
        columns={
            "action": np.array([codes.index(action) for action in ACTIONS], np.int32),
            "price": np.arange(6, dtype=np.float32),
        },
        codes={"action": codes},
    )


def save(dataset: Dataset, path: Path) -> None:
    """Write the documented layout by hand, as ``prepare`` does."""
    meta = {"time_kind": dataset.time_kind, "columns": list(dataset.columns)}
    with writing(path, "dataset", meta=meta, overwrite=True) as stage:
        (stage / "columns").mkdir()
        dataset.users.save(stage / "users.parquet")
        dataset.item_table.write_parquet(stage / "items.parquet")
        np.save(stage / "user_offsets.npy", dataset.user_offsets)
        np.save(stage / "item.npy", dataset.item_rows)
        np.save(stage / "time.npy", dataset.times)
        for name, column in dataset.columns.items():
            np.save(stage / "columns" / f"{name}.npy", column)
        for name, texts in dataset.codes.items():
            pl.DataFrame({name: texts}).write_parquet(stage / "columns" / f"{name}.parquet")
        (stage / "profile.json").write_text(json.dumps({"events": dataset.num_events}))


# --- histories


def test_events_are_ordered_by_user_then_time_then_source() -> None:
    dataset = Dataset.from_rows(EVENTS)
    assert dataset.users.ids(range(2)) == ["ann", "bob"]
    assert dataset.user_offsets.tolist() == [0, 3, 6]
    assert dataset.times.tolist() == [1, 1, 9, 2, 5, 7]
    assert dataset.items.ids(dataset.item_rows) == ["pen", "ink", "cup", "pen", "ink", "ink"]


def test_sizes_and_span_are_those_of_the_events() -> None:
    dataset = Dataset.from_rows(EVENTS)
    assert (dataset.num_users, dataset.num_items, dataset.num_events) == (2, 3, 6)
    assert dataset.time_span == (1, 9)


def test_item_counts_can_stop_before_a_time() -> None:
    dataset = Dataset.from_rows(EVENTS)
    assert dict(zip(dataset.items.ids(range(3)), dataset.item_counts(), strict=True)) == {
        "cup": 1,
        "ink": 3,
        "pen": 2,
    }
    assert dataset.item_counts(until=5).sum() == 3
    assert dataset.item_counts(until=1).tolist() == [0, 0, 0]


def test_items_of_the_catalogue_that_nobody_bought_are_counted_zero() -> None:
    table = pl.DataFrame({"item_id": ["cup", "ink", "pen", "new"], "title": ["A cup", "NA", None, "New"]})
    dataset = Dataset.from_rows(EVENTS, table)
    assert dataset.item_counts().tolist() == [1, 3, 2, 0]


def test_an_empty_dataset_has_empty_histories() -> None:
    dataset = Dataset.from_rows([])
    assert (dataset.num_users, dataset.num_items, dataset.num_events) == (0, 0, 0)
    assert dataset.time_span == (0, 0)
    assert dataset.item_counts().shape == (0,)


# --- actions


def test_one_action_keeps_its_events_and_every_user() -> None:
    clicks = with_actions().only_action("click")
    assert clicks.num_users == 2
    assert clicks.user_offsets.tolist() == [0, 2, 2]
    assert clicks.columns["price"].tolist() == [1, 2]
    assert clicks.times.tolist() == [1, 9]
    assert clicks.items.ids(clicks.item_rows) == ["ink", "cup"]


def test_data_without_actions_is_all_of_one_action() -> None:
    dataset = Dataset.from_rows(EVENTS)
    assert dataset.only_action("purchase") is dataset


def test_data_of_one_action_is_not_copied() -> None:
    dataset = replace(with_actions(), columns={"action": np.zeros(6, np.int32)}, codes={"action": ["click"]})
    assert dataset.only_action("click") is dataset


def test_an_action_that_no_event_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no event has action 'clik'") as caught:
        with_actions().only_action("clik")
    assert caught.value.expected == "did you mean 'click'?"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9), st.integers(-1, 1))))
def test_selecting_an_action_is_the_same_as_leaving_the_others_out(
    rows: list[tuple[int, int, int, int]],
) -> None:
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    table = pl.DataFrame({"item_id": list(range(5))})
    dataset = replace(
        Dataset.from_rows([row[:3] for row in rows], table),
        columns={"action": np.array([row[3] for row in rows], np.int32)},
        codes={"action": ["a", "b"]},
    )
    kept = [row for row in rows if row[3] == 1]
    chosen = dataset.only_action("b")
    for user in range(dataset.num_users):
        events = slice(*chosen.user_offsets[user : user + 2])
        raw = dataset.users.ids([user])[0]
        assert chosen.item_rows[events].tolist() == [row[1] for row in kept if row[0] == raw]
        assert chosen.times[events].tolist() == [row[2] for row in kept if row[0] == raw]


# --- on disk


def test_a_folder_is_opened_as_it_was_written(tmp_path: Path) -> None:
    dataset = with_actions()
    save(dataset, tmp_path / "shop")
    opened = Dataset.open(tmp_path / "shop")
    assert opened.users == dataset.users
    assert opened.items == dataset.items
    assert opened.item_table.equals(dataset.item_table)
    for name in ("user_offsets", "item_rows", "times"):
        assert np.array_equal(getattr(opened, name), getattr(dataset, name)), name
    assert opened.columns["price"].tolist() == [0, 1, 2, 3, 4, 5]
    assert opened.codes == {"action": ["purchase", "click", "cart"]}
    assert opened.only_action("cart").num_events == 1
    assert opened.manifest == read_manifest(tmp_path / "shop", "dataset")
    assert read_profile(tmp_path / "shop") == {"events": 6}


def test_events_are_mapped_into_memory_and_cannot_be_changed(tmp_path: Path) -> None:
    save(with_actions(), tmp_path / "shop")
    opened = Dataset.open(tmp_path / "shop")
    assert isinstance(opened.item_rows, np.memmap)
    assert isinstance(opened.columns["price"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        opened.times[0] = 1


def test_a_folder_without_events_can_be_opened(tmp_path: Path) -> None:
    save(Dataset.from_rows([]), tmp_path / "shop")
    assert Dataset.open(str(tmp_path / "shop")).num_events == 0


def test_a_flipped_bit_in_any_file_is_found(tmp_path: Path) -> None:
    save(with_actions(), tmp_path / "shop")
    for file in [f for f in (tmp_path / "shop").rglob("*") if f.is_file()]:
        content = bytearray(file.read_bytes())
        for position in range(0, len(content), 11):
            content[position] ^= 1 << (position % 8)
            file.write_bytes(content)
            with pytest.raises(ArtifactError):
                Dataset.open(tmp_path / "shop")
            content[position] ^= 1 << (position % 8)
        file.write_bytes(content)


def test_a_folder_is_absent_or_whole_whatever_fails(fail_at_operation: Faults) -> None:
    for folder, fault in fail_at_operation(lambda folder: save(with_actions(), folder / "shop")):
        if (folder / "shop").exists():
            assert Dataset.open(folder / "shop").num_events == 6, fault
        save(with_actions(), folder / "shop")
        assert Dataset.open(folder / "shop").num_events == 6, fault


# --- times


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2011-10-01", datetime(2011, 10, 1, tzinfo=UTC)),
        ("2011-10-01T12:30", datetime(2011, 10, 1, 12, 30, tzinfo=UTC)),
        ("2011-10-01T12:30:01.000001", datetime(2011, 10, 1, 12, 30, 1, 1, tzinfo=UTC)),
        ("2011-10-01T12:30+02:00", datetime(2011, 10, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))),
        ("1969-12-31", datetime(1969, 12, 31, tzinfo=UTC)),
    ],
)
def test_dates_are_read_as_utc_unless_they_say_otherwise(text: str, moment: datetime) -> None:
    assert parse_time(text, Dataset.from_rows([])) == round(moment.timestamp() * 1e6)


@pytest.mark.parametrize("text", ["", "yesterday", "2011-13-01", "01/10/2011", "5"])
def test_what_is_not_a_date_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not a date") as caught:
        parse_time(text, Dataset.from_rows([]))
    assert caught.value.expected == "a date such as 2011-10-01"


def test_positions_of_ordered_data_are_integers() -> None:
    ordered = Dataset.from_rows(EVENTS, time_kind="order")
    assert parse_time("-12", ordered) == -12
    with pytest.raises(UsageError, match="'2011-10-01' is not a position"):
        parse_time("2011-10-01", ordered)


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_are_exact(moment: datetime) -> None:
    microseconds = to_microseconds(moment)
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds) == moment


@pytest.mark.parametrize(
    ("time", "kind", "text"),
    [
        (0, "timestamp", "1970-01-01"),
        (-MICROSECONDS_PER_DAY, "timestamp", "1969-12-31"),
        (15 * 3_600_000_000, "timestamp", "1970-01-01T15:00"),
        (0, "order", "0"),
        (86_400_000_000, "order", "86400000000"),
    ],
)
def test_times_are_printed_as_dates_or_positions(time: int, kind: TimeKind, text: str) -> None:
    assert format_time(time, kind) == text


@given(st.dates())
def test_a_printed_date_is_read_as_the_same_time(date: datetime) -> None:
    time = parse_time(date.isoformat(), Dataset.from_rows([]))
    assert format_time(time, "timestamp") == date.isoformat()


def test_days_may_be_parts_of_a_day() -> None:
    assert days(30) == 30 * MICROSECONDS_PER_DAY
    assert days(0.5) == MICROSECONDS_PER_DAY // 2


def test_windows_in_days_are_refused_without_timestamps() -> None:
    require_timestamps(Dataset.from_rows(EVENTS), "x")
    with pytest.raises(
        DataError, match="--window-days needs timestamps, and this data has only an order"
    ) as e:
        require_timestamps(Dataset.from_rows(EVENTS, time_kind="order"), "--window-days")
    assert e.value.mend == "prepare the data with a timestamp column"
