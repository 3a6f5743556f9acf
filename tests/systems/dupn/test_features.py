"""Events, users and queries as rows; batches of several tasks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from polyvec.data.dataset import MICROSECONDS_PER_DAY, to_microseconds
from polyvec.data.offers import EVER, is_within
from polyvec.errors import DataError
from polyvec.systems.dupn import Task
from polyvec.systems.dupn.features import Encoder, Fields, gap_of, part_of_week
from polyvec.systems.dupn.task_plan import TaskPlan
from polyvec.systems.dupn.tasks import learn

DAY = MICROSECONDS_PER_DAY
MINUTE = 60_000_000
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("minutes", "bucket"),
    [(0, 0), (4.9, 0), (5, 1), (15, 2), (29, 2), (30, 3), (60, 4), (239, 4), (240, 5), (540, 6), (1439, 6),
     (1440, 7), (2880, 8), (7 * 1440, 9), (30 * 1440, 10), (400 * 1440, 10)],
)  # fmt: skip
def test_ages_are_the_eleven_of_the_paper(minutes, bucket):
    assert gap_of(np.array([int(minutes * MINUTE)])).tolist() == [bucket]


def test_parts_of_the_week_are_six_of_the_day_on_weekdays_and_on_weekends():
    moments = [datetime(2024, 1, day, hour, tzinfo=UTC) for day in (5, 6, 7, 8) for hour in (0, 3, 4, 23)]
    found = part_of_week(np.array([to_microseconds(moment) for moment in moments]))
    assert found.reshape(4, 4).tolist() == [[0, 0, 1, 5], [6, 6, 7, 11], [6, 6, 7, 11], [0, 0, 1, 5]]


def encoded(dataset, config, name="action", **changes):
    task = {"action": Task("class", action="", column="action"), "next": Task("next")}[name]
    samples = learn(dataset, task, EVER, 30 * DAY, 0, config.max_length)[1]
    config = replace(config, **changes)
    fields = Fields.learn(dataset, config, dataset.times < 30 * DAY)
    return Encoder.of(dataset, fields), samples, fields


def test_every_event_of_every_history_is_there_with_its_properties(dataset, config):
    encoder, samples, fields = encoded(dataset, config)
    rows = np.array([5, 700, 31, 0])
    some = samples.take(rows)
    batch = encoder.batch({"action": some}, CPU)
    at = 0
    for row in range(4):
        events = np.arange(some.start[row], some.stop[row])
        there = slice(at, at + len(events))
        ids = batch.items.codes[batch.history[there], 0] - 1
        expected = dataset.items.take(dataset.item_rows[events])
        assert fields.items["item_id"].ids(ids.numpy()) == expected.to_list()
        assert (batch.owners[there] == row).all()
        actions = [dataset.codes["action"][code] for code in dataset.columns["action"][events]]
        assert fields.events["action"].ids(batch.properties[there, 0].numpy() - 1) == actions
        gaps = gap_of(some.times[row] - dataset.times[events])
        assert batch.properties[there, 1].tolist() == gaps.tolist()
        assert batch.properties[there, 2].tolist() == part_of_week(dataset.times[events]).tolist()
        at += len(events)
    assert at == len(batch.history)
    assert batch.lengths.tolist() == (some.stop - some.start).tolist()


def test_the_query_is_that_of_the_moment_and_its_words_are_looked_up(dataset, config):
    encoder, samples, fields = encoded(dataset, config, "next", query_words=100)
    assert set(fields.query.series) == {"kind0", "kind1", "kind2", "kind3", "please"}
    batch = encoder.batch({"next": samples}, CPU)
    ends = [*batch.word_offsets.tolist()[1:], len(batch.words)]
    for row in range(0, len(samples), 50):
        words = fields.query.ids(batch.words[batch.word_offsets[row] : ends[row]].numpy())
        code = dataset.columns["query"][samples.stop[row]]
        assert words == [f"kind{code}", "please"]
    nobody = encoder.batch({"next": samples}, CPU, asks=False)
    assert len(nobody.words) == 0
    later = replace(samples, events=np.full(len(samples), -1))  # a moment at which nobody searched
    assert len(encoder.batch({"next": later}, CPU).words) == 0


def test_tied_events_have_queries_of_their_own(dataset, config):
    """Views at the time of a purchase, before it in the log, searched for nothing."""
    tied = replace(dataset, times=dataset.times // (60 * MINUTE) * 60 * MINUTE)
    encoder, samples, _ = encoded(tied, config, "next", query_words=100)
    words = encoder.batch({"next": samples}, CPU).words
    assert len(words) == 2 * len(samples)
    assert (tied.columns["query"][samples.events] >= 0).all()


def test_words_of_events_that_are_not_read_have_no_rows(dataset, config):
    ordered = replace(dataset, time_kind="order")
    kept = is_within(ordered, EVER, -3)
    names = [*dataset.codes["query"], "secret"]
    codes = np.where(kept, dataset.columns["query"], 4).astype(np.int32)
    late = replace(
        ordered, columns=dataset.columns | {"query": codes}, codes=dataset.codes | {"query": names}
    )
    fields = Fields.learn(late, replace(config, query_words=100), kept)
    assert "secret" not in set(fields.query.series)


def test_the_profile_is_what_the_latest_event_before_said(dataset, config):
    encoder, samples, fields = encoded(dataset, config, profile_fields=("gender",))
    codes = encoder.batch({"action": samples}, CPU).users[:, 0].numpy()
    some = samples.stop > samples.start
    assert (codes[~some] == 0).all()
    genders = np.array(fields.users["gender"].ids(codes[some] - 1))
    assert (genders == np.array(["f", "m"])[samples.users[some] % 2]).all()


def test_what_is_not_known_is_row_zero_and_missing_columns_of_events_are_passed_over(dataset, config):
    _, samples, fields = encoded(dataset, config, profile_fields=("gender",))
    nameless = dataset.item_table.with_columns(brand=None, title=None)
    strange = replace(dataset, columns={}, codes={}, item_table=nameless)
    batch = Encoder.of(strange, fields).batch({"": samples}, CPU)
    assert (batch.properties[:, 0] == 0).all()
    assert (batch.users == 0).all()
    brand = list(fields.items).index("brand")
    assert (batch.items.codes[:, brand] == 0).all()
    assert len(batch.items.words) == 0
    with pytest.raises(DataError, match="learned of the items' brand"):
        Encoder.of(replace(dataset, item_table=dataset.item_table.drop("brand")), fields).batch(
            {"": samples}, CPU
        )
    with pytest.raises(DataError, match="no texts 'sex'"):
        Fields.learn(dataset, replace(config, profile_fields=("sex",)), dataset.times < 30 * DAY)


def test_batches_have_every_task_and_a_round_has_every_sample_once(dataset, config):
    encoder, samples, _ = encoded(dataset, config)
    few = replace(samples.take(np.arange(40)), answers=np.arange(40))
    plan = TaskPlan({"action": samples, "few": few}, encoder, 100, 0, CPU)
    assert len(plan) == -(-(len(samples) + 40) // 100)
    assert plan.shares["few"] / plan.shares["action"] == pytest.approx((40 / len(samples)) ** 0.5, rel=0.2)
    seen = []
    for batch in plan.epoch(0):
        assert batch.sizes == plan.shares
        seen += batch.answers[batch.slices["few"]].tolist()
    assert len(seen) > 120
    for begin in range(0, len(seen) - 39, 40):
        assert sorted(seen[begin : begin + 40]) == list(range(40))


def test_an_epoch_that_covers_all_asks_every_sample_of_every_task(dataset, config):
    encoder, samples, _ = encoded(dataset, config)
    few, every = samples.take(np.arange(40)), len(samples)
    for covers_all in (False, True):
        numbered = {"action": replace(samples, answers=np.arange(every)), "few": few}
        plan = TaskPlan(numbered, encoder, 100, 0, CPU, covers_all=covers_all)
        seen = {
            answer for batch in plan.epoch(0) for answer in batch.answers[batch.slices["action"]].tolist()
        }
        assert (len(seen) == every) is covers_all


def test_the_order_is_a_function_of_seed_and_epoch(dataset, config):
    encoder, samples, _ = encoded(dataset, config)
    plans = [TaskPlan({"action": samples}, encoder, 500, seed, CPU) for seed in (0, 0, 1)]
    first, again, other = ([batch.answers.tolist() for batch in plan.epoch(1)] for plan in plans)
    assert first == again
    assert first != other
    assert [batch.answers.tolist() for batch in plans[0].epoch(1, skip=3)] == first[3:]
    assert [batch.answers.tolist() for batch in plans[0].epoch(0)] != first


def test_the_widest_batch_has_the_longest_histories(dataset, config):
    encoder, samples, _ = encoded(dataset, config)
    plan = TaskPlan({"action": samples}, encoder, 50, 0, CPU)
    assert plan.widest().num_tokens >= max(batch.num_tokens for batch in plan.epoch(0))


def test_how_often_an_item_is_in_a_batch_is_told_by_the_samples_that_read_it(dataset, config):
    """An event is in the histories of all later samples of its user, a late one in few."""
    encoder, samples, _ = encoded(dataset, config, "next")
    plan = TaskPlan({"next": samples}, encoder, 64, 0, CPU)
    batches = list(plan.epoch(0))
    tokens = np.mean([batch.num_tokens + len(batch) for batch in batches])
    assert plan.expected.sum() == pytest.approx(tokens, rel=0.05)
    assert all((batch.items.expected > 0).all() for batch in batches)
    read = np.concatenate([np.arange(*ends) for ends in zip(samples.start, samples.stop, strict=True)])
    expected = np.bincount(dataset.item_rows[read], minlength=dataset.num_items)
    expected = (expected + np.bincount(samples.items, minlength=dataset.num_items)) * 64 / len(samples)
    np.testing.assert_allclose(plan.expected, expected, rtol=1e-4)
