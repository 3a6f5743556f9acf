from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyvec.errors import DataError
from polyvec.ids import UNKNOWN, Vocabulary, normalise_ids

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True)
SIGNED = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True)
UNSIGNED = st.lists(st.integers(0, 2**64 - 1), unique=True)


@given(st.one_of(TEXTS, SIGNED, UNSIGNED))
def test_every_id_comes_back_exactly_as_given(ids: list[int | str]) -> None:
    vocabulary = Vocabulary(ids)
    assert vocabulary.rows(ids).tolist() == list(range(len(ids)))
    assert vocabulary.ids(np.arange(len(ids))) == ids


@given(st.one_of(TEXTS, SIGNED, UNSIGNED))
def test_every_id_printed_and_typed_again_is_found(ids: list[int | str]) -> None:
    vocabulary = Vocabulary(ids)
    assert vocabulary.rows([vocabulary.parse(str(raw)) for raw in ids]).tolist() == list(range(len(ids)))


@pytest.mark.parametrize(
    "ids", [["b", "a", "007", "7", "", "a\0b", "🛒"], [3, 2**63, 2**64 - 1], [-5, 2**62], []]
)
def test_saved_ids_are_loaded_in_order_with_their_type(tmp_path: Path, ids: list[int | str]) -> None:
    Vocabulary(ids, "item_id").save(tmp_path / "ids.parquet")
    loaded = Vocabulary.load(tmp_path / "ids.parquet", "item_id")
    assert loaded == Vocabulary(ids, "item_id")
    assert loaded.ids(range(len(ids))) == ids


def test_leading_zeros_make_another_id() -> None:
    assert Vocabulary(["007", "7"]).rows(["7", "007", "0007"]).tolist() == [1, 0, UNKNOWN]


def test_integers_beyond_63_bits_are_kept_as_unsigned() -> None:
    vocabulary = Vocabulary([2**63, 2**64 - 1, 1])
    assert vocabulary.series.dtype == pl.UInt64
    assert vocabulary.rows([2**64 - 1, 2**63 - 1, 2**63]).tolist() == [1, UNKNOWN, 0]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt8, pl.Int32, pl.UInt64, pl.Int128])
