"""Features, buckets and relations, against plain Python."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from polyvec.data.market import Market
from polyvec.systems.pgtl.config import PGTLConfig
from polyvec.systems.pgtl.features import (
    STRONG,
    UNRELATED,
    WEAK,
    Bags,
    Buckets,
    Sight,
    Texts,
    relate,
)

CONFIG = PGTLConfig(source="big", target="small", windows=(7, 0))


def bags(lists: list[list[int]]) -> Bags:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    return Bags(np.array([code for one in lists for code in one], np.int64), offsets.astype(np.int64))


def as_lists(found: Bags) -> list[list[int]]:
    return [found.codes[a:b].tolist() for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def test_bags_are_taken_and_joined():
    some = bags([[1, 2], [], [3], [4, 5]])
    assert as_lists(some.take(np.array([3, 0, 1]))) == [[4, 5], [1, 2], []]
    assert as_lists(some.joined(bags([[0, 2], [], [1], [3]]))) == [[1, 2, 3], [], [], [4, 5]]


def test_buckets_hold_like_many_positive_values_and_keep_zero_and_nothing_apart():
    values = np.array([[np.nan], [0.0], *([float(v)] for v in range(1, 101))])
    buckets = Buckets.learn(values, 4)
    codes = buckets.codes(values)[:, 0]
    assert codes[:2].tolist() == [0, 1]
    assert np.bincount(codes)[2:].tolist() == pytest.approx([25] * 4, abs=1)
    assert (np.diff(codes[2:]) >= 0).all()
    assert buckets.codes(np.array([[1e9], [-3.0]]))[:, 0].tolist() == [5, 1]


def test_buckets_of_each_number_have_rows_of_their_own():
    values = np.column_stack([np.arange(1.0, 9), np.full(8, np.nan)])
    buckets = Buckets.learn(values, 2)
    codes = buckets.codes(values)
    assert set(codes[:, 0]) == {2, 3}
    assert set(codes[:, 1]) == {buckets.size}


def catalogue() -> pl.DataFrame:
    return pl.DataFrame({
        "item_id": ["a", "b", "c", "d", "e", "f"],
        "category": ["x", "x", "x", "y", None, "y"],
        "title": ["red pen", "red ink", None, "blue pen", "pen", ""],
        "price": [1.0, 2.0, 3.0, None, 5.0, 6.0],
    })  # fmt: skip


def test_items_are_related_to_themselves_else_to_the_best_sold_of_their_category():
    relations = relate(catalogue(), np.array([5, 9, 0, 0, 0, 2]), most=1)
    assert relations.kind_N.tolist() == [STRONG, STRONG, WEAK, WEAK, UNRELATED, STRONG]
    assert as_lists(relations.items) == [[0], [1], [1], [5], [], [5]]
    both = relate(catalogue(), np.array([5, 9, 0, 0, 0, 2]), most=9)
    assert as_lists(both.items)[2] == [1, 0]


def test_without_categories_only_the_same_item_is_related():
    relations = relate(catalogue().drop("category"), np.array([5, 0, 0, 0, 0, 2]), most=9)
    assert relations.kind_N.tolist() == [STRONG, *[UNRELATED] * 4, STRONG]


def test_shuffled_relations_are_others():
    relations = relate(catalogue(), np.array([5, 9, 4, 3, 0, 2]), most=2)
    shuffled = relations.shuffled(1)
    assert sorted(as_lists(shuffled.items)) == sorted(as_lists(relations.items))
    assert as_lists(shuffled.items) != as_lists(relations.items)
    assert shuffled.kind_N[4] == UNRELATED


def test_texts_have_rows_field_by_field_and_unknown_ones_none():
    texts = Texts.learn(catalogue(), np.array([5, 9, 0, 1, 0, 2]), CONFIG)
    names = list(texts.known)
    assert names == ["item_id", "category", "title"]
    ids, categories, words = texts.encode(catalogue())
    assert as_lists(ids) == [[1], [0], [], [3], [], [2]]
    assert as_lists(categories) == [[4], [4], [4], [5], [], [5]]
    assert [len(one) for one in as_lists(words)] == [2, 2, 0, 2, 1, 0]
    new = pl.DataFrame({"item_id": ["z"], "category": [None], "title": ["red thing"]})
    ids, categories, words = texts.encode(new)
    assert (as_lists(ids), as_lists(categories)) == ([[]], [[]])
    assert as_lists(words)[0] == as_lists(texts.encode(catalogue())[2])[0][:1]


def test_texts_read_back(tmp_path):
    texts = Texts.learn(catalogue(), np.array([5, 9, 0, 1, 0, 2]), CONFIG)
    texts.save(tmp_path / "texts")
    again = Texts.load(tmp_path / "texts", list(texts.known))
    assert [as_lists(one) for one in again.encode(catalogue())] == [
        as_lists(o) for o in texts.encode(catalogue())
    ]


@pytest.fixture(scope="module")
def sight(dataset) -> Sight:
    return Sight(Market.of(dataset, "big"), dataset.item_table, CONFIG)


def test_an_item_that_is_the_same_has_its_own_features_as_prior(dataset, sight):
    events = np.bincount(Market.of(dataset, "big").items, minlength=dataset.num_items)
    relations = relate(dataset.item_table, events, 32)
    rows = np.flatnonzero(relations.kind_N == STRONG)
    days = np.full(len(rows), 40)
    np.testing.assert_array_equal(relations.values(sight, rows, days), sight.values(rows, days))


def test_the_prior_of_an_item_of_a_category_is_the_mean_of_the_known_numbers(dataset, sight):
    events = np.bincount(Market.of(dataset, "big").items, minlength=dataset.num_items)
    relations = relate(dataset.item_table, events, 32)
    weak = np.flatnonzero(relations.kind_N == WEAK)
    assert len(weak)
    found = relations.values(sight, weak, np.full(len(weak), 3))
    for row, item in enumerate(weak):
        related = relations.items.take(np.array([item])).codes
        values = sight.values(related, np.full(len(related), 3))
        for column in range(values.shape[1]):
            known = values[np.isfinite(values[:, column]), column]
            expected = known.mean() if len(known) else np.nan
            assert found[row, column] == pytest.approx(expected, nan_ok=True)


def test_items_without_relations_have_no_prior(dataset, sight):
    relations = relate(dataset.item_table, np.zeros(dataset.num_items, np.int64), 32)
    assert np.isnan(relations.values(sight, np.arange(5), np.full(5, 40))).all()


def test_sellers_and_the_catalogues_numbers_are_seen(dataset, sight):
    names = sight.names
    assert names[0] == "price"
    assert any(name.startswith("brand: purchase 7d") for name in names)
    values = sight.values(np.array([3, 4]), np.array([0, 0]))
    assert values[:, 0].tolist() == [4.0, 5.0]
