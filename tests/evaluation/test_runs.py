"""Several runs of one method."""

import json

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from polyvec.evaluation.runs import add_run, means_of_runs, read_runs, runs_of, spread, verdict, write_run


def test_a_method_by_itself_is_one_run():
    assert list(runs_of("one")) == ["one"]
    assert list(runs_of(["one", "two"])) == ["one", "two"]


def test_runs_take_turns():
    assert means_of_runs([1.0, 10.0, 3.0, 20.0, 5.0], 2) == [3.0, 15.0]
    assert means_of_runs(np.array([1.0, 2.0]), 1) == [1.5]
    assert means_of_runs([1.0, 2.0], 3) == [1.0, 2.0]


def test_the_spread_is_half_of_student_s_interval():
    values = [0.5, 0.52, 0.49]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert spread(values) == pytest.approx((expected.high - expected.low) / 2)
    assert spread([0.5]) is None
    assert spread([]) is None


def test_a_claim_holds_in_all_runs_in_none_or_is_undecided():
    assert verdict([True, True]) == "yes"
    assert verdict([False, False]) == "no"
    assert verdict([True, False]) == "undecided"


def test_what_a_run_found_is_whole_or_absent(tmp_path):
    file = tmp_path / "new" / "GUIM C=4, D=32.json"
    write_run(file, {"auc": np.float32(0.5)})
    assert json.loads(file.read_text()) == {"auc": 0.5}
    with pytest.raises((TypeError, ValueError)):
        write_run(file, {"auc": object()})
    assert json.loads(file.read_text()) == {"auc": 0.5}
    assert list(file.parent.iterdir()) == [file]


def test_a_line_that_was_cut_off_is_none_and_the_next_stands_in_its_place(tmp_path):
    file = tmp_path / "runs.jsonl"
    assert read_runs(file) == []
    add_run(
        file, {"auc": np.float64(2 / 3), "curve": [[1, 0.1234567]], "nothing": float("nan"), "set": "planté"}
    )
    first = {"auc": 0.66667, "curve": [[1, 0.12346]], "nothing": None, "set": "planté"}
    for unfinished in ('{"auc": 0.', '{"auc": 1}'):
        with file.open("a") as stream:
            stream.write(unfinished)
        assert read_runs(file)[:1] == [first]
        assert {"auc": 1} not in read_runs(file)
        add_run(file, {"auc": 2})
    assert read_runs(file) == [first, {"auc": 2}, {"auc": 2}]
