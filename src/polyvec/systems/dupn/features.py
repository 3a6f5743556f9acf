"""Items, events, users and queries as rows of tables; samples of several tasks as one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.data.fields import (
    WORD,
    check_catalogue,
    frequent_words,
    lists_of,
    rows_of_lists,
    texts_of,
    titles_as_words,
)
from polyvec.data.item_sets import expand_ranges
from polyvec.errors import DataError, nearest_name
from polyvec.ids import Vocabulary
from polyvec.systems.dupn.batch import Batch, Items, Shape

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.systems.dupn.config import DUPNConfig
    from polyvec.systems.dupn.samples import Samples

    Ints = npt.NDArray[np.int64]

ITEM_ID, QUERY = "item_id", "query"
PROPERTIES = ("action", "scenario")
SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000
GAPS = (
    5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 4 * HOUR, 9 * HOUR, 24 * HOUR, 2 * MICROSECONDS_PER_DAY,
    7 * MICROSECONDS_PER_DAY, 30 * MICROSECONDS_PER_DAY,
)  # fmt: skip
"""Bounds of the paper's eleven ages of an event (its Figure 9)."""
PARTS_OF_DAY = 6  # of four hours
EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday


def gap_of(gaps: Ints) -> Ints:
    """Which of the eleven ages: below 5 minutes, 15, 30, an hour, 4, 9, 24, 2 days, 7, 30, or above."""
    return np.searchsorted(GAPS, gaps, side="right").astype(np.int64)


def part_of_week(times: Ints) -> Ints:
    """Part of the day, 0 … 5 on weekdays and 6 … 11 on weekends, of microseconds since 1970."""
    day, within = np.divmod(times, MICROSECONDS_PER_DAY)
    is_weekend = (day + EPOCH_WEEKDAY) % 7 >= 5
    return within // (24 // PARTS_OF_DAY * HOUR) + PARTS_OF_DAY * is_weekend


