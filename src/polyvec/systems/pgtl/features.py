"""Features of items of one market on a day: profile and statistics, in buckets (PGTL, data preprocessing)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.data.fields import (
    check_catalogue,
    frequent_words,
    ranges,
    rows_of_lists,
    texts_of,
    titles_as_words,
)
from polyvec.data.market import Market, Statistics, entities
from polyvec.errors import UsageError
from polyvec.ids import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from polyvec.systems.pgtl.config import PGTLConfig

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

SELLERS = ("shop", "seller", "brand")
"""Columns of the catalogue whose values sell items; the first that is there has statistics of its own."""
TEXTS = ("category", "brand", "shop", "seller")
"""Columns of the catalogue whose values are features."""
MISSING, NOTHING, FIRST = range(3)  # buckets of NaN, of zero and less, and the first of positive numbers


class Sight:
    """Numbers that are known of items of one market on a day, of the days before.

    Parameters
    ----------
    market
        The log.
    item_table
        The catalogue ``[N]``; its columns of numbers are features of every day.
    config
        Windows, and what counts as a click.
    names
        Numbers that a model knows, in its order; all without.

    Attributes
    ----------
    names
        What the numbers are.

    Raises
    ------
    UsageError
        If the data lacks one of them.
    """

    def __init__(
        self,
        market: Market,
        item_table: pl.DataFrame,
        config: PGTLConfig,
        names: list[str] | None = None,
    ) -> None:
        own = np.arange(len(item_table))
        self._statistics = [("item", own, Statistics(market, own, config.action, config.windows))]
        seller = next((name for name in SELLERS if name in item_table.columns), None)
        if seller is not None:
            owner_N = entities(item_table, seller)[0]
            statistics = Statistics(market, owner_N, config.action, config.windows)
            self._statistics.append((seller, owner_N, statistics))
        numbers = item_table.select(pl.selectors.numeric() - pl.selectors.by_name("item_id"))
        self._numbers = numbers.columns
        columns = [numbers[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in self._numbers]
        self._profile_NF = np.stack([np.empty(len(item_table)), *columns], axis=1)[:, 1:]
        found = [f"{kind}: {name}" for kind, _, statistics in self._statistics for name in statistics.names]
        known = [*self._numbers, *found]
        self.names = known if names is None else names
        if missing := [name for name in self.names if name not in known]:
            raise UsageError(
                f"the data lacks numbers that the model was trained on: {', '.join(missing)}",
                expected="the columns and actions of the training data",
            )
        self._columns = [known.index(name) for name in self.names]

    @property
    def has_numbers(self) -> npt.NDArray[np.bool_]:
        """Whether the catalogue tells a number of each item, ``[N]``."""
        return np.isfinite(self._profile_NF).any(axis=1)

    def values(self, items_M: Ints, days_M: Ints) -> Floats:
        """Numbers of items on days, ``[M, F]``; NaN where one is not known."""
        parts = [statistics.at(owner_N[items_M], days_M) for _, owner_N, statistics in self._statistics]
        return np.concatenate([self._profile_NF[items_M], *parts], axis=1)[:, self._columns]


@dataclass(frozen=True)
class Buckets:
    """Numbers as buckets: one for what is not known, one for zero, and some of like many positive values.

    Attributes
    ----------
    edges
        Lower edges of the buckets after the first, ascending, of every number.
    most
        Buckets of positive values; every number has ``most + 2`` rows in a table.
    """

    edges: list[Floats]
    most: int

    @classmethod
    def learn(cls, values_MF: Floats, most: int) -> Buckets:
        """Edges at the quantiles of the positive values of every number."""
        quantiles = np.linspace(0, 1, most + 1)[1:-1]
        edges = []
        for column in values_MF.T:
            positive = column[np.isfinite(column) & (column > 0)]
            edges.append(np.unique(np.quantile(positive, quantiles)) if len(positive) else np.empty(0))
        return cls(edges, most)

    @property
    def size(self) -> int:
        """Buckets of every number."""
        return self.most + FIRST

    def codes(self, values_MF: Floats) -> npt.NDArray[np.int32]:
        """Rows of the table, ``[M, F]``: those of number f begin at ``f × size``."""
        codes_MF = np.empty(values_MF.shape, np.int32)
        for place, (edges, column) in enumerate(zip(self.edges, values_MF.T, strict=True)):
            codes = FIRST + np.searchsorted(edges, column, side="right")
            codes[column <= 0] = NOTHING
            codes[np.isnan(column)] = MISSING
            codes_MF[:, place] = place * self.size + codes
        return codes_MF


@dataclass(frozen=True)
class Bags:
    """Several codes for each of M: item m has ``codes[offsets[m] : offsets[m + 1]]``."""

    codes: Ints
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Ints) -> Bags:
        """Bags of some."""
        starts, stops = self.offsets[rows], self.offsets[rows + 1]
        return Bags(self.codes[ranges(starts, stops)], _offsets(stops - starts))

    def joined(self, groups: Bags) -> Bags:
        """For every group of rows, the codes of all of them."""
        inner = self.take(groups.codes)
        return Bags(inner.codes, inner.offsets[groups.offsets])


@dataclass(frozen=True)
class Texts:
    """Ids, categories, brands … and words of titles as rows of a table.

    Attributes
    ----------
    known
        Texts with a row, by field; the rows of a field follow those of the one before.
    """

    known: dict[str, Vocabulary]

    @classmethod
    def learn(cls, item_table: pl.DataFrame, events_N: Ints, config: PGTLConfig) -> Texts:
        """Choose rows from a catalogue ``[N]`` and the training events of each item in either market."""
        order = np.argsort(-events_N, kind="stable")[: config.max_ids]
        known = {"item_id": Vocabulary(item_table["item_id"].gather(order[events_N[order] > 0]), "item_id")}
        for name in TEXTS:
            if name in item_table.columns:
                texts = texts_of(item_table, name).drop_nulls().unique().sort()
                known[name] = Vocabulary(texts, name)
        if "title" in item_table.columns and config.max_words:
            known["title"] = Vocabulary(frequent_words(item_table, config.max_words), "word")
        return cls({name: vocabulary for name, vocabulary in known.items() if len(vocabulary)})

    @property
    def num_rows(self) -> int:
        """Rows of all fields."""
        return sum(map(len, self.known.values()))

    @property
    def num_ids(self) -> int:
        """Rows of the first field, the ids, if there is one."""
        return len(self.known.get("item_id", ()))

    def encode(self, item_table: pl.DataFrame) -> list[Bags]:
        """Bags of the items of any catalogue ``[N]``, one by field; what has no row is left out."""
        check_catalogue(item_table, self.known)
        found, first = [], 0
        for name, vocabulary in self.known.items():
            if name == "title":
                rows, offsets = rows_of_lists(vocabulary, titles_as_words(item_table))
            else:
                rows = vocabulary.rows(item_table[name] if name == "item_id" else texts_of(item_table, name))
                rows, offsets = rows[rows >= 0], _offsets((rows >= 0).astype(np.int64))
            found.append(Bags(rows + first, offsets))
            first += len(vocabulary)
        return found

    def save(self, folder: Path) -> None:
        """Write one Parquet file by field."""
        folder.mkdir()
        for name, vocabulary in self.known.items():
            vocabulary.save(folder / f"{name}.parquet")

    @classmethod
    def load(cls, folder: Path, names: list[str]) -> Texts:
        """Read what :meth:`save` wrote."""
        return cls({
            name: Vocabulary.load(folder / f"{name}.parquet", "word" if name == "title" else name)
            for name in names
        })  # fmt: skip


def _offsets(sizes_M: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(sizes_M)]).astype(np.int64)


# --- relations of the target's items to the source's -------------------------------------------------------

UNRELATED, WEAK, STRONG = range(3)


@dataclass(frozen=True)
class Relations:
    """Related source items R_i of every item.

    Attributes
    ----------
    items
        Rows of the Dataset, a bag for every item ``[N]``.
    kind_N
        ``STRONG``: the same id was sold in the source. ``WEAK``: others of its category were. ``UNRELATED``.
    """

    items: Bags
    kind_N: Ints

    def values(self, sight: Sight, items_M: Ints, days_M: Ints) -> Floats:
        """Prior features x^p: means over the related source items on those days, ``[M, F]``; NaN without."""
        related = self.items.take(items_M)
        sizes = np.diff(related.offsets)
        owner = np.repeat(np.arange(len(items_M)), sizes)
        values_RF = sight.values(related.codes, days_M[owner])
        known_RF = np.isfinite(values_RF)
        starts = related.offsets[:-1][sizes > 0]
        found_MF = np.full((len(items_M), values_RF.shape[1]), np.nan)
        if len(starts):
            number = np.add.reduceat(known_RF, starts, axis=0, dtype=np.int64)
            total = np.add.reduceat(np.where(known_RF, values_RF, 0), starts, axis=0)
            found_MF[sizes > 0] = np.where(number > 0, total / np.maximum(number, 1), np.nan)
        return found_MF

    def shuffled(self, seed: int) -> Relations:
        """Every related item has another's related items."""
        rows = np.flatnonzero(self.kind_N != UNRELATED)
        order = np.arange(len(self.kind_N))
        order[rows] = np.random.default_rng(seed).permutation(rows)
        return Relations(self.items.take(order), self.kind_N[order])


