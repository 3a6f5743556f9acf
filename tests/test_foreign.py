"""Vectors made elsewhere become Embeddings: what is read, what is refused, and that exports come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polyvec.artifact import read_manifest
from polyvec.data.dataset import Dataset
from polyvec.embeddings import Embeddings
from polyvec.errors import ArtifactError, DataError, PolyvecError, UsageError
from polyvec.export import export
from polyvec.foreign import import_vectors

Faults = Callable[..., Iterator[tuple[Path, str]]]
USERS = np.arange(12, dtype=np.float32).reshape(3, 4)
ITEMS = np.arange(8, dtype=np.float32).reshape(2, 4) - 3


def same(one: Embeddings, other: Embeddings) -> bool:
    return all(
        mine.ids == theirs.ids
        and mine.vectors.dtype == theirs.vectors.dtype
        and np.array_equal(mine.vectors, theirs.vectors)
        for mine, theirs in [(one.users, other.users), (one.items, other.items)]
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three users and two items as npy with ids as text."""
    np.save(tmp_path / "users.npy", USERS)
    np.save(tmp_path / "items.npy", ITEMS)
    (tmp_path / "users.txt").write_text("007\n7\nÄnn, B.\n", "utf-8")
    (tmp_path / "items.csv").write_text('item_id\n"a ""quoted"" id"\nb\n', "utf-8")
    return tmp_path


def take(folder: Path, **changes: Any) -> Embeddings:
    """Import the fixture's files, some of them replaced."""
    arguments: dict[str, Any] = {
        "users": folder / "users.npy",
        "user_ids": folder / "users.txt",
        "items": folder / "items.npy",
        "item_ids": folder / "items.csv",
        **changes,
    }
    import_vectors(arguments.pop("users"), folder / "out.emb", overwrite=True, **arguments)
    return Embeddings.open(folder / "out.emb")


def refused(folder: Path, kind: type[PolyvecError], what: str, **changes: Any) -> PolyvecError:
    """Import and return the error; nothing is left behind."""
    with pytest.raises(kind, match=what) as caught:
        take(folder, **changes)
    assert not [path for path in folder.iterdir() if path.name in ("out.emb", ".out.emb.partial")]
    return caught.value


def table(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


# --- npy


def test_arrays_and_lines_of_ids_are_taken_as_they_are(files: Path) -> None:
    made = take(files)
    assert made.users.ids.series.to_list() == ["007", "7", "Änn, B."]
    assert made.items.ids.series.to_list() == ['a "quoted" id', "b"]
    assert np.array_equal(made.users.vectors, USERS[:, None, :])
    assert np.array_equal(made.items.vectors, ITEMS)
    assert (made.score, made.provenance) == ("max_cosine", {"system": "foreign"})


def test_what_is_told_is_kept(files: Path) -> None:
    told = {"system": "ALS", "events_until": 5, "trained_until": 4}
    made = take(files, score="max_dot", provenance=told)
    assert (made.score, made.provenance) == ("max_dot", told)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_several_vectors_per_user_of_any_number_type(files: Path, dtype: str, order: Any) -> None:
    users = np.asarray(np.arange(24).reshape(3, 2, 4), dtype, order=order)
    np.save(files / "users.npy", users)
    made = take(files)
    assert made.num_vectors == 2
    assert made.users.vectors.dtype == (np.float16 if dtype == "float16" else np.float32)
    assert np.array_equal(made.users.vectors, users.astype(np.float32))


@pytest.mark.parametrize(
    "ids",
    [
        np.array([3, -1, 2]),
        np.array([3, 1, 2], "<u2"),
        np.array([3, 1, 2], ">i8"),
        np.array([2**64 - 1, 0, 1], np.uint64),
        np.array(["007", "7", "Ä"]),
    ],
)
def test_ids_of_npy_keep_their_type_and_value(files: Path, ids: np.ndarray) -> None:
    np.save(files / "ids.npy", ids)
    assert take(files, user_ids=files / "ids.npy").users.ids.series.to_list() == ids.tolist()


def test_ids_of_parquet_are_the_named_or_the_only_column(files: Path) -> None:
    one = table(files / "one.parquet", customer=["x", "y", "z"])
    two = table(files / "two.parquet", customer=["x", "y", "z"], user_id=[1, 2, 3])
    assert take(files, user_ids=one).users.ids.series.to_list() == ["x", "y", "z"]
    assert take(files, user_ids=two).users.ids.series.to_list() == [1, 2, 3]


def test_users_alone_have_no_items(files: Path) -> None:
    made = take(files, items=None, item_ids=None)
    assert made.items.vectors.shape == (0, 4)
    assert len(made.users) == 3


def test_lines_may_end_as_on_windows_and_without_a_last_end(files: Path) -> None:
    (files / "users.txt").write_bytes("\ufeffa\r\nb \r\nc".encode())
    assert take(files).users.ids.series.to_list() == ["a", "b ", "c"]


# --- Parquet


def test_one_row_per_user_with_one_vector(files: Path) -> None:
    path = table(files / "users.parquet", client=["a", "b", "c"], vector=USERS.tolist())
    made = take(files, users=path, user_ids=None)
    assert made.users.ids.series.to_list() == ["a", "b", "c"]
    assert np.array_equal(made.users.vectors, USERS[:, None, :])


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 8)]
)
def test_one_row_per_user_with_several_vectors_one_after_another(files: Path, kind: pa.DataType) -> None:
    numbers = np.arange(24, dtype=np.float32).reshape(3, 8)
    path = table(files / "users.parquet", user_id=[1, 2, 3], vectors=pa.array(numbers.tolist(), kind))
    made = take(files, users=path, user_ids=None)
    assert np.array_equal(made.users.vectors, numbers.reshape(3, 2, 4))
    alone = take(files, users=path, user_ids=None, items=None, item_ids=None)
    assert alone.users.vectors.shape == (3, 1, 8)


