"""Users as documents, against scikit-learn's own vectorizer on texts written out."""

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.split import cut, leave_last_out
from polyvec.evaluation.texts import bought_words

TITLES = ["red tin mug", "red tin", "blue paper bag", "bag, red", None, "a", "Blue MUG"]
ITEMS = pl.DataFrame({"item_id": [f"item{row}" for row in range(7)], "title": TITLES})
GENERATOR = np.random.default_rng(3)
EVENTS = [
    (f"u{user:02d}", f"item{int(item)}", int(day) * DAY)
    for user in range(12)
    for item, day in zip(GENERATOR.integers(0, 7, 9), GENERATOR.integers(1, 20, 9), strict=True)
]
CUTOFF = 12 * DAY


def data(items=ITEMS, events=EVENTS):
    dataset = Dataset.from_rows([*events, ("new", "item0", 15 * DAY)], items)
    return dataset, cut(dataset, CUTOFF, 365, 30)


def inner_products(texts, directions):
    """Inner products of the documents' TF-IDF vectors, cut to their main directions."""
    dense = TfidfVectorizer(sublinear_tf=True).fit_transform(texts).toarray()
    left, singular, _ = np.linalg.svd(dense, full_matrices=False)
    left = left[:, :directions] * singular[:directions]
    return left @ left.T


def documents(of_item):
    """Write each user's history out; "new" comes first and has bought nothing yet."""
    users = ["new", *(f"u{row:02d}" for row in range(12))]
    return [
        " ".join(of_item(item) for user, item, time in EVENTS if user == one and time < CUTOFF)
        for one in users
    ]


@pytest.fixture(scope="module")
def table():
    return bought_words(*data(), width=3)


def test_items_are_words(table):
    mine = table[:, :3]
    np.testing.assert_allclose(mine @ mine.T, inner_products(documents(str), 3), atol=1e-5)


def test_titles_are_sentences_of_words(table):
    mine = table[:, 3:]
    texts = documents(lambda item: TITLES[int(item[4:])] or "")
    np.testing.assert_allclose(mine @ mine.T, inner_products(texts, 3), atol=1e-5)


def test_the_first_user_has_no_history_and_no_features(table):
    assert data()[0].users.ids([0]) == ["new"]
    assert table.dtype == np.float32
    assert not table[0].any()
    assert np.abs(table[1:]).sum(axis=1).all()


@pytest.mark.parametrize("titles", [None, ["a", "!", None, "", "…", "b", "c"]])
def test_without_words_only_items_count(titles, table):
    items = ITEMS.drop("title") if titles is None else ITEMS.with_columns(pl.Series("title", titles))
    np.testing.assert_allclose(bought_words(*data(items), width=3), table[:, :3], atol=1e-6)


def test_there_are_no_more_directions_than_items_and_words():
    assert bought_words(*data(), width=100).shape == (13, 7 + 6)


def test_the_future_changes_nothing(table):
    changed = [(user, item if time < CUTOFF else "item5", time) for user, item, time in EVENTS]
    np.testing.assert_array_equal(bought_words(*data(events=changed), width=3), table)


def test_data_with_an_order_is_told_apart_too():
    dataset = Dataset.from_rows(EVENTS, ITEMS, time_kind="order")
    assert bought_words(dataset, leave_last_out(dataset), width=2).shape == (12, 4)
