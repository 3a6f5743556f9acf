"""Files of ids."""

import polars as pl
import pytest

from polyvec.errors import DataError, UsageError
from polyvec.ids import Vocabulary
from polyvec.retrieval.id_lists import read_ids

NUMBERS = Vocabulary([7, 8], "user_id")
TEXTS = Vocabulary(["007", "b"], "user_id")


def test_lines_keep_order_and_lose_blanks_and_repetitions(tmp_path):
    file = tmp_path / "ids.txt"
    file.write_text("\ufeffb\n\n007 \nb\n", "utf-8")
    assert read_ids(file, TEXTS) == ["b", "007"]


def test_numbers_are_parsed_exactly(tmp_path):
    file = tmp_path / "ids.txt"
    file.write_text("8\n007\n", "utf-8")
    with pytest.raises(DataError) as caught:
        read_ids(file, NUMBERS)
    assert "'007' is not a user_id" in str(caught.value)
    assert f"{file}, column user_id, row 2" in str(caught.value)


def test_parquet_gives_its_column(tmp_path):
    file = tmp_path / "ids.parquet"
    pl.DataFrame({"user_id": [8, None, 7, 8]}).write_parquet(file)
    assert read_ids(file, NUMBERS) == [8, 7]


def test_a_parquet_file_without_the_column_names_the_nearest(tmp_path):
    file = tmp_path / "ids.parquet"
    pl.DataFrame({"userid": [8]}).write_parquet(file)
    with pytest.raises(DataError, match="no column user_id") as caught:
        read_ids(file, NUMBERS)
    assert caught.value.expected == "did you mean 'userid'?"


def test_something_else_called_parquet_is_an_error(tmp_path):
    file = tmp_path / "ids.parquet"
    file.write_text("u1")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_ids(file, TEXTS)


def test_bytes_that_are_not_text_are_an_error(tmp_path):
    file = tmp_path / "ids.txt"
    file.write_bytes(b"\xff\xfe\x00b")
    with pytest.raises(DataError, match="not UTF-8"):
        read_ids(file, TEXTS)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        read_ids(tmp_path / "none.txt", TEXTS)
