"""The whole path as typed: a synthetic shop, GUIM, and every task of the benchmark, ordered as planted."""

import json
from pathlib import Path

import pytest

from polyvec.cli.main import main
from polyvec.evaluation.baselines import PERSONAL_FREQUENCY

CUTOFF = "2025-01-05"  # 30 days before the log ends
QUICK = [
    "num_cutoffs=3",
    "stride_days=21",
    "epochs=8",
    "width=64",
    "num_layers=1",
    "num_heads=2",
    "target_days=21",
]


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 0


def test_a_shop_goes_from_its_log_to_a_benchmark_ordered_as_planted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, data, model, made = (tmp_path / name for name in ("shop", "dataset", "model", "shop.emb"))
    run("synth", "--out", shop, "--users", 800, "--items", 300, "--events", 32_000)
    run("prepare", shop / "events.parquet", "--items", shop / "items.parquet", "--out", data)
    settings = [word for setting in QUICK for word in ("--set", setting)]
    run("fit", "guim", data, "--until", CUTOFF, "--out", model, *settings)
    run("embed", model, data, "--until", CUTOFF, "--out", made)
    capsys.readouterr()
    asked = [
        "--cutoff",
        CUTOFF,
        "--shop",
        shop,
        "--profiles",
        shop / "users.parquet",
        "--labels",
        "has_child",
    ]
    run("bench", data, "--embeddings", f"GUIM={made}", *asked, "--out", tmp_path / "run", "--json")
    content = json.loads(capsys.readouterr().out)

    assert Path(content["page"]).read_text("utf-8").rstrip().endswith("</html>")
    recall = {
        row["ranker"]: row["value"]
        for row in content["matching"]
        if (row["task"], row["metric"], row["part"]) == ("CMP-L", "recall@50", "all")
    }
    best = max(value for name, value in recall.items() if name != "oracle")
    assert recall["oracle"] > best
    assert recall["GUIM, with habits"] > recall[PERSONAL_FREQUENCY] > recall["popularity"]
    assert recall["GUIM"] > 1.1 * recall["popularity"]
    assert {row["task"] for row in content["trials"]} >= {"profile", "churn", "category propensity"}
    assert content["similarity"]
    told = {(row["task"], row["label"], row["features"]) for row in content["trials"]}
    assert ("profile", "has_child", "GUIM") in told
