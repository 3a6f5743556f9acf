"""Hand-made features of users: what an analyst would count. Learned vectors should beat them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.data.dataset import MICROSECONDS_PER_DAY, PURCHASE, days
from polyvec.data.item_sets import expand_ranges

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows

AGGREGATES = "hand-made aggregates"
GROUPS = 100  # the most frequent categories (or, without a catalogue's categories, items) get a column each
RECENT_DAYS = 30
ACTIONS = 20


def aggregates(dataset: Dataset, windows: Windows) -> npt.NDArray[np.float32]:
    """Count each user's history in simple ways.

    Parameters
    ----------
    dataset
        Events.
    windows
        W windows; only their history is looked at.

    Returns
    -------
    numpy.ndarray
        float32 ``[W, F]``, zeros for users without history:

        - log of events, log of distinct items, time since the last event, time between first and last event;
        - of data with prices or quantities: log of what was spent (``price · quantity``; without prices the
          units bought). A missing price counts 0, a missing quantity 1; negative sums have negative logs;
        - of data with timestamps: log of days with an event, log of events in the last 30 days, log of days
          with an event among these, and log of what was spent in them;
        - of data with several actions: log of the events of each (the 20 most frequent);
        - the share of events in each frequent category (without categories: of each frequent item).
    """
    owners, events = expand_ranges(windows.history_start, windows.history_end)
    events_W = np.bincount(owners, minlength=len(windows))
    groups = [_simple(dataset, windows, owners, events, events_W)]
    spent = _spent(dataset, events)
    if spent is not None:
        groups.append(_sums(owners, spent, len(windows)))
    if dataset.time_kind == "timestamp":
        recent = dataset.times[events] >= windows.cutoffs[owners] - days(RECENT_DAYS)
        groups.append(_frequency(dataset, owners, events, recent, len(windows)))
        if spent is not None:
            groups.append(_sums(owners, spent * recent, len(windows)))
    if len(dataset.codes.get("action", [])) > 1:
        groups.append(_actions(dataset, owners, events, len(windows)))
    groups.append(_shares(_groups(dataset), dataset.item_rows[events], owners, events_W))
    return np.concatenate(groups, axis=1).astype(np.float32)


def _simple(
    dataset: Dataset,
    windows: Windows,
    owners: npt.NDArray[np.int64],
    events: npt.NDArray[np.int64],
    events_W: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Events, distinct items, time since the last event and between first and last, ``[W, 4]``."""
    there = events_W > 0
    first_W, last_W = np.zeros((2, len(windows)))
    first_W[there] = dataset.times[windows.history_start[there]]
    last_W[there] = dataset.times[windows.history_end[there] - 1]
    return np.stack(
        [
            np.log1p(events_W),
            np.log1p(_distinct(owners, dataset.item_rows[events], len(windows))),
            np.where(there, windows.cutoffs - last_W, 0),
            last_W - first_W,
        ],
        axis=1,
    )


def _frequency(
    dataset: Dataset,
    owners: npt.NDArray[np.int64],
    events: npt.NDArray[np.int64],
    recent: npt.NDArray[np.bool_],
    num_windows: int,
) -> npt.NDArray[np.float64]:
    """Log of days with an event, of recent events and of recent days with an event, ``[W, 3]``."""
    day = dataset.times[events] // MICROSECONDS_PER_DAY
    counts = [
        _distinct(owners, day, num_windows),
        np.bincount(owners[recent], minlength=num_windows),
        _distinct(owners[recent], day[recent], num_windows),
    ]
    return np.log1p(np.stack(counts, axis=1))


def _actions(
    dataset: Dataset, owners: npt.NDArray[np.int64], events: npt.NDArray[np.int64], num_windows: int
) -> npt.NDArray[np.float64]:
    """Log of each window's events of every frequent action, ``[W, A]``."""
    codes, known = np.asarray(dataset.columns["action"])[events], len(dataset.codes["action"])
    there = codes >= 0
    counts_WA = np.bincount(owners[there] * known + codes[there], minlength=num_windows * known)
    counts_WA = counts_WA.reshape(num_windows, known)
    frequent = np.argsort(-counts_WA.sum(axis=0), kind="stable")[:ACTIONS]
    return np.log1p(counts_WA[:, frequent])


def _distinct(
    owners: npt.NDArray[np.int64], values: npt.NDArray[np.integer], num_windows: int
) -> npt.NDArray[np.int64]:
    """Distinct values of each window, ``[W]``."""
    order = np.lexsort((values, owners))
    owners, values = owners[order], values[order]
    fresh = np.ones(len(owners), dtype=np.bool_)
    fresh[1:] = (owners[1:] != owners[:-1]) | (values[1:] != values[:-1])
    return np.bincount(owners[fresh], minlength=num_windows)


def _spent(dataset: Dataset, events: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """What each event cost; its units where there are no prices; None where there are neither.

    Of data with actions, events that are no purchase cost nothing.
    """
    missing = {"price": 0.0, "quantity": 1.0}
    there = {name: value for name, value in missing.items() if name in dataset.columns}
    if not there:
        return None
    factors = [
        np.nan_to_num(dataset.columns[name][events].astype(np.float64), nan=value)
        for name, value in there.items()
    ]
    if PURCHASE in dataset.codes.get("action", []):
        codes = np.asarray(dataset.columns["action"])[events]
        factors.append(codes == dataset.codes["action"].index(PURCHASE))
    spent: npt.NDArray[np.float64] = np.prod(factors, axis=0)
    return spent


def _sums(
    owners: npt.NDArray[np.int64], values: npt.NDArray[np.float64], num_windows: int
) -> npt.NDArray[np.float64]:
    """Sum of each window's values, on a logarithmic scale with the sum's sign, ``[W, 1]``."""
    sums_W = np.bincount(owners, weights=values, minlength=num_windows)
    logs: npt.NDArray[np.float64] = (np.sign(sums_W) * np.log1p(np.abs(sums_W)))[:, None]
    return logs


def _groups(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Group of every item, ``[N]``: its category if the catalogue has any, else itself."""
    if "category" not in dataset.item_table.columns:
        return np.arange(dataset.num_items, dtype=np.int64)
    texts = dataset.item_table["category"].cast(pl.String).fill_null("")
    return texts.cast(pl.Enum(texts.unique().sort())).to_physical().to_numpy().astype(np.int64)


def _shares(
    groups_N: npt.NDArray[np.int64],
    items: npt.NDArray[np.integer],
    owners: npt.NDArray[np.int64],
    events_W: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Share of each user's events in each of the most frequent groups, ``[W, groups]``."""
    groups = groups_N[items]
    frequent = np.argsort(-np.bincount(groups, minlength=1), kind="stable")[:GROUPS]
    column = np.full(int(groups_N.max(initial=0)) + 1, -1)
    column[frequent] = np.arange(len(frequent))
    kept = column[groups] >= 0
    cells = owners[kept] * len(frequent) + column[groups[kept]]
    counts = np.bincount(cells, minlength=len(events_W) * len(frequent)).reshape(len(events_W), -1)
    shares: npt.NDArray[np.float64] = counts / np.maximum(events_W, 1)[:, None]
    return shares
