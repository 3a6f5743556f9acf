from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from polyvec.cli.main import main
from polyvec.cli.synth import command

SMALL = ["--users", "300", "--items", "400", "--events", "12000", "--days", "120", "--seed", "1"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def test_json_is_one_object_that_agrees_with_the_tables(tmp_path: Path) -> None:
    result = invoke("--out", tmp_path / "shop", *SMALL, "--json")
    summary = json.loads(result.stdout)
    events = pl.read_parquet(tmp_path / "shop" / "events.parquet")
    assert summary["events"] == len(events) == sum(summary["actions"].values())
    assert summary["actions"]["purchase"] == len(events.filter(pl.col("action") == "purchase"))
    assert sum(summary["kinds_of_users"].values()) == sum(summary["users_by_interests"].values()) == 300
    users = pl.read_parquet(tmp_path / "shop" / "users.parquet")
    assert summary["parents"] == users["has_child"].sum()
    sold = ["items_sold_from_day_1", "items_sold_later", "items_never_sold"]
    assert sum(summary[name] for name in sold) == summary["items"] == 400


def test_the_oracle_stands_above_what_counting_gets(tmp_path: Path) -> None:
    result = invoke("--out", tmp_path / "shop", *SMALL, "--json")
    recall = json.loads(result.stdout)["recall"]
    assert 0 < recall["popularity"] < recall["bought_before"] < recall["oracle"] < 1


def test_a_person_sees_a_table_with_the_planted_numbers(tmp_path: Path) -> None:
    result = invoke("--out", tmp_path / "shop", *SMALL)
    assert "users by interests" in result.stdout
    assert "113 categories of 24 topics" in " ".join(result.stdout.replace("│", " ").split())
    assert "oracle" in result.stdout


def test_a_log_too_short_to_score_is_made_all_the_same(tmp_path: Path) -> None:
    result = invoke("--out", tmp_path / "shop", *SMALL, "--days", "20", "--json")
    assert json.loads(result.stdout)["recall"] is None


def test_size_medium_sets_the_numbers_that_are_not_given(tmp_path: Path) -> None:
    numbers = ["--size", "medium", "--users", "50", "--events", "2000", "--days", "60"]
    summary = json.loads(invoke("--out", tmp_path / "shop", *numbers, "--json").stdout)
    assert (summary["users"], summary["items"]) == (50, 50_000)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--users", "0"], 2, "error: --users 0 is out of range\n  expected: 1 to 1,000,000,000\n"),
        (["--items", "50"], 2, "error: --items 50 is too few for --interests 24\n  expected: at least 226"),
        (["--users", "many"], 2, "'many' is not a valid integer"),
        (["--size", "huge"], 2, "'huge' is not one of 'small', 'medium'"),
    ],
)
def test_bad_options_are_explained_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["synth", "--out", str(tmp_path / "shop"), *arguments])
    assert stopped.value.code == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_shop_that_stands_there_is_kept_unless_overwrite_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "shop")
    invoke("--out", out, *SMALL)
    before = (tmp_path / "shop" / "events.parquet").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        main(["synth", "--out", out, *SMALL, "--seed", "2"])
    assert stopped.value.code == 4
    assert "pass --overwrite" in capsys.readouterr().err
    assert (tmp_path / "shop" / "events.parquet").read_bytes() == before
    assert invoke("--out", out, *SMALL, "--seed", "2", "--overwrite").exit_code == 0
    assert (tmp_path / "shop" / "events.parquet").read_bytes() != before
