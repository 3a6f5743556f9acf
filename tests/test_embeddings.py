from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyvec.artifact import writing
from polyvec.embeddings import PART_ROWS, STATES, Embeddings, Side, unit, write_part
from polyvec.errors import ArtifactError, DataError
from polyvec.ids import Vocabulary

Faults = Callable[..., Iterator[tuple[Path, str]]]


def same(one: Embeddings, other: Embeddings) -> bool:
    sides = [(one.users, other.users), (one.items, other.items)]
    return (
        all(
            a.ids == b.ids
            and a.vectors.dtype == b.vectors.dtype
            and np.array_equal(a.vectors, b.vectors)
            and np.array_equal(a.events, b.events)
            and np.array_equal(a.state, b.state)
            for a, b in sides
        )
        and one.score == other.score
        and one.provenance == other.provenance
    )


def make(users: int, items: int, vectors: int = 2, width: int = 4, dtype: Any = np.float32) -> Embeddings:
    random = np.random.default_rng(users + items)
    return Embeddings(
        Side(
            Vocabulary([f"u{row}" for row in range(users)], "user_id"),
            random.normal(size=(users, vectors, width)).astype(dtype),
            random.integers(0, 9, users),
            random.integers(0, 3, users).astype(np.uint8),
        ),
        Side(
            Vocabulary(list(range(items)), "item_id"),
            random.normal(size=(items, width)).astype(dtype),
            random.integers(0, 9, items),
            random.integers(0, 3, items).astype(np.uint8),
        ),
        "max_dot",
        {"system": "guim", "events_until": 5, "trained_until": 4},
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("users", "items"), [(3, 5), (1, 1), (0, 0), (PART_ROWS + 1, 2)])
def test_what_is_saved_is_opened_bit_by_bit(tmp_path: Path, users: int, items: int, dtype: Any) -> None:
    embeddings = make(users, items, dtype=dtype)
    embeddings.save(tmp_path / "shop.emb")
    opened = Embeddings.open(tmp_path / "shop.emb")
    if users == items == 0:  # ids that are not there have no type
        assert len(opened.users) == len(opened.items) == 0
        assert (opened.num_vectors, opened.width) == (2, 4)
    else:
        assert same(opened, embeddings)


def test_ids_that_look_alike_stay_apart(tmp_path: Path, small_embeddings: Embeddings) -> None:
    small_embeddings.save(tmp_path / "shop.emb")
    opened = Embeddings.open(tmp_path / "shop.emb")
    assert opened.users.ids.ids(range(5)) == ["007", "7", "ann", "Ωmega", ""]
    assert opened.items.ids.ids(range(7)) == [10, 2**40, -3, 4, 5, 6, 7]
    assert same(opened, small_embeddings)


def test_parquet_parts_are_read_in_one_line_by_polars_duckdb_and_numpy(
    tmp_path: Path, small_embeddings: Embeddings
) -> None:
    small_embeddings.save(tmp_path / "shop.emb")
    files = f"{tmp_path}/shop.emb/users/*.parquet"
    expected = small_embeddings.users.vectors.reshape(5, 24)

    polars = pl.read_parquet(files)
    assert polars.columns == ["user_id", "events", "state", "vectors"]
    assert np.array_equal(polars["vectors"].to_numpy(), expected)

    rows = duckdb.sql(f"SELECT user_id, vectors FROM '{files}'").fetchall()  # noqa: S608
    assert [row[0] for row in rows] == ["007", "7", "ann", "Ωmega", ""]
    assert np.array_equal(np.array([row[1] for row in rows], np.float32), expected)

    numpy = np.stack(pq.read_table(tmp_path / "shop.emb" / "users")["vectors"].to_numpy())
    assert np.array_equal(numpy, expected)


def test_a_folder_is_absent_old_or_new_whatever_fails(fail_at_operation: Faults) -> None:
    old, new = make(3, 4), make(2, 6)

    def state(path: Path) -> str:
        if not path.exists():
            return "absent"
        opened = Embeddings.open(path)
        return "old" if same(opened, old) else "new" if same(opened, new) else "broken"

    seen = set()
    for folder, fault in fail_at_operation(
        lambda folder: new.save(folder / "emb", overwrite=True), lambda folder: old.save(folder / "emb")
    ):
        after = state(folder / "emb")
        seen.add(after)
        assert after in (("old", "new", "absent") if "crash" in fault else ("old", "new")), fault
        new.save(folder / "emb", overwrite=True)
        assert state(folder / "emb") == "new", fault
    assert {"old", "new"} <= seen


def test_a_flipped_bit_in_any_file_is_found(tmp_path: Path) -> None:
    make(2, 2).save(tmp_path / "emb")
    for file in [f for f in (tmp_path / "emb").rglob("*") if f.is_file()]:
        content = bytearray(file.read_bytes())
        for position in range(0, len(content), 7):
            content[position] ^= 1 << (position % 8)
            file.write_bytes(content)
            with pytest.raises(ArtifactError):
                Embeddings.open(tmp_path / "emb")
            content[position] ^= 1 << (position % 8)
        file.write_bytes(content)
    assert same(Embeddings.open(tmp_path / "emb"), make(2, 2))


