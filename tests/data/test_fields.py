from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyvec.data.fields import SHARED, FieldVocabulary, ItemFields, ranges
from polyvec.errors import DataError

CATALOGUE = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d", "e"],
        "category": ["toys", None, "NA", "toys", "Ünit"],
        "title": ["Red  TRAIN, red!", "null", None, "", "None NA 3.5mm"],
    }
)
COUNTS = np.array([3, 9, 0, 5, 3])


def learned(
    max_popular: int = 3, max_words: int = 100, catalogue: pl.DataFrame = CATALOGUE
) -> FieldVocabulary:
    return FieldVocabulary.learn(catalogue, COUNTS[: len(catalogue)], max_popular, max_words)


def words_of(vocabulary: FieldVocabulary, fields: ItemFields, item: int) -> list[object]:
    rows = fields.words[fields.word_offsets[item] : fields.word_offsets[item + 1]]
    return list(vocabulary.words.ids(rows))


def words_in(title: str) -> list[object]:
    """Words of one title, by way of a catalogue of one item."""
    catalogue = pl.DataFrame({"item_id": ["x"], "title": [title]})
    vocabulary = FieldVocabulary.learn(catalogue, np.array([1]), 1, 1000)
    return words_of(vocabulary, vocabulary.encode(catalogue), 0)


# --- ids


def test_the_most_popular_items_have_rows_in_the_order_of_their_events() -> None:
    assert learned(3).popular.ids(range(3)) == ["b", "d", "a"]
    assert learned(3).encode(CATALOGUE).slots.tolist() == [3, 1, SHARED, 2, SHARED]


def test_an_item_without_events_has_no_row_even_if_there_is_room() -> None:
    assert len(learned(100).popular) == 4
    assert learned(100).encode(CATALOGUE).slots[2] == SHARED


def test_without_room_all_items_share_one_row() -> None:
    assert learned(0).encode(CATALOGUE).slots.tolist() == [SHARED] * 5


def test_unseen_items_and_items_of_another_type_fall_back_to_the_shared_row() -> None:
    nothing = {"category": None, "title": None}
    other = pl.DataFrame({"item_id": ["b", "new", "007"]}).with_columns(**nothing)
    assert learned().encode(other).slots.tolist() == [1, SHARED, SHARED]
    numbers = pl.DataFrame({"item_id": [1, 2]}).with_columns(**nothing)
    assert learned().encode(numbers).slots.tolist() == [SHARED, SHARED]


# --- categories


def test_every_category_has_a_row_and_no_category_has_none() -> None:
    vocabulary = learned()
    assert vocabulary.categories.ids(range(3)) == ["NA", "toys", "Ünit"]
    assert vocabulary.encode(CATALOGUE).categories.tolist() == [2, 0, 1, 2, 3]


def test_an_unseen_category_is_none() -> None:
    unseen = pl.DataFrame({"item_id": ["a"], "category": ["TOYS"], "title": ["red"]})
    assert learned().encode(unseen).categories.tolist() == [0]


def test_categories_may_be_numbers() -> None:
    catalogue = pl.DataFrame({"item_id": ["a", "b", "c"], "category": [7, None, 10]})
    assert learned(catalogue=catalogue).encode(catalogue).categories.tolist() == [2, 0, 1]


@pytest.mark.parametrize("column", ["category", "title"])
def test_a_catalogue_without_what_a_model_has_learned_of_is_refused(column: str) -> None:
    with pytest.raises(DataError, match=f"learned of the items' {column}, which this Dataset") as refused:
        learned().encode(CATALOGUE.drop(column))
    assert "--items" in str(refused.value)


def test_what_was_not_learned_of_may_be_missing_or_be_there() -> None:
    vocabulary = learned(catalogue=CATALOGUE.drop("title"))
    assert vocabulary.encode(CATALOGUE.drop("title")).words.tolist() == []
    assert vocabulary.encode(CATALOGUE).words.tolist() == []


def test_a_catalogue_without_category_and_title_has_ids_alone() -> None:
    bare = CATALOGUE.select("item_id")
    vocabulary = learned(catalogue=bare)
    fields = vocabulary.encode(bare)
    assert len(vocabulary.categories) == len(vocabulary.words) == len(fields.words) == 0
    assert fields.categories.tolist() == [0] * 5
    assert fields.is_known.tolist() == [True, True, False, True, False]


# --- titles


def test_titles_are_split_into_words_in_lower_case_and_repeats_are_kept() -> None:
    vocabulary = learned()
    fields = vocabulary.encode(CATALOGUE)
    assert words_of(vocabulary, fields, 0) == ["red", "train", "red"]


def test_na_null_and_none_are_titles_like_any_other() -> None:
    vocabulary = learned()
    fields = vocabulary.encode(CATALOGUE)
    assert words_of(vocabulary, fields, 1) == ["null"]
    assert words_of(vocabulary, fields, 4) == ["none", "na", "3", "5mm"]


