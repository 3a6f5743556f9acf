"""polyvec clusters, as typed, on a planted shop."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from polyvec.cli.main import main

USERS, ITEMS, EACH = 24, 18, 14
KINDS = ("ink", "cup", "hat")
SETTINGS = {
    "width": 4,
    "item_clusters": 3,
    "user_clusters": 3,
    "decay": 0.01,
    "shrinkage": 0,
    "split_every": 15,
    "reassign_every": 5,
    "reassign_at": "all",
    "steps_per_epoch": 120,
    "epochs": 1,
    "learning_rate": 3e-3,
}


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


def fit(shop, name, **changes):
    typed = [word for setting in (SETTINGS | changes).items() for word in ("--set", "{}={}".format(*setting))]
    command = ["fit", "cel", shop / "shop.dataset", "--out", shop / name, "--validation", "none", *typed]
    assert run(*command) == 0
    return shop / name


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Users and items of three kinds; ratings are high where the kinds meet."""
    folder = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    rows = [
        (f"u{user:02}", f"i{item:02}", place, 5.0 if user % 3 == item % 3 else 1.0)
        for user in range(USERS)
        for place, item in enumerate(random.permutation(ITEMS)[:EACH])
    ]
    log, catalogue = folder / "log.parquet", folder / "items.parquet"
    pl.DataFrame(rows, ["user_id", "item_id", "position", "rating"], orient="row").write_parquet(log)
    named = [(f"i{item:02}", f"<{KINDS[item % 3]}> {item}", KINDS[item % 3]) for item in range(ITEMS)]
    pl.DataFrame(named, ["item_id", "title", "category"], orient="row").write_parquet(catalogue)
    command = ["prepare", log, "--order", "position", "--items", catalogue, "--out", folder / "shop.dataset"]
    assert run(*command) == 0
    return folder


@pytest.fixture(scope="module")
def model(shop):
    return fit(shop, "shop.model")


def test_the_trees_typical_items_are_of_the_planted_kinds(shop, model, capsys):
    out = shop / "json"
    assert run("clusters", model, shop / "shop.dataset", "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["page"] == str(out / "clusters.html")
    assert list(told["sides"]) == ["items"]
    clusters, moves = (told["sides"]["items"][part] for part in ("clusters", "moves"))
    assert {one["traits"][0]["trait"] for one in clusters} == set(KINDS)
    for one in clusters:
        kind = one["traits"][0]["trait"]
        assert all(f"<{kind}>" in row["title"] for row in one["typical"])
        assert one["traits"][0]["share"] == 1.0
    assert [(one["born"], one["parent"] is None) for one in clusters] == [
        (None, True),
        (0, False),
        (15, False),
    ]
    assert sum(one["events"] for one in clusters) == USERS * EACH
    assert sum(row["entities"] for row in moves) == ITEMS


def test_clusters_of_users_hold_users_of_one_planted_kind(shop, capsys):
    model = fit(shop, "users.model", user_table="clustered", item_table="full")
    capsys.readouterr()
    assert run("clusters", model, shop / "shop.dataset", "--out", shop / "users", "--json") == 0
    told = json.loads(capsys.readouterr().out)["sides"]
    assert list(told) == ["users"]
    kinds = [{int(row["id"][1:]) % 3 for row in one["typical"]} for one in told["users"]["clusters"]]
    assert sorted(map(list, kinds)) == [[0], [1], [2]]


def test_the_last_line_is_the_path_of_the_page_and_titles_are_escaped(shop, model, capsys):
    out = shop / "page"
    assert run("clusters", model, shop / "shop.dataset", "--out", out, "--typical", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(out / "clusters.html")
    assert any("3 clusters of 18 items" in line for line in lines)
    page = (out / "clusters.html").read_text("utf-8")
    assert "&lt;ink&gt;" in page
    assert "<ink>" not in page
    assert run("clusters", model, shop / "shop.dataset", "--out", out) == 4
    assert "pass --overwrite" in capsys.readouterr().err


def test_a_model_without_clusters_is_refused_and_nothing_is_written(shop, capsys):
    full = fit(shop, "full.model", item_table="full", steps_per_epoch=1)
    capsys.readouterr()
    assert run("clusters", full, shop / "shop.dataset", "--out", shop / "never") == 2
    assert "--set item_table=clustered" in capsys.readouterr().err
    assert not (shop / "never").exists()
