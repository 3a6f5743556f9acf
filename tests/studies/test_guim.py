from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from polyvec.data.dataset import Dataset

STUDY = Path(__file__).parents[2] / "studies" / "guim"
MODULES = ("sets", "recipes", "collect", "page", "run", "times")

RUN = {"part": "table2", "C": 1, "D": 8, "parameters": 10, "train_seconds": 4.0, "epoch_seconds": 2.0}
RUN |= {"epochs": 2, "precision": "float32", "diagnostics": {"wins": [1.0]}}


@pytest.fixture(scope="module")
def study() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(STUDY))
    yield {name: importlib.import_module(name) for name in MODULES}
    sys.path.remove(str(STUDY))
    for name in MODULES:
        del sys.modules[name]


def users_table(values: dict[int, float]) -> pl.DataFrame:
    about = {"task": "CMP-L", "part": "all", "metric": "recall@100", "ranker": "model"}
    table = pl.DataFrame({"user_id": list(values), "value": np.array(list(values.values()), np.float32)})
    return table.select(*[pl.lit(v).alias(k) for k, v in about.items()], pl.all())


def write_run(
    study: dict[str, ModuleType],
    out: Path,
    model: str,
    seed: int,
    values: dict[int, float],
    **figures: object,
) -> None:
    study["collect"].add(out, "ml100k", model, seed, users_table(values), RUN | figures)


def test_differences_are_paired_by_user_whatever_the_order_and_averaged_over_shared_seeds(study, tmp_path):
    write_run(study, tmp_path, "GUIM C=1", 0, {1: 0.1, 2: 0.5})
    write_run(study, tmp_path, "GUIM C=1", 1, {1: 0.2, 2: 0.4})
    write_run(study, tmp_path, "GUIM C=4", 0, {2: 0.7, 1: 0.2})
    write_run(study, tmp_path, "GUIM C=4", 1, {2: 0.4, 1: 0.4})
    write_run(study, tmp_path, "GUIM C=4", 2, {2: 0.9, 1: 0.9})  # no partner: counts in the mean alone

    found = study["collect"].collect(tmp_path)

    (difference,) = found["differences"]
    assert (difference["model"], difference["against"]) == ("GUIM C=4", "GUIM C=1")
    assert difference["seeds"] == [0, 1]
    assert difference["by_seed"] == pytest.approx([0.15, 0.1])
    assert difference["difference"] == pytest.approx(0.125)
    assert difference["relative"] == pytest.approx(0.125 / 0.3, abs=1e-4)
    measures = found["sets"]["ml100k"]["GUIM C=4"]["measures"]
    assert measures["CMP-L recall@100 all"]["values"] == pytest.approx([0.45, 0.4, 0.9])


def test_what_four_vectors_gain_is_told_by_how_much_is_known_of_a_user(study, tmp_path):
    values = {user: 0.1 * user for user in range(6)}
    histories = np.array([1, 2, 2, 5, 9, 30])
    study["collect"].keep_histories(tmp_path, "ml100k", pl.Series(list(values)), histories)
    write_run(study, tmp_path, "GUIM C=1", 0, values)
    write_run(study, tmp_path, "GUIM C=4", 0, {u: v + 0.1 * (histories[u] > 5) for u, v in values.items()})
    study["collect"].keep_histories(tmp_path, "ml100k", pl.Series(list(values)), histories)  # keeps the runs

    found = study["collect"].collect(tmp_path)["by_history"]

    assert [(one["least"], one["most"], one["users"]) for one in found] == [(1, 2, 3), (5, 5, 1), (9, 30, 2)]
    assert [one["difference"] for one in found] == pytest.approx([0, 0, 0.1])
    assert study["collect"].seeds_by_model(tmp_path, "ml100k") == {"GUIM C=1": {0}, "GUIM C=4": {0}}