def test_integers_of_any_width_that_fit_become_int64(dtype: type[pl.DataType]) -> None:
    assert Vocabulary(pl.Series([1, 2], dtype=dtype)).series.dtype == pl.Int64


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["b", "a"])])
def test_categories_become_text(dtype: pl.DataType) -> None:
    vocabulary = Vocabulary(pl.Series(["a", "b"], dtype=dtype))
    assert vocabulary.series.dtype == pl.String
    assert vocabulary.rows(pl.Series(["b"], dtype=dtype)).tolist() == [1]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (pl.Series([1.0, 2.0]), "user_id is of type Float64"),
        (pl.Series([True]), "user_id is of type Boolean"),
        (pl.Series([b"a"]), "user_id is of type Binary"),
        (pl.Series([[1]]), r"user_id is of type List\(Int64\)"),
        (["a", None], "user_id has empty values"),
        ([1, None], "user_id has empty values"),
        (["a", "b", "a"], "user_id 'a' appears twice"),
        ([7, 7], "user_id 7 appears twice"),
        ([1, "a"], "user_id mixes types"),
        (["a", 1], "user_id mixes types"),
        ([1, 2.5], "user_id mixes types"),
        ([-1, 2**63], "user_id mixes types"),
        ([2**64, 1], "user_id has integers from 1 to 18446744073709551616"),
        (pl.Series([-1, 2**63], dtype=pl.Int128), "user_id has integers from -1 to 9223372036854775808"),
    ],
)
def test_ids_that_cannot_be_kept_exactly_are_refused(ids: list[int | str] | pl.Series, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Vocabulary(ids, "user_id")
    assert caught.value.column == "user_id"
    assert caught.value.expected


def test_null_columns_are_normalised_to_text() -> None:
    assert normalise_ids(pl.Series([None, None]), "user_id").dtype == pl.String


STRANGE = [
    [1.5],
    [1.0],
    [True],
    [None],
    ["01"],
    ["+1"],
    ["1.0"],
    ["x"],
    [" 1"],
    [2**63],
    [2**70],
    [2**200],
    [-1],
    [b"1"],
    [[1]],
    [object()],
    pl.Series([1.0]),
    pl.Series(["x"], dtype=pl.Categorical),
    pl.Series([2**70], dtype=pl.Int128),
    pl.Series([None]),
]


@pytest.mark.parametrize(
    "vocabulary", [Vocabulary([1, 2]), Vocabulary([1, 2**63 + 1]), Vocabulary(["1"]), Vocabulary([])]
)
@pytest.mark.parametrize("asked", STRANGE, ids=lambda asked: repr(asked)[:30].split(" at 0x")[0])
def test_an_unknown_id_of_any_type_is_unknown_and_never_raises(
    vocabulary: Vocabulary, asked: list[int]
) -> None:
    assert vocabulary.rows(asked).tolist() == [UNKNOWN]


def test_integers_typed_as_text_are_found_but_only_in_their_own_spelling() -> None:
    assert Vocabulary([7, 70]).rows(["70", "7", "07", "7 "]).tolist() == [1, 0, UNKNOWN, UNKNOWN]
    assert Vocabulary(["7", "07"]).rows([7]).tolist() == [0]


def test_known_and_unknown_ids_keep_their_places_and_may_repeat() -> None:
    rows = Vocabulary(["a", "b"]).rows(["b", "?", "a", "b", None])
    assert rows.dtype == np.int64
    assert rows.tolist() == [1, UNKNOWN, 0, 1, UNKNOWN]


def test_asking_for_nothing_gives_nothing() -> None:
    assert Vocabulary(["a"]).rows([]).shape == (0,)
    assert Vocabulary(["a"]).ids([]) == []


@pytest.mark.parametrize("row", [UNKNOWN, 2])
def test_a_row_that_does_not_exist_has_no_id(row: int) -> None:
    with pytest.raises(IndexError, match="of 2 item_ids"):
        Vocabulary(["a", "b"], "item_id").ids([0, row])


@pytest.mark.parametrize("text", ["007", "+7", "7.0", "1_000", " 7", "", "seven", "٧"])
def test_text_that_is_not_exactly_an_integer_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="is not a user_id of this data"):
        Vocabulary([7], "user_id").parse(text)


def test_typed_ids_take_the_type_of_the_data() -> None:
    assert Vocabulary([7]).parse("-7") == -7
    assert Vocabulary(["7"]).parse("007") == "007"


def test_vocabularies_are_equal_if_ids_order_and_type_are() -> None:
    assert Vocabulary(["a", "b"]) == Vocabulary(["a", "b"])
    assert Vocabulary(["a", "b"]) != Vocabulary(["b", "a"])
    assert Vocabulary(["1"]) != Vocabulary([1])
    assert repr(Vocabulary([1, 2], "item_id")) == "Vocabulary(item_id: 2 ids of type Int64)"


# --- growing


def test_new_ids_come_at_the_end_and_known_ones_keep_their_rows():
    known = Vocabulary(["b", "007"], name="item_id")
    grown = known.extended(pl.Series(["a", "b", "7"]))
    assert grown.ids([0, 1, 2, 3]) == ["b", "007", "a", "7"]
    assert len(known) == 2


def test_nothing_known_takes_ids_of_any_type():
    assert Vocabulary([], "item_id").extended(pl.Series([3, 1])).ids([0, 1]) == [3, 1]


def test_ids_grow_within_their_type_alone():
    with pytest.raises(DataError, match="item_id is of type Int64") as error:
        Vocabulary(["7"], "item_id").extended(pl.Series([8]))
    assert "String, as the ids that are known" in str(error.value)
    unsigned = Vocabulary([2**63], "item_id")
    assert unsigned.extended(pl.Series([5])).ids([0, 1]) == [2**63, 5]
    with pytest.raises(DataError, match="item_id is of type Int64"):
        unsigned.extended(pl.Series([-5]))
