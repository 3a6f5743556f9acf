"""polyvec evaluate, as typed, from folders on disk."""

import json

import numpy as np
import polars as pl
import pytest

from polyvec.artifact import writing
from polyvec.cli.main import main
from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.embeddings import Embeddings

USERS, ITEMS = [f"u{user}" for user in range(30)], [f"i{item}" for item in range(12)]


def write_dataset(path):
    """Thirty users of six purchases each, one every twenty days."""
    generator = np.random.default_rng(0)
    with writing(path, "dataset", meta={"columns": [], "time_kind": "timestamp"}) as stage:
        pl.DataFrame({"user_id": USERS}).write_parquet(stage / "users.parquet")
        pl.DataFrame({"item_id": ITEMS}).write_parquet(stage / "items.parquet")
        np.save(stage / "user_offsets.npy", np.arange(0, 181, 6))
        np.save(stage / "item.npy", generator.integers(0, 12, 180).astype(np.int32))
        np.save(stage / "time.npy", np.tile(np.arange(1, 121, 20), 30) * DAY)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_dataset(folder / "shop.dataset")
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(30, 2, 4)), generator.normal(size=(12, 4))
    known = {"events_until": 100 * DAY, "trained_until": 100 * DAY}
    Embeddings.from_arrays(USERS, vectors[0], ITEMS, vectors[1], provenance=known).save(folder / "shop.emb")
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


def test_the_last_line_is_the_path_of_the_page(shop, capsys):
    assert run("evaluate", shop / "shop.emb", shop / "shop.dataset", "--out", shop / "report") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(shop / "report" / "report.html")
    assert any("personal frequency" in line for line in lines)
    assert run("evaluate", shop / "shop.emb", shop / "shop.dataset", "--out", shop / "report") == 4
    assert "pass --overwrite" in capsys.readouterr().err


def test_json_is_one_object(shop, capsys):
    out = shop / "json report"
    arguments = [shop / "shop.emb", shop / "shop.dataset", "--cutoff", "1970-04-11", "--out", out, "--json"]
    assert run("evaluate", *arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cutoffs"] == ["1970-04-11"]
    assert told["report"] == str(out / "report.html")
    assert {row["task"] for row in told["results"]} == {"CMP-L", "CMP-S", "CMP-N"}


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--cutoff", "soon"], 2, "'soon' is not a date"),
        (["--cutoff", "1970-03-01"], 3, "expected: nothing at or after the cut-off 1970-03-01"),
        (["--cutoff", "1999-01-01"], 3, "no user has both history and targets around 1999-01-01"),
        (["--profiles", "/none.parquet"], 3, "/none.parquet does not exist"),
        (["--profiles", __file__], 3, "is of an unknown kind"),
        (["--shop", "/none"], 4, "/none does not exist"),
        (["--model", "/none"], 4, "/none does not exist"),
    ],
)
def test_bad_requests_end_with_a_reason_and_no_report(shop, capsys, arguments, code, text):
    out = shop / "never"
    assert run("evaluate", shop / "shop.emb", shop / "shop.dataset", "--out", out, *arguments) == code
    assert text in capsys.readouterr().err
    assert not out.exists()


def test_a_label_that_is_not_there_names_the_nearest(shop, capsys):
    file = shop / "people.parquet"
    pl.DataFrame({"user_id": USERS, "has_child": [True, False] * 15}).write_parquet(file)
    arguments = ["--profiles", file, "--labels", "has_chidl", "--out", shop / "never"]
    assert run("evaluate", shop / "shop.emb", shop / "shop.dataset", *arguments) == 3
    assert "did you mean 'has_child'?" in capsys.readouterr().err
