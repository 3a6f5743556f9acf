from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import Dataset
from polyvec.errors import TrainingError

STUDY = Path(__file__).parents[2] / "studies" / "guim"
MODULES = ("sets", "recipes", "collect", "page", "run")


@pytest.fixture(scope="module")
def study() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(STUDY))
    yield {name: importlib.import_module(name) for name in MODULES}
    sys.path.remove(str(STUDY))
    for name in MODULES:
        del sys.modules[name]


def write_run(runs: Path, model: str, seed: int, values: dict[int, float], **figures: object) -> None:
    folder = runs / "ml100k" / model / str(seed)
    folder.mkdir(parents=True)
    about = {"task": "CMP-L", "part": "all", "metric": "recall@100", "ranker": "model"}
    table = pl.DataFrame({"user_id": list(values), "value": np.array(list(values.values()), np.float32)})
    table.select(*[pl.lit(v).alias(k) for k, v in about.items()], pl.all()).write_parquet(
        folder / "users.parquet"
    )
    told = {"part": "table2", "C": 1, "D": 8, "parameters": 10, "train_seconds": 4.0, "epoch_seconds": 2.0}
    told |= {"epochs": 2, "diagnostics": {"wins": [1.0]}}
    (folder / "run.json").write_text(json.dumps(told | figures))


def test_differences_are_paired_by_user_whatever_the_order_and_averaged_over_shared_seeds(study, tmp_path):
    write_run(tmp_path, "GUIM C=1", 0, {1: 0.1, 2: 0.5})
    write_run(tmp_path, "GUIM C=1", 1, {1: 0.2, 2: 0.4})
    write_run(tmp_path, "GUIM C=4", 0, {2: 0.7, 1: 0.2})
    write_run(tmp_path, "GUIM C=4", 1, {2: 0.4, 1: 0.4})
    write_run(tmp_path, "GUIM C=4", 2, {2: 0.9, 1: 0.9})  # no partner: counts in the mean alone

    found = study["collect"].collect(tmp_path)

    (difference,) = found["differences"]
    assert (difference["model"], difference["against"]) == ("GUIM C=4", "GUIM C=1")
    assert difference["seeds"] == [0, 1]
    assert difference["by_seed"] == pytest.approx([0.15, 0.1])
    assert difference["difference"] == pytest.approx(0.125)
    assert difference["relative"] == pytest.approx(0.125 / 0.3, abs=1e-4)
    measures = found["sets"]["ml100k"]["GUIM C=4"]["measures"]
    assert measures["CMP-L recall@100 all"]["values"] == pytest.approx([0.45, 0.4, 0.9])


def test_what_is_collected_again_replaces_its_models_and_leaves_the_others(study, tmp_path):
    write_run(tmp_path, "GUIM C=1", 0, {1: 0.1, 2: 0.5})
    write_run(tmp_path, "GUIM C=4", 0, {2: 0.7, 1: 0.2})
    known, again = study["collect"].collect(tmp_path), study["collect"].merged
    known["sets"]["journey"] = {"GUIM C=1": "kept"}
    known["sets"]["ml100k"]["GUIM C=8"] = "kept"
    known["differences"].append({"set": "ml100k", "model": "GUIM C=8", "against": "GUIM C=1"})
    write_run(tmp_path, "GUIM C=4", 1, {2: 0.7, 1: 0.2})
    found = again(known, study["collect"].collect(tmp_path))
    assert found["sets"]["journey"] == {"GUIM C=1": "kept"}
    assert found["sets"]["ml100k"]["GUIM C=8"] == "kept"
    assert found["sets"]["ml100k"]["GUIM C=4"]["seeds"] == [0, 1]
    assert [one["model"] for one in found["differences"]] == ["GUIM C=8", "GUIM C=4"]


def test_a_run_without_its_last_file_does_not_count(study, tmp_path):
    write_run(tmp_path, "GUIM C=1", 0, {1: 0.1})
    write_run(tmp_path, "GUIM C=4", 0, {1: 0.1})
    (tmp_path / "ml100k" / "GUIM C=4" / "0" / "run.json").unlink()

    assert list(study["collect"].collect(tmp_path)["sets"]["ml100k"]) == ["GUIM C=1"]


@pytest.mark.parametrize(
    ("low", "high", "by_seed", "verdict"),
    [
        (0.01, 0.03, [0.02, 0.01], "yes"),
        (0.01, 0.03, [0.05, -0.01], "undecided"),
        (-0.01, 0.03, [0.02, 0.01], "undecided"),
        (-0.03, -0.01, [-0.02, -0.01], "no, the opposite"),
    ],
)
def test_a_verdict_needs_the_users_and_every_seed(study, low, high, by_seed, verdict):
    assert study["page"]._verdict({"low": low, "high": high, "by_seed": by_seed}) == verdict