def test_a_change_is_compared_with_what_it_changes_and_with_one_vector(study, tmp_path):
    for model, part in (("GUIM C=1", "table2"), ("GUIM C=4", "table2"), ("GUIM C=4, α=5", "ablations")):
        write_run(study, tmp_path, model, 0, {1: 0.1, 2: 0.5}, part=part)
    found = {(one["model"], one["against"]) for one in study["collect"].collect(tmp_path)["differences"]}
    assert found == {
        ("GUIM C=4", "GUIM C=1"),
        ("GUIM C=4, α=5", "GUIM C=1"),
        ("GUIM C=4, α=5", "GUIM C=4"),
    }


def test_a_run_that_is_made_again_replaces_the_earlier_one(study, tmp_path):
    write_run(study, tmp_path, "GUIM C=1", 0, {1: 0.1, 2: 0.5})
    write_run(study, tmp_path, "GUIM C=4", 0, {1: 0.9, 2: 0.9})
    write_run(study, tmp_path, "GUIM C=4", 0, {1: 0.2, 2: 0.6})

    found = study["collect"].collect(tmp_path)

    assert found["sets"]["ml100k"]["GUIM C=4"]["seeds"] == [0]
    assert found["differences"][0]["difference"] == pytest.approx(0.1)
    assert found["differences"][0]["users"] == 2


def test_earlier_differences_stand_until_as_many_seeds_have_been_run_again(study, tmp_path):
    for seed in (0, 1):
        write_run(study, tmp_path, "GUIM C=1", seed, {1: 0.1, 2: 0.5})
        write_run(study, tmp_path, "GUIM C=4", seed, {1: 0.2, 2: 0.7})
    about = {"set": "ml100k", "against": "GUIM C=1"}
    gone = about | {"model": "GUIM C=8", "seeds": [0], "difference": 0.3}

    def differences(seeds: list[int]) -> list[float]:
        known = about | {"model": "GUIM C=4", "seeds": seeds, "difference": 0.3}
        (tmp_path / "earlier.json").write_text(json.dumps([gone, known]))
        return [one["difference"] for one in study["collect"].collect(tmp_path)["differences"]]

    assert differences([0, 1]) == [0.3, 0.15]
    assert differences([0, 1, 2]) == [0.3, 0.3]


def test_a_run_whose_users_were_not_kept_is_made_again(study, tmp_path):
    write_run(study, tmp_path, "GUIM C=1", 0, {1: 0.1})
    write_run(study, tmp_path, "GUIM C=1", 1, {1: 0.1})
    users = tmp_path / "users" / "ml100k.parquet"
    pl.read_parquet(users).drop("GUIM C=1/0").write_parquet(users)
    assert study["collect"].seeds_by_model(tmp_path, "ml100k") == {"GUIM C=1": {1}}
    assert study["collect"].seeds_by_model(tmp_path, "beauty") == {}


def test_a_run_without_its_line_does_not_count(study, tmp_path):
    write_run(study, tmp_path, "GUIM C=1", 0, {1: 0.1})
    lines = (tmp_path / "runs.jsonl").read_text()
    write_run(study, tmp_path, "GUIM C=4", 0, {1: 0.1})
    (tmp_path / "runs.jsonl").write_text(lines)

    found = study["collect"].collect(tmp_path)
    assert list(found["sets"]["ml100k"]) == ["GUIM C=1"]
    assert found["differences"] == []


@pytest.mark.parametrize(
    ("low", "high", "by_seed", "verdict"),
    [
        (0.01, 0.03, [0.02, 0.01], "yes"),
        (0.01, 0.03, [0.05, -0.01], "undecided"),
        (-0.01, 0.03, [0.02, 0.01], "undecided"),
        (-0.03, -0.01, [-0.02, -0.01], "no, the opposite"),
        (0.01, 0.03, [0.02], "yes of one seed"),
    ],
)
def test_a_verdict_needs_the_users_and_every_seed(study, low, high, by_seed, verdict):
    assert study["page"]._verdict({"low": low, "high": high, "by_seed": by_seed}) == verdict


