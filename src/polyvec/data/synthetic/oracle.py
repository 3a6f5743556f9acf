"""The best possible ranking of a synthetic shop's items, from the truth that was planted.

The oracle knows the closed form that purchases were drawn from
(:mod:`polyvec.data.synthetic.world`), every user's interests, how they drift, and what the user bought
before the cut-off. A model sees only the log; its recall is read as a share of the oracle's.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.data.dataset import MICROSECONDS_PER_DAY, PURCHASE, Dataset
from polyvec.data.item_sets import expand_ranges
from polyvec.data.split import cut
from polyvec.data.synthetic.shop import EVENT_FILE, START
from polyvec.data.synthetic.truth import Truth
from polyvec.data.synthetic.world import PERIOD_DAYS, WHIM, slot_weights, taste_rows
from polyvec.errors import DataError, UsageError
from polyvec.ids import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from polyvec.data.synthetic.world import Floats, Ints, World

CHUNK_USERS = 512


class Oracle:
    """Ranks items by the true probability that a user's next purchase after the cut-off is the item.

    Parameters
    ----------
    shop
        Folder of the synthetic shop.
    dataset
        Dataset of that shop's events (prepared, or :func:`shop_dataset`); only purchases count.
    cutoff
        T in microseconds since 1970 UTC. Purchases before it are known; interests, seasons and the
        assortment are those of the window after it.
    target_days
        Length of the window in days; probabilities are averaged over it.

    Raises
    ------
    ArtifactError
        If ``shop`` is not a synthetic shop.
    DataError
        If the Dataset has users or items that the shop has not.
    UsageError
        If the window does not begin within the shop's days.
    """

    def __init__(self, shop: Path, dataset: Dataset, cutoff: int, target_days: float = 30) -> None:
        truth = Truth.open(shop)
        self._world, self._planted = truth.world, truth.planted
        self._purchases = dataset.only_action(PURCHASE)
        self._windows = cut(self._purchases, cutoff, None, target_days)
        self._planted_rows = _known(Vocabulary(truth.user_ids, "user_id"), dataset.users)
        self._item_rows = _known(Vocabulary(truth.item_ids, "item_id"), dataset.items)
        self._days = _window_days(self._world, cutoff, target_days)

    def rank(self, user_rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """Rows of the k most probable items of every user, best first; int64 ``[B, k]``, −1 padded."""
        ranked_BK = np.full((len(user_rows), k), -1, dtype=np.int64)
        for first in range(0, len(user_rows), CHUNK_USERS):
            chunk = slice(first, first + CHUNK_USERS)
            best = _top(self.probabilities(user_rows[chunk]), k)
            ranked_BK[chunk, : best.shape[1]] = best
        return ranked_BK

    def probabilities(self, user_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """P(purchase = item | user, window, purchases before) ``[B, N]`` over the Dataset's items.

        Exact for the first purchase of the window on a day drawn at random from it; for later ones repeats
        of purchases made within the window are left out.
        """
        fresh_BN = self._fresh(self._planted_rows[user_rows])[:, self._item_rows]
        bought_BN = self._bought(user_rows)
        total_B1 = bought_BN.sum(axis=1, keepdims=True)
        repeat_B1 = np.where(total_B1 > 0, self._world.repeat_share, 0.0)
        mixed_BN: Floats = fresh_BN * (1 - repeat_B1) + bought_BN * (repeat_B1 / np.maximum(total_B1, 1))
        return mixed_BN

    def _fresh(self, users_B: Ints) -> Floats:
        """Probabilities ``[B, N]`` of a purchase that repeats none, over the shop's items."""
        world = self._world
        country_B = self._planted.country_U[users_B]
        fresh_BN = np.zeros((len(users_B), world.num_items))
        for period, shelf_SN in self._shelves.items():
            days = self._days[self._days // PERIOD_DAYS == period]
            wanted_BG = self._categories(users_B, days) * (len(days) / len(self._days))
            fresh_BN += wanted_BG[:, world.item_category_N] * shelf_SN[country_B]
        return fresh_BN

    def _categories(self, users_B: Ints, days: Ints) -> Floats:
        """Probability ``[B, G]`` of every category, averaged over days."""
        users_E, days_E = np.repeat(users_B, len(days)), np.tile(days, len(users_B))
        weights_EV = slot_weights(self._world, self._planted, users_E, days_E)
        row_of_E = np.repeat(np.arange(len(users_B)), len(days))
        width = len(self._world.taste_RG)
        flat = np.zeros(len(users_B) * width)
        for slot in range(WHIM + 1):
            slots_E = np.full(len(users_E), slot)
            rows_E = taste_rows(self._world, self._planted, users_E, days_E, slots_E)
            flat += np.bincount(row_of_E * width + rows_E, weights_EV[:, slot], minlength=len(flat))
        wanted_BG: Floats = flat.reshape(-1, width) @ self._world.taste_RG / len(days)
        return wanted_BG

    @cached_property
    def _shelves(self) -> dict[int, Floats]:
        """Item probabilities ``[S, N]`` by period of the window."""
        countries = range(len(self._world.countries))
        periods = np.unique(self._days // PERIOD_DAYS).tolist()
        return {p: np.stack([self._world.shelf(s, p) for s in countries]) for p in periods}

    def _bought(self, user_rows: Ints) -> Floats:
        """Purchases ``[B, N]`` before the cut-off."""
        windows, width = self._windows[user_rows], self._purchases.num_items
        owners, events = expand_ranges(windows.history_start, windows.history_end)
        places = owners * width + self._purchases.item_rows[events]
        return np.bincount(places, minlength=len(user_rows) * width).reshape(-1, width).astype(np.float64)


def shop_dataset(shop: Path, action: str = PURCHASE) -> Dataset:
    """Events of one action as a Dataset in memory, with all users and items of the shop: for small shops.

    ``polyvec prepare`` makes the Dataset that models are trained on; this one serves summaries and tests.

    Raises
    ------
    ArtifactError
        If ``shop`` is not a synthetic shop.
    """
    truth = Truth.open(shop)
    users, items = Vocabulary(truth.user_ids, "user_id"), Vocabulary(truth.item_ids, "item_id")
    events = pl.scan_parquet(shop / EVENT_FILE).filter(pl.col("action") == action)
    frame = events.select("user_id", "item_id", pl.col("timestamp").dt.epoch("us")).collect()
    user_rows = users.rows(frame["user_id"])  # the log is sorted by user and time
    return Dataset(
        users=users,
        items=items,
        item_table=pl.read_parquet(shop / "items.parquet"),
        user_offsets=np.searchsorted(user_rows, np.arange(len(users) + 1)),
        item_rows=items.rows(frame["item_id"]),
        times=frame["timestamp"].to_numpy(),
        time_kind="timestamp",
        columns={},
        codes={},
    )


def _known(truth: Vocabulary, asked: Vocabulary) -> Ints:
    """Rows of the truth for all ids of the Dataset."""
    rows = truth.rows(asked.series)
    if (rows < 0).any():
        stranger = asked.take([int(np.argmin(rows))])[0]
        raise DataError(
            f"{asked.name} {stranger!r} is not of this synthetic shop",
            column=asked.name,
            expected="a Dataset prepared from the shop's events",
        )
    return rows


def _window_days(world: World, cutoff: int, target_days: float) -> Ints:
    """Days of the world that the window covers; it may end, but not begin, after the last."""
    first = (cutoff - START * 1_000_000) / MICROSECONDS_PER_DAY
    if not 0 <= first < world.days:
        raise UsageError(
            f"the cut-off is {first:.0f} days after the shop's first day",
            expected=f"0 to {world.days - 1}, the days that the shop has",
        )
    end = min(world.days, int(np.ceil(first + target_days)))
    return np.arange(int(first), max(end, int(first) + 1))


def _top(score_BN: Floats, k: int) -> Ints:
    """Columns of the k largest positive scores of every row, best first; −1 where there are fewer."""
    k = min(k, score_BN.shape[1])
    best_BK = np.argpartition(-score_BN, k - 1, axis=1)[:, :k]
    best_score_BK = np.take_along_axis(score_BN, best_BK, axis=1)
    order_BK = np.argsort(-best_score_BK, axis=1, kind="stable")
    ranked_BK = np.take_along_axis(best_BK, order_BK, axis=1)
    return np.where(np.take_along_axis(best_score_BK, order_BK, axis=1) > 0, ranked_BK, -1)
