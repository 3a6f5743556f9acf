"""Filters by seen items, allow-list and category, across two vocabularies."""

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import Dataset
from polyvec.errors import UsageError
from polyvec.ids import Vocabulary
from polyvec.retrieval.filters import allow_list, category_items, seen_items

CATALOGUE = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "category": ["toy", "ink", "toy", None]})


@pytest.fixture
def dataset():
    return Dataset.from_rows([("u", "a", 1), ("u", "d", 2), ("w", "b", 1), ("w", "b", 2)], CATALOGUE)


ITEMS = Vocabulary(["z", "b", "a"], "item_id")  # another order, one item more, two fewer


def test_seen_items_are_rows_of_the_index(dataset):
    seen = seen_items(dataset, ["w", "nobody", "u"], ITEMS)
    assert seen.offsets.tolist() == [0, 1, 1, 2]
    assert seen.items.tolist() == [1, 2]


def test_the_last_user_of_the_dataset_has_seen_items(dataset):
    assert seen_items(dataset, ["w"], ITEMS).sizes.tolist() == [1]


def test_unknown_ids_allow_nothing():
    assert allow_list(["a", "unheard of"], ITEMS).tolist() == [False, False, True]
    assert not allow_list([], ITEMS).any()


def test_category_items(dataset):
    assert category_items(dataset, "toy", dataset.items).tolist() == [True, False, True, False]
    assert category_items(dataset, "toy", ITEMS).tolist() == [False, False, True]


def test_an_unknown_category_names_the_nearest(dataset):
    with pytest.raises(UsageError) as caught:
        category_items(dataset, "toys", ITEMS)
    assert str(caught.value) == (
        "no item is of category 'toys'\n  where: column category\n  expected: did you mean 'toy'?"
    )


def test_a_catalogue_without_categories_is_refused():
    with pytest.raises(UsageError, match="catalogue has no category"):
        category_items(Dataset.from_rows([("u", "a", 1)]), "toy", ITEMS)


def test_arrays_are_masks(dataset):
    assert allow_list(["b"], ITEMS).dtype == np.bool_
