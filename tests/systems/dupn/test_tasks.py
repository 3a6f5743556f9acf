"""From tasks to samples: what is asked, what is known then, and what the answer is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.offers import EVER
from polyvec.errors import DataError
from polyvec.systems.dupn import Task
from polyvec.systems.dupn.tasks import _edges, learn, samples_of, tasks_of

DAY = MICROSECONDS_PER_DAY
STOP = 30 * DAY
EVERY_KIND = {
    "next": Task("next"),
    "item": Task("item"),
    "rank": Task("rank", numbers=("weight",)),
    "price": Task("class", column="price", levels=4),
    "action": Task("class", action="", column="action"),
    "gender": Task("class", column="gender"),
    "category": Task("class", column="category"),
    "entity": Task("entity", column="brand"),
    "new": Task("entity", column="brand", new_only=True),
    "churn": Task("window", days=3, every_days=2),
    "spend": Task("window", days=3, every_days=2, measure="spend", levels=3),
}


def learned(dataset: Dataset, task: Task, stop: int = STOP, length: int = 10):
    return learn(dataset, task, EVER, stop, 0, length)


@pytest.mark.parametrize("name", EVERY_KIND)
def test_histories_end_before_the_question_and_answers_before_the_end(dataset, name):
    task = EVERY_KIND[name]
    _, samples = learned(dataset, task)
    assert len(samples) > 100
    some = samples.stop > samples.start
    assert (dataset.times[samples.stop[some] - 1] < samples.times[some]).all()
    assert (samples.stop - samples.start <= 10).all()
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    assert (owners[samples.stop[some] - 1] == samples.users[some]).all()
    # nor is there an event between the history and the question
    following = samples.stop < dataset.user_offsets[samples.users + 1]
    assert (dataset.times[samples.stop[following]] >= samples.times[following]).all()
    ends = samples.times + (3 * DAY if task.kind == "window" else 0)
    assert ends.max() <= STOP


@pytest.mark.parametrize("name", EVERY_KIND)
def test_the_future_changes_nothing(dataset, name):
    whole = learned(dataset, EVERY_KIND[name])[1]
    early = dataset.keep(dataset.times < STOP)
    known, samples = learned(early, EVERY_KIND[name])
    assert len(samples) == len(whole)
    assert (samples.times == whole.times).all()
    assert (samples.answers == whole.answers).all()
    np.testing.assert_allclose(samples.numbers, whole.numbers)
    again = samples_of(early, EVERY_KIND[name], known, EVER, STOP, 0, 10)
    assert (again.answers == samples.answers).all()


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_where_most_spend_nothing_the_others_share_the_levels_above(levels):
    numbers = np.concatenate([np.zeros(880), np.arange(1.0, 121)])
    edges = _edges(numbers, levels)
    assert len(edges) == levels - 1
    above = np.bincount(np.searchsorted(edges, numbers, side="right"))[1:]
    assert edges[0] == 1
    assert above.max() - above.min() <= 1


def test_levels_hold_as_many_samples_each_and_are_those_of_the_training(dataset):
    task = EVERY_KIND["price"]
    known, samples = learned(dataset, task)
    assert known.edges == (2, 3, 4)
    assert np.bincount(samples.answers).min() > len(samples) / 5
    rows = samples.stop  # each is asked of the event that follows
    assert (samples.answers == dataset.columns["price"][rows] - 1).all()
    spread = np.random.default_rng(0).random(dataset.num_events).astype(np.float32) ** 3
    fine = replace(dataset, columns=dataset.columns | {"price": spread})
    assert np.bincount(learned(fine, replace(task, levels=7))[1].answers) == pytest.approx(
        len(samples) / 7, rel=0.02
    )
    dear = replace(dataset, columns=dataset.columns | {"price": dataset.columns["price"] + 100})
    later = samples_of(dear, task, known, STOP, 50 * DAY, 0, 10)
    assert set(later.answers.tolist()) == {3}


def test_classes_are_texts_and_what_was_never_seen_is_not_asked(dataset):
    known, samples = learned(dataset, EVERY_KIND["action"])
    names = known.names.series.to_list()
    assert names == ["cart", "purchase", "view"]
    assert samples.answers.tolist() == [
        names.index(dataset.codes["action"][code]) for code in dataset.columns["action"][samples.stop]
    ]
    gone = replace(dataset, codes=dataset.codes | {"action": ["view", "gift", "purchase"]})
    later = samples_of(gone, EVERY_KIND["action"], known, STOP, 50 * DAY, 0, 10)
    assert set(later.answers.tolist()) == {1, 2}


def test_the_next_item_is_that_of_the_next_purchase(dataset):
    _, samples = learned(dataset, EVERY_KIND["next"])
    assert (dataset.item_rows[samples.stop] == samples.items).all()
    assert (dataset.columns["action"][samples.stop] == 2).all()


def test_entities_are_those_of_what_was_taken_and_of_what_others_took(dataset):
    known, samples = learned(dataset, EVERY_KIND["entity"])
    taken = samples.answers == 1
    brands = dataset.item_table["brand"].to_list()
    assert known.names.ids(samples.entities[taken][:50]) == [
        brands[item] for item in dataset.item_rows[samples.stop[taken][:50]]
    ]
    assert 0.3 < taken.mean() < 0.7


def test_new_entities_are_those_that_the_user_never_had(plant):
    dataset = plant(users=80, visits=3)
    known, samples = learned(dataset, EVERY_KIND["new"])
    brands = np.array(dataset.item_table["brand"].to_list())[dataset.item_rows]
    bought = dataset.columns["action"] == 2
    for row in range(len(samples)):
        user, until = samples.users[row], samples.stop[row] + 1 - samples.answers[row]
        begin = dataset.user_offsets[user]
        had = brands[begin:until][bought[begin:until]]
        assert known.names.series[int(samples.entities[row])] not in had
    users = samples.users[samples.answers == 1] * 10 + samples.entities[samples.answers == 1]
    assert len(np.unique(users)) == len(users)


def test_a_history_does_not_tell_by_an_exposure_what_was_taken(dataset):
    """Items are shown and, by the toss of a coin, taken some seconds later."""
    random = np.random.default_rng(0)
    rows, actions = [], []
    for user in range(60):
        for hour in range(40):
            item, taken = int(random.integers(48)), random.random() < 0.5
            rows.append((f"u{user:02}", f"i{item:02}", hour * 3_600_000_000))
            actions.append(0)
            if taken:
                rows.append((f"u{user:02}", f"i{item:02}", hour * 3_600_000_000 + 20_000_000))
                actions.append(1)
    shop = replace(
        Dataset.from_rows(rows, dataset.item_table),
        columns={"action": np.array(actions, np.int32)}, codes={"action": ["impression", "purchase"]},
    )  # fmt: skip
    _, samples = learn(shop, Task("item"), EVER, 30 * DAY, 0, 10)
    some = samples.stop > samples.start
    latest_is_it = shop.item_rows[samples.stop[some] - 1] == samples.items[some]
    told = [latest_is_it[samples.answers[some] == answer].mean() for answer in (0, 1)]
    assert max(told) < 0.1
    assert 0.4 < samples.answers.mean() < 0.6


def test_no_drawn_entity_is_one_that_the_user_took_that_day(dataset):
    known, samples = learned(dataset, EVERY_KIND["entity"])
    brands = known.names.rows(dataset.item_table["brand"])[dataset.item_rows]
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    bought = dataset.columns["action"] == 2
    had = set(zip(owners[bought], brands[bought], dataset.times[bought] // DAY, strict=True))
    drawn = samples.take(np.flatnonzero(samples.answers == 0))
    assert not had & set(zip(drawn.users, drawn.entities, drawn.times // DAY, strict=True))


def test_a_log_with_other_actions_has_the_numbers_that_were_learned(dataset):
    known, samples = learned(dataset, EVERY_KIND["rank"])
    fewer = replace(dataset, codes=dataset.codes | {"action": ["view", "gift", "purchase"]})
    later = samples_of(fewer, EVERY_KIND["rank"], known, STOP, 50 * DAY, 0, 10)
    assert later.numbers.shape[1] == samples.numbers.shape[1]
    gone = list(known.spreads).index("cart 7d")
    assert (later.numbers[:, gone] == 0).all()


def test_questions_about_the_query_or_the_action_are_asked_without_query(dataset):
    for task in (EVERY_KIND["action"], Task("class", column="query")):
        assert (learned(dataset, task)[1].events == -1).all()
    assert (learned(dataset, EVERY_KIND["churn"])[1].events == -1).all()
    item = learned(dataset, EVERY_KIND["item"])[1]
    assert (dataset.columns["action"][item.events] == 2).all()


def test_ranking_numbers_are_the_larger_the_more_is_taken(dataset):
    disliked = dataset.item_table.with_columns(weight=-pl.col("weight"))
    for table in (dataset.item_table, disliked):
        known, samples = learned(replace(dataset, item_table=table), EVERY_KIND["rank"])
        values = samples.numbers[:, list(known.spreads).index("weight")]
        assert values[samples.answers == 1].mean() >= values[samples.answers == 0].mean()
    assert samples.numbers.shape[1] == len(known.spreads) > 5
    weighted = learned(dataset, replace(EVERY_KIND["rank"], gain=3))[1]
    assert set(weighted.weights[weighted.answers == 1].tolist()) == {3}


def test_churn_is_to_buy_nothing_and_spending_is_what_is_paid(dataset):
    _, samples = learned(dataset, EVERY_KIND["churn"])
    known, spent = learned(dataset, EVERY_KIND["spend"])
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    bought = dataset.columns["action"] == 2
    for row in range(0, len(samples), 37):
        moment = samples.times[row]
        mine = (owners == samples.users[row]) & bought & (dataset.times >= moment)
        mine &= dataset.times < moment + 3 * DAY
        assert samples.answers[row] == (not mine.any())
        paid = dataset.columns["price"][mine].sum()
        assert spent.answers[row] == np.searchsorted(known.edges, paid, side="right")


def test_tasks_follow_from_the_data(dataset):
    assert set(tasks_of(dataset)) == {"next", "click", "price", "action", "brand"}
    ordered = replace(dataset, time_kind="order", item_table=dataset.item_table.drop("brand"))
    assert set(tasks_of(ordered)) == {"next", "price", "action"}
    plain = replace(dataset, columns={}, codes={})
    assert set(tasks_of(plain)) == {"next", "click", "brand"}
    renamed = replace(dataset, codes=dataset.codes | {"action": ["view", "cart", "buy"]})
    assert tasks_of(renamed)["next"].action == "view"


@pytest.mark.parametrize(
    ("task", "what"),
    [
        (Task("next", action="gift"), "no event has action 'gift'"),
        (Task("class", column="prize"), "neither events nor catalogue have 'prize'"),
        (Task("entity", column="brnd"), "the catalogue has no 'brnd'"),
        (Task("rank", numbers=("brand",)), "no number 'brand'"),
        (Task("rank", windows=()), "nothing to rank items by"),
        (Task("class", column="query", action="view"), "nothing answers it"),
        (Task("item", action=""), "needs an action"),
        (Task("rank", action="gift"), "no event has action 'gift'"),
    ],
)
def test_what_cannot_be_asked_is_refused(dataset, task, what):
    with pytest.raises(DataError, match=what):
        learned(dataset, task)


def test_a_task_whose_answers_are_all_the_same_is_refused(dataset):
    same = replace(dataset, columns=dataset.columns | {"gender": np.zeros(dataset.num_events, np.int32)})
    with pytest.raises(DataError, match="all have the same answer"):
        learned(same, EVERY_KIND["gender"])


def test_without_actions_none_can_be_asked_for_but_the_purchase(dataset):
    plain = replace(dataset, columns={}, codes={})
    assert len(learned(plain, Task("next"))[1])
    with pytest.raises(DataError, match="no actions, so none is 'gift'"):
        learned(plain, Task("next", action="gift"))


def test_days_need_timestamps(dataset):
    ordered = replace(dataset, time_kind="order")
    for name in ("entity", "churn"):
        with pytest.raises(DataError, match="needs timestamps"):
            learn(ordered, EVERY_KIND[name], EVER, 0, 0, 10)


def test_a_task_has_a_column_if_its_kind_does():
    with pytest.raises(ValidationError, match="needs a column"):
        Task("class")
    with pytest.raises(ValidationError, match="has no column"):
        Task("next", column="price")


def test_ordered_data_is_asked_about_last_events(dataset):
    ordered = replace(dataset, time_kind="order")
    _, samples = learn(ordered, EVERY_KIND["action"], EVER, -3, 0, 10)
    later = samples_of(ordered, EVERY_KIND["next"], learn(ordered, EVERY_KIND["next"], EVER, -3, 0, 10)[0],
                       -3, 0, 0, 10)  # fmt: skip
    assert len(samples) == dataset.num_events - 3 * dataset.num_users
    assert (later.stop >= dataset.user_offsets[later.users + 1] - 3).all()


def test_a_window_with_an_unknown_price_is_not_asked_about(dataset):
    prices = np.array(dataset.columns["price"])
    bought = np.flatnonzero(np.asarray(dataset.columns["action"]) == 2)
    missing = np.random.default_rng(0).choice(bought, len(bought) // 3, replace=False)
    prices[missing] = np.nan
    holed = replace(dataset, columns=dataset.columns | {"price": prices})
    known, whole = learned(dataset, EVERY_KIND["spend"])
    some = samples_of(holed, EVERY_KIND["spend"], known, EVER, STOP, 0, 10)
    assert 0.2 * len(whole) < len(some) < 0.9 * len(whole)
    levels = dict(zip(zip(whole.users, whole.times, strict=True), whole.answers, strict=True))
    asked = zip(some.users, some.times, some.answers, strict=True)
    assert all(levels[user, time] == answer for user, time, answer in asked)


def test_what_is_shown_is_not_what_users_are_asked_to_do(dataset):
    seen = replace(dataset, codes=dataset.codes | {"action": ["impression", "cart", "click"]})
    assert np.bincount(dataset.columns["action"]).argmax() == 0
    assert {tasks_of(seen)[name].action for name in ("next", "click")} <= {"cart", "click"}


def test_entities_that_are_lists_are_refused(dataset):
    table = dataset.item_table.with_columns(tags=pl.concat_list("brand", "category"))
    with pytest.raises(DataError, match="belong to several at once"):
        learned(replace(dataset, item_table=table), Task("entity", column="tags"))
