"""recommend and search as a person calls them."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import Dataset
from polyvec.embeddings import Embeddings
from polyvec.errors import DataError, UsageError
from polyvec.retrieval.approximate import FaissIndex
from polyvec.retrieval.ranking import recommend, search

ITEM_IDS = ["pen", "ink", "nib", "cup"]
ITEM_VECTORS = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]], np.float32)


@pytest.fixture
def embeddings():
    users = np.array([[[1, 0], [0, 1]], [[-1, 0], [-1, 0]], [[0, 0], [0, 0]]], np.float32)
    made = Embeddings.from_arrays(["ann", "bob", "eve"], users, ITEM_IDS, ITEM_VECTORS)
    return replace(made, users=replace(made.users, state=np.array([0, 1, 2], np.uint8)))


@pytest.fixture
def dataset():
    catalogue = pl.DataFrame({"item_id": ITEM_IDS, "category": ["desk", "desk", "desk", "home"]})
    return Dataset.from_rows([("ann", "pen", 1), ("ann", "cup", 2)], catalogue)


def test_the_table_tells_score_vector_and_state(embeddings):
    table = recommend(embeddings, ["ann", "bob"], 2).table()
    assert table.columns == ["user_id", "state", "rank", "item_id", "item_state", "score", "vector"]
    assert table["user_id"].to_list() == ["ann", "ann", "bob", "bob"]
    assert table["state"].to_list() == ["warm", "warm", "cold", "cold"]
    assert table["item_id"].to_list() == ["pen", "nib", "cup", "nib"]
    assert table["vector"].to_list() == [0, 1, 0, 0]
    assert table["score"].to_list() == [1, 1, 1, 0]


def test_a_user_of_zero_vectors_gets_an_answer(embeddings):
    ranking = recommend(embeddings, ["eve"], 2)
    assert ranking.states == ["empty"]
    assert ranking.table()["item_id"].to_list() == ["pen", "ink"]


def test_seen_items_are_left_out(embeddings, dataset):
    table = recommend(embeddings, ["ann"], 4, not_seen=True, dataset=dataset).table()
    assert table["item_id"].to_list() == ["nib", "ink"]


def test_category_and_allow_list_both_hold(embeddings, dataset):
    table = recommend(embeddings, ["ann"], 4, category="desk", allow=["cup", "nib"], dataset=dataset).table()
    assert table["item_id"].to_list() == ["nib"]


def test_an_empty_allow_list_gives_an_empty_table(embeddings):
    assert recommend(embeddings, ["ann"], 4, allow=[]).table().is_empty()


def test_half_precision_vectors_rank_alike(embeddings):
    half = replace(
        embeddings, users=replace(embeddings.users, vectors=embeddings.users.vectors.astype(np.float16))
    )
    assert recommend(half, ["ann"], 3).table()["item_id"].to_list() == ["pen", "nib", "ink"]


def test_dot_products_are_not_scaled(embeddings):
    long_ink = replace(embeddings.items, vectors=ITEM_VECTORS * [[1], [5], [1], [1]])
    dots = replace(embeddings, score="max_dot", items=long_ink)
    assert recommend(dots, ["ann"], 1).table()["item_id"].to_list() == ["ink"]
    assert recommend(embeddings, ["ann"], 1).table()["item_id"].to_list() == ["pen"]


def test_an_unknown_user_names_the_one_meant(embeddings):
    with pytest.raises(DataError) as caught:
        recommend(embeddings, ["ann", "anne"])
    assert str(caught.value) == (
        "user_id 'anne' is not among the 3 of these embeddings\n"
        "  where: column user_id\n"
        "  expected: ids such as 'ann', 'bob', 'eve'; did you mean 'ann'?\n"
        "  mend: give an id as the event log has it, or encode the user or item first: polyvec embed"
    )


@pytest.mark.parametrize("wish", [{"not_seen": True}, {"category": "desk"}])
def test_filters_that_need_a_dataset_say_so(embeddings, wish):
    with pytest.raises(UsageError, match="need a Dataset"):
        recommend(embeddings, ["ann"], **wish)


def test_neighbours_of_an_item_leave_it_out(embeddings):
    table = search(embeddings, "pen", 10).table()
    assert table["query_item_id"].unique().to_list() == ["pen"]
    assert table["item_id"].to_list() == ["ink", "nib", "cup"]


def test_search_takes_another_index(embeddings):
    found = search(embeddings, "pen", 3, index=FaissIndex(embeddings.unit_items()))
    assert found.table()["item_id"].to_list() == ["ink", "nib", "cup"]


def test_integer_ids_stay_integers():
    made = Embeddings.from_arrays([7, 9], np.eye(2), [1, 2], np.eye(2))
    table = recommend(made, [9], 1).table()
    assert table["user_id"].to_list() == [9]
    assert table["item_id"].to_list() == [2]
