"""An item's fields as numbers: id slot, category and title words, from a catalogue (GUIM section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from polyvec.data.item_sets import expand_ranges
from polyvec.errors import DataError, UsageError, nearest_name
from polyvec.ids import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

SHARED = 0
"""Slot of everything that has no row of its own: rare ids, unknown categories."""
WORD = r"[\p{L}\p{M}\p{N}]+"


@dataclass(frozen=True)
class ItemFields:
    """Fields of N items.

    Attributes
    ----------
    slots
        Row in the id table, 0 for ids without a row of their own; int64 ``[N]``.
    categories
        Row in the category table, 0 if unknown; int64 ``[N]``.
    words
        Title words of all items one after the other; int64 ``[W]``.
    word_offsets
        Item n owns ``words[word_offsets[n] : word_offsets[n + 1]]``; int64 ``[N + 1]``.
    """

    slots: npt.NDArray[np.int64]
    categories: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    word_offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.slots)

    def take(self, rows: npt.NDArray[Any]) -> ItemFields:
        """Fields of some items."""
        starts, stops = self.word_offsets[rows], self.word_offsets[rows + 1]
        offsets = np.concatenate([[0], np.cumsum(stops - starts)])
        words = self.words[ranges(starts, stops)]
        return ItemFields(self.slots[rows], self.categories[rows], words, offsets)

    @property
    def is_known(self) -> npt.NDArray[np.bool_]:
        """Whether anything at all is known of each item, bool ``[N]``."""
        return (self.slots > 0) | (self.categories > 0) | (np.diff(self.word_offsets) > 0)


@dataclass(frozen=True)
class FieldVocabulary:
    """Which ids, categories and words have a row; turns any catalogue into :class:`ItemFields`.

    Attributes
    ----------
    popular
        Ids with a row of their own, most popular first.
    categories
        Known categories.
    words
        Known title words, lower case.
    """

    popular: Vocabulary
    categories: Vocabulary
    words: Vocabulary

    @classmethod
    def learn(
        cls, item_table: pl.DataFrame, counts: npt.NDArray[np.int64], max_popular: int, max_words: int
    ) -> FieldVocabulary:
        """Choose rows from a catalogue ``[N]`` and the training events of each item, int64 ``[N]``.

        The ``max_popular`` items with the most events get a row (items without events get none), as do all
        categories and the ``max_words`` most frequent words of the titles.
        """
        order = np.argsort(-counts, kind="stable")[:max_popular]
        popular = item_table["item_id"].gather(order[counts[order] > 0])
        return cls(
            Vocabulary(popular, "item_id"),
            Vocabulary(texts_of(item_table, "category").drop_nulls().unique().sort(), "category"),
            Vocabulary(frequent_words(item_table, max_words), "word"),
        )

    def grown(
        self, item_table: pl.DataFrame, counts: npt.NDArray[np.int64], max_popular: int, max_words: int
    ) -> FieldVocabulary:
        """With rows at the end for what a catalogue and its events have and this has not, as far as they go.

        Parameters are those of :meth:`learn`. Categories or words where there were none get no table.
        """
        new = FieldVocabulary.learn(item_table, counts, max_popular, max_words)
        return FieldVocabulary(
            self.popular.extended(new.popular.series, max_popular),
            self.categories.extended(new.categories.series) if len(self.categories) else self.categories,
            self.words.extended(new.words.series, max_words) if len(self.words) else self.words,
        )

    def encode(self, item_table: pl.DataFrame) -> ItemFields:
        """Fields of any catalogue ``[N]``; ids, categories and words without a row fall back to none.

        Raises
        ------
        DataError
            See :func:`check_catalogue`.
        """
        check_catalogue(item_table, {"category": self.categories, "title": self.words})
        words, word_offsets = rows_of_lists(self.words, titles_as_words(item_table))
        return ItemFields(
            slots=self.popular.rows(item_table["item_id"]) + 1,
            categories=self.categories.rows(texts_of(item_table, "category")) + 1,
            words=words,
            word_offsets=word_offsets,
        )

    def save(self, folder: Path) -> None:
        """Write three Parquet files."""
        folder.mkdir()
        for vocabulary in (self.popular, self.categories, self.words):
            vocabulary.save(folder / f"{vocabulary.name}.parquet")

    @classmethod
    def load(cls, folder: Path) -> FieldVocabulary:
        """Read what :meth:`save` wrote."""
        names = ("item_id", "category", "word")
        return cls(*(Vocabulary.load(folder / f"{name}.parquet", name) for name in names))


def ranges(starts: npt.NDArray[Any], stops: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """All integers of several ranges, one after the other.

    >>> ranges(np.array([5, 0]), np.array([8, 2])).tolist()
    [5, 6, 7, 0, 1]
    """
    return expand_ranges(starts, stops)[1]


def check_catalogue(item_table: pl.DataFrame, learned: Mapping[str, Vocabulary]) -> None:
    """Refuse a catalogue without a column that a Model has learned of: its items would be read without it.

    Parameters
    ----------
    item_table
        The catalogue.
    learned
        What the Model knows of each column; of an empty one it has learned nothing.

    Raises
    ------
    DataError
        If there is no such column.
    """
    needed = [name for name, known in learned.items() if len(known)]
    missing = [name for name in needed if name not in item_table.columns]
    if missing:
        raise DataError(
            f"the Model has learned of the items' {' and '.join(missing)}, which this Dataset does not tell",
            column=missing[0],
            expected=f"a catalogue with {', '.join(needed)}",
            mend="prepare it like the Dataset that the Model was fitted to: polyvec prepare … --items FILE",
        )


def check_item_fields(item_table: pl.DataFrame, names: Sequence[str], usual: Sequence[str]) -> None:
    """Refuse columns of the catalogue that a configuration names and that are not there.

    Parameters
    ----------
    item_table
        The catalogue.
    names
        ``item_fields`` of the configuration.
    usual
        Those of them that may be missing: what is read wherever it is there.

    Raises
    ------
    UsageError
        If one is unknown, or the item's id.
    """
    for name in names:
        if name == "item_id" or (name not in item_table.columns and name not in usual):
            known = [column for column in item_table.columns if column != "item_id"]
            raise UsageError(
                f"'{name}' cannot be an item field",
                column=name,
                expected="the id always is one" if name == "item_id" else nearest_name(name, known),
                mend="leave it out of item_fields",
            )


def holds_texts(item_table: pl.DataFrame, column: str) -> bool:
    """Whether the catalogue has the column, with one value for each item."""
    return column in item_table.columns and not item_table[column].dtype.is_nested()


def texts_of(item_table: pl.DataFrame, column: str) -> pl.Series:
    """A column of the catalogue as texts ``[N]``; nulls where there is none.

    Raises
    ------
    DataError
        If the column holds lists.
    """
    if column not in item_table.columns:
        return pl.Series(column, [None] * len(item_table), dtype=pl.String)
    if item_table[column].dtype.is_nested():
        raise DataError(
            "a field of the item holds lists",
            column=column,
            expected="one text for each item",
            mend="keep one of them, or leave it out of item_fields",
        )
    return item_table[column].cast(pl.String)


def lists_of(item_table: pl.DataFrame, column: str) -> pl.Series:
    """A column of the catalogue as lists of texts ``[N]``.

    Raises
    ------
    DataError
        If the column holds no lists, or lists of anything but texts and numbers.
    """
    kind = item_table[column].dtype
    if kind == pl.Null:
        return pl.Series(column, [None] * len(item_table), dtype=pl.List(pl.String))
    if not isinstance(kind, pl.List | pl.Array) or kind.inner.is_nested():
        raise DataError(
            f"a field of the item holds {kind}",
            column=column,
            expected="a list of texts for each item",
            mend="prepare the column as in the Dataset that the Model was fitted to, or leave it out of "
            "item_fields",
        )
    return item_table[column].cast(pl.List(pl.String))


def rows_of_lists(
    vocabulary: Vocabulary, lists: pl.Series
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Known rows of what lists ``[N]`` hold, one list after the other, and their offsets ``[N + 1]``."""
    per_list = lists.list.len().fill_null(0).to_numpy()
    list_of = np.repeat(np.arange(len(lists)), per_list)
    rows = vocabulary.rows(lists.explode(empty_as_null=False, keep_nulls=False))
    known = rows >= 0
    kept = np.bincount(list_of[known], minlength=len(lists))
    return rows[known], np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)


def titles_as_words(item_table: pl.DataFrame) -> pl.Series:
    """Lower-case words of every title, lists ``[N]``; null without a title."""
    return texts_of(item_table, "title").str.to_lowercase().str.extract_all(WORD)


def frequent_words(item_table: pl.DataFrame, max_words: int) -> pl.Series:
    """The words that stand most often in titles, most frequent first."""
    words = titles_as_words(item_table).explode(empty_as_null=False, keep_nulls=False).drop_nulls()
    counts = words.alias("word").value_counts().sort(["count", "word"], descending=[True, False])
    return counts["word"].head(max_words)
