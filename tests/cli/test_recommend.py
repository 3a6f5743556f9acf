"""polyvec recommend, as typed."""

import json

import numpy as np
import polars as pl
import pytest

from polyvec.cli.recommend import with_titles
from polyvec.embeddings import Embeddings


@pytest.fixture
def folder(tmp_path):
    users = np.array([[[1, 0], [0, 1]], [[-1, 0], [-1, 0]]])
    items = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]])
    Embeddings.from_arrays([17, 18], users, ["pen", "ink", "nib", "cup"], items).save(tmp_path / "shop.emb")
    return tmp_path / "shop.emb"


def test_the_answer_tells_item_score_vector_and_state(folder, capsys, run):
    assert run("recommend", folder, "--user", "17", "-k", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "user 17 (unknown)"
    assert lines[1].split() == ["rank", "item_id", "item_state", "score", "vector"]
    assert [line.split() for line in lines[2:]] == [
        ["1", "pen", "unknown", "1.0000", "0"],
        ["2", "nib", "unknown", "1.0000", "1"],
    ]


@pytest.mark.parametrize("index", ["exact", "faiss"])
def test_json_has_every_user_asked_for(folder, capsys, index, run):
    assert run("recommend", folder, "--user", 18, "--user", 17, "-k", 1, "--index", index, "--json") == 0
    users = json.loads(capsys.readouterr().out)["users"]
    assert [user["user_id"] for user in users] == [18, 17]
    assert [user["items"][0]["item_id"] for user in users] == ["cup", "pen"]


def test_answers_go_to_a_parquet_file(folder, tmp_path, capsys, run):
    (tmp_path / "users.txt").write_text("17\n18\n")
    (tmp_path / "allow.txt").write_text("ink\ncup\n")
    out = tmp_path / "recommendations.parquet"
    arguments = ["--users", tmp_path / "users.txt", "--allow", tmp_path / "allow.txt", "--out", out]
    assert run("recommend", folder, *arguments) == 0
    assert capsys.readouterr().out == ""
    assert pl.read_parquet(out)["item_id"].to_list() == ["ink", "cup", "cup", "ink"]
    assert not out.with_name(".recommendations.parquet.partial").exists()


def test_answers_go_to_a_csv_file_and_replace_none_unasked(folder, tmp_path, capsys, run):
    (tmp_path / "users.csv").write_text("user_id\n17\n")
    (tmp_path / "allow.txt").write_text("ink\nzz\n")
    out = tmp_path / "found.csv"
    asked = [
        "recommend",
        folder,
        "--users",
        tmp_path / "users.csv",
        "--allow",
        tmp_path / "allow.txt",
        "--out",
        out,
    ]
    assert run(*asked) == 0
    assert "note: 1 of 2 allowed ids have no vector" in capsys.readouterr().err
    assert pl.read_csv(out)["item_id"].to_list() == ["ink"]
    assert run(*asked) == 4
    assert f"{out} exists already" in capsys.readouterr().err
    assert run(*asked, "--overwrite") == 0


def test_filters_that_leave_nothing_say_so(folder, tmp_path, capsys, run):
    (tmp_path / "allow.txt").write_text("")
    assert run("recommend", folder, "--user", "17", "--allow", tmp_path / "allow.txt") == 0
    assert "the filters leave none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--user", "99"], 3, "user_id 99 is not among the 2 of these embeddings"),
        (["--user", "017"], 3, "'017' is not a user_id of this data"),
        ([], 2, "no user is asked for"),
        (["--user", "17", "-k", "0"], 2, "k is 0"),
        (["--user", "17", "--not-seen"], 2, "need a Dataset"),
        (["--users", "/none.txt"], 2, "/none.txt does not exist"),
        (["--user", "17", "--index", "magic"], 2, "magic"),
    ],
)
def test_bad_requests_end_with_a_reason_and_a_code(folder, capsys, arguments, code, text, run):
    assert run("recommend", folder, *arguments) == code
    assert text in capsys.readouterr().err


def test_titles_join_even_where_id_types_differ():
    answers = pl.DataFrame({"item_id": [1, 2], "score": [0.5, 0.4]})
    catalogue = pl.DataFrame({"item_id": ["2", "1"], "title": ["two", "one"]})
    assert with_titles(answers, catalogue)["title"].to_list() == ["one", "two"]


def test_a_catalogue_without_titles_changes_nothing():
    answers = pl.DataFrame({"item_id": [1]})
    assert with_titles(answers, pl.DataFrame({"item_id": [1]})).columns == ["item_id"]
