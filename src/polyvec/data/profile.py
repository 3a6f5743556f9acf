"""The data's profile: how much, from when to when, how unevenly, and what is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from polyvec.data.columns import ITEM, USER
from polyvec.data.dataset import TimeKind, format_time

if TYPE_CHECKING:
    import numpy.typing as npt

TOP = 10
SUSPECT_FACTOR = 100
QUANTILES = {"q25": 0.25, "q50": 0.5, "q75": 0.75, "q99": 0.99}


@dataclass
class Tally:
    """What is counted while a Dataset is written, partition by partition.

    Attributes
    ----------
    item_events
        Events of every item, int64 ``[N]``.
    user_events
        Events of every user, one int64 array per partition.
    values
        Events of every code of the text columns ``action`` and ``scenario``, the last entry counting missing
        values.
    first, last
        Earliest and latest time; None while there is no event.
    """

    item_events: npt.NDArray[np.int64]
    user_events: list[npt.NDArray[np.int64]] = field(default_factory=list)
    values: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None

    def add(
        self,
        users: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
        codes: dict[str, npt.NDArray[np.int64]],
    ) -> None:
        """Count the events of one partition; at least one."""
        self.user_events.append(np.bincount(users))
        self.item_events += np.bincount(items, minlength=len(self.item_events))
        for name, column in codes.items():
            missing = len(self.values[name]) - 1
            named = np.where(column < 0, missing, column)
            self.values[name] += np.bincount(named, minlength=missing + 1)
        first, last = int(times.min()), int(times.max())
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)


def describe(
    tally: Tally,
    users: pl.Series,
    item_table: pl.DataFrame,
    in_catalogue: npt.NDArray[np.bool_] | None,
    time_kind: TimeKind,
) -> dict[str, Any]:
    """Profile of a Dataset as JSON values.

    Parameters
    ----------
    tally
        The counts.
    users
        Raw user ids in row order.
    item_table
        One row per item in row order.
    in_catalogue
        Boolean ``[N]``: whether the catalogue has the item; None without a catalogue.
    time_kind
        How to print times.

    Returns
    -------
    dict
        ``users, items, items_with_events, events, first, last, time_kind``; ``events_per_user`` with mean,
        standard deviation, minimum, quantiles and maximum as in GUIM's Table 1; shares
        ``items_without_title``, ``items_without_category`` (None where no such column exists) and
        ``events_not_in_catalogue``; ``top_users`` (with ``suspect``: over 100 times the 99th percentile) and
        ``top_items``.
    """
    counts = np.concatenate(tally.user_events)
    events = int(counts.sum())
    return {
        "users": len(users),
        "items": len(item_table),
        "items_with_events": int((tally.item_events > 0).sum()),
        "events": events,
        "time_kind": time_kind,
        "first": format_time(tally.first or 0, time_kind),
        "last": format_time(tally.last or 0, time_kind),
        "events_per_user": events_per_user(counts),
        "items_without_title": _share_missing(item_table, "title"),
        "items_without_category": _share_missing(item_table, "category"),
        "items_not_in_catalogue": None if in_catalogue is None else int((~in_catalogue).sum()),
        "events_not_in_catalogue": (
            None if in_catalogue is None else float(tally.item_events[~in_catalogue].sum() / events)
        ),
        "top_users": _top_users(counts, users),
        "top_items": _top_items(tally.item_events, item_table),
    }


def events_per_user(counts: npt.NDArray[np.int64]) -> dict[str, float]:
    """Mean, standard deviation, minimum, quantiles 0.25, 0.5, 0.75, 0.99 and maximum (GUIM, Table 1)."""
    quantiles = np.quantile(counts, list(QUANTILES.values()))
    return {
        "mean": float(counts.mean()),
        "std": float(counts.std()),
        "min": int(counts.min()),
        **{name: float(value) for name, value in zip(QUANTILES, quantiles, strict=True)},
        "max": int(counts.max()),
    }


def value_counts(values: npt.NDArray[np.int64], texts: list[str]) -> dict[str, int]:
    """Events by text, the most frequent first; missing values, the last entry, as an empty text."""
    named = Counter({text: int(count) for text, count in zip([*texts, ""], values, strict=True)})
    return {text: count for text, count in named.most_common() if count}


def _share_missing(items: pl.DataFrame, column: str) -> float | None:
    return items[column].null_count() / len(items) if column in items.columns else None


def _top(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows of the largest positive counts, largest first, ties in row order."""
    cut = min(TOP, len(counts))
    threshold = np.partition(counts, len(counts) - cut)[len(counts) - cut]
    rows = np.flatnonzero(counts >= max(threshold, 1))
    return rows[np.argsort(-counts[rows], kind="stable")][:TOP]


def _top_users(counts: npt.NDArray[np.int64], users: pl.Series) -> list[dict[str, Any]]:
    suspicious = SUSPECT_FACTOR * np.quantile(counts, QUANTILES["q99"])
    return [
        {USER: users[int(row)], "events": int(counts[row]), "suspect": bool(counts[row] > suspicious)}
        for row in _top(counts)
    ]


def _top_items(counts: npt.NDArray[np.int64], items: pl.DataFrame) -> list[dict[str, Any]]:
    titles = items["title"] if "title" in items.columns else None
    return [
        {
            ITEM: items[ITEM][int(row)],
            "title": None if titles is None else titles[int(row)],
            "events": int(counts[row]),
        }
        for row in _top(counts)
    ]