def test_heads_and_dead_vectors_are_told_where_they_were_measured(study):
    page = study["page"]

    def models(kind, slope):
        measures = {c: {page.LIST: {"mean": 0.1 + slope * n}} for n, c in enumerate((1, 2, 4))}
        return {
            f"{kind} C={c}": {"C": c, "seeds": [0], "measures": one, "diagnostics": {"wins": [1 / c] * c}}
            for c, one in measures.items()
        }

    results = {"sets": {"shop": models("GUIM", 0.02) | models("GUIM-MH", 0.01)}}
    assert "holds on 1 of 1 sets. shop yes (tokens +0.0200 per doubling" in page._heads(results)
    assert "of 4 of 4 models. Not of: none." in page._dead(results)
    results["sets"]["shop"]["GUIM C=4"]["diagnostics"]["wins"] = [0.4, 0.4, 0.19, 0.01]
    assert "of 3 of 4 models. Not of: shop, GUIM C=4 (0.010 of 0.25)." in page._dead(results)
    del results["sets"]["shop"]["GUIM-MH C=4"]
    assert "not measured yet" in page._heads(results)


def test_the_page_tells_what_is_there_and_what_is_not_yet(study, tmp_path):
    write_run(study, tmp_path, "GUIM C=1", 0, {1: 0.1, 2: 0.3}, profiles={"gender": {"accuracy": 0.75}})
    write_run(study, tmp_path, "GUIM C=4", 0, {1: 0.2, 2: 0.4}, C=4)

    text = study["page"].page(study["collect"].collect(tmp_path))

    assert "a user of 4 vectors beats a user of one (paper: +5.68 %)**: holds on 1 of 1 sets" in text
    assert "4 CLS tokens beat 4 heads (Figures 2, 3)**: not measured yet" in text
    assert "| GUIM C=1 (float32) | 0.2000 | – | – | 0.7500 |" in text


def test_profiles_are_compared_by_seed(study, tmp_path):
    for seed in (0, 1, 2):
        told = {"gender": {"accuracy": 0.6 + seed / 10}, "age": {"accuracy": 0.5}}
        write_run(study, tmp_path, "GUIM C=1", seed, {1: 0.1}, profiles=told)
        told = {"gender": {"accuracy": 0.7 + seed / 10 + seed / 1000}, "age": {"accuracy": 0.45 + seed / 20}}
        write_run(study, tmp_path, "GUIM C=4", seed, {1: 0.1}, profiles=told)

    text = study["page"].page(study["collect"].collect(tmp_path))

    assert (
        "from one (paper: +1 to +6 %)**: holds for 1 of 2 labels. ml100k, gender yes (+14.4%; +0.101" in text
    )
    assert "ml100k, age undecided (+0.0%; +0.000 ± 0.124, seeds: 3)" in text


def test_a_straight_line_over_doublings_needs_three_numbers_of_vectors(study, tmp_path):
    for c, value in ((1, 0.1), (2, 0.2), (4, 0.3)):
        write_run(study, tmp_path, f"GUIM C={c}", 0, {1: value}, C=c)
    for c in (2, 4):
        write_run(study, tmp_path, f"GUIM-MH C={c}", 0, {1: 0.1})
    told = study["page"]._lines(study["collect"].collect(tmp_path))
    assert told.endswith("1 of 1 sets. ml100k yes (+0.1000 per doubling, R² 1.00, C = 1, 2, 4).")


def test_times_are_ratios_to_one_vector_of_models_that_took_turns(study, tmp_path, monkeypatch):
    seconds = {"GUIM C=1": [2.0, 4.0, 8.0], "GUIM C=4": [4.0, 4.0, 24.0], "GUI-EDI C=4": [20.0, 40.0, 80.0]}
    asked = []

    def take(dataset, model, folder):
        asked.append(model)
        return seconds[model].pop(0)

    times = study["times"]
    monkeypatch.setattr(times, "_seconds", take)
    monkeypatch.setattr(times, "MODELS", tuple(seconds))
    monkeypatch.setattr(study["sets"].DataSet, "prepare", lambda *_, **__: None)
    found = times.measured(tmp_path, 3, quick=False)
    assert asked == ["GUIM C=1", "GUIM C=4", "GUI-EDI C=4"] * 3
    assert found["ratios"] == {"GUIM C=1": 1.0, "GUIM C=4": 2.0, "GUI-EDI C=4": 10.0}  # of medians: 1 and 10
    text = study["page"].page({"sets": {}, "differences": [], "by_history": [], "times": found})
    assert "| GUI-EDI | 1.00 | – | – | 10.00 | – | – | – |" in text
    assert "| GUIM-MH | – | – | – | – | – | – | – |" in text
    assert "not of one 4 times as wide**: yes. In times of GUIM C=1's" in text


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


