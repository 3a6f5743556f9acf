"""polyvec fit saml and score, as typed, on a small synthetic shop of several countries."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

SMALL = [
    "hidden=16,8",
    "epochs=1",
    "batch_size=256",
    "max_length=10",
    "global_width=4",
    "specific_width=2",
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory, run) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    size = ["--users", 300, "--items", 400, "--events", 15000, "--days", 120, "--countries", 2]
    assert run("synth", "--out", folder / "tables", *size) == 0
    events, items = folder / "tables" / "events.parquet", folder / "tables" / "items.parquet"
    assert run("prepare", events, "--items", items, "--out", folder / "shop.dataset") == 0
    until = (pl.read_parquet(events)["timestamp"].max() - timedelta(days=20)).date().isoformat()
    typed = [word for setting in SMALL for word in ("--set", setting)]
    assert (
        run("fit", "saml", folder / "shop.dataset", "--out", folder / "shop.saml", "--until", until, *typed)
        == 0
    )
    return folder


def test_offers_after_the_training_are_scored_and_measured(shop, capsys, run):
    out = shop / "scores.parquet"
    assert run("score", shop / "shop.saml", shop / "shop.dataset", "--out", out) == 0
    told = capsys.readouterr().out
    assert "auc" in told
    assert "de" in told
    scores = pl.read_parquet(out)
    assert scores.columns == ["user_id", "item_id", "scenario", "time", "label", "score"]
    assert scores["score"].is_between(0, 1).all()
    assert run("score", shop / "shop.saml", shop / "shop.dataset", "--out", out) == 4
    assert "--overwrite" in capsys.readouterr().err
    typed = ["--overwrite", "--json", "--since", "2000-01-01"]
    assert run("score", shop / "shop.saml", shop / "shop.dataset", "--out", out, *typed) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] > len(scores)
    assert set(found["by_scenario"]) == {"de", "fr"}
    assert found["by_scenario"]["de"]["samples"] > 100


def test_offers_that_the_model_has_learned_from_are_no_test_and_said_so(shop, capsys, run):
    typed = ["--since", "2024-01-01", "--out", shop / "known.parquet"]
    assert run("score", shop / "shop.saml", shop / "shop.dataset", *typed) == 0
    assert "offers are of the time that the model has learned from" in capsys.readouterr().err


def test_a_page_shows_measures_whether_chances_are_true_and_who_resembles_whom(shop, capsys, run):
    out, page = shop / "shown.parquet", shop / "shown.html"
    typed = ["--out", out, "--report", page]
    assert run("score", shop / "shop.saml", shop / "shop.dataset", *typed) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text("utf-8")
    assert text.count("<svg") == 2
    assert all(words in text for words in ('<td class="text">de</td>', "Who resembles whom", "GAUC"))
    assert not any(words in text for words in ("<script", "<link", "src="))  # stands by itself
    assert run("score", shop / "shop.saml", shop / "shop.dataset", *typed) == 4
    pairs = shop / "few.csv"
    pairs.write_text("scenario,user_id,item_id\nde,a,b\n")
    typed = ["--overwrite", "--pairs", pairs]
    assert (
        run("score", shop / "shop.saml", shop / "shop.dataset", "--out", out, "--report", page, *typed) == 2
    )
    assert "--report" in capsys.readouterr().err


def test_a_country_is_added_to_a_ranker_of_others(shop, capsys, run):
    small = [word for setting in SMALL for word in ("--set", setting)]
    one, two = shop / "one.saml", shop / "two.saml"
    assert run("fit", "saml", shop / "shop.dataset", "--out", one, "--set", "scenarios=de", *small) == 0
    typed = ["--scenario", "fr", "--out", two]
    assert run("extend", one, shop / "shop.dataset", *typed) == 0
    assert "fr began as de" in capsys.readouterr().out
    assert run("extend", one, shop / "shop.dataset", *typed) == 4
    assert run("extend", two, shop / "shop.dataset", *typed, "--overwrite") == 2
    assert "has learned scenario 'fr' already" in capsys.readouterr().err


def test_pairs_are_scored_in_the_order_of_the_file(shop, capsys, run):
    pairs, out = shop / "pairs.csv", shop / "answers.parquet"
    pairs.write_text("scenario,user_id,item_id\nde,u0000001,i0000002\nfr,nobody,i0000001\n")
    assert run("score", shop / "shop.saml", shop / "shop.dataset", "--pairs", pairs, "--out", out) == 0
    assert pl.read_parquet(out)["user_id"].to_list() == ["u0000001", "nobody"]
    assert "2 scores" in capsys.readouterr().out
    typed = ["--pairs", pairs, "--since", "2024-01-01", "--out", shop / "other.parquet"]
    assert run("score", shop / "shop.saml", shop / "shop.dataset", *typed) == 2
    assert "--since" in capsys.readouterr().err


def test_what_is_wrong_with_a_file_of_pairs_is_said_and_nothing_written(shop, capsys, run):
    pairs, out = shop / "bad.csv", shop / "bad.parquet"
    pairs.write_text("scenario,user_id,item_id\nde,a,b\nxx,a,b\n")
    assert run("score", shop / "shop.saml", shop / "shop.dataset", "--pairs", pairs, "--out", out) == 3
    told = capsys.readouterr().err
    assert f"{pairs}, column scenario, row 2" in told
    assert "'xx'" in told
    assert not out.exists()


def test_fit_says_that_it_makes_scores(shop, capsys, run):
    typed = [word for setting in SMALL for word in ("--set", setting)]
    out = shop / "again.saml"
    assert run("fit", "saml", shop / "shop.dataset", "--out", out, "--set", "method=mixed", *typed) == 0
    assert "saml, scores in 2 scenarios" in capsys.readouterr().out
    small = ["--budget", "1KB", "--set", "item_table=hash", "--set", "item_rows=50"]
    assert run("plan", "saml", shop / "shop.dataset", *small, *typed) == 2
    assert "is too little" in capsys.readouterr().err
    assert run("embed", out, shop / "shop.dataset", "--out", shop / "x.emb", "--scenario", "de") == 2
    assert "polyvec score" in capsys.readouterr().err


def test_vectors_of_a_scenario_are_written_and_how_well_they_follow_the_ranker_is_said(shop, capsys, run):
    out = shop / "de.emb"
    assert run("embed", shop / "shop.saml", shop / "shop.dataset", "--out", out) == 2
    assert "pass --scenario" in capsys.readouterr().err
    assert run("embed", shop / "shop.saml", shop / "shop.dataset", "--out", out, "--scenario", "de") == 0
    assert "R² = " in capsys.readouterr().out
    assert run("recommend", out, "--user", "u0000001", "--dataset", shop / "shop.dataset", "-k", 3) == 0