def test_one_row_per_vector_in_any_order(files: Path) -> None:
    users = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    ids, interest = np.repeat(["b", "a", "c"], 2), np.tile([0, 1], 3)
    order = np.array([3, 0, 5, 1, 4, 2])
    path = table(
        files / "users.parquet",
        user_id=ids[order],
        interest=pa.array(interest[order], pa.int8()),
        vector=users.reshape(6, 4)[order].tolist(),
    )
    made = take(files, users=path, user_ids=None)
    assert made.users.ids.series.to_list() == ["a", "b", "c"]  # as they come up first
    assert np.array_equal(made.users.vectors, users[[1, 0, 2]])


def test_our_own_parts_of_embeddings_can_be_read_as_tables(
    tmp_path: Path, small_embeddings: Embeddings
) -> None:
    small_embeddings.save(tmp_path / "shop.emb")
    made = import_vectors(
        tmp_path / "shop.emb" / "users" / "part-00000.parquet",
        tmp_path / "again.emb",
        items=tmp_path / "shop.emb" / "items" / "part-00000.parquet",
    )
    assert same(made, small_embeddings)


# --- exports come back


@pytest.mark.parametrize("file_format", ["npy", "parquet"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("users", [5, 0])
def test_an_export_comes_back_bit_for_bit(
    tmp_path: Path, small_embeddings: Embeddings, file_format: Any, dtype: Any, users: int
) -> None:
    told = {"system": "test", "events_until": 7}
    first = Embeddings.from_arrays(
        small_embeddings.users.ids.series[:users],
        small_embeddings.users.vectors[:users].astype(dtype),
        small_embeddings.items.ids.series,
        small_embeddings.items.vectors.astype(dtype),
        "max_dot",
        told,
    )
    export(first, tmp_path / "out", file_format, dtype)
    back = import_vectors(tmp_path / "out", tmp_path / "back.emb")
    assert same(back, first)
    assert same(Embeddings.open(tmp_path / "back.emb"), first)
    assert (back.score, back.provenance) == ("max_dot", told)
    parents = read_manifest(tmp_path / "back.emb", "embeddings").parents
    assert parents == {"export": read_manifest(tmp_path / "out", "export").fingerprint}
    told_again = import_vectors(
        tmp_path / "out", tmp_path / "other.emb", score="max_cosine", provenance={"system": "B"}
    )
    assert (told_again.score, told_again.provenance) == ("max_cosine", {"system": "B", "events_until": 7})


def test_a_submission_of_ours_comes_back_with_its_vectors(tmp_path: Path) -> None:
    users = np.random.default_rng(0).normal(size=(4, 3, 8)).astype(np.float16)
    first = Embeddings.from_arrays([9, -2, 2**62, 5], users, [], np.zeros((0, 8), np.float16))
    export(first, tmp_path / "out", "recsys2025")
    flat = np.load(tmp_path / "out" / "embeddings.npy", allow_pickle=False)
    assert np.array_equal(flat, users.reshape(4, 24))
    assert np.load(tmp_path / "out" / "client_ids.npy").tolist() == [9, -2, 2**62, 5]
    assert same(import_vectors(tmp_path / "out", tmp_path / "back.emb"), first)


def test_a_submission_of_anybody_gives_users_of_one_vector_or_as_wide_as_the_items(files: Path) -> None:
    (files / "submission").mkdir()
    np.save(files / "submission" / "client_ids.npy", np.array([4, 2]))
    np.save(files / "submission" / "embeddings.npy", np.arange(16, dtype=np.float16).reshape(2, 8))
    alone = take(files, users=files / "submission", user_ids=None, items=None, item_ids=None)
    assert alone.users.vectors.shape == (2, 1, 8)
    assert alone.users.vectors.dtype == np.float16
    assert take(files, users=files / "submission", user_ids=None).users.vectors.shape == (2, 2, 4)


def test_a_submission_that_breaks_a_rule_is_refused(files: Path) -> None:
    (files / "submission").mkdir()
    np.save(files / "submission" / "client_ids.npy", np.array([4, 4]))
    np.save(files / "submission" / "embeddings.npy", np.ones((2, 8), np.float16))
    error = refused(files, DataError, "client 4 appears twice", users=files / "submission", user_ids=None)
    assert error.file == str(files / "submission")


def test_a_damaged_export_and_other_folders_are_refused(files: Path) -> None:
    take(files)
    export(Embeddings.open(files / "out.emb"), files / "shop")
    for users, kind, what in [
        ("shop", ArtifactError, "users.npy has changed since it was written"),
        ("out.emb", ArtifactError, "is a folder of kind 'embeddings'"),
        (".", UsageError, "has no items"),
        ("nothing", UsageError, "has no users"),
    ]:
        (files / "nothing").mkdir(exist_ok=True)
        if users == "shop":
            content = bytearray((files / "shop" / "users.npy").read_bytes())
            content[-1] ^= 1
            (files / "shop" / "users.npy").write_bytes(content)
        items = files / "nothing" if users == "." else None
        with pytest.raises(kind, match=what):
            import_vectors(
                files / "users.npy" if users == "." else files / users,
                files / "never.emb",
                items=items,
                user_ids=files / "users.txt" if users == "." else None,
            )


def test_an_import_is_absent_or_whole_whatever_fails(fail_at_operation: Faults) -> None:
    def setup(folder: Path) -> None:
        np.save(folder / "users.npy", USERS)
        np.save(folder / "ids.npy", np.arange(3))

    def write(folder: Path) -> None:
        import_vectors(folder / "users.npy", folder / "emb", user_ids=folder / "ids.npy", overwrite=True)

    for folder, fault in fail_at_operation(write, setup):
        if (folder / "emb").exists():
            assert len(Embeddings.open(folder / "emb").users) == 3, fault
        write(folder)
        assert len(Embeddings.open(folder / "emb").users) == 3, fault


# --- what is refused


def test_missing_and_unknown_files_are_named(files: Path) -> None:
    none, text = files / "none.npy", files / "users.txt"
    tables = table(files / "users.parquet", user_id=[1, 2, 3], vector=USERS.tolist())
    for changes, what in [
        ({"users": none}, "none.npy does not exist"),
        ({"users": files / "none.parquet", "user_ids": None}, "none.parquet does not exist"),
        ({"user_ids": none}, "none.npy does not exist"),
        ({"user_ids": None}, "users.npy has no ids"),
        ({"item_ids": None}, "items.npy has no ids"),
        ({"users": text}, "users.txt is of an unknown kind"),
        ({"user_ids": files / "users.npz"}, "users.npz does not exist"),
        ({"user_ids": Path(__file__)}, "test_foreign.py is of an unknown kind"),
        ({"users": tables}, "users.parquet has ids of its own"),
        ({"items": None}, "ids of items are given without items"),
        ({"users": files}, "has ids of its own"),
    ]:
        refused(files, UsageError, what, **changes)
    assert "--user-ids FILE" in str(refused(files, UsageError, "has no ids", user_ids=None))


def test_an_existing_folder_is_replaced_only_on_request(files: Path) -> None:
    take(files)
    with pytest.raises(ArtifactError, match="exists already"):
        import_vectors(files / "none.npy", files / "out.emb")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_names_id_row_and_file(files: Path, value: float) -> None:
    users = USERS.copy()
    users[1, 2] = value
    np.save(files / "users.npy", users)
    error = refused(files, DataError, "the vector of user_id '7' is not finite")
    assert (error.row, error.file) == (2, str(files / "users.npy"))


def test_a_number_too_large_for_float32_is_refused(files: Path) -> None:
    np.save(files / "items.npy", np.array([[1.0], [1e300]]))
    refused(files, DataError, "the vector of item_id 'b' is not finite")


def test_a_repeated_id_names_id_row_and_file(files: Path) -> None:
    (files / "users.txt").write_text("a\nb\na\n")
    error = refused(files, DataError, "user_id 'a' appears twice")
    assert (error.row, error.column) == (3, "user_id")
    path = table(files / "items.parquet", item_id=[4, 4], vector=ITEMS.tolist())
    error = refused(files, DataError, "item_id 4 appears twice", items=path, item_ids=None)
    assert (error.row, error.file) == (2, str(path))


@pytest.mark.parametrize(
    ("text", "what", "row"),
    [
        ("a\n\nc\n", "this row is empty", 2),
        ("a\nb\n \n", "this row is empty", 3),
        ("a\nb,c\nd\n", "this row has 2 columns", 2),
        ("a\nb\n", r"2 ids for vectors of shape \[3, 4\]", None),
        ("client\na\nb\nc\n", r"4 ids for vectors of shape \[3, 4\]", None),
        ("user_id\n", r"0 ids for vectors of shape \[3, 4\]", None),
        ("", r"0 ids for vectors of shape \[3, 4\]", None),
        ('a\n"b\nc\n', "this is not CSV", None),
    ],
)
def test_lines_that_are_not_one_id_each_are_refused(
    files: Path, text: str, what: str, row: int | None
) -> None:
    (files / "ids.csv").write_text(text)
    error = refused(files, DataError, what, user_ids=files / "ids.csv")
    assert (error.row, error.file) == (row, str(files / "ids.csv"))


def test_a_header_counted_as_an_id_is_explained(files: Path) -> None:
    (files / "users.txt").write_text("user_id\na\nb\nc\n")
    assert "a header line counts as an id" in str(refused(files, DataError, "4 ids for vectors"))


def test_text_that_is_not_utf8_is_refused(files: Path) -> None:
    (files / "users.txt").write_bytes(b"a\n\xff\nc\n")
    refused(files, DataError, "this is not UTF-8 text")


@pytest.mark.parametrize(
    ("ids", "what"),
    [
        (np.array([1.0, 2.0, 3.0]), "the ids are of type float64"),
        (np.array([b"a", b"b", b"c"]), r"the ids are of type \|S1"),
        (np.array([True, False, True]), "the ids are of type bool"),
        (np.array([[1], [2], [3]]), r"shape \[3, 1\]"),
        (np.array(["a", "b", None], dtype=object), "this is not an array of numbers or text"),
        (np.array([1, 2]), r"2 ids for vectors of shape \[3, 4\]"),
    ],
)
def test_arrays_that_hold_no_ids_are_refused(files: Path, ids: np.ndarray, what: str) -> None:
    np.save(files / "ids.npy", ids, allow_pickle=True)
    error = refused(files, DataError, what, user_ids=files / "ids.npy")
    assert error.file == str(files / "ids.npy")


@pytest.mark.parametrize(
    ("side", "shape", "what"),
    [
        ("users", (3,), r"the vectors have shape \[3\]"),
        ("users", (3, 2, 2, 4), r"the vectors have shape \[3, 2, 2, 4\]"),
        ("users", (3, 0), r"the vectors have shape \[3, 0\]"),
        ("users", (3, 0, 4), r"the vectors have shape \[3, 0, 4\]"),
        ("users", (), r"3 ids for vectors of shape \[\]"),
        ("items", (2, 1, 4), r"the vectors have shape \[2, 1, 4\]"),
        ("items", (2, 0), r"the vectors have shape \[2, 0\]"),
        ("items", (2,), r"the vectors have shape \[2\]"),
        ("items", (2, 5), "users are 4 wide, items 5"),
    ],
)
def test_arrays_of_other_shapes_are_refused(
    files: Path, side: str, shape: tuple[int, ...], what: str
) -> None:
    np.save(files / f"{side}.npy", np.ones(shape, np.float32))
    refused(files, DataError, what)


@pytest.mark.parametrize("dtype", ["bool", "complex64", "U1", "M8[D]"])
def test_arrays_of_no_numbers_are_refused(files: Path, dtype: str) -> None:
    np.save(files / "users.npy", np.zeros((3, 4), dtype))
    refused(files, DataError, "the vectors are of type")


@pytest.mark.parametrize(
    ("columns", "what", "row"),
    [
        ({"user_id": ["a", "b"]}, "there is no column of vectors", None),
        ({"a": ["a"], "b": ["b"], "vector": [[1.0] * 4]}, "there is no column user_id", None),
        ({"user_id": [1.5, 2.5], "vector": [[1.0] * 4] * 2}, "user_id is of type Float64", None),
        ({"user_id": ["a", None], "vector": [[1.0] * 4] * 2}, "user_id is empty", 2),
        ({"user_id": ["a", "b"], "vector": [[1.0] * 4, None]}, "user_id 'b' has no vector", 2),
        ({"user_id": ["a", "b"], "vector": [[1.0] * 4, [1.0]]}, "user_id 'b' has not 4 numbers", 2),
        (
            {"user_id": ["a", "b"], "vector": [[1.0] * 4, [1.0, None, 1.0, 1.0]]},
            "user_id 'b' has an empty",
            2,
        ),
        ({"user_id": ["a", "b"], "vector": [["x"], ["y"]]}, "vector is of type list<", None),
        ({"user_id": ["a", "b"], "vector": [1.0, 2.0]}, "vector is of type double", None),
        ({"user_id": ["a"], "vectors": [[1.0] * 6]}, "each user has 6 numbers", None),
        ({"user_id": ["a"], "vector": [[1.0] * 8]}, "users are 8 wide, items 4", None),
        ({"user_id": ["a", "b"], "interest": [0, None], "vector": [[1.0] * 4] * 2}, "interest is not", None),
        ({"user_id": ["a", "b"], "interest": [0, -1], "vector": [[1.0] * 4] * 2}, "interest is not", None),
        ({"user_id": ["a", "b"], "interest": [0.0, 1.0], "vector": [[1.0] * 4] * 2}, "interest is not", None),
        (
            {"user_id": ["a", "a"], "interest": [1, 1], "vector": [[1.0] * 4] * 2},
            "'a' has interest 1 twice",
            2,
        ),
        (
            {"user_id": ["a", "a", "b"], "interest": [0, 1, 0], "vector": [[1.0] * 4] * 3},
            "user_id 'b' has not 2 vectors",
            None,
        ),
        (
            {"user_id": ["a", "a"], "interest": [0, 10**9], "vector": [[1.0] * 4] * 2},
            "has not 1000000001",
            None,
        ),
    ],
)
def test_tables_that_break_a_rule_are_refused(
    files: Path, columns: dict[str, Any], what: str, row: int | None
) -> None:
    path = table(files / "users.parquet", **columns)
    error = refused(files, DataError, what, users=path, user_ids=None)
    if row is not None:
        assert error.row == row
    assert error.file == str(path) or "wide" in what


def test_a_file_that_is_no_parquet_is_refused(files: Path) -> None:
    (files / "users.parquet").write_bytes(b"PAR1 no table PAR1")
    refused(
        files, DataError, "this is not a whole Parquet file", users=files / "users.parquet", user_ids=None
    )


def test_vectors_of_nobody_in_the_dataset_are_refused_and_not_written(files: Path) -> None:
    strangers = Dataset.from_rows([("x", "y", 1)])
    error = refused(
        files, DataError, "none of the 1 ids of user_id in the Dataset has a vector", dataset=strangers
    )
    assert "text such as 'x'; the embeddings have text such as '007', '7'" in str(error.expected)
    known = Dataset.from_rows([("007", "b", 1)], pl.DataFrame({"item_id": ["b", "c"]}))
    assert len(take(files, dataset=known).users) == 3