@dataclass(frozen=True)
class Fields:
    """What has a row of its own.

    Attributes
    ----------
    items
        Known values of every field of the item, its id first.
    words
        Of titles.
    events
        Known values of every property of an event but its time.
    users
        Known values of every field of the user.
    query
        Known words of queries.
    tags
        Known values of every field of the item that holds lists.
    """

    items: dict[str, Vocabulary]
    words: Vocabulary
    events: dict[str, Vocabulary]
    users: dict[str, Vocabulary]
    query: Vocabulary
    tags: dict[str, Vocabulary] = field(default_factory=dict)

    @classmethod
    def learn(cls, dataset: Dataset, config: DUPNConfig, is_read: npt.NDArray[np.bool_]) -> Fields:
        """From a catalogue and those of the events that are read, bool ``[E]``.

        Raises
        ------
        DataError
            If a field of the configuration cannot be one.
        """
        table = dataset.item_table
        counts_N = np.bincount(dataset.item_rows[is_read], minlength=dataset.num_items)
        order = np.argsort(-counts_N, kind="stable")[: config.max_ids]
        items = {ITEM_ID: Vocabulary(dataset.items.take(order[counts_N[order] > 0]), ITEM_ID)}
        tags = {}
        for name in config.item_fields:
            if name in table.columns and table[name].dtype.is_nested():
                values = lists_of(table, name).explode(empty_as_null=False, keep_nulls=False).drop_nulls()
                if len(values):
                    tags[name] = Vocabulary(values.unique().sort(), name)
            elif name in table.columns:
                items[name] = Vocabulary(texts_of(table, name).drop_nulls().unique().sort(), name)
        for name in config.profile_fields:
            if name not in dataset.codes:
                raise DataError(
                    f"the events have no texts '{name}'",
                    column=name,
                    expected=nearest_name(name, list(dataset.codes)),
                    mend="leave it out of profile_fields, or prepare the data with --keep",
                )
        words = pl.Series("word", [], dtype=pl.String)
        query = pl.Series("word", [], dtype=pl.String)
        if config.max_words:
            words = frequent_words(table, config.max_words)
        if config.query_words and QUERY in dataset.codes:
            query = _words_of_queries(dataset, is_read, config.query_words)
        return cls(
            items,
            Vocabulary(words, "word"),
            {name: _texts(dataset, name) for name in PROPERTIES if len(dataset.codes.get(name, [])) > 1},
            {name: _texts(dataset, name) for name in config.profile_fields},
            Vocabulary(query, "word"),
            tags,
        )

    def grown(self, dataset: Dataset, config: DUPNConfig, is_read: npt.NDArray[np.bool_]) -> Fields:
        """With rows at the end for what those events and their catalogue have and these fields have not.

        A field that was not there has no table, and gets none. Items and words have ``max_ids`` and
        ``max_words`` rows at most.
        """
        config = replace(
            config,
            item_fields=tuple(name for name in (*self.items, *self.tags) if name != ITEM_ID),
            profile_fields=tuple(name for name in self.users if name in dataset.codes),
        )
        new = Fields.learn(dataset, config, is_read)
        most = {ITEM_ID: config.max_ids}

        def extended(known: dict[str, Vocabulary], more: dict[str, Vocabulary]) -> dict[str, Vocabulary]:
            return {
                name: one.extended(more[name].series, most.get(name)) if name in more else one
                for name, one in known.items()
            }

        return Fields(
            extended(self.items, new.items),
            self.words.extended(new.words.series, config.max_words) if len(self.words) else self.words,
            extended(self.events, new.events),
            extended(self.users, new.users),
            self.query.extended(new.query.series, config.query_words) if len(self.query) else self.query,
            extended(self.tags, new.tags),
        )

    def shape(self, *, has_times: bool) -> Shape:
        """Rows of the tables: one more than known values each."""
        return Shape(
            {name: len(known) + 1 for name, known in self.items.items()},
            len(self.words),
            {name: len(known) + 1 for name, known in self.events.items()},
            has_times,
            {name: len(known) + 1 for name, known in self.users.items()},
            len(self.query),
            {name: len(known) for name, known in self.tags.items()},
        )

    def save(self, folder: Path) -> None:
        """Write a Parquet file for every field."""
        folder.mkdir()
        for kind, name, known in self._all():
            (folder / kind).mkdir(exist_ok=True)
            known.save(folder / kind / f"{name}.parquet")

    @property
    def names(self) -> dict[str, list[str]]:
        """Names by kind: what :meth:`load` needs."""
        kinds = {"items": self.items, "events": self.events, "users": self.users, "tags": self.tags}
        return {kind: list(some) for kind, some in kinds.items()}

    @classmethod
    def load(cls, folder: Path, names: dict[str, list[str]]) -> Fields:
        """Read what :meth:`save` wrote."""
        found = {
            kind: {name: Vocabulary.load(folder / kind / f"{name}.parquet", name) for name in some}
            for kind, some in (names | {"words": ["word"], "query": ["word"]}).items()
        }
        words, query = found["words"]["word"], found["query"]["word"]
        return cls(found["items"], words, found["events"], found["users"], query, found.get("tags", {}))

    def _all(self) -> Iterator[tuple[str, str, Vocabulary]]:
        kinds = {
            "items": self.items, "words": {"word": self.words}, "events": self.events, "users": self.users,
            "query": {"word": self.query}, "tags": self.tags,
        }  # fmt: skip
        for kind, some in kinds.items():
            for name, known in some.items():
                yield kind, name, known

    def words_of_queries(self, queries: Sequence[str | None]) -> tuple[Ints, Ints]:
        """Rows of the known words of what is searched for, and offsets ``[Q + 1]``; none of None."""
        texts = pl.Series(QUERY, queries, dtype=pl.String).fill_null("")
        return rows_of_lists(self.query, _as_words(texts))