def test_a_part_that_the_manifest_does_not_list_is_not_read(tmp_path: Path) -> None:
    embeddings = make(3, 4)
    embeddings.save(tmp_path / "emb")
    write_part(
        tmp_path / "emb" / "users" / "part-00001.parquet",
        pl.Series("user_id", ["stale"]),
        np.zeros((1, 2, 4), np.float32),
        np.zeros(1),
        np.zeros(1, np.uint8),
    )
    assert same(Embeddings.open(tmp_path / "emb"), embeddings)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with writing(tmp_path / "shop", "dataset", meta={}):
        pass
    with pytest.raises(ArtifactError, match="is a folder of kind 'dataset'"):
        Embeddings.open(tmp_path / "shop")


# --- vectors made elsewhere


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.float32, np.float16])
def test_vectors_made_elsewhere_are_taken_as_floats(tmp_path: Path, dtype: Any) -> None:
    embeddings = Embeddings.from_arrays([1, 2], np.eye(2, dtype=dtype), ["a"], np.ones((1, 2), dtype))
    assert embeddings.users.vectors.dtype == (np.float16 if dtype is np.float16 else np.float32)
    assert embeddings.users.vectors.shape == (2, 1, 2)
    assert embeddings.provenance == {"system": "foreign"}
    embeddings.save(tmp_path / "emb")
    assert same(Embeddings.open(tmp_path / "emb"), embeddings)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_of_the_arrays_does_not_matter(tmp_path: Path, order: Any) -> None:
    users = np.asarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4), order=order)
    Embeddings.from_arrays([1, 2], users, ["a"], np.ones((1, 4))).save(tmp_path / "emb")
    assert np.array_equal(Embeddings.open(tmp_path / "emb").users.vectors, users)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_id_without_finite_numbers_is_named(value: float) -> None:
    users = np.ones((3, 2, 4), np.float32)
    users[1, 1, 3] = users[2, 0, 0] = value
    with pytest.raises(DataError, match="the vector of user_id 'bob' is not finite") as caught:
        Embeddings.from_arrays(["ann", "bob", "cy"], users, [1], np.ones((1, 4)))
    assert caught.value.row == 2


def test_numbers_too_large_for_float32_are_named() -> None:
    with pytest.raises(DataError, match="the vector of item_id 9 is not finite"), np.errstate(over="ignore"):
        Embeddings.from_arrays(["ann"], np.ones((1, 1)), [8, 9], np.array([[1.0], [1e300]]))


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ((2, 3, 4), (2, 5), "users are 4 wide, items 5"),
        ((2, 3, 4), (2, 1, 4), "item vectors"),
        ((2,), (2, 4), "user vectors have shape"),
        ((2, 1, 3, 4), (2, 4), "user vectors have shape"),
        ((3, 1, 4), (2, 4), "3 vectors for 2 ids of user_id"),
        ((2, 1, 4), (1, 4), "1 vectors for 2 ids of item_id"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(users: tuple[int], items: tuple[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Embeddings.from_arrays(["ann", "bob"], np.ones(users), [8, 9], np.ones(items))


def test_of_vectors_made_elsewhere_it_is_unknown_how_an_entity_was_known(tmp_path: Path) -> None:
    Embeddings.from_arrays([1, 2], np.eye(2), ["a"], np.ones((1, 2))).save(tmp_path / "emb")
    embeddings = Embeddings.open(tmp_path / "emb")
    for side in (embeddings.users, embeddings.items):
        assert {STATES[code] for code in side.state} == {"unknown"}
        assert not side.events.any()


def test_every_id_needs_its_number_of_events_and_its_state() -> None:
    vocabulary, vectors = Vocabulary(["a", "b"], "item_id"), np.ones((2, 3), np.float32)
    with pytest.raises(DataError, match="1 events for 2 ids"):
        Side(vocabulary, vectors, np.zeros(1, np.int64), np.zeros(2, np.uint8))
    with pytest.raises(DataError, match="3 state for 2 ids"):
        Side(vocabulary, vectors, np.zeros(2, np.int64), np.zeros(3, np.uint8))


# --- the score


def test_a_cosine_needs_unit_vectors_and_a_dot_product_the_vectors_themselves(
    small_embeddings: Embeddings,
) -> None:
    norms = np.linalg.norm(small_embeddings.unit_users(), axis=-1)
    assert np.allclose(norms, 1, atol=1e-6)
    dot = make(2, 3)
    assert np.array_equal(dot.unit_users(), dot.users.vectors)
    assert np.array_equal(dot.unit_items(), dot.items.vectors)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3))
def test_a_unit_vector_keeps_its_direction_and_zero_stays_zero(numbers: list[float]) -> None:
    vector = np.array([numbers], np.float32)
    length = float(np.linalg.norm(vector.astype(np.float64)))
    scaled = unit(vector)
    assert scaled.dtype == np.float32
    if length > 1e-15:
        assert np.allclose(scaled * length, vector, rtol=1e-4, atol=1e-4 * length)
    assert np.array_equal(unit(np.zeros((1, 3), np.float16)), np.zeros((1, 3)))
