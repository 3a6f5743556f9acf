"""Which systems stand on a line over C, and where."""

import polars as pl
import pytest

from polyvec.evaluation.curves import curves, lines, sizes, stem


def costs(*rows):
    return pl.DataFrame(rows, schema=["system", "kind", "C", "D"], orient="row")


def test_systems_of_one_kind_and_width_that_differ_in_c_make_a_line():
    table = costs(
        ("d", "GUIM", 4, 8),
        ("a", "GUIM", 1, 8),
        ("h", "GUIM-MH", 2, 8),
        ("i", "GUIM-MH", 8, 8),
        ("s", "sasrec", 1, 8),
    )
    assert lines(table) == {"GUIM, D = 8": {1: "a", 4: "d"}, "GUIM-MH, D = 8": {2: "h", 8: "i"}}
    assert list(lines(table)["GUIM, D = 8"]) == [1, 4]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("a", "GUIM", 4, 8)],
        [("a", "GUIM", 4, 8), ("b", "GUIM", 4, 8)],
        [("a", "GUIM", 4, 8), ("b", "GUIM", 2, 16)],
        [("a", "GUIM", 4, 8), ("b", "GUIM-MH", 2, 8)],
        [("a", "sasrec", 1, 8), ("b", "sasrec", 1, 16)],
    ],
)
def test_without_two_numbers_of_vectors_there_is_no_line(rows):
    assert lines(costs(*rows)) == {}


def test_single_vectors_stand_at_the_c_that_they_are_as_wide_as():
    table = costs(
        ("g1", "GUIM", 1, 8),
        ("g4", "GUIM", 4, 8),
        ("wide", "GUIM", 1, 32),
        ("odd", "GUIM", 1, 20),
        ("s1", "sasrec", 1, 8),
        ("s2", "sasrec", 1, 16),
    )
    assert lines(table) == {
        "GUIM, D = 8": {1: "g1", 4: "g4"},
        "GUIM, one vector of C · 8": {1: "g1", 4: "wide"},
        "sasrec, one vector of C · 8": {1: "s1", 2: "s2"},
    }


def test_where_two_share_a_place_names_tell_the_lines_apart():
    table = costs(*[(f"{name}-{c}", "GUIM", c, 8) for name in ("paper", "ours") for c in (1, 16)])
    assert lines(table) == {
        "paper, D = 8": {1: "paper-1", 16: "paper-16"},
        "ours, D = 8": {1: "ours-1", 16: "ours-16"},
    }
    assert stem("guim C=4") == "guim C"
    assert stem("16") == "16"


def test_points_are_the_figures_of_every_task_that_knows_them():
    table = costs(("a", "GUIM", 1, 8), ("b", "GUIM", 4, 8))
    rows = [
        {"task": task, "ranker": ranker, "part": part, "metric": metric, "value": value}
        | {"low": 0.0, "high": 1.0, "per_seed": [value]}
        for task, ranker, part, metric, value in [
            ("CMP-L", "b", "all", "recall@100", 0.4),
            ("CMP-L", "a", "all", "recall@100", 0.3),
            ("CMP-L", "a", "new", "recall@100", 0.1),
            ("CMP-L", "a", "all", "ndcg@10", 0.2),
            ("CMP-L", "popularity", "all", "recall@100", 0.2),
            ("CMP-S", "a", "all", "recall@100", 0.5),
            ("CMP-S", "b", "all", "recall@100", None),
        ]
    ]
    found = curves(pl.DataFrame(rows), table)
    assert [(row["task"], row["C"], row["system"], row["value"]) for row in found] == [
        ("CMP-L", 1, "a", 0.3),
        ("CMP-L", 4, "b", 0.4),
        ("CMP-S", 1, "a", 0.5),
    ]
    assert found[0] == {
        "task": "CMP-L", "line": "GUIM, D = 8", "C": 1, "system": "a",
        "value": 0.3, "low": 0.0, "high": 1.0, "per_seed": [0.3],
    }  # fmt: skip


def test_systems_that_tell_their_bytes_stand_with_their_recall_from_the_largest_on():
    costs = pl.DataFrame(
        [("small", 10, 4), ("large", 90, None), ("elsewhere", None, None)],
        schema=["system", "model_bytes", "item_table_bytes"],
        orient="row",
    )
    rows = [
        {"task": "CMP-L", "ranker": ranker, "part": part, "metric": "recall@100", "value": value}
        | {"low": 0.0, "high": 1.0}
        for ranker, part, value in [
            ("small", "all", 0.2),
            ("large", "all", 0.3),
            ("large", "new", 0.1),
            ("elsewhere", "all", 0.4),
            ("popularity", "all", 0.1),
        ]
    ]
    found = sizes(pl.DataFrame(rows), costs)
    assert [(row["system"], row["model_bytes"], row["value"]) for row in found] == [
        ("large", 90, 0.3),
        ("small", 10, 0.2),
    ]
    assert (found[0]["item_table_bytes"], found[1]["item_table_bytes"]) == (None, 4)