def test_a_study_without_a_folder_for_its_runs_is_refused(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", str(tmp_path)])
    with pytest.raises(SystemExit):
        study["run"].main()
    assert "--out is missing" in capsys.readouterr().err


def test_results_are_written_of_what_was_run_before_and_now(study, tmp_path, monkeypatch, capsys):
    def train(arguments, out, scratch):
        write_run(study, out, "GUIM C=4", 0, {1: 0.3, 2: 0.5})

    write_run(study, tmp_path, "GUIM C=1", 0, {1: 0.1, 2: 0.5})
    monkeypatch.setattr(study["run"], "train", train)
    monkeypatch.setattr(study["run"], "_check_data", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["run.py", str(tmp_path), "--out", str(tmp_path)])
    study["run"].main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told == json.loads((tmp_path / "results.json").read_text())
    assert list(told["sets"]["ml100k"]) == ["GUIM C=1", "GUIM C=4"]
    assert [one["set"] for one in told["differences"]] == ["ml100k"]


def test_what_is_known_of_users_is_kept_for_sets_that_are_complete_too(study, tmp_path, monkeypatch):
    """Five users of 3 … 7 events; the last two of each are foretold."""
    run, sets = study["run"], study["sets"]
    data, out = tmp_path / "data", tmp_path / "out"
    rows = [(f"u{u}", f"i{u}{e % 4}", e) for u in range(5) for e in range(u + 3)]
    folder = data / sets.SETS["beauty"].folder
    folder.mkdir(parents=True)
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "position"], orient="row")
    events.write_parquet(folder / "events.parquet")
    items = events.select("item_id").unique().with_columns(generated_text=pl.lit("a title"))
    items.write_parquet(folder / "items.parquet")
    study["collect"].add(out, "beauty", "GUIM C=1", 0, users_table({"u3": 0.5, "u4": 0.25}), RUN)
    monkeypatch.setattr(run, "run_once", pytest.fail)  # nothing is missing
    asked = argparse.Namespace(
        data=data, quick=False, choose_epochs=False, sets=["beauty"], models=["GUIM C=1"], seeds=1, workers=1
    )
    run.train(asked, out, tmp_path)
    users = pl.read_parquet(study["collect"].users_file(out, "beauty")).sort("user_id")
    assert dict(users.select("user_id", "history").iter_rows()) == {
        "u0": 1,
        "u1": 2,
        "u2": 3,
        "u3": 4,
        "u4": 4,
    }
    assert users["GUIM C=1/0"].to_list() == [None, None, None, 0.5, 0.25]


@pytest.mark.parametrize("script", ["run", "times"])
def test_quick_runs_are_never_kept(study, tmp_path, monkeypatch, capsys, script):
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path), "--quick", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        study[script].main()
    assert "leave out --out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_plot_shows_every_kind_that_was_run_with_the_intervals_of_its_seeds(study, tmp_path):
    for seed in (0, 1):
        write_run(study, tmp_path, "GUIM C=1", seed, {1: 0.1 + seed, 2: 0.3})
        write_run(study, tmp_path, "GUIM C=4", seed, {1: 0.2 + seed, 2: 0.4}, C=4)
    models = study["collect"].collect(tmp_path)["sets"]["ml100k"]

    study["page"]._plot(tmp_path / "ml100k.svg", "ml100k", models)

    text = (tmp_path / "ml100k.svg").read_text("utf-8")
    assert text.startswith("<svg")
    assert ">GUIM<" in text
    assert ">GUIM-MH<" not in text
    points = study["page"]._points("GUIM", models)
    assert [point[0] for point in points] == [1, 4]
    assert all(low < mean < high for _, mean, low, high in points)
