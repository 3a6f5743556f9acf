"""Leave-one-out."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import Dataset
from polyvec.embeddings import Embeddings
from polyvec.errors import DataError
from polyvec.evaluation.tasks.next_item import check_held_back, next_item, next_item_question

DATASET = Dataset.from_rows(
    [("ann", "a", 1), ("ann", "b", 2), ("ann", "c", 3), ("bob", "c", 1), ("bob", "c", 2), ("cid", "a", 1)],
    time_kind="order",
)


class InOrder:
    """Ranks items by their row."""

    def rank(self, user_rows, k):
        row = np.full(k, -1)
        row[: DATASET.num_items] = np.arange(DATASET.num_items)[:k]
        return np.tile(row, (len(user_rows), 1))


def value(table, metric):
    return table.filter(pl.col("metric") == metric, pl.col("part") == "all")["value"][0]


def test_the_last_item_is_to_be_found():
    table = next_item({"rows": InOrder()}, DATASET)
    assert table["users"].max() == 2  # cid has one event alone
    assert value(table, "ndcg@10") == pytest.approx(1 / np.log2(4))  # c is third for both


def test_items_are_cold_or_warm_by_the_events_before_the_held_out_ones():
    events = dict(zip(DATASET.items.series, next_item_question(DATASET).item_events, strict=True))
    assert events == {"a": 1, "b": 1, "c": 1}
    table = next_item({"rows": InOrder()}, DATASET).filter(pl.col("metric") == "recall@10")
    counted = dict(table.select("part", "users").iter_rows())
    assert (counted["item 0"], counted["item 1–5"], counted["history 1–5"]) == (0, 2, 2)
    assert "history 0" not in counted


def test_removing_seen_items_lifts_the_rest_and_loses_repeats():
    table = next_item({"rows": InOrder()}, DATASET, remove_seen=True)
    assert value(table, "ndcg@10") == pytest.approx((1 + 0) / 2)  # ann: c is first; bob had c before
    assert value(table, "hit_rate@10") == 0.5


def test_working_in_parts_changes_nothing(monkeypatch):
    whole = next_item({"rows": InOrder()}, DATASET, remove_seen=True)
    monkeypatch.setattr("polyvec.evaluation.tasks.next_item.USERS_AT_ONCE", 1)
    assert next_item({"rows": InOrder()}, DATASET, remove_seen=True).equals(whole)


def test_the_validation_split_leaves_out_the_test_event():
    table = next_item({"rows": InOrder()}, DATASET, skip=1)
    assert table["users"].max() == 1  # ann: b


def vectors(**provenance):
    return Embeddings.from_arrays(["u"], np.ones((1, 2)), ["a"], np.ones((1, 2)), provenance=provenance)


def test_users_encoded_from_the_held_out_event_are_refused():
    with pytest.raises(DataError, match="encoded from all but 0 of each user's events") as caught:
        check_held_back(vectors(held_back=0, trained_held_back=1), DATASET)
    assert caught.value.mend == "embed again: polyvec embed --held-back 1"
    assert check_held_back(vectors(held_back=1, trained_held_back=1), DATASET) == []
    unknown = check_held_back(vectors(system="foreign"), DATASET)
    assert ["held_back" in note for note in unknown] == [True, True]


def test_of_models_that_read_clicks_those_after_the_last_purchase_are_held_back_too():
    rows = [
        ("ann", "a", 0),
        ("ann", "b", 1),
        ("ann", "c", 2),
        ("ann", "d", 3),
        ("bob", "a", 0),
        ("bob", "b", 1),
    ]
    codes = np.array([0, 0, 1, 1, 0, 0], np.int32)
    log = replace(
        Dataset.from_rows(rows, time_kind="order"),
        columns={"action": codes},
        codes={"action": ["purchase", "click"]},
    )
    read = {"held_back": 1, "trained_held_back": 3}
    with pytest.raises(DataError, match="events of other actions come after a purchase") as caught:
        check_held_back(vectors(held_back_of="events", **read), log)
    assert caught.value.mend.startswith("embed again: polyvec embed --held-back 3")
    assert check_held_back(vectors(held_back_of="events", held_back=3, trained_held_back=3), log) == []
    assert check_held_back(vectors(held_back_of="purchases", **read), log) == []
    assert len(check_held_back(vectors(**read), log)) == 1  # made elsewhere


def test_a_model_trained_on_the_held_out_event_is_refused():
    with pytest.raises(DataError, match="trained on all but 1 of each user's events") as caught:
        check_held_back(vectors(held_back=2, trained_held_back=1), DATASET, skip=1)
    assert caught.value.mend == "train again: polyvec fit --held-back 2"
    told = check_held_back(vectors(held_back=1), DATASET)
    assert len(told) == 1
    assert "trained_held_back is unknown" in told[0]
