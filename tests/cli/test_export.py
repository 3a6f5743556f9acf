from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from polyvec.artifact import read_manifest
from polyvec.cli.export import command
from polyvec.cli.main import main
from polyvec.embeddings import PART_ROWS, Embeddings
from polyvec.errors import DataError, UsageError
from polyvec.export import Format, export

Faults = Callable[..., Iterator[tuple[Path, str]]]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path, small_embeddings: Embeddings) -> Path:
    small_embeddings.save(tmp_path / "shop.emb")
    return tmp_path / "shop.emb"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_npy_holds_the_arrays_and_ids_in_their_order(
    tmp_path: Path, folder: Path, small_embeddings: Embeddings, dtype: str
) -> None:
    assert invoke(folder, "--out", tmp_path / "out", "--dtype", dtype).exit_code == 0
    users = np.load(tmp_path / "out" / "users.npy", allow_pickle=False)
    items = np.load(tmp_path / "out" / "items.npy", mmap_mode="r", allow_pickle=False)
    assert users.dtype == items.dtype == np.dtype(dtype)
    assert np.array_equal(users, small_embeddings.users.vectors.astype(dtype))
    assert np.array_equal(items, small_embeddings.items.vectors.astype(dtype))
    ids = pl.read_parquet(tmp_path / "out" / "user_ids.parquet")
    assert ids.to_dict(as_series=False) == {"user_id": ["007", "7", "ann", "Ωmega", ""]}
    assert pl.read_parquet(tmp_path / "out" / "item_ids.parquet")["item_id"].to_list()[1] == 2**40


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_parquet_holds_one_row_per_vector(
    tmp_path: Path, folder: Path, small_embeddings: Embeddings, dtype: str
) -> None:
    invoke(folder, "--out", tmp_path / "out", "--format", "parquet", "--dtype", dtype)
    users = pl.read_parquet(tmp_path / "out" / "users.parquet")
    assert users.columns == ["user_id", "interest", "vector"]
    assert users["user_id"].to_list()[2:5] == ["007", "7", "7"]
    assert users["interest"].to_list() == [0, 1, 2] * 5
    vectors = users["vector"].to_numpy().reshape(5, 3, 8)
    assert np.array_equal(vectors, small_embeddings.users.vectors.astype(dtype))
    rows = duckdb.sql(f"SELECT item_id, vector FROM '{tmp_path}/out/items.parquet'").fetchall()  # noqa: S608
    assert [row[0] for row in rows] == [10, 2**40, -3, 4, 5, 6, 7]
    expected = small_embeddings.items.vectors.astype(dtype)
    assert np.array_equal(np.array([row[1] for row in rows], dtype), expected)


@pytest.mark.parametrize("file_format", ["npy", "parquet"])
def test_large_embeddings_are_written_in_pieces_that_join(tmp_path: Path, file_format: str) -> None:
    users = PART_ROWS + 3
    vectors = np.arange(users * 2, dtype=np.float32).reshape(users, 2, 1)
    embeddings = Embeddings.from_arrays(list(range(users)), vectors, [1], np.ones((1, 1)))
    export(embeddings, tmp_path / "out", "npy" if file_format == "npy" else "parquet")
    if file_format == "npy":
        written = np.load(tmp_path / "out" / "users.npy")
    else:
        table = pl.read_parquet(tmp_path / "out" / "users.parquet")
        assert table["user_id"].to_list() == [user for user in range(users) for _ in range(2)]
        written = table["vector"].to_numpy().reshape(users, 2, 1)
    assert np.array_equal(written, vectors)


@pytest.mark.parametrize("file_format", ["npy", "parquet"])
def test_no_users_make_empty_files(tmp_path: Path, file_format: str) -> None:
    embeddings = Embeddings.from_arrays([], np.ones((0, 2, 3)), [1], np.ones((1, 3)))
    export(embeddings, tmp_path / "out", "npy" if file_format == "npy" else "parquet")
    if file_format == "npy":
        assert np.load(tmp_path / "out" / "users.npy").shape == (0, 2, 3)
    else:
        assert pl.read_parquet(tmp_path / "out" / "users.parquet").height == 0


def test_ids_that_numpy_text_would_change_are_kept(tmp_path: Path) -> None:
    ids = ["a\0", "a", "long " * 1000]
    embeddings = Embeddings.from_arrays(ids, np.ones((3, 2)), [2**64 - 1], np.ones((1, 2)))
    export(embeddings, tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "user_ids.parquet")["user_id"].to_list() == ids
    assert pl.read_parquet(tmp_path / "out" / "item_ids.parquet")["item_id"].to_list() == [2**64 - 1]


