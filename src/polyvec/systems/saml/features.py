"""Fields and numbers of items and users, as rows of tables and normalised numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import polars as pl
import torch

from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.data.fields import check_catalogue, check_item_fields, texts_of
from polyvec.data.item_sets import expand_ranges
from polyvec.data.market import SCENARIO, Market, Statistics
from polyvec.errors import DataError, UsageError, nearest_name
from polyvec.ids import Vocabulary
from polyvec.systems.saml.network import ITEM_ID, USER_ID, Batch, Shape
from polyvec.systems.saml.samples import scenarios_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.offers import Offers
    from polyvec.systems.saml.config import SAMLConfig
    from polyvec.systems.saml.samples import Samples

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]

HISTORY, COUNTED, OF_ITEM = "history", "counted ", "of the item "  # among the names of the numbers
ALIKE = 1e-6  # deviation of numbers that are the same but for rounding
MOST_COUNTED = 100_000  # samples that means and deviations of what is counted are taken of


@dataclass(frozen=True)
class Counted:
    """What is counted of an item in its scenario before the day of an offer.

    Attributes
    ----------
    scenarios
        In the order that numbers them.
    action
        What users, revenue and recency are of.
    windows
        Days; see :class:`polyvec.data.market.Statistics`.
    """

    scenarios: tuple[str, ...]
    action: str
    windows: tuple[int, ...]

    def statistics(self, dataset: Dataset) -> list[Statistics | None]:
        """Of every scenario; None for one that the data does not have.

        Raises
        ------
        DataError
            If the data has no timestamps.
        """
        known, each = dataset.codes.get(SCENARIO, []), np.arange(dataset.num_items)
        return [
            Statistics(Market.of(dataset, name), each, self.action, self.windows) if name in known else None
            for name in self.scenarios
        ]


def _names(statistics: list[Statistics | None]) -> list[str]:
    """What the scenarios' statistics are called, each once."""
    return list(dict.fromkeys(name for one in statistics if one is not None for name in one.names))


