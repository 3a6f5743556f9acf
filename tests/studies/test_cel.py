from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

STUDY = Path(__file__).parents[2] / "studies" / "cel"


@pytest.fixture(scope="module")
def study() -> Iterator[ModuleType]:
    sys.path.insert(0, str(STUDY))
    yield importlib.import_module("run")
    sys.path.remove(str(STUDY))
    for name in ("run", "stream", "clicks"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users and films of two kinds; 1,500 ratings."""
    random = np.random.default_rng(0)
    users, items = random.integers(0, 40, 1500), random.integers(0, 60, 1500)
    file = tmp_path_factory.mktemp("data") / "events.parquet"
    labels = np.where(users % 2 == items % 2, 5.0, 2.0)
    columns = {"user_id": users, "item_id": items, "rating": labels, "timestamp": np.arange(1500)}
    pl.DataFrame(columns).write_parquet(file)
    return file


def test_parts_hold_every_rating_once_and_differ_by_seed(study, ratings):
    first, second = study.part(ratings, 0), study.part(ratings, 1)
    assert [len(one) for one in (first.training, first.validation, first.test)] == [1200, 150, 150]
    assert (first.num_users, first.num_items) == (40, 60)
    assert not np.array_equal(first.test.users, second.test.users)
    pairs = [(one.users, one.items) for one in (first.training, first.validation, first.test)]
    assert sum(int((users * 100 + items).sum()) for users, items in pairs) == sum(
        int((one.users * 100 + one.items).sum()) for one in (second.training, second.validation, second.test)
    )


def test_a_method_is_chosen_on_validation_and_never_better_than_its_best(study, ratings):
    found = study.run_once(ratings, study.VARIANTS["CEL"], 0, quick=True)
    assert found["best"] <= found["chosen"]
    assert found["steps_chosen"] in (50, 100)
    assert sum(count for _, count in found["by_popularity"].values()) == 150
    total = sum(error for error, _ in found["by_popularity"].values())
    assert total / 150 == pytest.approx(found["chosen"], rel=1e-4)


STREAMED = {"CEL-Lite": 100, "full tables": 40 + 60, "modulo hash": 100}


@pytest.mark.parametrize("more", ["", ", rows alone"])
@pytest.mark.parametrize(("name", "rows"), STREAMED.items())
def test_a_stream_is_foretold_before_it_is_learned(study, ratings, name, rows, more):
    found = study.run_method(ratings, name + more, 0, quick=True)
    assert found["rate"] in study.run_stream.__globals__["RATES"]
    assert found["rows"] == rows
    assert 0 < found["last half"] < 6


def test_the_next_films_are_asked_for_after_what_came_before(study, ratings):
    found = study.run_method(ratings, "DIN, clustered", 0, quick=True)
    assert 0 < found["AUC"] < 1
    assert found["epoch"] == 1
    assert found["bytes_items"] > 60


def test_running_means_have_no_rows_and_foretell_no_kinds(study, ratings):
    found = study.run_method(ratings, "running means", 0, quick=True)
    assert found["rows"] == 0
    assert found["last half"] == pytest.approx(1.5**2, rel=0.1)  # of 5 and 2, as often


def test_tables_learn_what_running_means_leave_over(study, ratings):
    """With rows that hardly learn, tables foretell what the means do, and the product of the rows."""
    streams = study.run_stream.__globals__
    entities = 40, 60
    config = streams["LiteConfig"](rate=1e-9)
    tables = streams["Tables"](config, 3.5, entities, entities)
    means, random = streams["RunningMeans"](3.5, entities), np.random.default_rng(0)
    rows = [side.rows.copy() for side in tables._sides]
    for _ in range(20):
        users, items = random.integers(0, 40, 16), random.integers(0, 60, 16)
        labels = random.integers(1, 6, 16).astype(np.float32)
        added = tables.learn(users, items, labels) - means.learn(users, items, labels)
        np.testing.assert_allclose(added, (rows[0][users] * rows[1][items]).sum(axis=1), atol=1e-5)


def test_earlier_records_of_an_entity_are_counted(study):
    earlier = study.run_stream.__globals__["_earlier"]
    assert earlier(np.array([3, 1, 3, 3, 1, 0])).tolist() == [0, 0, 1, 2, 1, 0]


def test_summaries_are_means_over_seeds_with_their_intervals(study):
    runs = [
        {"chosen": value, "by_popularity": {name: [value, 2] for name in study.POPULARITY}}
        for value in (1.0, 3.0)
    ]
    found = study.summarise(dict(zip((1, 4), runs, strict=True)))
    assert found["seeds"] == [1, 4]
    assert found["chosen"]["mean"] == 2
    assert found["chosen"]["half_width"] == pytest.approx(12.7062, abs=1e-3)
    assert found["by_popularity"]["0"] == {"error": 1.0, "ratings": 4}


# --- the page


@pytest.fixture(scope="module")
def page() -> Iterator[ModuleType]:
    sys.path.insert(0, str(STUDY))
    yield importlib.import_module("page")
    sys.path.remove(str(STUDY))
    del sys.modules["page"]


def made(values: list[float], **others: float) -> dict[str, object]:
    """One method of two seeds whose figures are all alike, but for some."""
    keys = ("step 800", "step 2000", "chosen", "best", "last")
    figures = {key: {"mean": float(np.mean(values)), "values": values} for key in keys}
    figures |= {key: {"mean": value, "values": [value] * len(values)} for key, value in others.items()}
    parts = {name: {"error": 1.0, "ratings": 7} for name in ("1–4", "100 and more")}
    return {
        "seeds": list(range(len(values))),
        **figures,
        "bytes_items": {"mean": 100.0, "values": [100.0] * 2},
        "by_popularity": parts,
    }


def test_a_verdict_is_yes_or_no_where_the_interval_of_the_difference_lies_on_one_side_of_the_limit(page):
    split = {"CEL": made([0.865, 0.866]), "full NMF, decay 1": made([0.95, 0.96], best=0.9)}
    least, words = page.verdicts({page.SPLIT: split})[:2]
    assert "err by at most 0.89 at step 2000**: yes. 0.8655" in least
    assert "beat full tables, stopped where the test is best, by 0.02**: yes." in words
    assert "CEL 0.8655, full NMF, decay 1 0.9000; difference -0.0345 ± 0.0064" in words
    split["CEL"] = made([0.84, 0.88])  # better by 0.02 in both seeds, but seeds differ
    assert "**: undecided." in page.verdicts({page.SPLIT: split})[1]
    split["CEL"] = made([0.89, 0.891])  # better, but not by so much
    assert "**: no." in page.verdicts({page.SPLIT: split})[1]
    split["CEL"] = made([0.865])
    split["full NMF, decay 1"] = made([0.95])
    assert "**: undecided." in page.verdicts({page.SPLIT: split})[1]  # one seed has no interval


def test_the_best_full_table_is_the_rival_and_what_was_not_run_has_no_verdict(page):
    split = {
        "CEL": made([0.86, 0.87]),
        "full NMF, decay 1": made([0.95, 0.96]),
        "full NMF, decay 5": made([0.92, 0.91]),
        "modulo hash, 50 items": made([0.97, 0.979]),
    }
    assert page.best_full(split) == "full NMF, decay 5"
    lines = page.verdicts({page.SPLIT: split})
    assert len(lines) == 4
    assert "modulo hash, 50 items: worse than CEL by 0.15**: no." in lines[2]
    text = page.page({page.SPLIT: split}, {})
    assert "| full NMF, decay 5 | 0.9150 |" in text
    assert "One pass" not in text


def over(values: list[float], **others: object) -> dict[str, object]:
    return {"mean": float(np.mean(values)), "values": values, **others}


def test_planted_kinds_are_found_in_eight_runs_of_nine_and_their_number_is_best(page):
    planted = {
        "CEL, 5% seen": {"adjusted_rand": over([1.0, 1.0, 0.9]), "error": over([0.02])},
        "CEL, 10% seen": {"adjusted_rand": over([1.0] * 6), "error": over([0.01])},
        "random split, 5% seen": {"adjusted_rand": over([0.2]), "error": over([0.3])},
        "K = 3": {"adjusted_rand": over([0.5]), "error": over([0.1])},
        "K = 6": {"adjusted_rand": over([1.0]), "error": over([0.011])},
        "K = 20": {"adjusted_rand": over([0.5]), "error": over([0.01])},
    }
    split = {"CEL": made([0.86, 0.87]), "full NMF, decay 1": made([0.95, 0.96])}
    found, number = page.verdicts({page.SPLIT: split, page.PLANTED: planted})[-2:]
    assert "**: yes. 8 of 9 runs, the least 0.900." in found
    assert "**: yes. Error of the 6 that were planted 0.0110, least 0.0100, of 3 0.1000." in number
    planted["K = 6"]["error"] = over([0.013])
    assert "**: no." in page.verdicts({page.SPLIT: split, page.PLANTED: planted})[-1]
    assert "| K = 20 | 0.500 | 0.0100 |" in page.page({page.SPLIT: split, page.PLANTED: planted}, {})


def test_other_ratings_are_judged_by_the_clusters_that_are_best_on_validation(page):
    def method(test: float, validation: float, rare: float) -> dict[str, object]:
        sides = {f"by_{side}": {page.RARE: {"error": rare, "ratings": 12}} for side in ("item", "user")}
        sizes = {"bytes_items": 1000, "bytes_users": 2000, "setting": {"decay": 1, "learning_rate": 1e-5}}
        return {
            "seeds": [0, 1],
            "test": over([test] * 2),
            "validation": over([validation] * 2),
            **sizes,
            **sides,
        }

    methods = {
        "CEL": method(0.9, 0.8, 1.0),
        "CEL, users and items": method(0.8, 0.9, 0.5),
        "modulo hash": method(1.2, 1.2, 1.3),
        "full NMF": method(0.85, 0.85, 1.5),
    }
    beaten, hashed, items, _ = page.elsewhere("somewhere", methods)
    assert (
        "clusters beat full tables**: no. CEL 0.9000, full NMF 0.8500; difference 0.0500 ± 0.0000" in beaten
    )
    assert "**: yes. modulo hash 1.2000, CEL 0.9000" in hashed
    assert "**: yes. CEL 1.000, full NMF 1.500 (12 ratings" in items
    split = {"CEL": made([0.86, 0.87]), "full NMF, decay 1": made([0.95, 0.96])}
    text = page.page({page.SPLIT: split}, {"somewhere": methods})
    assert "| full NMF (decay 1, η 1e-05) | 0.8500 | 0.8500 | 1,000 + 2,000 |" in text


def test_error_stands_against_the_number_of_clusters(page):
    split = {"CEL": made([0.86]), "CEL, K = 5": made([0.9]), "CEL, users and items, K = 5": made([1.0])}
    assert [(count, one["mean"]) for count, one in page._number(split)] == [(5, 0.9), (50, 0.86)]


# --- planted clusters


def test_the_study_of_planted_clusters_finds_them(study):
    planted = importlib.import_module("planted")
    found = planted.run_once(0.3, planted.KINDS, {}, 0, steps=600)
    assert found["adjusted_rand"] > 0.9
    assert planted.run_once(0.3, 3, {}, 0, steps=600)["error"] > 2 * found["error"]
    del sys.modules["planted"]


# --- settings chosen on validation


@pytest.fixture(scope="module")
def chosen(study) -> Iterator[ModuleType]:
    yield importlib.import_module("chosen")
    del sys.modules["chosen"]


def figures(chosen: ModuleType, **changes: object) -> dict[str, object]:
    parts = {name: [2.0, 4] for name in chosen.POPULARITY}
    return {
        "validation": 0.5,
        "test": 0.9,
        "by_item": parts,
        "by_user": parts,
        "bytes_items": 5,
        "bytes_users": 6,
        **changes,
    }


def test_the_setting_of_least_validation_error_is_reported_once_all_have_been_tried(chosen, tmp_path):
    def add(number: int, seed: int, told: dict[str, object]) -> None:
        cell = {"set": "movielens_1m", "method": "full NMF", "setting": number, "seed": seed}
        chosen.add_run(tmp_path / chosen.RUNS, cell | {"figures": told})

    for number in range(len(chosen.METHODS["full NMF"])):
        assert chosen.best_settings(tmp_path) == {}
        told = {"diverged": True} if number == 2 else figures(chosen, validation=abs(number - 2) + 0.5)
        add(number, 0, told)
    assert chosen.best_settings(tmp_path) == {("movielens_1m", "full NMF"): 1}
    add(1, 1, figures(chosen, test=0.7))
    found = chosen.collect(tmp_path)["sets"]["movielens_1m"]["full NMF"]
    assert (found["seeds"], found["setting"]) == ([0, 1], chosen.METHODS["full NMF"][1])
    assert found["test"]["values"] == [0.9, 0.7]
    assert found["by_user"]["1–4"] == {"error": 0.5, "ratings": 8}


def test_settings_chosen_earlier_are_trained_again_and_what_was_not_stays(chosen, tmp_path):
    setting = chosen.METHODS["CEL"][3]
    named = {"CEL": {"seeds": [0], "setting": setting, "test": 1.5}, "modulo hash": {"test": 2.5}}
    named["modulo hash"]["setting"] = chosen.METHODS["modulo hash"][0]
    (tmp_path / chosen.CHOSEN).write_text(json.dumps({"sets": {"movielens_1m": named}}))
    assert chosen.best_settings(tmp_path)["movielens_1m", "CEL"] == 3
    cell = {"set": "movielens_1m", "method": "CEL", "setting": 3, "seed": 2}
    chosen.add_run(tmp_path / chosen.RUNS, cell | {"figures": figures(chosen)})
    found = chosen.collect(tmp_path)["sets"]["movielens_1m"]
    assert (found["CEL"]["seeds"], found["CEL"]["test"]["mean"]) == ([2], 0.9)
    assert found["modulo hash"] == named["modulo hash"]


def test_errors_are_told_by_ratings_of_the_user_and_of_the_item(chosen, ratings):
    found = chosen.run_once(ratings, chosen.METHODS["CEL"][0], 0, quick=True)
    assert found["steps"] in (50, 100)
    for side in ("by_item", "by_user"):
        assert sum(count for _, count in found[side].values()) == 150
        assert sum(error for error, _ in found[side].values()) / 150 == pytest.approx(found["test"], rel=1e-4)
