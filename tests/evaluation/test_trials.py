"""Trials: intervals, pairs of seeds and the users that are counted."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import accuracy_score, roc_auc_score

from polyvec.evaluation import trials
from polyvec.evaluation.classification import accuracy, auc
from polyvec.evaluation.probes import Features, learn_and_score, linear
from polyvec.evaluation.trials import Problem, attempt, seed_interval

SEEDS = (0, 1, 2)
MEASURES = {"accuracy": accuracy, "auc": auc}


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def problem(numbers):
    noise = np.random.default_rng(1).normal(size=400)
    return Problem("profile", "x", np.arange(400), (numbers[:, 0] + noise > 0).astype(np.int64))


@pytest.fixture(scope="module")
def features(numbers):
    probes = {"linear": linear}
    return {"knows": Features(numbers, probes), "blind": Features(numbers[:, 1:], probes)}


@pytest.fixture(scope="module")
def table(features, problem):
    return attempt(features, problem, MEASURES, SEEDS, "blind")


def row(table, features, metric):
    return table.filter(pl.col("features") == features, pl.col("metric") == metric).row(0, named=True)


def test_differences_are_paired_by_seed(table):
    one, other = row(table, "knows", "auc"), row(table, "blind", "auc")
    assert other["difference"] is None
    paired = np.subtract(one["per_seed"], other["per_seed"])
    assert one["difference"] == pytest.approx(paired.mean())
    assert (one["difference_low"], one["difference_high"]) == pytest.approx(seed_interval(paired))
    assert one["difference_low"] > 0


def test_the_value_of_a_seed_is_scikit_learn_s_on_its_test_users(table, numbers, problem):
    for place, seed in enumerate(SEEDS):
        train, test = problem.split(seed)
        scores = learn_and_score(linear(seed), numbers, problem.answers, train, test)
        answers = problem.answers[test]
        for metric, expected in [
            ("auc", roc_auc_score(answers, scores[:, 1])),
            ("accuracy", accuracy_score(answers, scores.argmax(axis=1))),
        ]:
            assert row(table, "knows", metric)["per_seed"][place] == pytest.approx(expected)


def test_values_are_means_of_the_seeds_whose_values_do_not_depend_on_their_company(table, features, problem):
    for one in table.to_dicts():
        assert one["value"] == pytest.approx(np.mean(one["per_seed"]))
        assert one["low"] < one["value"] < one["high"]
        assert one["users_low"] < one["value"] < one["users_high"]
    alone = attempt({"blind": features["blind"]}, problem, MEASURES, SEEDS[1:])
    assert row(alone, "blind", "auc")["per_seed"] == row(table, "blind", "auc")["per_seed"][1:]


def test_one_seed_has_no_interval_over_seeds_but_one_over_users(features, problem):
    one = row(attempt(features, problem, MEASURES, SEEDS[:1], "blind"), "knows", "auc")
    assert one["low"] is None
    assert one["difference"] is not None
    assert one["difference_low"] is None
    assert one["users_low"] < one["value"] < one["users_high"]


def test_runs_of_a_system_take_turns_and_cost_as_much_as_one(features, problem, monkeypatch):
    asked = []
    real = trials.learn_and_score
    monkeypatch.setattr(trials, "learn_and_score", lambda *a: asked.append(1) or real(*a))
    both = {"both": [features["knows"], features["blind"]], "blind": features["blind"]}
    found = row(attempt(both, problem, MEASURES, SEEDS, "blind"), "both", "auc")
    assert len(asked) == 2 * len(SEEDS)
    alone = {
        name: row(attempt({name: one}, problem, MEASURES, SEEDS), name, "auc")["per_seed"]
        for name, one in features.items()
    }
    expected = [alone["knows"][0], alone["blind"][1], alone["knows"][2]]
    assert found["per_seed"] == expected
    assert found["value"] == pytest.approx(np.mean(expected))
    assert found["per_run"] == pytest.approx([(expected[0] + expected[2]) / 2, expected[1]])
    assert found["difference"] == pytest.approx(np.mean(np.subtract(expected, alone["blind"])))
    assert (found["low"], found["high"]) == pytest.approx(seed_interval(np.array(expected)))


def test_intervals_hold_what_differs_from_run_to_run():
    """Where nothing else does: runs take turns in five splits, each with its own value in all of them."""
    runs = np.random.default_rng(0).normal(size=(2000, 5))
    held = {}
    for number in (1, 2, 3, 4, 5):
        ends = np.array([seed_interval(np.resize(values[:number], 5)) for values in runs])
        held[number] = ((ends[:, 0] < 0) & (ends[:, 1] > 0)).mean()
    assert held == pytest.approx({1: 0, 2: 0.75, 3: 0.92, 4: 0.97, 5: 0.99}, abs=0.015)


def test_an_unknown_reference_gives_no_differences(features, problem):
    assert attempt(features, problem, MEASURES, SEEDS[:1], "other")["difference"].null_count() == 4


def test_the_interval_over_seeds_is_student_s_with_the_variance_of_nadeau_and_bengio():
    values = np.array([0.5, 0.52, 0.49, 0.55, 0.51])
    plain = ttest_1samp(values, 0).confidence_interval(0.95)
    widening = np.sqrt((1 / 5 + 3 / 7) * 5)
    half = (plain.high - plain.low) / 2 * widening
    assert seed_interval(values) == pytest.approx((values.mean() - half, values.mean() + half))


def test_splits_hold_classes_in_equal_shares_and_never_share_a_user(problem):
    train, test = problem.split(0)
    assert sorted([*train, *test]) == list(range(400))
    assert len(test) == 120
    assert problem.answers[test].mean() == pytest.approx(problem.answers.mean(), abs=0.01)
    assert not np.array_equal(test, problem.split(1)[1])


def test_fewer_labels_are_a_part_of_more_labels_for_the_same_test_users(problem):
    answers = np.repeat([0, 1, 2], [340, 40, 20])
    splits = [
        replace(problem, answers=answers, train_share=share).split(3) for share in (0.01, 0.1, 0.35, 1.0)
    ]
    for _, test in splits:
        np.testing.assert_array_equal(test, splits[-1][1])
    for (few, _), (more, _) in pairwise(splits):
        assert set(few) < set(more)
    told = [np.bincount(answers[train]).tolist() for train, _ in splits]
    assert told == [[3, 1, 1], [24, 3, 2], [84, 10, 5], [238, 28, 14]]  # rounded up, one at least
    assert not np.array_equal(splits[1][0], replace(problem, answers=answers, train_share=0.1).split(4)[0])


def test_a_share_of_the_labels_is_drawn_where_there_are_many_per_user(problem):
    answers = np.random.default_rng(0).random((400, 5)) < 0.3
    train, test = replace(problem, answers=answers, train_share=0.1).split(0)
    assert len(train) == 28
    assert not set(train) & set(test)


def test_the_table_says_how_many_users_were_learned_from(problem, features, table):
    assert table["train_users"].unique().to_list() == [280]
    few = attempt(features, replace(problem, train_share=0.1), MEASURES, SEEDS, "blind")
    assert few["train_users"].unique().to_list() == [replace(problem, train_share=0.1).split(0)[0].size]
    assert row(few, "knows", "auc")["value"] < row(table, "knows", "auc")["value"]


def test_more_users_than_wanted_are_drawn_from_the_same_every_time(problem, features, monkeypatch):
    monkeypatch.setattr(trials, "MOST_USERS", 100)
    tables = [attempt(features, problem, MEASURES, SEEDS[:1]) for _ in range(2)]
    assert tables[0]["users"].unique().to_list() == [100]
    assert tables[0].equals(tables[1])
    drawn = problem.at_most(100)
    np.testing.assert_array_equal(drawn.answers, problem.answers[drawn.rows])


def test_a_rare_class_is_not_lost_where_users_are_drawn():
    """Of 30 in 5,000 users 0.6 would be among 100 drawn: no class to tell, or one of a single user."""
    answers = (np.random.default_rng(0).permutation(5000) < 30).astype(np.int64)
    drawn = Problem("profile", "x", np.arange(5000), answers).at_most(100)
    assert np.bincount(drawn.answers).tolist() in ([100, 20], [99, 20], [98, 20])
    assert len(set(drawn.rows.tolist())) == len(drawn.rows)
    np.testing.assert_array_equal(drawn.answers, answers[drawn.rows])
    train, test = drawn.split(0)
    assert len(set(answers[drawn.rows[train]])) == len(set(answers[drawn.rows[test]])) == 2


def test_rows_point_into_the_features(numbers, problem):
    order = np.random.default_rng(2).permutation(400)
    shuffled = Problem("profile", "x", np.argsort(order), problem.answers)
    probes = {"linear": linear}
    values = [
        attempt({"f": Features(x, probes)}, one, MEASURES, SEEDS[:1])["value"].to_list()
        for x, one in [(numbers, problem), (numbers[order], shuffled)]
    ]
    assert values[0] == values[1]