def test_a_number_too_large_for_float16_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    embeddings = Embeddings.from_arrays(["ann"], np.ones((1, 2)), [8, 9], np.array([[1, 1], [1, 70000]]))
    with pytest.raises(DataError, match="the vector of item_id 9 is not finite") as caught:
        export(embeddings, tmp_path / "out", dtype="float16")
    assert caught.value.expected == "finite numbers in float16"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file_format", ["npy", "parquet", "recsys2025"])
def test_an_export_is_absent_or_whole_whatever_fails(
    fail_at_operation: Faults, small_embeddings: Embeddings, file_format: Format
) -> None:
    numbered = Embeddings.from_arrays(
        list(range(5)), small_embeddings.users.vectors, [1], small_embeddings.items.vectors[:1]
    )

    def write(folder: Path) -> None:
        export(numbered, folder / "out", file_format, overwrite=True)

    for folder, fault in fail_at_operation(write):
        if (folder / "out").exists():
            assert read_manifest(folder / "out", "export").meta["users"] == 5, fault
        write(folder)
        assert read_manifest(folder / "out", "export").meta["users"] == 5, fault


def test_json_names_the_files_and_where_they_come_from(tmp_path: Path, folder: Path) -> None:
    answer = json.loads(invoke(folder, "--out", tmp_path / "out", "--json").stdout)
    assert set(answer["files"]) == {"users.npy", "items.npy", "user_ids.parquet", "item_ids.parquet"}
    assert (answer["C"], answer["D"], answer["users"], answer["items"]) == (3, 8, 5, 7)
    assert answer["score"] == "max_cosine"
    parent = read_manifest(folder, "embeddings").fingerprint
    assert read_manifest(tmp_path / "out", "export").parents == {"embeddings": parent}


def test_a_submission_holds_users_flat_and_in_float16(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    users = random.normal(size=(5, 3, 8)).astype(np.float32)
    made = Embeddings.from_arrays(["4", "-2", "9", "0", "1"], users, ["pen"], np.ones((1, 8)))
    made.save(tmp_path / "shop.emb")
    done = invoke(tmp_path / "shop.emb", "--out", tmp_path / "out", "--format", "recsys2025", "--json")
    answer = json.loads(done.stdout)
    assert set(answer["files"]) == {"client_ids.npy", "embeddings.npy"}
    assert (answer["users"], answer["items"], answer["dtype"]) == (5, 0, "float16")
    flat = np.load(tmp_path / "out" / "embeddings.npy", allow_pickle=False)
    assert flat.dtype == np.float16
    assert np.array_equal(flat, users.reshape(5, 24).astype(np.float16))
    client_ids = np.load(tmp_path / "out" / "client_ids.npy", allow_pickle=False)
    assert client_ids.dtype == np.int64
    assert client_ids.tolist() == [4, -2, 9, 0, 1]


@pytest.mark.parametrize(
    ("user_ids", "shape", "value", "what"),
    [
        ([1, 2], (2, 4, 640), 1, "each user has 2,560 numbers, 512 too many"),
        ([1, "007"], (2, 2), 1, "user_id '007' is not an integer of 64 bits"),
        ([1, 2**63], (2, 2), 1, f"user_id {2**63} is not an integer of 64 bits"),
        ([1, 2], (2, 2), 70000, "the vector of user_id 1 is not finite"),
    ],
)
def test_users_that_cannot_be_a_submission_are_refused_and_nothing_is_left(
    tmp_path: Path, user_ids: list[int | str], shape: tuple[int, ...], value: float, what: str
) -> None:
    ids = [str(one) for one in user_ids] if "007" in user_ids else user_ids
    made = Embeddings.from_arrays(ids, np.full(shape, value, np.float32), [], np.ones((0, shape[-1])))
    with pytest.raises(DataError, match=what):
        export(made, tmp_path / "out", "recsys2025")
    assert list(tmp_path.iterdir()) == []


def test_a_submission_knows_no_float32(tmp_path: Path, small_embeddings: Embeddings) -> None:
    with pytest.raises(UsageError, match="a submission cannot be of float32"):
        export(small_embeddings, tmp_path / "out", "recsys2025", "float32")
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_replaced_only_on_request(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    invoke(folder, "--out", tmp_path / "out")
    with pytest.raises(SystemExit) as caught:
        main(["export", str(folder), "--out", str(tmp_path / "out")])
    assert caught.value.code == 4
    assert "pass --overwrite" in capsys.readouterr().err
    assert invoke(folder, "--out", tmp_path / "out", "--format", "parquet", "--overwrite").exit_code == 0
    assert (tmp_path / "out" / "users.parquet").exists()


def test_what_is_not_embeddings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["export", str(tmp_path / "no.emb"), "--out", str(tmp_path / "out")])
    assert caught.value.code == 4
    assert "polyvec embed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