def _counts(statistics: list[Statistics | None], names: list[str], offers: Offers) -> npt.NDArray[np.float64]:
    """Statistics of offers' items, log(1 + x), ``[P, F]``; NaN for what is not known, or not in the log."""
    found = np.full((len(offers), len(names)), np.nan)
    for place, one in enumerate(statistics):
        mine = np.flatnonzero(offers.scenarios == place)
        if one is not None and len(mine):
            values = one.at(offers.items[mine], offers.times[mine] // MICROSECONDS_PER_DAY)
            there = [name for name in names if name in one.names]
            columns = [names.index(name) for name in there]
            rows = found[mine]
            rows[:, columns] = values[:, [one.names.index(name) for name in there]]
            found[mine] = rows
    return np.sign(found) * np.log1p(np.abs(found))


@dataclass(frozen=True)
class Fields:
    """What has a row of its own, and how numbers are normalised: log(1 + x), less the mean, by the deviation.

    Attributes
    ----------
    items
        Known values of every field of the item, its id first.
    context
        Known values of every field of the moment.
    numbers
        Mean and deviation of every number of the catalogue, then of the history's length, then of what is
        counted.
    counted
        What that is; None for nothing.
    """

    items: dict[str, Vocabulary]
    context: dict[str, Vocabulary]
    numbers: dict[str, tuple[float, float]]
    counted: Counted | None = None

    @classmethod
    def learn(
        cls, dataset: Dataset, samples: Samples, config: SAMLConfig, scenarios: Sequence[str] = ()
    ) -> Fields:
        """From a catalogue and training samples, which are of those scenarios; of all without.

        Raises
        ------
        DataError
            If a number of the configuration is not in the catalogue, or no number.
        """
        _check_names(dataset, config)
        seen = np.bincount(samples.offers.items, minlength=dataset.num_items)
        items = {ITEM_ID: Vocabulary(dataset.items.take(_most(seen, config.max_ids)), ITEM_ID)}
        for name in config.item_fields:
            if name in dataset.item_table.columns:
                values = texts_of(dataset.item_table, name).drop_nulls().unique().sort()
                items[name] = Vocabulary(values, name)
        context = {name: _texts(dataset, name) for name in config.context_fields}
        if config.user_ids:
            users = np.bincount(samples.offers.users, minlength=dataset.num_users)
            context[USER_ID] = Vocabulary(dataset.users.take(_most(users, config.max_users)), USER_ID)
        numbers = {}
        for name in config.item_numbers:
            values_N = _number(dataset.item_table, name)
            numbers[f"{OF_ITEM}{name}"] = _spread(values_N[samples.offers.items])
        numbers[HISTORY] = _spread(np.log1p((samples.stop - samples.start).astype(np.float64)))
        counted = None
        if config.windows:
            asked = tuple(scenarios or scenarios_of(dataset, config))
            counted = Counted(asked, config.action, config.windows)
            statistics = counted.statistics(dataset)
            names = _names(statistics)
            drawn = np.random.default_rng(0).permutation(len(samples))[:MOST_COUNTED]
            columns = _counts(statistics, names, samples.offers.take(drawn)).T
            numbers |= {
                f"{COUNTED}{name}": _spread(column) for name, column in zip(names, columns, strict=True)
            }
        return cls(items, context, numbers, counted)

    def shape(self, scenarios: int) -> Shape:
        """Rows of the tables, one more than known values each."""
        return Shape(
            {name: len(known) + 1 for name, known in self.context.items()},
            {name: len(known) + 1 for name, known in self.items.items()},
            len(self.numbers),
            scenarios,
        )

    def save(self, folder: Path) -> None:
        """Write a Parquet file for every field."""
        folder.mkdir()
        for name, known in (self.items | self.context).items():
            known.save(folder / _file(name))

    @classmethod
    def load(
        cls,
        folder: Path,
        items: list[str],
        context: list[str],
        numbers: dict[str, tuple[float, float]],
        counted: Counted | None,
    ) -> Fields:
        """Read what :meth:`save` wrote; names, numbers and what is counted are in the configuration file."""
        found = [
            {name: Vocabulary.load(folder / _file(name), name) for name in names}
            for names in (items, context)
        ]
        return cls(found[0], found[1], numbers, counted)


@dataclass(frozen=True)
class Encoder:
    """Turns samples of one Dataset into batches.

    Attributes
    ----------
    item_codes
        Rows of the item's fields, int64 ``[N + 1, F]``; 0 is unknown, as all are of row −1.
    context
        Of every field of the moment its column of events, and the row of every code of the column, the last
        one for what is missing.
    users
        Row of every user's id, int64 ``[U + 1]``, the last one nobody's; None without a field for it.
    numbers
        Normalised numbers of the catalogue, ``[N + 1, …]``; what is missing is 0, the mean.
    history
        Mean and deviation of the logarithm of the history's length.
    statistics
        What is counted, by scenario; empty for nothing.
    counted
        Mean and deviation of every one of it, by name.
    """

    item_codes: Ints
    context: list[tuple[npt.NDArray[Any], Ints]]
    users: Ints | None
    numbers: Floats
    history: tuple[float, float]
    statistics: list[Statistics | None]
    counted: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, dataset: Dataset, fields: Fields) -> Encoder:
        """Look up a catalogue and its users."""
        table = dataset.item_table
        check_catalogue(table, fields.items)
        codes = [
            known.rows(table[ITEM_ID] if name == ITEM_ID else texts_of(table, name)) + 1
            for name, known in fields.items.items()
        ]
        context = [
            (dataset.columns[name], np.append(known.rows(_texts(dataset, name).series) + 1, 0))
            for name, known in fields.context.items()
            if name != USER_ID
        ]
        users = fields.context.get(USER_ID)
        numbers = [
            np.nan_to_num((_number(table, name.removeprefix(OF_ITEM)) - mean) / deviation)
            for name, (mean, deviation) in fields.numbers.items()
            if name.startswith(OF_ITEM)
        ]
        nothing = np.empty((dataset.num_items, 0))
        return cls(
            np.pad(np.stack(codes, axis=1).astype(np.int64), ((0, 1), (0, 0))),
            context,
            None if users is None else np.append(users.rows(dataset.users.series) + 1, 0),
            np.pad(np.stack(numbers, axis=1) if numbers else nothing, ((0, 1), (0, 0))).astype(np.float32),
            fields.numbers[HISTORY],
            [] if fields.counted is None else fields.counted.statistics(dataset),
            {
                name.removeprefix(COUNTED): spread
                for name, spread in fields.numbers.items()
                if name.startswith(COUNTED)
            },
        )

    def batch(self, samples: Samples, device: torch.device, counts: Floats | None = None) -> Batch:
        """Samples as tensors; ``counts`` are theirs, if they have been looked up already."""
        offers = samples.offers
        owners, events = expand_ranges(samples.start, samples.stop)
        mean, deviation = self.history
        counts = self.counts(offers) if counts is None else counts
        lengths = (np.log1p((samples.stop - samples.start).astype(np.float64)) - mean) / deviation
        dense = np.concatenate([self.numbers[offers.items], lengths[:, None], counts], axis=1)
        arrays = (
            offers.scenarios,
            self._context(samples),
            self.item_codes[offers.items],
            self.item_codes[samples.past[events]],
            owners,
            dense.astype(np.float32),
            offers.labels.astype(np.float32),
        )
        return Batch(*(torch.from_numpy(array).to(device) for array in arrays))

    def counts(self, offers: Offers) -> Floats:
        """What is counted, normalised, ``[P, F]``; what is not known is 0, the mean."""
        if not self.statistics:
            return np.empty((len(offers), 0), np.float32)
        mean, deviation = np.array(list(self.counted.values())).T
        counts = _counts(self.statistics, list(self.counted), offers)
        return np.nan_to_num((counts - mean) / deviation).astype(np.float32)

    def _context(self, samples: Samples) -> Ints:
        """Rows of the fields of the moment, int64 ``[P, F]``."""
        known = samples.latest >= 0
        parts = [
            row_of_code[np.where(known, np.asarray(column[samples.latest]), -1)]
            for column, row_of_code in self.context
        ]
        if self.users is not None:
            parts.append(self.users[samples.offers.users])
        return np.stack(parts, axis=1) if parts else np.empty((len(samples), 0), np.int64)