def relate(item_table: pl.DataFrame, source_events_N: Ints, most: int) -> Relations:
    """Relate every item to source items: strongly to itself, else weakly to those of its category.

    Parameters
    ----------
    item_table
        The catalogue ``[N]``.
    source_events_N
        Training events of every item in the source; items without any are not related to.
    most
        Related items at most, those of most events.
    """
    count = len(item_table)
    sold = np.flatnonzero(source_events_N > 0)
    category_N = np.full(count, -1)
    if "category" in item_table.columns:
        category_N = entities(item_table, "category")[0]
    best = sold[np.lexsort((sold, -source_events_N[sold], category_N[sold]))]
    begins = np.searchsorted(category_N[best], np.arange(category_N.max(initial=-1) + 2))
    is_strong, has_category = source_events_N > 0, category_N >= 0
    starts, stops = np.zeros(count, np.int64), np.zeros(count, np.int64)
    starts[has_category] = begins[category_N[has_category]]
    stops[has_category] = np.minimum(begins[category_N[has_category] + 1], starts[has_category] + most)
    sizes = np.where(is_strong, 1, stops - starts)
    related = np.empty(int(sizes.sum()), np.int64)
    owner = np.repeat(np.arange(count), sizes)
    related[is_strong[owner]] = np.flatnonzero(is_strong)
    weak = np.flatnonzero(~is_strong)
    related[~is_strong[owner]] = best[ranges(starts[weak], stops[weak])]
    kind_N = np.where(is_strong, STRONG, np.where(sizes > 0, WEAK, UNRELATED))
    return Relations(Bags(related, _offsets(sizes)), kind_N)
