from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def leaderboard(repository: Path, load_script: Callable[[str, Path], ModuleType]) -> ModuleType:
    script = repository / "studies" / "leaderboard" / "run.py"
    return load_script("leaderboard", script)


FIGURES = {"value": 0.123456, "low": 0.1, "high": 0.2, "users": 1234, "per_seed": [0.12, 0.126912]}


@pytest.fixture
def content() -> dict[str, Any]:
    """What ``benchmark.json`` holds."""
    matching = [
        {"task": "CMP-L", "ranker": ranker, "part": part, "metric": metric, **FIGURES, "unranked": 0}
        | {"value": value, "per_seed": [value] if ranker == "popularity" else [value, value + 0.001]}
        for ranker, value in (("popularity", 0.1), ("mine", 0.3))
        for metric in ("recall@100", "recall@10", "ndcg@10")
        for part in ("all", "repeats", "new", "history 1–5")
    ]
    trial = {"task": "churn", "label": "churn", "features": "mine", "probe": "linear", "metric": "auc"}
    trial |= {"train_users": 900}
    pair = {"task": "item similarity", "scorer": "mine", "part": "all", "metric": "auc", "items": 9}
    cost = {"system": "mine", "seeds": 2, "C": 4, "D": 8, "bytes_per_user": 128, "bytes_per_item": 32}
    cost |= {"parameters": 12345, "training_seconds": 61.25, "encode_seconds": None, "users_per_second": None}
    return {
        "protocol": {
            "dataset": "/home/me/shop",
            "cutoff": "2011-11-01",
            "history_days": 365.0,
            "target_days": 30.0,
            "seen_removed": False,
            "sasrec_seeds": 0,
            "embeddings": {"mine": ["/home/me/mine.emb"]},
        },
        "notes": ["mine: 3 users have no vectors"],
        "matching": matching,
        "trials": [trial | FIGURES],
        "similarity": [pair | FIGURES],
        "costs": [cost],
        "verdicts": [],
    }


def test_the_committed_page_is_what_the_committed_results_render_to(
    leaderboard: ModuleType, repository: Path
) -> None:
    results = leaderboard.committed()
    assert results
    assert leaderboard.PAGE.read_text("utf-8") == leaderboard.render(results)


def test_no_committed_result_names_a_path_of_the_machine_it_ran_on(leaderboard: ModuleType) -> None:
    for file in leaderboard.RESULTS.glob("*.json"):
        assert not re.search(r'"/|[ =]/\w+/|\.emb\b|\\\\', file.read_text("utf-8")), file.name


def test_a_run_is_trimmed_to_what_the_page_shows(leaderboard: ModuleType, content: dict[str, Any]) -> None:
    result = leaderboard.trim(content, "shop", "Shop", "public", "command")
    assert "/home" not in json.dumps(result)
    assert result["protocol"]["cutoff"] == "2011-11-01"
    shown = [(row["metric"], row["part"]) for row in result["matching"] if row["ranker"] == "mine"]
    assert sorted(shown) == [
        ("ndcg@10", "all"),
        ("recall@100", "all"),
        ("recall@100", "new"),
        ("recall@100", "repeats"),
    ]
    assert result["trials"][0]["value"] == 0.1235
    assert result["trials"][0]["per_seed"] == [0.12, 0.1269]


def test_the_page_orders_rankers_and_shows_intervals_seeds_source_and_command(
    leaderboard: ModuleType, content: dict[str, Any]
) -> None:
    page = leaderboard.render([leaderboard.trim(content, "shop", "My shop", "public data", "make it")])
    mine, popularity = (page.index(f"\n| {name} | 0.") for name in ("**mine**", "popularity"))
    assert mine < popularity
    assert "| **mine** | 0.300 [0.100, 0.200]; 2 seeds 0.300–0.301 |" in page
    assert "| popularity | 0.100 [0.100, 0.200] |" in page
    for text in (
        "## My shop",
        "public data",
        "    make it",
        "1,234 users",
        "Cut-off 2011-11-01",
        "### churn: auc",
    ):
        assert text in page
    assert "* mine: 3 users have no vectors" in page


def test_a_task_asked_with_several_numbers_of_labels_has_a_table_for_each(
    leaderboard: ModuleType, content: dict[str, Any]
) -> None:
    (churn,) = content["trials"]
    price = churn | {"task": "transfer", "label": "price level"}
    content["trials"] += [price | {"train_users": n, "value": n / 1e4} for n in (14, 1010)]
    page = leaderboard.render([leaderboard.trim(content, "shop", "Shop", "public", "command")])
    few, many = (page.index(f"### transfer, price level: auc, {n} labels\n") for n in ("14", "1,010"))
    assert few < page.index("| **mine** | 0.001 [") < many < page.index("| **mine** | 0.101 [")
    assert "### churn: auc\n" in page


def test_costs_are_shown_where_any_system_tells_them(
    leaderboard: ModuleType, content: dict[str, Any]
) -> None:
    content["costs"] += [content["costs"][0] | {"system": "other", "parameters": None}]
    page = leaderboard.render([leaderboard.trim(content, "shop", "Shop", "public", "command")])
    assert "|  | C | D | bytes per user | bytes per item | seeds | parameters | training, s |\n" in page
    assert "| **mine** | 4 | 8 | 128 | 32 | 2 | 12,345 | 61.2 |\n" in page
    assert "| 2 | – | 61.2 |\n" in page


def test_what_the_benchmark_trained_itself_is_not_bold(
    leaderboard: ModuleType, content: dict[str, Any]
) -> None:
    content["costs"] += [content["costs"][0] | {"system": "SASRec"}]
    content["trials"] += [content["trials"][0] | {"features": "SASRec"}]
    content["protocol"]["sasrec_seeds"] = 5
    page = leaderboard.render([leaderboard.trim(content, "shop", "Shop", "public", "command")])
    assert "| SASRec | 0.123 [" in page
    assert "| **mine** | 0.123 [" in page
    assert "SASRec was trained by `polyvec bench --sasrec 5`" in page


def test_a_stale_page_fails_the_check_and_adding_a_run_mends_it(
    leaderboard: ModuleType,
    content: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaderboard, "RESULTS", tmp_path)
    monkeypatch.setattr(leaderboard, "PAGE", tmp_path / "page.md")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "benchmark.json").write_text(json.dumps(content), "utf-8")

    def call(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        leaderboard.main()

    with pytest.raises(SystemExit, match="is stale"):
        call("--check")
    about = ["--name", "shop", "--source", "public", "--command", "make it"]
    call("--add", str(tmp_path / "run"), *about)
    call("--check")
    assert (tmp_path / "shop.json").is_file()
    (tmp_path / "page.md").write_text("changed by hand", "utf-8")
    with pytest.raises(SystemExit, match="is stale"):
        call("--check")
    with pytest.raises(SystemExit, match="RUN_FOLDER is what polyvec bench --out wrote"):
        call("--add", str(tmp_path), *about)