@dataclass(frozen=True)
class SamplePlan:
    """Batches of samples in an order that is a pure function of (seed, epoch).

    Attributes
    ----------
    samples, encoder
        What is learned from.
    batch_size
        Samples of a batch.
    seed
        Of the order.
    device
        Where the tensors are made.
    """

    samples: Samples
    encoder: Encoder
    batch_size: int
    seed: int
    device: torch.device

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    @cached_property
    def counts(self) -> Floats:
        """Counts of all samples, looked up at once: batch by batch that takes longer than training does."""
        return self.encoder.counts(self.samples.offers)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from number ``skip`` on."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.samples))
        for start in range(skip * self.batch_size, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield self.encoder.batch(self.samples.take(rows), self.device, self.counts[rows])

    def widest(self) -> Batch:
        """The samples of the longest histories."""
        rows = np.argsort(self.samples.start - self.samples.stop, kind="stable")[: self.batch_size]
        return self.encoder.batch(self.samples.take(rows), self.device)


def _file(name: str) -> str:
    """File of a field, whatever its column is called."""
    return f"{quote(name, safe=' ')}.parquet"


def _most(counts: Ints, most: int) -> Ints:
    """Rows of any count, the largest first, so many at most."""
    order = np.argsort(-counts, kind="stable")[:most]
    return order[counts[order] > 0]


def _number(item_table: pl.DataFrame, name: str) -> npt.NDArray[np.float64]:
    """A number of the catalogue, log(1 + x) with its sign kept; NaN where it is missing."""
    if name not in item_table.columns or not item_table[name].dtype.is_numeric():
        raise DataError(
            f"the catalogue has no number '{name}'",
            column=name,
            expected="a column of numbers",
            mend="leave it out of item_numbers, or prepare the data with it",
        )
    values = item_table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return np.sign(values) * np.log1p(np.abs(values))


def _spread(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and deviation of what is known; a deviation of 1 where all are alike."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    mean, deviation = float(known.mean()), float(known.std())
    return mean, deviation if deviation > ALIKE * max(abs(mean), 1) else 1.0


def _check_names(dataset: Dataset, config: SAMLConfig) -> None:
    """Refuse fields that cannot be what they are called.

    Raises
    ------
    UsageError
        If a field is both of the item and of the moment, is what is to be foretold, or is unknown.
    """
    check_item_fields(dataset.item_table, config.item_fields, type(config)().item_fields)
    items = [ITEM_ID, *(name for name in config.item_fields if name in dataset.item_table.columns)]
    for name in config.context_fields:
        if name in (*items, USER_ID, "action", "scenario"):
            raise UsageError(
                f"'{name}' cannot be a context field",
                expected="a text column of the events that is none of the item's fields, action or scenario",
                mend="leave it out of context_fields, or prepare the data with another name for it",
            )
    known = [*items, *config.context_fields, *([USER_ID] if config.user_ids else [])]
    for name in config.specific_fields:
        if name not in known:
            raise UsageError(
                f"specific_fields: there is no field '{name}'", expected=nearest_name(name, known)
            )


def _texts(dataset: Dataset, name: str) -> Vocabulary:
    """Values of a text column of the events.

    Raises
    ------
    DataError
        If there is none.
    """
    if name not in dataset.codes:
        raise DataError(
            f"the events have no texts '{name}'",
            column=name,
            expected=nearest_name(name, list(dataset.codes)),
            mend="leave it out of context_fields, or prepare the data with --keep",
        )
    return Vocabulary(pl.Series(name, dataset.codes[name], dtype=pl.String), name)