def test_a_missing_title_and_an_empty_one_have_no_words() -> None:
    fields = learned().encode(CATALOGUE)
    assert np.diff(fields.word_offsets).tolist() == [3, 1, 0, 0, 4]


def test_the_most_frequent_words_have_rows_and_ties_go_by_the_alphabet() -> None:
    assert learned(max_words=3).words.ids(range(3)) == ["red", "3", "5mm"]
    fields = learned(max_words=3).encode(CATALOGUE)
    assert np.diff(fields.word_offsets).tolist() == [2, 0, 0, 0, 2]
    assert len(learned(max_words=0).words) == 0


def test_unseen_words_are_left_out() -> None:
    vocabulary = learned()
    unseen = {"item_id": ["x", "y"], "category": ["toys"] * 2, "title": ["blue train", "blue"]}
    fields = vocabulary.encode(pl.DataFrame(unseen))
    assert words_of(vocabulary, fields, 0) == ["train"]
    assert words_of(vocabulary, fields, 1) == []


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Ärger STRASSE", ["ärger", "strasse"]),
        ("قطار أحمر", ["قطار", "أحمر"]),
        ("हिन्दी खिलौना", ["हिन्दी", "खिलौना"]),
        ("cafe\u0301 crème", ["cafe\u0301", "crème"]),
        ("红色火车", ["红色火车"]),
        ("🚂 train 🚂🚂", ["train"]),
        ("a\x00b\u200fc", ["a", "b", "c"]),
        ("snake_case x-y l'eau", ["snake", "case", "x", "y", "l", "eau"]),
        ("½ 10% №5", ["½", "10", "5"]),
    ],
)
def test_words_of_every_script_stay_whole(title: str, words: list[str]) -> None:
    assert words_in(title) == words


def test_a_title_of_a_megabyte_is_a_title() -> None:
    assert len(words_in("long " * 200_000)) == 200_000


# --- ItemFields


def test_take_gives_the_fields_of_some_items() -> None:
    fields = learned().encode(CATALOGUE)
    taken = fields.take(np.array([4, 2, 0, 4]))
    assert taken.slots.tolist() == fields.slots[[4, 2, 0, 4]].tolist()
    assert taken.categories.tolist() == fields.categories[[4, 2, 0, 4]].tolist()
    assert taken.word_offsets.tolist() == [0, 4, 4, 7, 11]
    assert words_of(learned(), taken, 2) == ["red", "train", "red"]
    assert len(taken) == 4
    nothing = fields.take(np.zeros(0, dtype=np.int64))
    assert len(nothing) == len(nothing.words) == 0
    assert nothing.word_offsets.tolist() == [0]


def test_an_item_is_known_by_its_id_its_category_or_a_word() -> None:
    catalogue = pl.DataFrame(
        {
            "item_id": ["b", "x", "y", "z"],
            "category": [None, "toys", "?", None],
            "title": ["", None, "a red one", "blue"],
        }
    )
    assert learned().encode(catalogue).is_known.tolist() == [True, True, True, False]


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    vocabulary = learned()
    vocabulary.save(tmp_path / "fields")
    loaded = FieldVocabulary.load(tmp_path / "fields")
    assert loaded == vocabulary
    one, other = vocabulary.encode(CATALOGUE), loaded.encode(CATALOGUE)
    for name in ("slots", "categories", "words", "word_offsets"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_empty_vocabularies_survive_a_round_trip(tmp_path: Path) -> None:
    vocabulary = learned(0, 0, CATALOGUE.select("item_id"))
    vocabulary.save(tmp_path / "fields")
    assert FieldVocabulary.load(tmp_path / "fields").encode(CATALOGUE).slots.tolist() == [0] * 5


TITLES = st.lists(st.one_of(st.none(), st.text(max_size=20)), min_size=1, max_size=8)


@given(TITLES)
def test_every_title_is_read_without_touching_its_neighbours(titles: list[str | None]) -> None:
    catalogue = pl.DataFrame(
        {"item_id": list(range(len(titles))), "title": titles},
        schema={"item_id": pl.Int64, "title": pl.String},
    )
    vocabulary = FieldVocabulary.learn(catalogue, np.ones(len(titles), np.int64), 10, 1000)
    fields = vocabulary.encode(catalogue)
    for item in range(len(titles)):
        alone = vocabulary.encode(catalogue[item])
        assert words_of(vocabulary, fields, item) == words_of(vocabulary, alone, 0)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)), max_size=6))
def test_ranges_are_pythons(pairs: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in pairs], dtype=np.int64)
    stops = np.array([start + length for start, length in pairs], dtype=np.int64)
    expected = [number for start, length in pairs for number in range(start, start + length)]
    assert ranges(starts, stops).tolist() == expected
