"""What a record's history may hold: nothing of its own time or later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.systems.cel.config import deep
from polyvec.systems.cel.fit import Split
from polyvec.systems.cel.past import before_each


def busy(time_kind: str = "timestamp") -> Dataset:
    """Seven users of 0 to 30 events, many of them at the same time."""
    random = np.random.default_rng(0)
    unit = DAY if time_kind == "timestamp" else 1
    rows = [
        (user, int(random.integers(40)), int(random.integers(12)) * unit)
        for user in range(7)
        for _ in range(5 * user + 1)
    ]
    return Dataset.from_rows(rows, pl.DataFrame({"item_id": range(40)}), time_kind)  # type: ignore[arg-type]


def owners_of(dataset: Dataset) -> np.ndarray:
    return np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))


@pytest.mark.parametrize("time_kind", ["timestamp", "order"])
@pytest.mark.parametrize("max_length", [1, 4, 100])
def test_a_past_is_the_latest_events_of_the_user_of_an_earlier_time(time_kind, max_length):
    dataset = busy(time_kind)
    users, events = owners_of(dataset), np.arange(dataset.num_events)
    past = before_each(dataset, users, events, max_length)
    items, owners = past.flat()
    lengths = []
    for event in events:
        mine = (users == users[event]) & (dataset.times < dataset.times[event])
        expected = dataset.item_rows[mine][-max_length:]
        assert items[owners == event].tolist() == expected.tolist()
        lengths.append(len(expected))
    assert min(lengths) == 0
    assert max(lengths) == max_length if max_length < 10 else max(lengths) > 20


def test_some_records_take_their_past_along():
    dataset = busy()
    events = np.arange(dataset.num_events)
    past = before_each(dataset, owners_of(dataset), events, 5)
    chosen = torch.tensor([90, 3, 50])
    items, owners = past.take(chosen).flat()
    all_items, all_owners = past.flat()
    for place, event in enumerate(chosen.tolist()):
        assert items[owners == place].tolist() == all_items[all_owners == event].tolist()


@pytest.mark.parametrize("moment", [5, 8])
def test_what_happens_at_a_records_time_or_later_changes_no_past(moment):
    dataset = busy()
    later = dataset.times >= moment * DAY
    changed = replace(dataset, item_rows=np.where(later, 39 - dataset.item_rows, dataset.item_rows))
    events = np.flatnonzero(dataset.times <= moment * DAY)
    pasts = [before_each(data, owners_of(data)[events], events, 6).flat() for data in (dataset, changed)]
    assert len(pasts[0][0]) > 50
    assert torch.equal(pasts[0][0], pasts[1][0])
    assert torch.equal(pasts[0][1], pasts[1][1])


@pytest.mark.parametrize("time_kind", ["timestamp", "order"])
def test_drawn_items_are_shown_the_past_of_the_event_they_stand_against(time_kind):
    config = replace(deep()[0], num_negatives=2, target_days=3)
    data = busy(time_kind)
    until = data.time_span[1] + 1
    whole = Split.before(data, config, until, 0, seed=0)
    parted = whole.without_the_last(data, config, seed=0)
    for records in (whole.training, parted.training):
        shown = list(
            zip(records.users.tolist(), records.past.start.tolist(), records.past.stop.tolist(), strict=True)
        )
        is_event = records.labels > 0
        events = {one for one, real in zip(shown, is_event.tolist(), strict=True) if real}
        drawn = [one for one, real in zip(shown, is_event.tolist(), strict=True) if not real]
        assert len(drawn) > len(events) > 3
        assert set(drawn) <= events


def test_validation_sees_what_came_between_training_and_each_record():
    data = busy()
    config = replace(deep()[0], num_negatives=1, target_days=6)
    parted = Split.before(data, config, data.time_span[1] + 1, 0, seed=0).without_the_last(
        data, config, seed=0
    )
    users = owners_of(data)
    stops = parted.validation.past.stop.numpy()
    last = np.maximum(stops - 1, 0)
    has_past = parted.validation.past.start.numpy() < stops
    assert (users[last] == parted.validation.users.numpy())[has_past].all()
    assert data.times[last][has_past].max() >= parted.until
    assert parted.training.past.stop.max() <= (data.times < parted.until).nonzero()[0].max()


def test_ratings_have_a_past_of_all_events_rated_or_not():
    data = busy()
    ratings = np.where(np.arange(data.num_events) % 2, 3.0, np.nan).astype(np.float32)
    config = replace(deep()[0], target="rating")
    rated = replace(data, columns={"rating": ratings})
    records = Split.before(rated, config, data.time_span[1] + 1, 0, seed=0).training
    assert len(records) == int(np.isfinite(ratings).sum())
    items, _ = records.past_items()
    expected = before_each(data, owners_of(data)[1::2], np.arange(data.num_events)[1::2], config.max_length)
    assert items.tolist() == expected.flat()[0].tolist()
