from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from polyvec.data import csv_file, read
from polyvec.data.read import open_tables, read_whole
from polyvec.data.table import Table
from polyvec.errors import DataError


def everything(table: Table, columns: list[str] | None = None) -> tuple[pl.DataFrame, list[int], list[Any]]:
    """All rows, their numbers, and what could not be cut into fields."""
    chunks = list(table.chunks(columns or list(table.schema)))
    malformed = [tuple(bad) for chunk in chunks for bad in chunk.malformed]
    frames = pl.concat([chunk.frame for chunk in chunks])
    return frames, np.concatenate([chunk.rows for chunk in chunks]).tolist(), malformed


def csv_of(folder: Path, content: str | bytes, name: str = "t.csv", **options: Any) -> Table:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return open_tables(folder / name, **options)[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_guessed_from_the_header(tmp_path: Path, delimiter: str) -> None:
    table = csv_of(tmp_path, "a,b\n1,2\n".replace(",", delimiter))
    assert everything(table)[0].rows() == [("1", "2")]


def test_a_told_delimiter_is_used(tmp_path: Path) -> None:
    table = csv_of(tmp_path, "a:b,c\n1:2,3\n", delimiter=":")
    assert everything(table)[0].to_dict(as_series=False) == {"a": ["1"], "b,c": ["2,3"]}


def test_a_told_encoding_is_used(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-16", "utf-8-sig"):
        table = csv_of(tmp_path, "naïve,b\nzoë,2\n".encode(encoding), encoding=encoding)
        assert everything(table)[0].rows(named=True) == [{"naïve": "zoë", "b": "2"}]


def test_only_the_empty_text_is_missing(tmp_path: Path) -> None:
    table = csv_of(tmp_path, 'a,b\n,NA\n"",null\nnan,None\n')
    assert everything(table)[0].rows() == [(None, "NA"), (None, "null"), ("nan", "None")]


def test_quoted_fields_hold_delimiters_quotes_and_line_ends(tmp_path: Path) -> None:
    table = csv_of(tmp_path, 'a,b\r\n"1,5","5"" screen"\r\n"two\nlines",x\r\n')
    assert everything(table)[0].rows() == [("1,5", '5" screen'), ("two\nlines", "x")]


def test_rows_keep_their_numbers_around_malformed_ones_in_any_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", 200)
    bad = {1, 40, 41, 199, 200}
    lines = [f"x{n}" if n in bad else f"{n},row {n}" for n in range(1, 201)]
    frame, rows, malformed = everything(csv_of(tmp_path, "\n".join(["n,text", *lines])))
    assert rows == [n for n in range(1, 201) if n not in bad]
    assert frame["n"].to_list() == [str(n) for n in rows]
    assert malformed == [(n, f"x{n}") for n in sorted(bad)]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    frame, rows, malformed = everything(csv_of(tmp_path, "a,b\n1,2\n\n3,4\n\n"))
    assert (frame["a"].to_list(), rows, malformed) == (["1", "3"], [1, 2], [])


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    assert everything(csv_of(tmp_path, "a,b,c\n1,2,3\n"), ["c", "a"])[0].rows() == [("3", "1")]


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    content = gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n")
    assert everything(csv_of(tmp_path, content, "t.csv.gz"))[0]["a"].to_list() == ["1", "3"]


def test_files_of_a_glob_come_by_name_and_folders_below_count(tmp_path: Path) -> None:
    for name in ("b/2.csv", "a/3.csv", "1.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
    found = [
        Path(table.name).relative_to(tmp_path).as_posix() for table in open_tables(f"{tmp_path}/**/*.csv")
    ]
    assert found == ["1.csv", "a/3.csv", "b/2.csv"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    assert csv_of(tmp_path, "a\n1\n", "events[1].csv").name.endswith("events[1].csv")


def test_row_numbers_run_through_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "CHUNK_ROWS", 3)
    frame = pl.DataFrame({"a": range(8)})
    frame.write_parquet(tmp_path / "t.parquet")
    for source in (tmp_path / "t.parquet", frame, frame.to_pandas(), frame.to_arrow()):
        table = open_tables(source)[0]
        assert table.rows == 8
        assert [len(chunk.frame) for chunk in table.chunks(["a"])] == [3, 3, 2]
        assert everything(table)[1] == list(range(1, 9))


def test_types_of_the_source_are_kept(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": pl.Series([1], dtype=pl.Int16), "b": ["x"], "c": [[1.5]]})
    frame.write_ipc(tmp_path / "t.arrow")
    assert open_tables(tmp_path / "t.arrow")[0].schema == dict(frame.schema)
    assert not open_tables(tmp_path / "t.arrow")[0].is_text
    assert csv_of(tmp_path, "a,b\n1,2\n").schema == {"a": pl.String, "b": pl.String}


def test_a_small_table_is_read_whole_from_any_format(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["007", "7"], "child": ["yes", None]})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(tmp_path / "t.csv")
    for source in (frame, tmp_path / "t.parquet", tmp_path / "t.csv"):
        assert read_whole(source).equals(frame)
    assert read_whole(frame.clear()).equals(frame.clear())


def test_a_row_of_a_small_table_that_cannot_be_cut_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user_id,child\n1,yes\n2,no,maybe\n")
    with pytest.raises(DataError, match="a row has not as many fields as the header: '2,no,maybe'") as caught:
        read_whole(tmp_path / "t.csv")
    assert caught.value.row == 2


def test_a_page_damaged_on_disk_is_found_by_its_checksum(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    column = pa.array(np.random.default_rng(0).integers(0, 2**60, 1000))
    pq.write_table(
        pa.table({"a": column}), path, write_page_checksum=True, use_dictionary=False, compression="none"
    )
    content = bytearray(path.read_bytes())
    content[4000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as Parquet: .*CRC"):
        everything(open_tables(path)[0])
