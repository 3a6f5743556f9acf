"""Which events are offers, and what is known at the time of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.offers import EVER, draw_offers, labels_of
from polyvec.errors import DataError, UsageError
from polyvec.systems.saml.config import SAMLConfig
from polyvec.systems.saml.features import Encoder, Fields, SamplePlan
from polyvec.systems.saml.samples import Samples, scenarios_of, taken_before

DAY = MICROSECONDS_PER_DAY


def with_actions(dataset: Dataset, actions: list[str], seed: int = 0) -> Dataset:
    """The same events without labels, of actions drawn at random."""
    codes = np.random.default_rng(seed).integers(len(actions), size=dataset.num_events).astype(np.int32)
    columns = {name: column for name, column in dataset.columns.items() if name != "label"}
    return replace(dataset, columns=columns | {"action": codes}, codes=dataset.codes | {"action": actions})


def samples_of(dataset: Dataset, config: SAMLConfig) -> Samples:
    return Samples.of(offers_of(dataset, config), dataset, taken_before(dataset, config), 10)


def offers_of(dataset: Dataset, config: SAMLConfig, start: int = EVER, stop: int = 1000 * DAY, seed: int = 0):
    return draw_offers(dataset, config, scenarios_of(dataset, config), start, stop, seed)


def test_labels_are_of_the_first_column_that_is_there(dataset):
    assert labels_of(dataset, SAMLConfig()) == "label"
    assert labels_of(with_actions(dataset, ["purchase", "impression"]), SAMLConfig()) == "exposed"
    assert labels_of(with_actions(dataset, ["purchase", "return"]), SAMLConfig()) == "drawn"
    with pytest.raises(DataError, match="labels=rating") as raised:
        labels_of(dataset, SAMLConfig(labels="rating"))
    assert raised.value.column == "rating"


def test_events_with_a_label_are_offers_of_their_own_scenario(dataset, config):
    offers = offers_of(dataset, config, 5 * DAY, 20 * DAY)
    there = (dataset.times >= 5 * DAY) & (dataset.times < 20 * DAY)
    assert len(offers) == there.sum()
    assert offers.labels.sum() == dataset.columns["label"][there].sum()
    assert offers.items.tolist() == dataset.item_rows[there].tolist()
    users = dataset.users.take(offers.users)
    assert all(
        user.startswith(dataset.codes["scenario"][place])
        for user, place in zip(users, offers.scenarios, strict=True)
    )


def test_likes_are_ratings_above_a_limit(dataset):
    rated = replace(dataset, columns=dataset.columns | {"rating": dataset.columns["label"] * 2 + 2.5})
    offers = offers_of(rated, SAMLConfig(labels="rating", like_above=3))
    assert offers.labels.tolist() == (dataset.columns["label"] > 0).tolist()


def test_impressions_without_anything_taken_on_the_day_were_not_taken(dataset):
    shop = with_actions(dataset, ["click", "impression", "purchase"])
    offers = offers_of(shop, SAMLConfig())
    taken = shop.columns["action"] == 2
    assert offers.labels.sum() == taken.sum()
    done = set()
    for user in range(shop.num_users):
        for event in range(shop.user_offsets[user], shop.user_offsets[user + 1]):
            if shop.columns["action"][event] != 1:
                done.add((user, int(shop.item_rows[event]), int(shop.times[event] // DAY)))
    not_taken = offers.take(np.flatnonzero(~offers.labels))
    assert len(not_taken) > 100
    for user, item, time in zip(not_taken.users, not_taken.items, not_taken.times, strict=True):
        assert (user, item, time // DAY) not in done


def test_a_visit_goes_on_at_midnight_and_what_is_taken_twice_counts_once():
    minute = DAY // 1440
    late = 5 * DAY - 10 * minute
    rows = [
        ("ann", "bought", late),
        ("ann", "seen", late),
        ("ann", "bought", 5 * DAY + 5 * minute),
        ("ann", "seen", 5 * DAY + 20 * minute),  # in another visit
        ("bob", "bought", late),
        ("cid", "bought", late),
        ("cid", "bought", late + minute),
        ("cid", "bought", late + 2 * minute),  # clicked again
    ]
    dataset = Dataset.from_rows(rows)
    codes = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int32)
    shop = replace(dataset, columns={"action": codes}, codes={"action": ["impression", "purchase"]})
    found = draw_offers(shop, SAMLConfig(labels="exposed"), None, 0, 10 * DAY, seed=0)
    users, items = dataset.users.take(found.users), dataset.items.take(found.items)
    told = sorted(zip(users, items, found.times.tolist(), found.labels.tolist(), strict=True))
    assert told == [
        ("ann", "bought", late, True),
        ("ann", "seen", late, False),
        ("ann", "seen", 5 * DAY + 20 * minute, True),
        ("bob", "bought", late, False),
        ("cid", "bought", late, True),
    ]


def test_drawn_items_are_of_the_same_scenario_and_not_taken_that_day(dataset):
    shop = with_actions(dataset, ["purchase", "return"])
    sold = {"east": range(20), "north": range(20, 40), "south": range(40)}
    kept = np.array([
        item in sold[shop.codes["scenario"][code]]
        for item, code in zip(shop.item_rows, shop.columns["scenario"], strict=True)
    ])  # fmt: skip
    shop = shop.keep(kept)
    offers = offers_of(shop, SAMLConfig(negatives=2))
    assert offers.labels.mean() == pytest.approx(1 / 3, abs=0.01)
    assert (offers.items[offers.scenarios == 0] < 20).all()
    assert (offers.items[offers.scenarios == 1] >= 20).all()
    again = offers_of(shop, SAMLConfig(negatives=2))
    assert offers.items.tolist() == again.items.tolist()
    assert offers.items.tolist() != offers_of(shop, SAMLConfig(negatives=2), seed=1).items.tolist()


def test_a_history_holds_what_was_taken_strictly_before(dataset, config):
    offers, past = offers_of(dataset, config), taken_before(dataset, config)
    samples = Samples.of(offers, dataset, past, max_length=3)
    for place in range(0, len(offers), 37):
        begin, end = dataset.user_offsets[offers.users[place] :][:2]
        mine = np.arange(begin, end)
        earlier = mine[(dataset.times[mine] < offers.times[place]) & (dataset.columns["label"][mine] > 0)]
        found = samples.past[samples.start[place] : samples.stop[place]]
        assert found.tolist() == dataset.item_rows[earlier][-3:].tolist()
        assert dataset.times[samples.latest[place]] == offers.times[place]


def test_what_happens_at_the_same_time_is_not_history(config):
    dataset = Dataset.from_rows([("ann", "a", 5), ("ann", "b", 5), ("ann", "c", 9)])
    dataset = replace(
        dataset,
        columns={"scenario": np.zeros(3, np.int32), "label": np.ones(3, np.float32)},
        codes={"scenario": ["x"]},
    )
    samples = Samples.of(offers_of(dataset, config), dataset, taken_before(dataset, config), max_length=10)
    assert (samples.stop - samples.start).tolist() == [0, 0, 2]


def test_nothing_of_the_future_changes_what_is_drawn_before(dataset):
    shop = with_actions(dataset, ["purchase", "impression"])
    cut = 15 * DAY
    for labels in ("exposed", "drawn"):
        config = SAMLConfig(labels=labels)
        whole = offers_of(shop, config, EVER, cut)
        earlier = offers_of(shop.keep(shop.times < cut), config, EVER, cut)
        for name in ("users", "items", "scenarios", "times", "labels"):
            assert getattr(whole, name).tolist() == getattr(earlier, name).tolist()


def test_periods_of_ordered_data_count_from_the_end_of_each_history(dataset, config):
    ordered = replace(dataset, time_kind="order")
    offers = offers_of(ordered, config, -3, -1)
    assert len(offers) == 2 * dataset.num_users
    last = dataset.user_offsets[1:] - 1
    expected = np.sort(np.concatenate([last - 2, last - 1]))
    assert offers.times.tolist() == dataset.times[expected].tolist()


def test_scenarios_are_told_by_name(dataset):
    assert scenarios_of(dataset, SAMLConfig()) == ["east", "north", "south"]
    assert scenarios_of(dataset, SAMLConfig(scenarios=("south",))) == ["south"]
    with pytest.raises(UsageError, match="'west'"):
        scenarios_of(dataset, SAMLConfig(scenarios=("west",)))
    plain = replace(dataset, columns={}, codes={})
    with pytest.raises(DataError, match="no scenario") as raised:
        scenarios_of(plain, SAMLConfig())
    assert raised.value.column == "scenario"


def test_features_are_looked_up_and_what_is_not_known_is_row_zero(dataset, config):
    samples = samples_of(dataset, config)
    fields = Fields.learn(dataset, samples, replace(config, user_ids=True))
    assert fields.shape(3).item == {"item_id": 41, "category": 5}
    assert fields.shape(3).context == {"gender": 3, "user_id": 181}
    other = replace(
        dataset,
        item_table=dataset.item_table.with_columns(
            item_id=pl.Series([f"x{row}" for row in range(40)]),
            category=pl.lit("c1"),
            price=pl.lit(None, pl.Float64),
        ),
    )
    some = samples.take(np.arange(5))
    batch = Encoder.of(other, fields).batch(some, torch.device("cpu"))
    assert batch.item.tolist() == [[0, 2]] * 5
    assert (batch.dense[:, 0] == 0).all()
    batch = Encoder.of(dataset, fields).batch(some, torch.device("cpu"))
    assert batch.item[:, 0].min() > 0
    genders = [dataset.codes["gender"][dataset.columns["gender"][row]] for row in some.latest]
    assert [["f", "m"][row - 1] for row in batch.context[:, 0].tolist()] == genders
    whole = Encoder.of(dataset, fields).batch(samples, torch.device("cpu")).dense
    torch.testing.assert_close(whole.mean(dim=0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(whole.std(dim=0), torch.ones(2), atol=1e-3, rtol=0)


def test_missing_columns_are_named(dataset, config):
    samples = Samples.of(offers_of(dataset, config), dataset, taken_before(dataset, config), 10)
    for changes, column in (({"context_fields": ("age",)}, "age"), ({"item_numbers": ("weight",)}, "weight")):
        with pytest.raises(DataError, match=column) as raised:
            Fields.learn(dataset, samples, replace(config, **changes))
        assert raised.value.column == column


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own(dataset, config):
    samples = Samples.of(offers_of(dataset, config), dataset, taken_before(dataset, config), 10)
    fields = Fields.learn(dataset, samples, config)
    plan = SamplePlan(samples, Encoder.of(dataset, fields), 500, 0, torch.device("cpu"))
    first, second = ([batch.item for batch in plan.epoch(epoch)] for epoch in (0, 1))
    assert len(first) == len(plan)
    assert not torch.cat(first).equal(torch.cat(second))
    assert torch.cat(first).sort(dim=0).values.equal(torch.cat(second).sort(dim=0).values)
    assert next(plan.epoch(0, skip=2)).item.equal(first[2])
    assert len(plan.widest().history) >= max(len(batch.history) for batch in plan.epoch(0))


def test_a_scenario_without_impressions_has_items_drawn(dataset):
    shop = with_actions(dataset, ["impression", "purchase"])
    shown = shop.columns["action"] == 0
    south = shop.columns["scenario"] == 2
    offers = offers_of(shop.keep(~(shown & south)), SAMLConfig(labels="exposed"))
    for place in range(3):
        assert 0.2 < offers.labels[offers.scenarios == place].mean() < 0.8


def test_what_is_drawn_in_a_scenario_does_not_depend_on_the_others(dataset):
    shop = with_actions(dataset, ["purchase", "return"])
    together = offers_of(shop, SAMLConfig())
    alone = offers_of(shop, SAMLConfig(scenarios=("south",)))
    mine = together.take(np.flatnonzero(together.scenarios == 2))
    assert mine.items.tolist() == alone.items.tolist()


def test_the_context_of_a_pair_is_of_an_event_before_the_moment(dataset, config):
    times = dataset.times[:3]
    offers = offers_of(dataset, config).take(np.array([0, 0]))
    offers = replace(offers, users=np.zeros(2, np.int64), times=np.array([times[0], times[2]]))
    past = taken_before(dataset, config)
    assert Samples.of(offers, dataset, past, 5).latest.tolist() == [0, 0]  # the labelled event itself
    pairs = replace(offers, events=np.full(2, -1))
    assert Samples.of(pairs, dataset, past, 5).latest.tolist() == [-1, 1]


def test_the_context_of_a_labelled_event_is_its_own_not_that_of_its_second(dataset, config):
    """A page of offers has one time; so may a purchase that is logged beside the view with the label."""
    paged = replace(dataset, times=dataset.times // DAY * DAY)
    samples = Samples.of(offers_of(paged, config), paged, taken_before(paged, config), 10)
    assert np.array_equal(paged.item_rows[samples.latest], samples.offers.items)
    assert np.array_equal(paged.columns["label"][samples.latest] > 0.5, samples.offers.labels)


def test_a_purchase_is_no_context_of_its_own_offer(dataset, config):
    """What only purchases say would tell what was taken."""
    shop = with_actions(dataset, ["purchase", "impression"])
    bought = shop.columns["action"] == 0
    shop = replace(
        shop,
        columns=shop.columns | {"paid": np.where(bought, 0, -1).astype(np.int32)},
        codes=shop.codes | {"paid": ["card"]},
    )
    asked = replace(config, context_fields=("paid",), labels="exposed")
    past = taken_before(shop, asked)
    offers = offers_of(shop, asked)
    samples = Samples.of(offers, shop, past, 10)
    known = samples.latest >= 0
    assert (shop.times[samples.latest[known]] < offers.times[known]).all()
    codes = (
        Encoder.of(shop, Fields.learn(shop, samples, asked)).batch(samples, torch.device("cpu")).context[:, 0]
    )
    told = np.corrcoef(codes.numpy(), offers.labels)[0, 1]
    assert abs(told) < 0.1


def test_numbers_that_are_the_same_but_for_rounding_have_a_deviation_of_one(dataset, config):
    prices = np.full(dataset.num_items, 3.3)
    prices[0] = 5  # an item that nobody was offered in training
    table = dataset.item_table.with_columns(price=prices)
    same = replace(dataset.keep(dataset.item_rows > 0), item_table=table)
    samples = samples_of(same, config)
    encoder = Encoder.of(same, Fields.learn(same, samples, config))
    assert abs(encoder.numbers).max() < 10


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"context_fields": ("category",)}, "'category' cannot be"),
        ({"context_fields": ("scenario",)}, "'scenario' cannot be"),
        ({"item_fields": ("categry",)}, "'categry' cannot be an item field"),
        ({"item_fields": ("item_id",)}, "'item_id' cannot be an item field"),
        ({"specific_fields": ("categry",)}, "'categry'"),
    ],
)
def test_fields_that_cannot_be_are_refused(dataset, config, changes, what):
    samples = Samples.of(offers_of(dataset, config), dataset, taken_before(dataset, config), 10)
    with pytest.raises(UsageError, match=what):
        Fields.learn(dataset, samples, replace(config, **changes))


def test_a_field_of_lists_is_refused(dataset, config):
    table = dataset.item_table.with_columns(category=pl.concat_list("category"))
    samples = Samples.of(offers_of(dataset, config), dataset, taken_before(dataset, config), 10)
    with pytest.raises(DataError, match="lists") as raised:
        Fields.learn(replace(dataset, item_table=table), samples, config)
    assert raised.value.column == "category"


def test_what_is_counted_of_an_item_is_of_its_scenario_and_of_days_before(dataset, config):
    counting = replace(config, windows=(7, 0))
    samples = samples_of(dataset, counting)
    fields = Fields.learn(dataset, samples, counting)
    names = [name for name in fields.numbers if name.startswith("counted ")]
    assert names[:2] == ["counted purchase 7d", "counted users 7d"]
    dense = Encoder.of(dataset, fields).batch(samples, torch.device("cpu")).dense.numpy()
    assert dense.shape == (len(samples), 2 + len(names))
    mean, deviation = fields.numbers["counted purchase 7d"]
    counts = np.expm1(dense[:, 2] * deviation + mean)
    days, scenarios = dataset.times // DAY, dataset.columns["scenario"]
    for row in (0, 500, 2000):
        offers = samples.offers
        day = offers.times[row] // DAY
        same = (dataset.item_rows == offers.items[row]) & (scenarios == offers.scenarios[row])
        assert counts[row] == pytest.approx((same & (days < day) & (days >= day - 7)).sum(), abs=1e-3)


def test_what_happens_later_is_not_counted(dataset, config):
    counting = replace(config, windows=(7, 0))
    samples = samples_of(dataset, counting)
    fields = Fields.learn(dataset, samples, counting)
    early = samples.take(np.flatnonzero(samples.offers.times < 10 * DAY))
    before = dataset.keep(np.asarray(dataset.times) < 10 * DAY)
    some, all_ = (Encoder.of(one, fields) for one in (before, dataset))
    np.testing.assert_array_equal(some.counts(early.offers), all_.counts(early.offers))
    plan = SamplePlan(early, all_, 100, 0, torch.device("cpu"))
    dense = torch.cat([batch.dense for batch in plan.epoch(0)])
    alone = all_.batch(early, torch.device("cpu")).dense
    assert sorted(dense[:, 2].tolist()) == sorted(alone[:, 2].tolist())
    nobody = replace(early.offers, items=np.full(len(early), -1))
    assert not all_.counts(nobody).any()


def test_data_with_an_order_has_nothing_to_count(dataset, config):
    ordered = replace(dataset, time_kind="order")
    counting = replace(config, windows=(7,))
    with pytest.raises(DataError, match="timestamps"):
        Fields.learn(ordered, samples_of(ordered, counting), counting)
