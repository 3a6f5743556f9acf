"""From tasks to samples: who was asked what, when, and what the answer was.

A sample knows of its user what happened strictly before its time, and nothing else. Answers of a period are
those that are known at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from polyvec.data.dataset import MICROSECONDS_PER_DAY, PURCHASE, days, require_timestamps
from polyvec.data.exposures import EXPOSURE
from polyvec.data.fields import holds_texts, texts_of
from polyvec.data.market import Market, Statistics, entities
from polyvec.data.offers import draw_offers, is_within, labels_of
from polyvec.data.split import first_in_ranges
from polyvec.errors import DataError, nearest_name
from polyvec.ids import Vocabulary
from polyvec.systems.dupn.config import Task
from polyvec.systems.dupn.samples import Known, Samples
from polyvec.systems.dupn.takes import Takes

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]

ACTION, PRICE, QUANTITY, QUERY = "action", "price", "quantity", "query"
HISTORY_DAYS = 365  # who has no event in so many days before a moment is not asked what comes
HALF = 0.5  # of a number that is 0 or 1, the middle
ALIKE = 1e-6  # deviation of numbers that are the same but for rounding


@dataclass(frozen=True)
class _Found:
    """What a period holds, before levels, classes and entities have numbers.

    Attributes
    ----------
    users, items, times, events
        As in :class:`Samples`.
    values
        Answers as the data has them: texts, numbers, or 0 and 1.
    entities
        Texts; None for kinds without.
    """

    users: Ints
    items: Ints
    times: Ints
    values: pl.Series
    events: Ints
    entities: pl.Series | None = None

    def take(self, rows: npt.NDArray[Any]) -> _Found:
        """Some of it."""
        texts = None if self.entities is None else self.entities.gather(rows)
        return _Found(
            self.users[rows],
            self.items[rows],
            self.times[rows],
            self.values.gather(rows),
            self.events[rows],
            texts,
        )


def tasks_of(dataset: Dataset) -> dict[str, Task]:
    """Tasks that the data can answer.

    ``next`` item; ``click`` on an item, if the data has labels, ratings or times; ``price`` level of what is
    taken next; ``action`` that comes next, where there are several; ``brand`` and ``shop``, first taken next.
    """
    action = PURCHASE
    if dataset.codes.get(ACTION) and PURCHASE not in dataset.codes[ACTION]:
        codes = np.asarray(dataset.columns[ACTION])
        counts = np.bincount(codes[codes >= 0], minlength=len(dataset.codes[ACTION]))
        if EXPOSURE in dataset.codes[ACTION]:  # what is shown is not what users do
            counts[dataset.codes[ACTION].index(EXPOSURE)] = -1
        action = dataset.codes[ACTION][int(counts.argmax())]
    has_times = dataset.time_kind == "timestamp"
    found = {"next": Task("next", action=action)}
    if has_times or {"label", "rating"} & set(dataset.columns):
        found["click"] = Task("item", action=action)
    if _has_numbers(dataset, PRICE):
        found["price"] = Task("class", action=action, column=PRICE)
    if len(dataset.codes.get(ACTION, [])) > 1:
        found["action"] = Task("class", action="", column=ACTION)
    if has_times:
        for column in ("brand", "shop"):
            if (
                holds_texts(dataset.item_table, column)
                and texts_of(dataset.item_table, column).n_unique() > 1
            ):
                found[column] = Task("entity", action=action, column=column, new_only=True)
    return found


def learn(
    dataset: Dataset, task: Task, start: int, stop: int, seed: int, max_length: int
) -> tuple[Known, Samples]:
    """Training samples of a period, and what is learned from them.

    Parameters
    ----------
    dataset
        The log; nothing from ``stop`` on is looked at.
    task
        What is asked.
    start, stop
        Of the period: see :func:`polyvec.data.offers.draw_offers`.
    seed
        Of what is drawn.
    max_length
        Events of a history.

    Raises
    ------
    DataError
        If the data does not have what the task asks for, or nothing answers it.
    """
    _check_action(dataset, task)
    found = _find(dataset, task, start, stop, seed)
    known = Known()
    if task.kind == "entity":
        known = Known(
            Vocabulary(texts_of(dataset.item_table, task.column).drop_nulls().unique().sort(), "entity")
        )
    elif task.kind in ("class", "window") and found.values.dtype == pl.String:
        known = Known(Vocabulary(found.values.drop_nulls().unique().sort(), "class"))
    elif task.kind == "class" or (task.kind == "window" and task.measure == "spend"):
        known = Known(edges=_edges(found.values.drop_nulls().to_numpy(), task.levels))
    elif task.kind == "window":
        known = Known(edges=(HALF,))
    elif task.kind == "rank":
        known = Known(spreads=_spreads(dataset, task, found))
    samples = _settle(dataset, task, known, found, max_length)
    if task.kind != "next" and (not len(samples) or (samples.answers == samples.answers[0]).all()):
        raise DataError(
            f"of {len(samples):,} samples all have the same answer" if len(samples) else "nothing answers it",
            expected="samples with different answers",
            mend=f"see kind, action ('{task.action}'), labels and column of the task, or the dates",
        )
    if not len(samples):
        raise DataError("nothing answers it", mend=f"see action ('{task.action}') of the task, or the dates")
    return known, samples


def _edges(numbers: npt.NDArray[np.float64], levels: int) -> tuple[float, ...]:
    """Least numbers of the second level and of those above, of about as many of the numbers each.

    Where the least number fills a level by itself, such as nothing that is spent, the others share the rest.
    """
    values, counts = np.unique(numbers, return_counts=True)
    if len(values) < 2 or levels < 2:
        return ()
    if counts[0] * levels >= len(numbers):
        return (float(values[1]), *_edges(numbers[numbers > values[0]], levels - 1))
    below = np.cumsum(counts)[:-1] / len(numbers)  # share of the numbers below every value but the first
    places = [int(np.abs(below - level / levels).argmin()) for level in range(1, levels)]
    return tuple(float(values[1 + place]) for place in sorted(set(places)))


def samples_of(
    dataset: Dataset,
    task: Task,
    known: Known,
    start: int,
    stop: int,
    seed: int,
    max_length: int,
    *,
    anchor: int | None = None,
) -> Samples:
    """Samples of a period whose answers are among those known; see :func:`learn`.

    With an ``anchor`` the moments of ``window`` are whole numbers of ``every_days`` away from it, wherever
    the period ends; without it the latest is the last whose answer is known.
    """
    return _settle(dataset, task, known, _find(dataset, task, start, stop, seed, anchor), max_length)


def _find(
    dataset: Dataset, task: Task, start: int, stop: int, seed: int, anchor: int | None = None
) -> _Found:
    if of_whole_days(dataset, task):
        stop -= stop % days(1)
    if task.kind in ("item", "rank"):
        offers = draw_offers(dataset, task, None, start, stop, seed)
        events = _events_of(dataset, task.action, offers.users, offers.times, offers.items)
        answers = pl.Series(offers.labels.astype(np.int64))
        return _Found(offers.users, offers.items, offers.times, answers, events)
    if task.kind == "entity":
        return _entities_taken(dataset, task, start, stop, seed)
    if task.kind == "window":
        return _windows(dataset, task, start, stop, anchor)
    rows = np.flatnonzero(_is_of_action(dataset, task.action) & is_within(dataset, start, stop))
    users = np.searchsorted(dataset.user_offsets, rows, side="right").astype(np.int64) - 1
    items = np.asarray(dataset.item_rows)[rows].astype(np.int64)
    values = pl.Series(items) if task.kind == "next" else _values(dataset, task.column, rows, items)
    tells = task.column in (ACTION, QUERY)  # then having a query, or the query, is the answer
    events = np.full(len(rows), -1) if tells else rows
    found = _Found(users, items, np.asarray(dataset.times)[rows], values, events)
    return found.take(np.flatnonzero(values.is_not_null()))


def of_whole_days(dataset: Dataset, task: Task) -> bool:
    """Whether answers are known when a day is over: what was shown, or not taken yet, may still be taken."""
    if task.kind in ("item", "rank"):
        return labels_of(dataset, task) == "exposed"
    return task.kind == "entity"


def _settle(dataset: Dataset, task: Task, known: Known, found: _Found, max_length: int) -> Samples:
    """Number answers and entities, and look histories up."""
    count = len(found.users)
    answers, owners = np.zeros(count, np.int64), np.full(count, -1)
    if task.kind == "next":
        answers = found.items
    elif known.names is not None and found.entities is None:
        answers = known.names.rows(found.values)
    elif known.edges:
        answers = np.searchsorted(known.edges, found.values.to_numpy(), side="right").astype(np.int64)
    else:
        answers = found.values.to_numpy().astype(np.int64)
    if known.names is not None and found.entities is not None:
        owners = known.names.rows(found.entities)
    numbers = np.empty((count, 0), np.float32)
    if task.kind == "rank":
        numbers = _numbers(dataset, task, known, found)
    begin, stop = _before(dataset, found.users, found.times)
    some = stop > begin
    if (np.asarray(dataset.times)[stop[some] - 1] >= found.times[some]).any():
        raise DataError("a history is not from before its question", mend="prepare the data again")
    samples = Samples(
        found.users,
        found.times,
        np.maximum(begin, stop - max_length),
        stop,
        found.events,
        found.items if task.kind in ("next", "item", "rank") else np.full(count, -1),
        owners,
        answers,
        numbers,
        np.where(answers > 0, task.gain, 1).astype(np.float32)
        if task.kind == "rank"
        else np.ones(count, np.float32),
    )
    is_known = answers >= 0
    if found.entities is not None:
        is_known &= owners >= 0
    return samples.take(np.flatnonzero(is_known))


def _before(dataset: Dataset, users_P: Ints, times_P: Ints) -> tuple[Ints, Ints]:
    """Events of users before times: the first, and the first that is not, int64 ``[P]`` each."""
    begin, end = dataset.user_offsets[users_P], dataset.user_offsets[users_P + 1]
    return begin, first_in_ranges(dataset.times, begin, end, times_P)


def _check_action(dataset: Dataset, task: Task) -> None:
    """Refuse an action that the data does not tell apart, and none where one has to be taken."""
    known = dataset.codes.get(ACTION)
    if known is None and task.action not in ("", PURCHASE):
        raise DataError(
            f"the events have no actions, so none is '{task.action}'",
            column=ACTION,
            expected=f"action = '{PURCHASE}', which then stands for all events",
            mend="prepare the data with a column action, or change the task's",
        )
    if not task.action and task.kind in ("item", "rank", "entity"):
        raise DataError(
            f"a task of kind '{task.kind}' needs an action that takes the item",
            column=ACTION,
            expected=", ".join(known or [PURCHASE]),
        )
    _is_of_action(dataset, task.action)  # says what is wrong


def _is_of_action(dataset: Dataset, action: str) -> npt.NDArray[np.bool_]:
    """Which events are of an action; all of them for none, and where actions are not told apart."""
    if not action or ACTION not in dataset.columns:
        return np.ones(dataset.num_events, np.bool_)
    if action not in dataset.codes[ACTION]:
        raise DataError(
            f"no event has action '{action}'",
            column=ACTION,
            expected=nearest_name(action, dataset.codes[ACTION]),
        )
    return np.asarray(dataset.columns[ACTION]) == dataset.codes[ACTION].index(action)


def _has_numbers(dataset: Dataset, column: str) -> bool:
    if column in dataset.columns:
        return column not in dataset.codes
    table = dataset.item_table
    return column in table.columns and table[column].dtype.is_numeric()


def _values(dataset: Dataset, column: str, rows: Ints, items: Ints) -> pl.Series:
    """A column of the events, or else of their items; null where it says nothing."""
    if column in dataset.columns:
        values = np.asarray(dataset.columns[column])[rows]
        if column not in dataset.codes:
            return pl.Series(column, values.astype(np.float64), nan_to_null=True)
        texts = pl.Series(column, [*dataset.codes[column], None], dtype=pl.String)
        return texts.gather(np.where(values < 0, len(texts) - 1, values))
    table = dataset.item_table
    if column not in table.columns:
        raise DataError(
            f"neither events nor catalogue have '{column}'",
            column=column,
            expected=nearest_name(column, [*dataset.columns, *table.columns]),
            mend="prepare the data with it (--keep), or change the task's column",
        )
    of_items = table[column]
    if of_items.dtype.is_nested():
        raise DataError("a task's column holds lists", column=column, expected="one text or number each")
    kind = pl.Float64 if of_items.dtype.is_numeric() else pl.String
    return of_items.cast(kind).gather(items)


def _entities_taken(dataset: Dataset, task: Task, start: int, stop: int, seed: int) -> _Found:
    """What items taken belong to, and as often what others took that day belongs to."""
    require_timestamps(dataset, "a task of kind 'entity'")
    if task.column not in dataset.item_table.columns:
        raise DataError(
            f"the catalogue has no '{task.column}'",
            column=task.column,
            expected=nearest_name(task.column, dataset.item_table.columns),
            mend="prepare the data with it, or change the task's column",
        )
    entity_N, names = entities(dataset.item_table, task.column)
    taken = Market.of(dataset, None, stop).of_action(task.action)
    taken = taken.take(entity_N[taken.items] >= 0)
    takes = Takes(taken, entity_N[taken.items], new_only=task.new_only)
    current = takes.of_interest(np.flatnonzero(taken.times >= start))
    events, owners, answers = takes.exchanged(current, task.negatives, seed)
    texts = pl.Series(names, dtype=pl.String).gather(owners)
    users, items, times = taken.users[events], taken.items[events], taken.times[events]
    rows = _events_of(dataset, task.action, users, times, items)
    return _Found(users, items, times, pl.Series(answers), rows, texts)


def _events_of(dataset: Dataset, action: str, users_P: Ints, times_P: Ints, items_P: Ints) -> Ints:
    """Events with a query that offers belong to: of that user, time and item, or else of that action.

    An item that was drawn was offered when the one was that was taken. Rows of the Dataset, −1 for none.
    """
    if QUERY not in dataset.codes:
        return np.full(len(users_P), -1)
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    log = pl.DataFrame({
        "user": owners,
        "time": np.asarray(dataset.times),
        "item": np.asarray(dataset.item_rows).astype(np.int64),
        "event": np.arange(dataset.num_events),
    })  # fmt: skip
    asked = pl.DataFrame({"user": users_P, "time": times_P, "item": items_P})
    taken, found = log.filter(pl.Series(_is_of_action(dataset, action))), []
    for keys, some in ((["user", "time", "item"], log), (["user", "time"], taken)):
        first = some.unique(keys, keep="first", maintain_order=True).select(*keys, "event")
        found.append(asked.join(first, on=keys, how="left", maintain_order="left")["event"])
    return found[0].fill_null(found[1]).fill_null(-1).cast(pl.Int64).to_numpy()


def _windows(dataset: Dataset, task: Task, start: int, stop: int, anchor: int | None) -> _Found:
    """What users do in the days after some moments; the answers are known at the end of the period."""
    require_timestamps(dataset, "a task of kind 'window'")
    length, stride = days(task.days), days(task.every_days)
    first = max(start, dataset.time_span[0] + stride)
    latest = stop - length
    if anchor is not None:
        latest -= (latest - anchor) % stride
    moments = np.arange(latest, first - 1, -stride)[::-1]
    taken = dataset.keep(_is_of_action(dataset, task.action) & np.asarray(dataset.times < stop))
    paid, unknown = np.zeros(taken.num_events), np.zeros(taken.num_events, np.bool_)
    if task.measure == "spend":
        if PRICE not in taken.columns or PRICE in taken.codes:
            raise DataError(
                "the events have no price", column=PRICE, expected="a number", mend="set measure = 'churn'"
            )
        quantity = np.nan_to_num(taken.columns.get(QUANTITY, np.ones(taken.num_events)), nan=1)
        prices = np.asarray(taken.columns[PRICE], np.float64)
        paid, unknown = np.nan_to_num(prices) * quantity, np.isnan(prices)
    sums, unknown_before = (np.concatenate([[0], np.cumsum(each)]) for each in (paid, unknown))
    users, times, values = [], [], []
    everyone = np.arange(dataset.num_users)
    for moment in moments.tolist():
        _, now = _before(dataset, everyone, np.full(len(everyone), moment))
        last = np.maximum(now - 1, 0)
        lately = (now > dataset.user_offsets[:-1]) & (dataset.times[last] >= moment - days(HISTORY_DAYS))
        asked = np.flatnonzero(lately)
        _, from_ = _before(taken, asked, np.full(len(asked), moment))
        _, to = _before(taken, asked, np.full(len(asked), moment + length))
        is_known = (
            unknown_before[to] == unknown_before[from_]
        )  # of a missing price nobody knows what was paid
        asked, from_, to = asked[is_known], from_[is_known], to[is_known]
        users.append(asked)
        times.append(np.full(len(asked), moment))
        values.append((to == from_).astype(np.float64) if task.measure == "churn" else sums[to] - sums[from_])
    nothing = np.empty(0, np.int64)
    owners = np.concatenate([nothing, *users])
    answers = pl.Series(np.concatenate([np.empty(0), *values]))
    nobody = np.full(len(owners), -1)
    return _Found(owners, nobody, np.concatenate([nothing, *times]), answers, nobody)


def _raw_numbers(dataset: Dataset, task: Task, found: _Found) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Numbers of the items as they were on the day before, log(1 + x) with their sign, ``[P, n]``."""
    names, columns = [], []
    for name in task.numbers:
        if name not in dataset.item_table.columns or not dataset.item_table[name].dtype.is_numeric():
            raise DataError(
                f"the catalogue has no number '{name}'", column=name, expected="a column of numbers"
            )
        of_items = dataset.item_table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        names.append(name)
        columns.append(of_items[found.items][:, None])
    if task.windows and dataset.time_kind == "timestamp":
        each = np.arange(dataset.num_items)
        statistics = Statistics(Market.of(dataset, None), each, task.action, task.windows)
        names += statistics.names
        columns.append(statistics.at(found.items, found.times // MICROSECONDS_PER_DAY))
    if not columns:
        raise DataError(
            "there is nothing to rank items by",
            expected="number columns of the catalogue, or timestamps to count what happened before",
            mend="name the columns in the task's numbers",
        )
    together = np.concatenate(columns, axis=1)
    together[~np.isfinite(together)] = np.nan
    return names, np.sign(together) * np.log1p(np.abs(together))


def _spreads(dataset: Dataset, task: Task, found: _Found) -> dict[str, tuple[float, float]]:
    """Mean and deviation of every number; less than 0 for one that is lower where items are taken.

    For a user's weights are never below 0: what is normalised must be the larger the better.
    """
    names, values = _raw_numbers(dataset, task, found)
    taken = found.values.to_numpy() > 0
    spreads = {}
    for name, column in zip(names, values.T, strict=True):
        known = np.isfinite(column)
        mean, deviation = (float(column[known].mean()), float(column[known].std())) if known.any() else (0, 0)
        deviation = deviation if deviation > ALIKE * max(abs(mean), 1) else 1.0
        means = [
            column[known & chosen].mean() if (known & chosen).any() else mean for chosen in (taken, ~taken)
        ]
        spreads[name] = (mean, deviation * (1 if means[0] >= means[1] else -1))
    return spreads


def _numbers(dataset: Dataset, task: Task, known: Known, found: _Found) -> Floats:
    """Normalised; what is not known is 0, the mean."""
    names, found_values = _raw_numbers(dataset, task, found)
    values = np.full((len(found_values), len(known.spreads)), np.nan)  # a number that this log does not have
    for place, name in enumerate(known.spreads):
        if name in names:
            values[:, place] = found_values[:, names.index(name)]
    spreads = np.array(list(known.spreads.values()))
    return np.nan_to_num((values - spreads[:, 0]) / spreads[:, 1]).astype(np.float32)
