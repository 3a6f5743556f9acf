"""What the benchmark's page shows of cold and warm, and of learning curves."""

import polars as pl
import pytest

from polyvec.evaluation.benchmark_sections import cold_and_warm, learning_curves
from polyvec.evaluation.tasks.comparison import SCHEMA as MATCHING
from polyvec.evaluation.trials import SCHEMA as TRIALS

PARTS = {"all": 10, "history 0": 4, "history 1–5": 7, "history 6–20": 3, "history over 20": 0, "item 0": 2}


@pytest.fixture
def matching():
    rows = [
        {"task": "CMP-L", "ranker": ranker, "part": part, "metric": metric, "users": users, "per_seed": seeds}
        | {"value": None if users == 0 else high - 0.01 * users}
        for ranker, high, seeds in [
            ("mine", 0.5, [0.4, 0.6]),
            ("popularity", 0.3, [0.3]),
            ("EASE", 0.4, [0.4]),
        ]
        for part, users in PARTS.items()
        for metric in ("recall@100", "ndcg@10")
    ]
    return pl.DataFrame(rows, schema=MATCHING)


def test_cold_and_warm_shows_the_parts_that_count_somebody(matching):
    made = cold_and_warm(matching, ["mine", "unknown"])
    assert made["columns"] == [
        {"part": "history 0", "users": 4},
        {"part": "history 1–5", "users": 7},
        {"part": "history 6–20", "users": 3},
        {"part": "item 0", "users": 2},
    ]
    assert [(row["ranker"], row["seeds"]) for row in made["rows"]] == [
        ("mine", 2),
        ("popularity", 1),
        ("EASE", 1),
    ]
    assert [cell["value"] for cell in made["rows"][1]["cells"]] == pytest.approx([0.26, 0.23, 0.27, 0.28])
    assert {cell["metric"] for row in made["rows"] for cell in row["cells"]} == {"recall@100"}


def test_one_plot_for_users_and_one_for_items_draws_the_systems_and_the_counters(matching):
    users, items = cold_and_warm(matching, ["mine"])["plots"]
    assert "events of the user" in users
    assert "events of the item" in items
    for plot in (users, items):
        assert "mine" in plot
        assert "popularity" in plot
        assert "EASE" not in plot
        assert "over 20" in plot


def test_learning_curves_have_a_row_for_each_probe_and_a_cell_for_each_number_of_labels():
    rows = [
        {"task": "transfer", "label": "price level", "features": name, "probe": probe, "metric": metric}
        | {"train_users": users, "users": 100, "classes": 7, "value": users / 100}
        for users in (70, 7)  # tables may come in any order
        for name in ("mine", "aggregates")
        for probe in ("linear", "gradient boosting")
        for metric in ("auc", "accuracy")
    ]
    (curve,) = learning_curves(pl.DataFrame(rows, schema=TRIALS))
    assert (curve["label"], curve["users"], curve["classes"]) == ("price level", 100, 7)
    assert curve["train_users"] == [7, 70]
    assert len(curve["rows"]) == 4
    assert all([cell["value"] for cell in row["cells"]] == [0.07, 0.7] for row in curve["rows"])
    assert "aggregates" in curve["plots"][0]


def test_no_trials_make_no_curve():
    assert learning_curves(pl.DataFrame(schema=TRIALS)) == []
