from __future__ import annotations

import numpy as np
import pytest

from polyvec.evaluation.tuned_runs import TunedRuns

VALIDATIONS = {"own": [0.6, 0.8, 0.7], "other": [0.9, 0.1, 0.2]}


def settings_of(_, method):
    return 3, "own" if method == "like own" else method


@pytest.fixture
def runs(tmp_path) -> TunedRuns:
    return TunedRuns(tmp_path / "runs.jsonl", settings_of)


def test_a_run_that_was_cut_off_is_done_again(runs):
    job = ("planted", "own", 0, 0)
    runs.add(job, {"auc": np.float64(2 / 3), "nothing": float("nan")})
    with runs.file.open("a") as stream:
        stream.write('{"set": "planted", "method": "own", "sett')
    assert TunedRuns(runs.file, settings_of).runs == {job: {"auc": 0.66667, "nothing": None}}


def test_a_setting_is_chosen_on_validation_when_all_have_been_tried(runs):
    for number, value in enumerate(VALIDATIONS["own"]):
        assert runs.best("planted", "own") is None
        runs.add(("planted", "own", number, 0), {"validation": value})
    for method in ("own", "like own"):
        assert runs.best("planted", method) == 1
    assert runs.best("planted", "other") is None
    assert runs.best("shop", "own") is None
    assert runs.by_seed("planted", "own") == (1, {0: {"validation": 0.8}})
    assert runs.by_seed("planted", "like own") == (1, {})


def test_all_settings_are_tried_once_and_every_seed_has_the_chosen_one(runs):
    asked = []

    def run(jobs):
        asked.append(jobs)
        for name, method, number, seed in jobs:
            value = VALIDATIONS.get(method, [0.0, 0.0, 1.0])[number]  # of no use: it is tuned as another
            runs.add((name, method, number, seed), {"validation": value if seed == 0 else 1.0})

    runs.train([("planted", "own"), ("planted", "like own"), ("planted", "own")], 2, run)
    tried, chosen = asked
    assert tried == [("planted", "own", number, 0) for number in range(3)]
    assert chosen == [
        ("planted", "like own", 1, 0),
        ("planted", "own", 1, 1),
        ("planted", "like own", 1, 1),
    ]
    asked.clear()
    runs.train([("planted", "own"), ("planted", "other")], 1, run)
    assert asked == [[("planted", "other", number, 0) for number in range(3)], []]
