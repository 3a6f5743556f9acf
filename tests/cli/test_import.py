"""polyvec import, as typed, and what the other verbs make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from polyvec.artifact import writing
from polyvec.cli.main import main
from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.embeddings import Embeddings

USERS, ITEMS = [f"u{user}" for user in range(40)], [f"i{item}" for item in range(8)]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dataset of forty users with six purchases each, an ordered one, vectors of all, and labels."""
    folder = tmp_path_factory.mktemp("shop")
    generator = np.random.default_rng(0)
    for name, kind in [("shop", "timestamp"), ("ordered", "order")]:
        with writing(folder / f"{name}.dataset", "dataset", meta={"columns": [], "time_kind": kind}) as stage:
            pl.DataFrame({"user_id": USERS}).write_parquet(stage / "users.parquet")
            pl.DataFrame({"item_id": ITEMS}).write_parquet(stage / "items.parquet")
            np.save(stage / "user_offsets.npy", np.arange(0, 241, 6))
            np.save(stage / "item.npy", generator.integers(0, 8, 240).astype(np.int32))
            np.save(stage / "time.npy", np.tile(np.arange(1, 121, 20), 40) * DAY)
    np.save(folder / "users.npy", generator.normal(size=(40, 4)).astype(np.float32))
    np.save(folder / "items.npy", generator.normal(size=(8, 4)).astype(np.float32))
    (folder / "users.txt").write_text("\n".join(USERS))
    (folder / "items.txt").write_text("\n".join(ITEMS))
    pl.DataFrame({"user_id": USERS, "likes": [1, 2] * 20}).write_parquet(folder / "people.parquet")
    return folder


def sides(shop: Path, *, items: bool = True) -> list[object]:
    users = ["--users", shop / "users.npy", "--user-ids", shop / "users.txt"]
    return users + (["--items", shop / "items.npy", "--item-ids", shop / "items.txt"] if items else [])


def test_the_making_is_told_in_the_units_of_the_dataset_and_evaluated(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = ["--events-until", "1970-04-11", "--trained-until", "1970-04-10T12:00"]
    told = ["--name", "ALS", *moments, "--dataset", shop / "shop.dataset", "--score", "max_dot"]
    assert run("import", *sides(shop), *told, "--out", tmp_path / "als.emb") == 0
    assert "40 users of 1 vector and 8 items, 4 wide" in capsys.readouterr().out
    made = Embeddings.open(tmp_path / "als.emb")
    assert made.score == "max_dot"
    known = {"system": "ALS", "events_until": 100 * DAY, "trained_until": 99 * DAY + DAY // 2}
    assert made.provenance == known
    arguments = [tmp_path / "als.emb", shop / "shop.dataset", "--out", tmp_path / "report", "--json"]
    assert run("evaluate", *arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["cutoffs"], answer["notes"]) == (["1970-04-11"], [])


def test_json_tells_how_much_of_the_dataset_has_vectors(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pl.DataFrame({"user_id": USERS[:10], "vector": [[1.0, 2.0, 3.0, 4.0]] * 10})
    table.write_parquet(tmp_path / "users.parquet")
    arguments = ["--users", tmp_path / "users.parquet", "--dataset", shop / "shop.dataset"]
    assert run("import", *arguments, "--out", tmp_path / "a.emb", "--json") == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert (answer["users"], answer["items"], answer["C"], answer["D"]) == (10, 0, 1, 4)
    assert answer["dataset"]["user_share"] == 0.25
    assert "30 of the 40 users of the Dataset (75.0%) have no vectors" in captured.err


def test_users_alone_are_asked_for_profiles_and_not_for_items(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "users.emb"
    assert run("import", *sides(shop, items=False), "--out", alone) == 0
    asked: list[Any] = [alone, shop / "shop.dataset", "--cutoff", "1970-04-11", "--out", tmp_path / "report"]
    assert run("evaluate", *asked) == 2
    assert "the embeddings have no items" in capsys.readouterr().err
    assert run("evaluate", *asked, "--profiles", shop / "people.parquet", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["results"] == []
    assert {row["label"] for row in answer["profiles"]} == {"likes"}
    assert answer["notes"][-2:] == [
        "the embeddings have no items",
        "the matching tasks were left out: they need embeddings of items",
    ]
    assert "There was too little to judge by." in (tmp_path / "report" / "report.html").read_text("utf-8")
    for index in ("exact", "faiss"):
        assert run("recommend", alone, "--user", "u1", "--index", index, "--json") == 0
        assert json.loads(capsys.readouterr().out)["users"][0]["items"] == []
    assert run("search", alone, "--item", "i1") == 3


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--events-until", "soon"], 2, "'soon' is not a date"),
        (["--trained-until", "soon"], 2, "'soon' is not a date"),
        (["--dataset", "ordered.dataset", "--events-until", "3"], 2, "until needs timestamps"),
        (["--dataset", "ordered.dataset", "--trained-until", "3"], 2, "until needs timestamps"),
        (["--dataset", "shop.dataset", "--held-back", "1"], 2, "held_back is for data with an order column"),
        (["--dataset", "none.dataset"], 4, "does not exist"),
        (["--score", "sum"], 2, "'sum' is not one of"),
        (["--user-ids", "items.txt"], 3, "8 ids for vectors of shape [40, 4]"),
    ],
)
def test_bad_requests_end_with_a_reason_and_nothing_written(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, text: str
) -> None:
    named = [shop / word if "." in word else word for word in arguments]
    assert run("import", *sides(shop), *named, "--out", tmp_path / "never.emb") == code
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_ordered_data_tell_what_was_held_back(shop: Path, tmp_path: Path) -> None:
    arguments = [
        "--held-back",
        1,
        "--trained-held-back",
        2,
        "--dataset",
        shop / "ordered.dataset",
        "--out",
        tmp_path / "a.emb",
    ]
    assert run("import", *sides(shop), *arguments) == 0
    assert Embeddings.open(tmp_path / "a.emb").provenance == {
        "system": "foreign",
        "held_back": 1,
        "trained_held_back": 2,
    }
    assert run("evaluate", tmp_path / "a.emb", shop / "ordered.dataset", "--out", tmp_path / "report") == 0


def test_an_existing_folder_is_replaced_only_on_request(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["import", *sides(shop), "--out", tmp_path / "a.emb"]
    assert run(*arguments) == 0
    assert run(*arguments) == 4
    assert "pass --overwrite" in capsys.readouterr().err
    assert run(*arguments, "--overwrite") == 0
