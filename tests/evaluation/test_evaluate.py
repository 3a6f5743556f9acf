"""The whole evaluation on a shop whose truth is known."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.embeddings import Embeddings, Side
from polyvec.errors import DataError, UsageError
from polyvec.evaluation.evaluate import EMBEDDINGS, ORACLE, Settings, Truths, evaluate
from polyvec.ids import Vocabulary


def values(evaluation, task="CMP-L", part="all", metric="recall@100"):
    chosen = evaluation.results.filter(
        pl.col("task") == task, pl.col("part") == part, pl.col("metric") == metric
    )
    return dict(chosen.select("ranker", "value").iter_rows())


def test_vectors_that_know_the_tastes_beat_popularity(taste_shop):
    dataset, _, embeddings = taste_shop
    evaluation = evaluate(embeddings, dataset)
    assert evaluation.cutoffs == (100 * DAY,)
    found = values(evaluation, metric="recall@50")
    assert found[EMBEDDINGS] > 1.2 * found["popularity"]
    assert evaluation.notes == []
    assert evaluation.mixture["history_wins"][0] > 0.6


def test_a_cutoff_before_the_embeddings_were_made_is_a_leak(taste_shop):
    dataset, _, embeddings = taste_shop
    with pytest.raises(DataError, match="users were encoded from events until 1970-04-11"):
        evaluate(embeddings, dataset, [90 * DAY])
    with pytest.raises(DataError, match="users were encoded"):
        evaluate(embeddings, dataset, [110 * DAY, 90 * DAY])


def test_windows_slide_forward(taste_shop):
    dataset, _, embeddings = taste_shop
    evaluation = evaluate(embeddings, dataset, [100 * DAY, 105 * DAY], Settings(target_days=10))
    assert evaluation.results["cutoff"].unique(maintain_order=True).to_list() == ["1970-04-11", "1970-04-16"]


def test_embeddings_that_tell_no_moment_need_a_cutoff(taste_shop):
    dataset, _, embeddings = taste_shop
    foreign = replace(embeddings, provenance={})
    with pytest.raises(UsageError, match="do not tell which events"):
        evaluate(foreign, dataset)
    assert len(evaluate(foreign, dataset, [100 * DAY]).notes) == 2


def test_embeddings_of_other_users_or_items_are_refused(taste_shop):
    dataset, _, embeddings = taste_shop
    ids = [f"stranger {user}" for user in range(len(embeddings.users))]
    strangers = replace(embeddings, users=replace(embeddings.users, ids=Vocabulary(ids, "user_id")))
    with pytest.raises(DataError, match="none of the 80 ids of user_id in the Dataset has a vector"):
        evaluate(strangers, dataset)


def test_missing_vectors_stand_in_the_notes(taste_shop):
    dataset, _, embeddings = taste_shop
    users, items = embeddings.users, embeddings.items
    fewer = Embeddings.from_arrays(
        users.ids.series[:60],
        users.vectors[:60],
        items.ids.series[:90],
        items.vectors[:90],
        provenance=embeddings.provenance,
    )
    assert evaluate(fewer, dataset).notes == [
        "20 of the 80 users of the Dataset (25.0%) have no vectors",
        "30 of the 120 items of the Dataset (25.0%) have no vectors",
    ]


def test_ids_of_another_type_change_nothing_but_a_note(taste_shop):
    dataset, _, embeddings = taste_shop
    item_ids = [int(item[1:]) + 1000 for item in dataset.items.series]
    as_text = Vocabulary([str(item) for item in item_ids], "item_id")
    table = pl.DataFrame({"item_id": item_ids})
    numbered = replace(dataset, items=Vocabulary(item_ids, "item_id"), item_table=table)
    texts = replace(embeddings, items=replace(embeddings.items, ids=as_text))
    first, second = evaluate(texts, numbered), evaluate(embeddings, dataset)
    assert first.results.equals(second.results)
    assert first.notes[0].startswith("item_ids are text in the embeddings and integers in the Dataset")
    bought = [
        [[item["bought"] for item in vector["nearest"]] for user in each.users for vector in user["vectors"]]
        for each in (first, second)
    ]
    assert bought[0] == bought[1]
    assert any(map(any, bought[0]))


def test_users_alone_are_asked_for_their_profiles(taste_shop):
    dataset, tastes, embeddings = taste_shop
    alone = replace(embeddings, items=Side.from_arrays([], np.zeros((0, 8)), "item_id"))
    with pytest.raises(UsageError, match="no matching task can be asked, and no labels are given"):
        evaluate(alone, dataset)
    people = pl.DataFrame({"user_id": dataset.users.series, "likes": tastes, "num_interests": tastes + 1})
    for asked in (dataset, replace(dataset, time_kind="order")):
        evaluation = evaluate(alone, asked, truths=Truths(people, ("likes",), interests=people))
        assert evaluation.results.is_empty()
        assert evaluation.interests is None
        assert set(evaluation.profiles["label"]) == {"likes"}
        assert evaluation.notes[-1] == "the matching tasks were left out: they need embeddings of items"


def test_profiles_oracle_and_interests_join_by_id(taste_shop):
    dataset, tastes, embeddings = taste_shop

    class Everything:
        def rank(self, user_rows, k):
            return np.tile(np.arange(k), (len(user_rows), 1))

    people = pl.DataFrame({"user_id": dataset.users.series, "likes": tastes, "num_interests": tastes})
    truths = Truths(
        people.sample(fraction=1, shuffle=True, seed=1), ("likes",), lambda _: Everything(), people
    )
    evaluation = evaluate(embeddings, dataset, truths=truths)
    linear = evaluation.profiles.filter(pl.col("probe") == "linear", pl.col("metric") == "accuracy")
    assert linear["value"][0] > 0.9
    assert "hand-made aggregates" in evaluation.profiles["features"].to_list()
    assert ORACLE in values(evaluation)
    assert evaluation.interests["interests"].to_list() == [1]  # 0 interests: a bot


def test_ordered_data_are_asked_for_the_last_item(taste_shop):
    dataset, _, embeddings = taste_shop
    ordered = replace(dataset, time_kind="order")
    held_back = replace(embeddings, provenance={"held_back": 1})
    evaluation = evaluate(held_back, ordered, settings=Settings(remove_seen=True))
    assert evaluation.cutoffs == ()
    assert evaluation.notes[0].startswith("Leave-one-out lets a model learn from other users' future")
    assert values(evaluation, "next item, leave-one-out")[EMBEDDINGS] > 0


def test_people_are_spread_over_history_lengths_and_told_by_title(taste_shop):
    dataset, _, embeddings = taste_shop
    evaluation = evaluate(embeddings, dataset)
    lengths = [user["events"] for user in evaluation.users]
    assert len(lengths) == 6
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]
    for user in evaluation.users:
        assert sum(vector["share"] for vector in user["vectors"]) == pytest.approx(1)
        dates = [one["when"] for one in user["latest"]]
        assert dates == sorted(dates, reverse=True)
        assert max(dates) < "1970-04-11"
    neighbours = evaluation.items[0]["nearest"]
    assert evaluation.items[0]["item_id"] not in [one["item_id"] for one in neighbours]
    same_taste = [int(one["item_id"][1:]) % 2 for one in neighbours]
    assert len(set(same_taste)) == 1


def test_the_people_shown_depend_on_the_seed(taste_shop):
    dataset, _, embeddings = taste_shop
    first, again, other = (evaluate(embeddings, dataset, settings=Settings(seed=s)).users for s in (0, 0, 1))
    assert first == again
    assert first != other
