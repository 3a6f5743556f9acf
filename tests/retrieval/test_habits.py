"""Repeats and trend: the k best with the terms, from the k best of an index without the repeats."""

import numpy as np
import pytest

from polyvec.data.dataset import Dataset, days
from polyvec.embeddings import Embeddings, unit
from polyvec.errors import UsageError
from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.habits import (
    Purchases,
    Weights,
    favour_repeats,
    open_to_trend,
    recent_purchases,
    with_trend,
)
from polyvec.retrieval.ranking import recommend

NUM_ITEMS = 40


def random_world(seed: int):
    random = np.random.default_rng(seed)
    users_BCD = unit(random.normal(size=(6, 3, 8)))
    items_ND = unit(random.normal(size=(NUM_ITEMS, 8)))
    counts_BN = random.poisson(0.3, size=(6, NUM_ITEMS))
    owners, items = np.nonzero(counts_BN)
    recent_N = random.poisson(3, size=NUM_ITEMS)
    return users_BCD, items_ND, counts_BN, Purchases(owners, items, counts_BN[owners, items]), recent_N


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "weights", [Weights(), Weights(0.3), Weights(0, 0.1), Weights(0.3, 0.1), Weights(5, 1)]
)
def test_ranking_with_habits_is_the_ranking_by_the_whole_formula(seed, weights):
    users_BCD, items_ND, counts_BN, own, recent_N = random_world(seed)
    opened, vectors_ND = open_to_trend(users_BCD), with_trend(items_ND, recent_N, weights.trend)
    found = favour_repeats(ExactIndex(vectors_ND).search(opened, 7), opened, vectors_ND, own, weights.repeats)

    for user in range(6):
        scores = [
            max(float(vector @ items_ND[item]) for vector in users_BCD[user])
            + weights.repeats * np.log(1 + counts_BN[user, item])
            + weights.trend * np.log(1 + recent_N[item])
            for item in range(NUM_ITEMS)
        ]
        expected = np.argsort(-np.array(scores), kind="stable")[:7]
        assert found.rows[user].tolist() == expected.tolist()
        np.testing.assert_allclose(found.scores[user], np.array(scores)[expected], rtol=1e-5)


def test_the_winning_vector_stays_the_one_nearest_to_the_item():
    users_BCD, items_ND, _, own, _ = random_world(0)
    found = favour_repeats(ExactIndex(items_ND).search(users_BCD, 5), users_BCD, items_ND, own, 0.5)
    for user in range(6):
        nearest = (users_BCD[user] @ items_ND[found.rows[user]].T).argmax(axis=0)
        assert found.vectors[user].tolist() == nearest.tolist()


def test_recent_purchases_are_those_of_the_last_week_and_none_of_the_future():
    cutoff = days(100)
    rows = [("u", "old", days(92)), ("u", "pen", days(93)), ("v", "pen", cutoff - 1), ("v", "ink", cutoff)]
    dataset = Dataset.from_rows(rows)
    assert dict(zip(dataset.items.series, recent_purchases(dataset, cutoff), strict=True)) == {
        "old": 0,
        "pen": 2,
        "ink": 0,
    }


def test_data_with_an_order_only_has_no_recent_purchases():
    dataset = Dataset.from_rows([("u", "pen", 0), ("u", "ink", 1)], time_kind="order")
    assert recent_purchases(dataset, 2).tolist() == [0, 0]


def test_purchases_count_an_item_per_user_and_leave_out_what_has_no_row():
    dataset = Dataset.from_rows([("u", "a", 1), ("u", "a", 2), ("u", "b", 3), ("v", "b", 1)])
    own = Purchases.of_events(dataset, dataset.user_offsets[:-1], dataset.user_offsets[1:])
    assert list(zip(own.owners, own.items, own.counts, strict=True)) == [(0, 0, 2), (0, 1, 1), (1, 1, 1)]
    kept = own.translate(np.array([-1, 4]))
    assert list(zip(kept.owners, kept.items, kept.counts, strict=True)) == [(0, 4, 1), (1, 4, 1)]


