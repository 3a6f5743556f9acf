"""polyvec search, as typed."""

import json

import numpy as np
import pytest

from polyvec.embeddings import Embeddings


@pytest.fixture
def folder(tmp_path):
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1]])
    Embeddings.from_arrays(["u"], vectors[:1], ["007", "7", "ink"], vectors).save(tmp_path / "shop.emb")
    return str(tmp_path / "shop.emb")


def test_neighbours_are_printed_best_first(folder, capsys, run):
    assert run("search", folder, "--item", "007", "-k", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "items nearest to 007" in lines[0]
    assert [line.split()[1] for line in lines[2:]] == ["7", "ink"]


def test_json_is_one_object(folder, capsys, run):
    assert run("search", folder, "--item", "ink", "-k", "1", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["item_id"] == "ink"
    assert [item["item_id"] for item in answer["items"]] == ["7"]
    assert answer["items"][0].keys() == {"rank", "item_id", "item_state", "score"}


def test_an_unknown_item_is_told_without_a_traceback(folder, capsys, run):
    assert run("search", folder, "--item", "inc") == 3
    error = capsys.readouterr().err
    assert error.startswith("error: item_id 'inc' is not among the 3 of these embeddings\n")
    assert "did you mean 'ink'?" in error


def test_a_folder_that_is_not_there(tmp_path, capsys, run):
    assert run("search", tmp_path / "none.emb", "--item", "ink") == 4
    assert "does not exist" in capsys.readouterr().err
