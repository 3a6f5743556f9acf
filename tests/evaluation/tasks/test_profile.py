"""Profile probes on labels that are, and are not, in the vectors."""

import numpy as np
import polars as pl
import pytest

from polyvec.errors import DataError
from polyvec.evaluation.probes import Features, linear, of_vectors
from polyvec.evaluation.tasks.profile import label_column, profile


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(600, 2, 5)).astype(np.float32)


def value(table, probe, metric):
    return table.filter(pl.col("probe") == probe, pl.col("metric") == metric).row(0, named=True)


def test_a_label_in_the_vectors_is_found_beyond_the_majority(vectors):
    labels = pl.Series("has_child", vectors[:, 1, 3] + vectors[:, 0, 0] > 0.3)
    table = profile({"vectors": of_vectors(vectors)}, labels, seeds=(0, 1))
    assert value(table, "linear", "accuracy")["value"] > 0.93
    assert value(table, "3-layer network", "auc")["value"] > 0.93
    majority = value(table, "majority class", "accuracy")
    assert majority["value"] == pytest.approx(max(labels.mean(), 1 - labels.mean()), abs=0.02)
    assert value(table, "majority class", "auc")["value"] == 0.5
    assert majority["users"] == 600
    assert majority["classes"] == 2


def test_the_network_finds_what_no_line_can(vectors):
    labels = pl.Series("corner", (vectors[:, 0, 0] > 0) ^ (vectors[:, 0, 1] > 0))
    sure = np.concatenate([vectors[:, 0, :2]] * 5)
    features = {"vectors": of_vectors(sure[:, None, :])}
    table = profile(features, pl.concat([labels] * 5), seeds=(0,))
    assert value(table, "3-layer network", "auc")["value"] > 0.9
    assert value(table, "linear", "auc")["value"] < 0.65


def test_several_classes_with_gaps_and_users_without_a_label(vectors):
    ages = np.digitize(vectors[:, 0, 0], [-0.5, 0.5]) * 3
    labels = pl.Series("age_group", ages.tolist()[:500] + [None] * 100)
    table = profile({"vectors": Features(vectors[:, 0], {"linear": linear})}, labels, seeds=(0, 1, 2))
    row = value(table, "linear", "auc")
    assert row["users"] == 500
    assert row["classes"] == 3
    assert row["low"] <= row["value"] <= row["high"]
    assert row["value"] > 0.8


def test_the_same_seeds_give_the_same_values(vectors):
    labels = pl.Series("x", vectors[:, 0, 0] > 0)
    first, again = (profile({"v": of_vectors(vectors)}, labels, seeds=(3,)) for _ in range(2))
    assert first.equals(again)


def test_a_label_with_one_class_is_refused(vectors):
    labels = pl.Series("x", ["yes"] * 590 + ["no"] * 10)
    with pytest.raises(DataError, match="1 classes have at least 20 users with vectors"):
        profile({"v": of_vectors(vectors)}, labels)


def test_labels_join_by_id_whatever_its_type():
    profiles = pl.DataFrame({"user_id": ["2", "1"], "gender": ["f", "m"]})
    assert label_column(profiles, "gender", pl.Series([1, 2, 3])).to_list() == ["m", "f", None]


def test_a_missing_label_names_the_nearest():
    with pytest.raises(DataError, match="no column gendre") as caught:
        label_column(pl.DataFrame({"user_id": [1], "gender": ["f"]}), "gendre", pl.Series([1]))
    assert caught.value.expected == "did you mean 'gender'?"


def test_two_profiles_of_one_user_are_refused():
    with pytest.raises(DataError, match="two profiles"):
        label_column(pl.DataFrame({"user_id": [1, 1], "x": [1, 2]}), "x", pl.Series([1]))