def test_the_page_tells_what_is_there_and_what_is_not_yet(study, tmp_path):
    write_run(tmp_path, "GUIM C=1", 0, {1: 0.1, 2: 0.3}, profiles={"gender": {"accuracy": 0.75}})
    write_run(tmp_path, "GUIM C=4", 0, {1: 0.2, 2: 0.4}, C=4)

    text = study["page"].page(study["collect"].collect(tmp_path))

    assert "a user of 4 vectors beats a user of one (paper: +5.68 %)**: holds on 1 of 1 sets" in text
    assert "4 CLS tokens beat 4 heads (Figures 2, 3)**: not measured yet" in text
    assert "| GUIM C=1 | 0.2000 | – | – | 0.7500 |" in text


def test_models_of_table_2_have_the_same_numbers_per_user(study):
    known = study["recipes"].recipes()
    for c in (2, 3, 4):
        guim, edi = known[f"GUIM C={c}"].config, known[f"GUI-EDI C={c}"].config
        assert guim.vectors_per_user * guim.width == edi.vectors_per_user * edi.width == c * 128
        assert known[f"GUIM-MH C={c}"].config.vectors_per_user == c if c != 3 else True


def test_nothing_that_is_asked_for_was_held_before_the_models(study):
    rows = [(user, f"item {place}", place) for user in range(3) for place in range(20 + user)]
    dataset = Dataset.from_rows(rows, time_kind="order")
    chosen = study["sets"].SETS["ml100k"]

    long, following = chosen.questions(dataset)

    held_back = chosen.moment(dataset)["held_back"]
    ends = dataset.user_offsets[1:] - held_back
    assert (long.windows.history_end == ends).all()
    assert (following.windows.history_end == ends).all()
    assert (long.windows.target_end - long.windows.target_start == held_back).all()
    assert (following.windows.target_end - following.windows.target_start == 1).all()


def test_a_missing_file_of_a_set_is_told_before_anything_is_trained(study, tmp_path):
    folder = tmp_path / "movielens_100k"
    folder.mkdir()
    (folder / "events.parquet").touch()
    told = (
        r"movielens_100k/items.parquet does not exist: DATA holds movielens_100k/ with events.parquet, items"
    )
    with pytest.raises(SystemExit, match=told):
        study["run"]._check_data(tmp_path, ["ml100k"])


def test_collecting_needs_a_folder_with_models(study, tmp_path, monkeypatch):
    words = ["run.py", str(tmp_path), "--runs", str(tmp_path / "none"), "--collect"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match=r"none holds no SET/MODEL/SEED/run\.json"):
        study["run"].main()


def test_a_study_without_a_folder_for_its_models_is_refused(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", str(tmp_path)])
    with pytest.raises(SystemExit):
        study["run"].main()
    assert "--runs is missing" in capsys.readouterr().err


def test_a_model_that_fails_is_named(study, tmp_path, monkeypatch, capsys):
    def run_once(data, scratch, runs, name, model, seed, *, quick):
        if model == "GUIM C=4":
            raise TrainingError("the loss is not finite")
        return 0.0

    run = study["run"]
    monkeypatch.setattr(run, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    monkeypatch.setattr(run, "run_once", run_once)
    monkeypatch.setattr(run.DataSet, "prepare", lambda *_, **__: None)
    arguments = argparse.Namespace(data=tmp_path, quick=True, choose_epochs=False, workers=1)
    with pytest.raises(TrainingError):
        run.train(arguments, tmp_path / "runs", tmp_path)
    assert "GUIM C=4, 0: failed; finished models are kept" in capsys.readouterr().err


def test_the_plot_shows_every_kind_that_was_run_with_the_intervals_of_its_seeds(study, tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "GUIM C=1", seed, {1: 0.1 + seed, 2: 0.3})
        write_run(tmp_path, "GUIM C=4", seed, {1: 0.2 + seed, 2: 0.4}, C=4)
    models = study["collect"].collect(tmp_path)["sets"]["ml100k"]

    study["page"]._plot(tmp_path / "ml100k.svg", "ml100k", models)

    text = (tmp_path / "ml100k.svg").read_text("utf-8")
    assert text.startswith("<svg")
    assert ">GUIM<" in text
    assert ">GUIM-MH<" not in text
    points = study["page"]._points("GUIM", models)
    assert [point[0] for point in points] == [1, 4]
    assert all(low < mean < high for _, mean, low, high in points)
