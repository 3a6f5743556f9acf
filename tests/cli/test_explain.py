"""polyvec fit pgtl, embed --market and explain, as typed, on a small synthetic shop of two countries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from polyvec.cli.main import main
from polyvec.embeddings import Embeddings

SMALL = ["steps_per_epoch=5", "epochs=1", "batch_size=64", "max_pairs=2000", "guard=off", "target_days=20"]


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    size = [
        "--users",
        300,
        "--items",
        400,
        "--events",
        15000,
        "--days",
        120,
        "--countries",
        2,
        "--interests",
        6,
    ]
    assert run("synth", "--out", folder / "tables", *size) == 0
    events, items = folder / "tables" / "events.parquet", folder / "tables" / "items.parquet"
    assert run("prepare", events, "--items", items, "--out", folder / "two.dataset") == 0
    typed = [word for setting in ("source=de", "target=fr", *SMALL) for word in ("--set", setting)]
    assert run("fit", "pgtl", folder / "two.dataset", "--out", folder / "two.model", *typed) == 0
    return folder


def test_fit_says_what_is_related_and_whether_transfer_pays(shop, capsys):
    typed = ["source=de", "target=fr", *SMALL, "guard=fall_back"]
    settings = [word for setting in typed for word in ("--set", setting)]
    assert run("fit", "pgtl", shop / "two.dataset", "--out", shop / "guarded.model", *settings) == 0
    told = capsys.readouterr().out
    assert "best on validation after epoch 1: AUC 0." in told
    assert "in 'de', too (strong relations)" in told
    assert "those that are not similar were exposed and not clicked" in told
    assert " of the target alone" in told.splitlines()[-1]


def test_an_items_prior_knowledge_is_told(shop, capsys):
    item = Embeddings.open(embedded(shop, "target")).items.ids.series[0]
    capsys.readouterr()
    assert run("explain", shop / "two.model", shop / "two.dataset", item) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{item}, ")
    assert "gate 0." in told
    assert "related in the large market: " in told
    assert run("explain", shop / "two.model", shop / "two.dataset", item, "--json") == 0
    found = json.loads(capsys.readouterr().out)["items"][0]
    assert found["item"]["item_id"] == item
    assert set(found["events"]) == {"source", "target"}


def test_gates_are_told_by_category(shop, capsys):
    assert run("explain", shop / "two.model", shop / "two.dataset", "--json") == 0
    found = json.loads(capsys.readouterr().out)["categories"]
    gates = [one["gate"] for one in found]
    assert gates == sorted(gates, reverse=True)
    assert run("explain", shop / "two.model", shop / "two.dataset") == 0
    assert len(capsys.readouterr().out.splitlines()) == len(found)


def embedded(shop: Path, market: str) -> Path:
    folder = shop / f"{market}.emb"
    if not folder.exists():
        assert (
            run("embed", shop / "two.model", shop / "two.dataset", "--out", folder, "--market", market) == 0
        )
    return folder


def test_items_are_embedded_as_those_of_either_market(shop):
    vectors = [Embeddings.open(embedded(shop, market)).items.vectors for market in ("target", "source")]
    assert vectors[0].shape == vectors[1].shape
    assert not np.allclose(*vectors)


def test_a_market_that_is_not_named_and_an_item_that_is_not_there_are_told(shop, capsys):
    assert run("fit", "pgtl", shop / "two.dataset", "--out", shop / "no.model") == 2
    assert "--set source=LARGE --set target=SMALL" in capsys.readouterr().err
    assert run("explain", shop / "two.model", shop / "two.dataset", "nothing") == 2
    assert "'nothing' is not in the catalogue" in capsys.readouterr().err
