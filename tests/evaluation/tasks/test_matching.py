"""The matching tasks on a shop that can be counted by hand."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.split import cut
from polyvec.embeddings import Embeddings
from polyvec.errors import DataError
from polyvec.evaluation.baselines.counting import counting_baselines
from polyvec.evaluation.rankers import EmbeddingsRanker
from polyvec.evaluation.tasks.matching import (
    all_questions,
    ask,
    check_no_leak,
    matching,
    newcomer_questions,
    questions,
)

T = 100 * DAY
EVENTS = [
    ("ann", "a", 90, 0), ("ann", "b", 95, 0),
    ("ann", "c", 100, 5), ("ann", "a", 100, 5), ("ann", "d", 110, 0),
    ("bob", "a", 50, 0), ("bob", "b", 120, 0),
    ("cid", "a", 99, 0),                      # no target
    ("dot", "a", 105, 0),                     # no history
    ("eve", "a", 10, 0), ("eve", "b", 101, 0),  # its history is older than the window
    ("fay", "a", 60, 0), ("fay", "e", 131, 0),  # its target is later than the window
]  # fmt: skip


@pytest.fixture
def dataset():
    return Dataset.from_rows([(user, item, day * DAY + hour) for user, item, day, hour in EVENTS])


class Fixed:
    """Gives everybody the same items."""

    def __init__(self, dataset, ids):
        self.rows = dataset.items.rows(ids)

    def rank(self, user_rows, k):
        ranked = np.full((len(user_rows), k), -1)
        ranked[:, : len(self.rows)] = self.rows[:k]
        return ranked


def members(question, sets):
    return [
        sorted(sets.items[start:stop].tolist())
        for start, stop in zip(sets.offsets[:-1], sets.offsets[1:], strict=True)
    ]


def test_users_and_targets_of_the_three_tasks(dataset):
    long, short, following = questions(dataset, T, history_days=60, target_days=30)
    a, b, c, d = dataset.items.rows(["a", "b", "c", "d"]).tolist()
    assert [question.name for question in (long, short, following)] == ["CMP-L", "CMP-S", "CMP-N"]
    assert dataset.users.ids(long.windows.user_rows) == ["ann", "bob"]
    assert members(long, long.targets) == [sorted([a, c, d]), [b]]
    assert members(long, long.history) == [[a, b], [a]]
    assert dataset.users.ids(short.windows.user_rows) == ["ann"]
    assert members(short, short.targets) == [sorted([a, c])]
    assert members(following, following.targets) == [[c], [b]]  # c stands before a in the source
    assert long.without_history == 2  # dot and eve
    events = dict(zip(dataset.items.series, long.item_events, strict=True))
    assert events == {"a": 4, "b": 1, "c": 0, "d": 0, "e": 0}  # cid and fay count, eve is too early


def test_newcomers_are_asked_apart(dataset):
    asked = newcomer_questions(dataset, T, history_days=60, target_days=30)
    assert [question.name for question in asked] == ["CMP-L", "CMP-N"]  # nobody new buys on the first day
    a, b = dataset.items.rows(["a", "b"]).tolist()
    for question in asked:
        assert dataset.users.ids(question.windows.user_rows) == ["dot", "eve"]
        assert members(question, question.targets) == [[a], [b]]
        assert members(question, question.history) == [[], []]
        assert question.without_history == 2


def test_all_questions_are_those_of_known_users_and_of_newcomers_each_as_if_asked_by_itself(dataset):
    when = {"history_days": 60, "target_days": 30}
    apart = [*questions(dataset, T, **when), *newcomer_questions(dataset, T, **when)]
    together = all_questions(dataset, T, **when)
    assert [(one.name, one.newcomers) for one in together] == [(one.name, one.newcomers) for one in apart]
    long = cut(dataset, T, 60, 30)
    tasks = {"CMP-L": long, "CMP-S": cut(dataset, T, 60, 1), "CMP-N": long.first_targets()}
    for one, other in zip(together, apart, strict=True):
        alone = ask(one.name, dataset, tasks[one.name], newcomers=one.newcomers)
        for asked in (other, alone):
            assert one.windows.user_rows.tolist() == asked.windows.user_rows.tolist()
            assert members(one, one.targets) == members(asked, asked.targets)
            assert members(one, one.history) == members(asked, asked.history)
            assert one.item_events.tolist() == asked.item_events.tolist()
            assert one.without_history == asked.without_history


def test_newcomers_can_be_asked_where_nobody_is_known():
    dataset = Dataset.from_rows([("ann", "a", 105 * DAY)])
    assert [question.name for question in newcomer_questions(dataset, T, 60, 30)] == ["CMP-L", "CMP-N"]
    with pytest.raises(DataError, match="no user has both history and targets"):
        all_questions(dataset, T, 60, 30)


def test_repeats_and_new_items_apart(dataset):
    table = matching({"fixed": Fixed(dataset, ["a", "b"])}, dataset, T, 60, 30)
    values = {
        row["part"]: (row["value"], row["users"])
        for row in table.filter(pl.col("task") == "CMP-L", pl.col("metric") == "recall@100").to_dicts()
    }
    assert values["all"] == (pytest.approx((1 / 3 + 1) / 2), 2)
    assert values["repeats"] == (1.0, 1)  # of ann alone: a
    assert values["new"] == (0.5, 2)  # ann finds none of c, d; bob finds b
    assert values["history 1–5"][1] == 2
    assert values["history over 20"] == (None, 0)


def parts_of(table, ranker, metric="recall@100", task="CMP-L"):
    asked = table.filter(pl.col("task") == task, pl.col("metric") == metric, pl.col("ranker") == ranker)
    return {row["part"]: (row["value"], row["users"]) for row in asked.to_dicts()}


def test_cold_and_warm_items_and_users_apart(dataset):
    table = matching({"fixed": Fixed(dataset, ["a"])}, dataset, T, 60, 30)
    values = parts_of(table, "fixed")
    assert values["item 0"] == (0.0, 1)  # ann's c and d
    assert values["item 1–5"] == (0.5, 2)  # ann's a, not bob's b
    assert values["item 6–20"] == values["item over 20"] == (None, 0)
    assert values["history 0"] == (0.5, 2)  # dot's a, not eve's b
    assert values["all"][1] == 2


def test_items_belong_to_the_range_of_their_events_in_all_histories():
    events = {"n00": 0, "n01": 1, "n05": 5, "n06": 6, "n20": 20, "n21": 21}
    history = [("filler", item, (50 + n) * DAY) for item, count in events.items() for n in range(count)]
    targets = [("ann", item, 101 * DAY) for item in events]
    later = [("bob", "n00", 102 * DAY)] * 30  # what is bought after the cut-off warms no item
    dataset = Dataset.from_rows([("ann", "x", 99 * DAY), *history, *targets, *later])
    table = matching({"fixed": Fixed(dataset, ["n00", "n05", "n06", "n20"])}, dataset, T, 60, 30)
    values = parts_of(table, "fixed")
    assert [values[part][0] for part in ("item 0", "item 1–5", "item 6–20", "item over 20")] == [1, 0.5, 1, 0]


def test_newcomers_move_no_other_figure(dataset):
    """Intervals too: their draws depend on the number of users."""
    known = [event for event in EVENTS if event[0] not in ("dot", "eve")]
    rows = [(user, item, day * DAY + hour) for user, item, day, hour in known]
    without = Dataset.from_rows(rows, dataset.item_table)
    tables = [
        matching({"fixed": Fixed(one, ["a", "b"])}, one, T, 60, 30)
        .filter(pl.col("part") != "history 0")
        .drop("without_history")
        for one in (dataset, without)
    ]
    assert tables[0].equals(tables[1])
    assert "history 0" not in matching({"fixed": Fixed(without, ["a"])}, without, T, 60, 30)["part"]


def test_every_part_is_measured_once_and_coverage_of_users_with_history(dataset):
    table = matching({"fixed": Fixed(dataset, ["a", "b"])}, dataset, T, 60, 30)
    assert max(Counter(table.select("task", "part", "metric").rows()).values()) == 1
    assert table.filter(pl.col("metric") == "coverage@100")["users"].to_list() == [2, 1, 2]


def test_vectors_rank_items_and_users_without_events_and_counters_do_not(dataset):
    users, items = dataset.users.series, dataset.items.series
    directions = np.eye(5)
    wanted = {"ann": "c", "bob": "b", "dot": "a", "eve": "b"}
    vectors = [directions[items.to_list().index(wanted.get(user, "a"))] for user in users]
    embeddings = Embeddings.from_arrays(users, np.array(vectors), items, directions)
    rankers = {"vectors": EmbeddingsRanker(embeddings, dataset), **counting_baselines(dataset, T, 60)}
    table = matching(rankers, dataset, T, 60, 30)
    assert parts_of(table, "vectors", "ndcg@10", "CMP-N")["item 0"] == (1.0, 1)
    assert parts_of(table, "vectors", "ndcg@10", "CMP-N")["history 0"] == (1.0, 2)
    assert (
        parts_of(table, "popularity")["item 0"] == parts_of(table, "personal frequency")["item 0"] == (0.0, 1)
    )
    assert parts_of(table, "popularity")["history 0"] == (1.0, 2)


def test_the_table_says_who_was_left_out(dataset):
    rankers = {"fixed": Fixed(dataset, ["a"]), "silent": Fixed(dataset, [])}
    table = matching(rankers, dataset, T, 60, 30).filter(pl.col("task") == "CMP-L")
    assert table["without_history"].unique().to_list() == [2]
    unranked = dict(table.select("ranker", "unranked").unique().iter_rows())
    assert unranked == {"fixed": 0, "silent": 2}
    assert table["cutoff"].unique().to_list() == ["1970-04-11"]


def test_differences_are_taken_from_the_reference(dataset):
    rankers = {"one": Fixed(dataset, ["b"]), "other": Fixed(dataset, ["a"])}
    table = matching(rankers, dataset, T, 60, 30, reference="other")
    rows = {
        row["ranker"]: row
        for row in table.filter(
            pl.col("task") == "CMP-L", pl.col("part") == "all", pl.col("metric") == "recall@10"
        ).to_dicts()
    }
    assert rows["one"]["difference"] == pytest.approx(0.5 - 1 / 6)
    assert rows["one"]["difference_low"] <= rows["one"]["difference"] <= rows["one"]["difference_high"]
    assert rows["other"]["difference"] is None


def test_coverage_is_of_all_items(dataset):
    table = matching({"fixed": Fixed(dataset, ["a", "b"])}, dataset, T, 60, 30)
    row = table.filter(pl.col("metric") == "coverage@100", pl.col("task") == "CMP-L")
    assert row["value"].to_list() == [2 / dataset.num_items]


def test_a_cutoff_outside_the_data_is_refused(dataset):
    with pytest.raises(DataError) as caught:
        matching({}, dataset, 5 * DAY)
    assert str(caught.value) == (
        "no user has both history and targets around 1970-01-06\n"
        "  expected: a cut-off inside the data, which runs from 1970-01-11 to 1970-05-12\n"
        "  mend: choose another cut-off: --cutoff"
    )


def test_data_without_timestamps_is_refused():
    ordered = Dataset.from_rows([("u", "a", 1), ("u", "b", 2)], time_kind="order")
    with pytest.raises(DataError, match="needs timestamps"):
        matching({}, ordered, 2)


def embeddings(**provenance):
    return Embeddings.from_arrays(["u"], np.ones((1, 2)), ["a"], np.ones((1, 2)), provenance=provenance)


def test_embeddings_of_the_past_pass(dataset):
    assert check_no_leak(embeddings(events_until=T, trained_until=T - 1), dataset, T) == []


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("events_until", "users were encoded from events until 1970-04-12"),
        ("trained_until", "the model was trained on events until 1970-04-12"),
    ],
)
def test_a_leak_is_refused_with_a_way_to_mend_it(dataset, key, text):
    past = {"events_until": T, "trained_until": T}
    with pytest.raises(DataError) as caught:
        check_no_leak(embeddings(**past | {key: T + DAY}), dataset, T)
    assert str(caught.value).startswith(f"{text}\n  expected: nothing at or after the cut-off 1970-04-11")
    assert "--until 1970-04-11" in str(caught.value)


def test_foreign_vectors_are_noted(dataset):
    notes = check_no_leak(embeddings(system="foreign"), dataset, T)
    assert len(notes) == 2
    assert all(note.startswith("cannot be checked") for note in notes)
