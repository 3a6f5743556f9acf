"""Hand-made features, counted by hand."""

import numpy as np
import polars as pl

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.split import cut
from polyvec.evaluation.aggregates import aggregates

EVENTS = [("ann", "a", 1), ("ann", "b", 3), ("ann", "a", 5), ("ann", "c", 20), ("bob", "c", 12)]


def features(item_table=None):
    dataset = Dataset.from_rows([(user, item, day * DAY) for user, item, day in EVENTS], item_table)
    return aggregates(dataset, cut(dataset, 10 * DAY, 365, 30))


def test_counts_times_and_shares_of_categories():
    catalogue = pl.DataFrame({"item_id": ["a", "b", "c"], "category": ["toy", None, "toy"]})
    table = features(catalogue)
    np.testing.assert_allclose(table[0, :4], [np.log(4), np.log(3), 5 * DAY, 4 * DAY], rtol=1e-6)
    assert sorted(table[0, 4:].tolist()) == np.float32([1 / 3, 2 / 3]).tolist()


def test_items_stand_in_for_categories_and_the_future_is_not_seen():
    table = features()
    assert table.shape == (2, 4 + 2)  # c was not bought before the cut-off
    assert table[0, 4:].sum() == 1
    assert not table[1].any()  # bob has no history before the cut-off
