"""Behaviour prediction on a shop whose users' habits are planted."""

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.errors import DataError
from polyvec.evaluation.probes import LABEL_PROBES, Features
from polyvec.evaluation.tasks.behaviour import Asked, behaviour, questions

T = 100 * DAY
USERS, CATEGORIES = 400, 4


def shop(seed=0, churning=0.5, categories=True):
    """Events, who churns, and what each user likes: a category of its own, bought before and after T."""
    generator = np.random.default_rng(seed)
    churns = generator.random(USERS) < churning
    likes = generator.integers(0, CATEGORIES, USERS)
    rows = []
    for user in range(USERS):
        for _ in range(3):
            item = 5 * likes[user] + generator.integers(0, 5)
            rows.append((f"u{user:03d}", f"i{item:02d}", int(generator.integers(1, 100)) * DAY))
            if not churns[user]:
                rows.append((f"u{user:03d}", f"i{item:02d}", int(generator.integers(100, 130)) * DAY))
    items = pl.DataFrame({"item_id": [f"i{item:02d}" for item in range(5 * CATEGORIES)]})
    names = [None if item == 19 else f"c{item // 5}" for item in range(5 * CATEGORIES)]
    if categories:
        items = items.with_columns(category=pl.Series(names))
    return Dataset.from_rows(rows, items), churns, likes


@pytest.fixture(scope="module")
def planted():
    dataset, churns, likes = shop()
    generator = np.random.default_rng(1)
    knows = np.column_stack([churns, np.eye(CATEGORIES)[likes]]) + generator.normal(size=(USERS, 5)) * 0.3
    noise = generator.normal(size=(USERS, 5))
    features = {"knows": Features(knows.astype(np.float32)), "noise": Features(noise.astype(np.float32))}
    return dataset, churns, likes, behaviour(features, questions(dataset, T), (0, 1, 2), "noise")


def test_what_was_planted_is_found_and_noise_scores_one_half(planted):
    _, _, _, table = planted
    assert table["task"].unique(maintain_order=True).to_list() == [
        "churn", "category propensity", "item propensity",
    ]  # fmt: skip
    assert table["metric"].unique().to_list() == ["auc"]
    for row in table.to_dicts():
        if row["features"] == "knows":
            assert row["value"] > (0.9 if row["task"] == "churn" else 0.75), row
            assert row["difference_low"] > 0.1, row
        else:
            assert row["value"] == pytest.approx(0.5, abs=0.08), row
            assert row["difference"] is None


def test_churn_is_asked_of_every_probe_and_labels_of_those_that_take_many(planted):
    _, _, _, table = planted
    probes = table.group_by("task").agg(pl.col("probe").unique().sort())
    asked = dict(probes.iter_rows())
    assert asked["churn"] == ["3-layer network", "gradient boosting", "linear"]
    assert asked["category propensity"] == asked["item propensity"] == sorted(LABEL_PROBES)


def test_the_table_says_how_many_users_and_labels(planted):
    dataset, _, _, table = planted
    rows = {row["task"]: row for row in table.to_dicts()}
    assert rows["churn"]["users"] == dataset.num_users
    assert rows["churn"]["classes"] == 2
    assert rows["category propensity"]["label"] == "4 categories"
    assert rows["category propensity"]["classes"] == 4


def test_answers_by_plain_python():
    dataset, _, _ = shop(seed=3)
    churn, categories, items = questions(dataset, T).problems
    category_of = dict(dataset.item_table.select("item_id", "category").iter_rows())
    before, after = {}, {}
    owners = np.repeat(np.arange(USERS), np.diff(dataset.user_offsets))
    for user, item, time in zip(owners, dataset.item_rows, dataset.times, strict=True):
        sets = before if time < T else after
        sets.setdefault(user, set()).add(dataset.items.ids([item])[0])
    assert churn.answers.tolist() == [int(user not in after) for user in range(USERS)]
    buyers = {name: sum(name in {category_of[i] for i in bought} for bought in before.values())
              for name in ("c0", "c1", "c2", "c3")}  # fmt: skip
    ranked = sorted(buyers, key=lambda name: -buyers[name])
    expected = [
        [name in {category_of[i] for i in after.get(user, ())} for name in ranked] for user in range(USERS)
    ]
    assert categories.answers.tolist() == expected
    assert items.answers.shape[1] == sum(
        sum(item in bought for bought in after.values()) >= 20 for item in category_of
    )


def test_only_users_with_history_are_asked_and_rows_follow_the_features():
    dataset, churns, _ = shop()
    newcomers = [(f"v{user}", "i00", 110 * DAY) for user in range(30)]
    rows = [*rows_of(dataset), *newcomers]
    larger = Dataset.from_rows(rows, dataset.item_table)
    order = np.random.default_rng(0).permutation(larger.num_users)[:300]
    churn = questions(larger, T, user_rows=order).problems[0]
    assert len(churn.rows) == (order < USERS).sum()
    np.testing.assert_array_equal(churn.answers, churns[order[churn.rows]])


def rows_of(dataset):
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    users, items = dataset.users.ids(owners), dataset.items.ids(dataset.item_rows)
    return list(zip(users, items, dataset.times.tolist(), strict=True))


