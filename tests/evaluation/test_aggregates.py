"""Hand-made features, counted by hand."""

from dataclasses import replace

import numpy as np
import polars as pl

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.split import cut, leave_last_out
from polyvec.evaluation.aggregates import aggregates

EVENTS = [("ann", "a", 1), ("ann", "b", 3), ("ann", "a", 5), ("ann", "c", 20), ("bob", "c", 12)]
COUNTED = 4 + 3  # simple counts and those of the last 30 days come before the shares


def features(item_table=None, **columns):
    dataset = Dataset.from_rows([(user, item, day * DAY) for user, item, day in EVENTS], item_table)
    dataset = replace(dataset, columns={name: np.float32(numbers) for name, numbers in columns.items()})
    return aggregates(dataset, cut(dataset, 10 * DAY, 365, 30))


def test_counts_times_and_shares_of_categories():
    catalogue = pl.DataFrame({"item_id": ["a", "b", "c"], "category": ["toy", None, "toy"]})
    table = features(catalogue)
    np.testing.assert_allclose(table[0, :4], [np.log(4), np.log(3), 5 * DAY, 4 * DAY], rtol=1e-6)
    assert sorted(table[0, COUNTED:].tolist()) == np.float32([1 / 3, 2 / 3]).tolist()


def test_items_stand_in_for_categories_and_the_future_is_not_seen():
    table = features()
    assert table.shape == (2, COUNTED + 2)  # c was not bought before the cut-off
    assert table[0, COUNTED:].sum() == 1
    assert not table[1].any()  # bob has no history before the cut-off


def test_the_last_thirty_days_are_counted_apart():
    rows = [("ann", "a", 1 * DAY), ("ann", "a", 69 * DAY), ("ann", "b", 70 * DAY), ("ann", "b", 70 * DAY + 5)]
    dataset = Dataset.from_rows(rows)
    table = aggregates(dataset, cut(dataset, 100 * DAY, 365, 30))
    # three days with an event; the 70th is the first of the last thirty: two events on one day
    np.testing.assert_allclose(np.exp(table[0, 4:7]) - 1, [3, 2, 1], rtol=1e-5)


def test_spending_multiplies_price_and_quantity_and_forgives_what_is_missing():
    table = features(price=[2, np.nan, 5, 100, 100], quantity=[3, 7, np.nan, 1, 1])
    assert table.shape == (2, COUNTED + 2 + 2)
    np.testing.assert_allclose(table[0, [4, 8]], np.log1p(2 * 3 + 5), rtol=1e-6)
    assert not table[1].any()


def test_what_was_given_back_is_negative_spending():
    table = features(price=[2, 2, 2, 1, 1], quantity=[1, 1, -6, 1, 1])
    np.testing.assert_allclose(table[0, 4], -np.log1p(8), rtol=1e-6)


def test_units_stand_in_for_money():
    np.testing.assert_allclose(features(quantity=[3, 7, 2, 1, 1])[0, 4], np.log1p(12), rtol=1e-6)


def test_data_with_an_order_has_no_last_days():
    dataset = Dataset.from_rows(EVENTS, time_kind="order")
    table = aggregates(dataset, leave_last_out(dataset))
    np.testing.assert_allclose(table[0], [np.log(4), np.log(3), 15, 4, 2 / 3, 1 / 3], rtol=1e-6)


def test_spending_after_the_cutoff_changes_nothing():
    now = features(price=[1, 1, 1, 1, 1])
    assert np.array_equal(now, features(price=[1, 1, 1, 999, 999]))


def test_events_of_each_action_are_counted_and_purchases_alone_cost_something():
    dataset = Dataset.from_rows([(user, item, day * DAY) for user, item, day in EVENTS])
    columns = {"action": np.array([0, 1, 1, 0, 1], np.int32), "price": np.float32([2, 3, 5, 1, 1])}
    clicks = replace(dataset, columns=columns, codes={"action": ["click", "purchase"]})
    table = aggregates(clicks, cut(clicks, 10 * DAY, 365, 30))
    np.testing.assert_allclose(table[0, 4], np.log1p(3 + 5), rtol=1e-6)
    assert table[0, 9:11].tolist() == np.log1p(np.float32([2, 1])).tolist()