CUTOFF = days(100)
EVENTS = [
    ("ann", "pen", days(10)),
    ("ann", "pen", days(20)),
    ("ann", "ink", days(30)),
    ("bob", "cup", days(95)),
    ("bob", "cup", days(99)),
    ("bob", "hat", CUTOFF),
]


def shop(habits: dict[str, float]) -> tuple[Embeddings, Dataset]:
    """Ann and Bob; items in another order than in the Dataset, one of them unknown there."""
    items = ["hat", "cup", "new", "pen", "ink"]
    items_ND = np.eye(5, dtype=np.float32)
    users_UCD = np.array([[[0.1, 0.2, 0.9, 0.0, 0.3]], [[0.9, 0.0, 0.2, 0.3, 0.1]]], np.float32)
    made = {"habits": habits, "events_until": CUTOFF, "history_days": 365}
    return (
        Embeddings.from_arrays(["ann", "bob"], users_UCD, items, items_ND, "max_dot", made),
        Dataset.from_rows(EVENTS),
    )


def answers(ranking) -> dict[str, list[tuple[str, float]]]:
    table = ranking.table()
    return {
        user: [(row["item_id"], round(row["score"], 4)) for row in part.iter_rows(named=True)]
        for (user,), part in table.group_by("user_id", maintain_order=True)
    }


def test_recommendations_with_habits_follow_the_formula_by_raw_ids():
    embeddings, dataset = shop({"repeats": 1.0, "trend": 0.5})
    trend = 0.5 * np.log(3)  # two cups in the last fortnight; the hat lies after the moment
    found = answers(recommend(embeddings, ["bob", "ann"], 3, dataset=dataset, habits=True))
    assert found == {
        "bob": [("cup", round(trend + np.log(3), 4)), ("hat", 0.9), ("pen", 0.3)],
        "ann": [("pen", round(np.log(3), 4)), ("ink", round(0.3 + np.log(2), 4)), ("new", 0.9)],
    }


def test_weights_of_zero_change_nothing():
    embeddings, dataset = shop({"repeats": 0.0, "trend": 0.0})
    with_habits = recommend(embeddings, ["ann", "bob"], 5, dataset=dataset, habits=True)
    assert answers(with_habits) == answers(recommend(embeddings, ["ann", "bob"], 5))


def test_filters_hold_for_own_items_too():
    embeddings, dataset = shop({"repeats": 1.0, "trend": 0.0})
    unseen = recommend(embeddings, ["ann"], 5, dataset=dataset, habits=True, not_seen=True)
    assert {item for item, _ in answers(unseen)["ann"]} == {"new", "cup", "hat"}
    allowed = recommend(embeddings, ["ann"], 5, dataset=dataset, habits=True, allow=["cup", "ink"])
    assert [item for item, _ in answers(allowed)["ann"]] == ["ink", "cup"]


def test_habits_without_a_dataset_are_refused_with_the_remedy():
    embeddings, _ = shop({"repeats": 1.0, "trend": 0.0})
    with pytest.raises(UsageError) as refused:
        recommend(embeddings, ["ann"], 5, habits=True)
    assert str(refused.value) == (
        "habits are seen in the events\n"
        "  expected: the Dataset that holds them\n"
        "  mend: give the Dataset: --dataset shop.dataset"
    )


def test_habits_of_embeddings_that_tell_none_are_refused():
    embeddings, dataset = shop({"repeats": 1.0, "trend": 0.0})
    elsewhere = Embeddings(embeddings.users, embeddings.items, provenance={"system": "elsewhere"})
    with pytest.raises(UsageError, match="tell no weights of habits") as refused:
        recommend(elsewhere, ["ann"], 5, dataset=dataset, habits=True)
    assert refused.value.mend == "leave out --habits"