@dataclass(frozen=True)
class ItemRows:
    """Fields of the N items of a catalogue as rows of tables.

    Attributes
    ----------
    codes
        Of every field of one text each, int64 ``[N, F]``; 0 is unknown.
    words
        Of title words, one item after the other, and their offsets ``[N + 1]``.
    tags
        The same of every field that holds lists.
    """

    codes: Ints
    words: tuple[Ints, Ints]
    tags: list[tuple[Ints, Ints]]

    @classmethod
    def of(cls, item_table: pl.DataFrame, fields: Fields) -> ItemRows:
        """Look up a catalogue.

        Raises
        ------
        DataError
            If it lacks a column that the fields have been learned from, or has it in another form.
        """
        check_catalogue(item_table, {**fields.items, **fields.tags, "title": fields.words})
        codes = [
            known.rows(item_table[ITEM_ID] if name == ITEM_ID else texts_of(item_table, name)) + 1
            for name, known in fields.items.items()
        ]
        return cls(
            np.stack(codes, axis=1).astype(np.int64),
            rows_of_lists(fields.words, titles_as_words(item_table)),
            [rows_of_lists(known, lists_of(item_table, name)) for name, known in fields.tags.items()],
        )

    @property
    def is_known(self) -> npt.NDArray[np.bool_]:
        """Whether anything of an item is known, ``[N]``."""
        known = (self.codes > 0).any(axis=1)
        for _, offsets in (self.words, *self.tags):
            known |= np.diff(offsets) > 0
        return np.asarray(known)

    def take(
        self, rows: Ints, device: torch.device, expected: npt.NDArray[np.float32] | None = None
    ) -> Items:
        """Fields of some items as tensors; without ``expected`` they are in no batch of a plan."""

        def tensor(array: npt.NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        expected = np.zeros(len(rows), np.float32) if expected is None else expected
        (words, offsets), *tags = (
            tuple(map(tensor, some_of(*one, rows))) for one in (self.words, *self.tags)
        )
        return Items(tensor(self.codes[rows]), words, offsets, tensor(expected), tuple(tags))

    def all(self, device: torch.device) -> Items:
        """All items as tensors, of no training events."""
        return self.take(np.arange(len(self.codes)), device)


def some_of(values: Ints, offsets: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Of lists one after the other those of some rows, and where each begins ``[M]``."""
    return of_ranges(values, offsets[rows], offsets[rows + 1])


def of_ranges(values: Ints, starts: Ints, stops: Ints) -> tuple[Ints, Ints]:
    """Values of M ranges one after the other, and where each begins ``[M]``."""
    return values[expand_ranges(starts, stops)[1]], np.cumsum(stops - starts) - (stops - starts)


@dataclass(frozen=True)
class Encoder:
    """Turns samples of one Dataset into batches.

    Attributes
    ----------
    dataset
        The log.
    catalogue
        Rows of the items' fields.
    properties
        Row of every property of every code of its column, the last one for what is missing.
    users
        The same of the fields of the user.
    query
        Rows of words of every query, and offsets; None without queries.
    """

    dataset: Dataset
    catalogue: ItemRows
    properties: dict[str, Ints]
    users: dict[str, Ints]
    query: tuple[Ints, Ints] | None

    @classmethod
    def of(cls, dataset: Dataset, fields: Fields) -> Encoder:
        """Look up a log and its catalogue."""

        def rows(name: str, known: Vocabulary) -> Ints:
            there = pl.Series(name, dataset.codes.get(name, []), dtype=pl.String)
            return np.append(known.rows(there) + 1, 0)

        query = fields.words_of_queries(dataset.codes.get(QUERY, [])) if len(fields.query) else None
        return cls(
            dataset,
            ItemRows.of(dataset.item_table, fields),
            {name: rows(name, known) for name, known in fields.events.items()},
            {name: rows(name, known) for name, known in fields.users.items()},
            query,
        )

    def batch(
        self,
        tasks: dict[str, Samples],
        device: torch.device,
        *,
        asks: bool = True,
        expected_N: npt.NDArray[np.float32] | None = None,
    ) -> Batch:
        """Samples as tensors, task after task.

        Parameters
        ----------
        tasks
            Samples by task.
        device
            Where the tensors are made.
        asks
            Without it nobody searches: queries are left out, as for vectors of users.
        expected_N
            How often every item is expected in such a batch, where that is asked.
        """
        together = {
            name: np.concatenate([getattr(samples, name) for samples in tasks.values()])
            for name in (
                "users",
                "times",
                "start",
                "stop",
                "events",
                "items",
                "entities",
                "answers",
                "weights",
            )
        }
        start, stop = together["start"], together["stop"]
        owners, events = expand_ranges(start, stop)
        rows = np.asarray(self.dataset.item_rows)[events].astype(np.int64)
        asked = together["items"]
        distinct, places = np.unique(np.concatenate([rows, asked[asked >= 0]]), return_inverse=True)
        candidates = np.full(len(asked), -1)
        candidates[asked >= 0] = places[len(rows) :]
        properties = [self._property(name, events) for name in self.properties]
        if self.dataset.time_kind == "timestamp":
            times = np.asarray(self.dataset.times)[events]
            properties += [gap_of(together["times"][owners] - times), part_of_week(times)]
        words, word_offsets = self._queries(together, asks=asks)

        def tensor(array: npt.NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        return Batch(
            items=self.catalogue.take(distinct, device, None if expected_N is None else expected_N[distinct]),
            lengths=torch.from_numpy(stop - start),
            history=tensor(places[: len(rows)]),
            owners=tensor(owners),
            properties=tensor(np.stack(properties, axis=1) if properties else _none(len(events))),
            users=tensor(self._profiles(start, stop)),
            words=tensor(words),
            word_offsets=tensor(word_offsets),
            candidates=tensor(candidates),
            entities=tensor(together["entities"]),
            answers=tensor(together["answers"]),
            weights=tensor(together["weights"]),
            numbers={name: tensor(samples.numbers) for name, samples in tasks.items()},
            sizes={name: len(samples) for name, samples in tasks.items()},
        )

    def _property(self, name: str, events: Ints) -> Ints:
        if name not in self.dataset.columns:
            return np.zeros(len(events), np.int64)
        return self.properties[name][np.asarray(self.dataset.columns[name])[events]]

    def _profiles(self, start: Ints, stop: Ints) -> Ints:
        """Fields of the users as their latest events told them, int64 ``[P, F]``; unknown without any."""
        known, latest = stop > start, np.maximum(stop - 1, 0)
        parts = []
        for name, row_of_code in self.users.items():
            there = name in self.dataset.columns and self.dataset.num_events > 0
            codes = np.asarray(self.dataset.columns[name])[latest] if there else np.full(len(start), -1)
            parts.append(row_of_code[np.where(known, codes, -1)])
        return np.stack(parts, axis=1) if parts else _none(len(start))

    def _queries(self, together: dict[str, Any], *, asks: bool) -> tuple[Ints, Ints]:
        """Words of the queries of the events that samples are of, and where each begins."""
        nothing = np.empty(0, np.int64), np.zeros(len(together["users"]), np.int64)
        if self.query is None or not asks or QUERY not in self.dataset.columns:
            return nothing
        events = together["events"]
        codes = np.where(events >= 0, np.asarray(self.dataset.columns[QUERY])[events], -1)
        words, offsets = self.query
        return of_ranges(words, *(np.where(codes >= 0, offsets[codes + more], 0) for more in (0, 1)))


def _none(count: int) -> Ints:
    return np.empty((count, 0), np.int64)


def _texts(dataset: Dataset, name: str) -> Vocabulary:
    return Vocabulary(pl.Series(name, dataset.codes[name], dtype=pl.String), name)


def _as_words(texts: pl.Series) -> pl.Series:
    return texts.str.to_lowercase().str.extract_all(WORD)


def _words_of_queries(dataset: Dataset, is_read: npt.NDArray[np.bool_], most: int) -> pl.Series:
    """Words of most queries of those events, most frequent first."""
    codes = np.asarray(dataset.columns[QUERY])[is_read]
    codes = codes[codes >= 0]
    asked = np.bincount(codes, minlength=len(dataset.codes[QUERY]))
    words = pl.DataFrame(
        {"word": _as_words(pl.Series(dataset.codes[QUERY], dtype=pl.String)), "asked": asked}
    )
    counts = words.explode("word").drop_nulls().group_by("word").agg(pl.col("asked").sum())
    counts = counts.filter(pl.col("asked") > 0).sort(["asked", "word"], descending=[True, False])
    return counts["word"].head(most)
