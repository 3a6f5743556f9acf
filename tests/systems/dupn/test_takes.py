"""Brands that users took, exchanged between events: nothing but who takes what tells them apart."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.offers import EVER
from polyvec.systems.dupn.config import Task
from polyvec.systems.dupn.tasks import learn

BRANDS = 12


def shop(days: int = 60) -> Dataset:
    """Few users take much, and few brands are taken by most: drawn brands were told by either."""
    random = np.random.default_rng(0)
    popular = 1 / np.arange(1, BRANDS + 1)
    rows = []
    for user in range(300):
        for time in random.integers(0, days * DAY, 2 if user % 10 else 60):
            brand = random.choice(BRANDS, p=popular / popular.sum())
            rows.append((f"u{user:03}", f"i{3 * brand + random.integers(3):02}", int(time)))
    items = [f"i{item:02}" for item in range(3 * BRANDS)]
    brands = [f"b{item // 3:02}" for item in range(3 * BRANDS)]
    return Dataset.from_rows(rows, pl.DataFrame({"item_id": items, "brand": brands}))


@pytest.mark.parametrize("new_only", [True, False])
@pytest.mark.parametrize("negatives", [1, 3])
def test_neither_history_nor_popularity_tells_what_was_taken(new_only, negatives):
    task = Task("entity", column="brand", new_only=new_only, negatives=negatives)
    _, samples = learn(shop(), task, EVER, 60 * DAY, 0, 100)
    assert len(samples) > 400 * negatives
    popularity = np.bincount(samples.entities, minlength=BRANDS)[samples.entities]
    for told in (samples.stop - samples.start, samples.users, samples.entities, popularity, samples.times):
        assert roc_auc_score(samples.answers, told) == pytest.approx(0.5)


def test_sparse_days_are_exchanged_with_those_after():
    dataset = shop(days=2000)
    _, samples = learn(dataset, Task("entity", column="brand"), EVER, 2000 * DAY, 0, 100)
    bought = np.asarray(dataset.times) // DAY
    assert np.bincount(bought).mean() < 3
    assert len(samples) > dataset.num_events  # twice as many as events but for those that find no other


def test_the_last_day_is_asked_about_when_it_is_over():
    """Who takes a brand at noon is not asked at eight, by a log that ends at ten, as if he did not."""
    dataset = shop(days=10)
    stop = 9 * DAY + DAY // 2
    early = dataset.keep(np.asarray(dataset.times) < stop)
    _, samples = learn(early, Task("entity", column="brand", new_only=True), EVER, stop, 0, 100)
    assert samples.times.max() < 9 * DAY
    _, whole = learn(dataset, Task("entity", column="brand", new_only=True), EVER, 9 * DAY, 0, 100)
    np.testing.assert_array_equal(samples.entities, whole.entities)


def test_exposures_of_the_last_day_are_left_to_the_update_after_it():
    dataset = shop(days=10)
    actions = np.random.default_rng(1).integers(0, 2, dataset.num_events).astype(np.int32)
    shown = replace(dataset, columns={"action": actions}, codes={"action": ["impression", "purchase"]})
    _, samples = learn(shown, Task("item"), EVER, 9 * DAY + 5, 0, 100)
    assert samples.times.max() < 9 * DAY