def test_the_target_window_alone_decides_the_answers():
    """A leak check: history moved within its window changes no answer; targets change no question."""
    dataset, _, _ = shop()
    asked = questions(dataset, T).problems
    earlier = [
        (user, item, time if time >= T else max(DAY, time - 3 * DAY)) for user, item, time in rows_of(dataset)
    ]
    for one, other in zip(
        asked, questions(Dataset.from_rows(earlier, dataset.item_table), T).problems, strict=True
    ):
        np.testing.assert_array_equal(one.answers, other.answers)
        np.testing.assert_array_equal(one.rows, other.rows)
    halved = [row for row in rows_of(dataset) if row[2] < T or int(row[0][1:]) % 2]
    others = questions(Dataset.from_rows(halved, dataset.item_table), T).problems
    for one, other in zip(asked[:2], others[:2], strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        assert (one.answers != other.answers).any()
    assert not (others[1].answers & ~asked[1].answers).any()


def test_events_after_the_target_window_are_not_looked_at():
    dataset, _, _ = shop()
    later = [*rows_of(dataset), *((f"u{user:03d}", "i00", 131 * DAY) for user in range(USERS))]
    asked, others = (
        questions(one, T).problems for one in (dataset, Dataset.from_rows(later, dataset.item_table))
    )
    for one, other in zip(asked, others, strict=True):
        np.testing.assert_array_equal(one.answers, other.answers)


def with_actions(dataset, clicks):
    """Let some events be clicks and the others purchases."""
    codes = {"action": ["purchase", "click"]}
    return Dataset(**(vars_of(dataset) | {"columns": {"action": clicks.astype(np.int32)}, "codes": codes}))


def vars_of(dataset):
    names = ("users", "items", "item_table", "user_offsets", "item_rows", "times", "time_kind")
    return {name: getattr(dataset, name) for name in names}


def test_clicks_make_history_and_only_buyers_can_churn():
    """As in the challenge: who never bought has nothing to leave."""
    dataset, churns, _ = shop()
    buys = np.arange(USERS) % 4 > 0  # the others click before T
    owners = np.repeat(np.arange(USERS), np.diff(dataset.user_offsets))
    asked = questions(with_actions(dataset, (dataset.times < T) & ~buys[owners]), T).problems
    assert [problem.task for problem in asked] == ["churn", "category propensity", "item propensity"]
    np.testing.assert_array_equal(asked[0].rows, np.flatnonzero(buys))
    np.testing.assert_array_equal(asked[0].answers, churns[buys])
    assert len(asked[1].rows) == len(asked[2].rows) == USERS
    only_clicks_after = with_actions(dataset, dataset.times >= T)
    assert "churn was not asked: 400 of 400 users buy nothing" in questions(only_clicks_after, T).notes[0]


def test_no_categories_are_noted_and_items_still_asked():
    dataset, _, _ = shop(categories=False)
    asked = questions(dataset, T)
    assert [problem.task for problem in asked.problems] == ["churn", "item propensity"]
    assert asked.notes == ["category propensity was not asked: the catalogue has no categories"]
    empty = Dataset.from_rows(
        rows_of(dataset), dataset.item_table.with_columns(category=pl.lit(None, pl.String))
    )
    assert questions(empty, T).notes == asked.notes


@pytest.mark.parametrize(
    ("churning", "text"), [(-1, "0 of 400 users buy nothing"), (2, "400 of 400 users buy nothing")]
)
def test_nobody_or_everybody_churns(churning, text):
    dataset, _, _ = shop(churning=churning)
    asked = questions(dataset, T)
    assert asked.notes[0].startswith(f"churn was not asked: {text} in the target window")
    if churning == 2:
        assert asked.problems == []
        assert asked.notes[1].startswith("category propensity was not asked: no categories that users bought")
        assert behaviour({}, asked).is_empty()


def test_a_cutoff_before_all_events_is_refused():
    dataset, _, _ = shop()
    with pytest.raises(DataError) as caught:
        questions(dataset, DAY)
    assert str(caught.value).startswith("no user has events before 1970-01-02 in the history window")
    assert "--cutoff" in str(caught.value)


def test_data_without_timestamps_is_refused():
    ordered = Dataset.from_rows([("u", "a", 1), ("u", "b", 2)], time_kind="order")
    with pytest.raises(DataError, match="needs timestamps"):
        questions(ordered, 2)


def test_at_most_a_hundred_items_are_asked_about():
    rows = [(f"u{user:02d}", f"i{item:03d}", day * DAY) for user in range(60) for item in range(130)
            for day in (50, 110) if day == 50 or (user + item) % 2]  # fmt: skip
    dataset = Dataset.from_rows(rows)
    problem = questions(dataset, T).problems[0]
    assert problem.task == "item propensity"
    assert problem.answers.shape == (60, 100)
    table = behaviour({"one": Features(np.ones((60, 1), np.float32))}, Asked([problem], []), (0,))
    # the same features need not give the same score to the last bit: a BLAS sums the edge of a block apart
    assert table["value"].to_list() == pytest.approx([0.5, 0.5], abs=0.05)
