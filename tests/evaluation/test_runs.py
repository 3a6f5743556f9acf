"""Several runs of one method."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from polyvec.evaluation import runs
from polyvec.evaluation.runs import (
    add_run,
    lies_within,
    means_of_runs,
    paired_by_seed,
    read_runs,
    run_study,
    runs_of,
    side_by_side,
    side_of_zero,
    spread,
    verdict,
    write_run,
)


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


def test_several_writers_lose_no_line(tmp_path):
    file = tmp_path / "runs.jsonl"

    def add(writer: int) -> None:
        for number in range(40):
            add_run(file, {"writer": writer, "number": number})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    found = sorted((line["writer"], line["number"]) for line in read_runs(file))
    assert found == [(writer, number) for writer in range(4) for number in range(40)]


def test_runs_are_paired_by_seed():
    found = paired_by_seed({0: 0.5, 2: 0.7, 3: 9.0}, {2: 0.6, 0: 0.45, 1: 9.0})
    assert found["values"] == pytest.approx([0.05, 0.1])


@pytest.mark.parametrize(
    ("low", "high", "told"), [(0.1, 0.3, "yes"), (-0.3, -0.1, "no"), (-0.1, 0.3, "undecided")]
)
def test_a_difference_is_told_by_the_side_its_interval_lies_on(low, high, told):
    assert side_of_zero({"mean": (low + high) / 2, "half_width": (high - low) / 2}) == told


def test_an_interval_lies_between_limits_or_outside_or_holds_one():
    found = {"mean": 0.0, "half_width": 0.01}
    assert lies_within(found, -0.02, 0.02) == "yes"
    assert lies_within(found, -0.02, 0.005) == "undecided"
    assert lies_within(found, 0.02, 0.05) == "no"
    assert lies_within({"mean": 0.0}, -1, 1) == "undecided"


def test_one_run_that_fails_loses_none_that_is_at_work_and_begins_no_other(monkeypatch, capsys):
    monkeypatch.setattr(runs, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    both_run = threading.Barrier(2, timeout=20)
    begun = []

    def work(name: str, seed: int) -> int:
        begun.append(name)
        both_run.wait()
        if name == "bad":
            raise ValueError("the loss is not finite")
        time.sleep(0.2)  # ends after the other has failed
        return seed + 1

    found = []
    with pytest.raises(ValueError, match="not finite"):
        found.extend(side_by_side(work, [("bad", 0), ("good", 1), ("late", 2), ("later", 3)], 2))
    assert begun == ["bad", "good"]
    told = capsys.readouterr().err
    assert "bad, 0: failed; finished runs are kept" in told
    assert "good, 1" in told


def test_runs_are_yielded_with_their_jobs(monkeypatch):
    monkeypatch.setattr(runs, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    assert dict(side_by_side(lambda a, b: a * b, [(2, 3), (4, 5)], 2)) == {(2, 3): 6, (4, 5): 20}


def test_a_study_that_is_stopped_tells_what_it_has(tmp_path):
    out = tmp_path / "out"

    def train(folder, _):
        add_run(folder / "runs.jsonl", {"auc": 0.5})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study("make it", out, train, lambda folder: {"runs": read_runs(folder / "runs.jsonl")})
    told = {"command": "make it", "runs": [{"auc": 0.5}]}
    assert json.loads((out / "results.json").read_text("utf-8")) == told
    assert run_study("make it", out, lambda *_: None, lambda _: {}) == {"command": "make it"}


def test_a_study_without_a_folder_keeps_nothing(tmp_path):
    used = []
    run_study(
        "make it", None, lambda *folders: used.extend(folders), lambda folder: {"here": folder.is_dir()}
    )
    assert not any(folder.exists() for folder in used)
