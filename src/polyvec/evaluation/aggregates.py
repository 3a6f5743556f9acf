"""Hand-made features of users: what an analyst would count. Learned vectors should beat them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.data.item_sets import expand_ranges

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows

GROUPS = 100  # the most frequent categories (or, without a catalogue's categories, items) get a column each


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
        float32 ``[W, 4 + groups]``: log of events, log of distinct items, time since the last event, time
        between first and last event, and the share of events in each frequent category.
    """
    owners, events = expand_ranges(windows.history_start, windows.history_end)
    events_W = np.bincount(owners, minlength=len(windows))
    pairs = np.unique(owners * dataset.num_items + dataset.item_rows[events])
    distinct_W = np.bincount(pairs // max(dataset.num_items, 1), minlength=len(windows))
    there = events_W > 0
    first_W, last_W = np.zeros((2, len(windows)))
    first_W[there] = dataset.times[windows.history_start[there]]
    last_W[there] = dataset.times[windows.history_end[there] - 1]
    simple_W4 = np.stack(
        [
            np.log1p(events_W),
            np.log1p(distinct_W),
            np.where(there, windows.cutoffs - last_W, 0),
            last_W - first_W,
        ],
        axis=1,
    )
    shares_WG = _shares(_groups(dataset), dataset.item_rows[events], owners, events_W)
    return np.concatenate([simple_W4, shares_WG], axis=1).astype(np.float32)


def _groups(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Group of every item, ``[N]``: its category if the catalogue has any, else itself."""
    if "category" not in dataset.item_table.columns:
        return np.arange(dataset.num_items, dtype=np.int64)
    codes = dataset.item_table["category"].cast(pl.String).fill_null("").cast(pl.Categorical).to_physical()
    return codes.rank("dense").to_numpy().astype(np.int64) - 1


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
