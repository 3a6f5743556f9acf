"""Transfer: at what price level will a user buy? No system here is trained on prices.

The price preference of DUPN (Ni et al., KDD 2018, section 4.3) asked of frozen vectors, and how many labels
that needs: probes are told the answers of 1 %, 10 % and all of the training users, and asked about the same
test users.

A purchase has one of seven levels: its price among the prices of the same category (of all items where the
catalogue has no categories), cut into sevenths by what was paid in the history window. A user's level is the
median of the purchases in the target window, the lower one of two.

Left out are users without an event in the history window; purchases without a price, or of a category with
fewer than 140 purchases or too few different prices in the history window; and levels of fewer than 20 users.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polyvec.data.item_sets import expand_ranges
from polyvec.data.split import cut
from polyvec.evaluation.classification import accuracy, auc, macro_f1
from polyvec.evaluation.tasks.behaviour import Asked, item_categories
from polyvec.evaluation.trials import LEAST_USERS, SEEDS, Problem, attempt_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.evaluation.probes import Features

TASK, LABEL = "transfer", "price level"
LEVELS = 7
LEAST_PRICES = LEVELS * 20  # with fewer, the ends of a category's levels are chance
TRAIN_SHARES = (0.01, 0.1, 1.0)
MOST_USERS = 10_000  # more are drawn from at random: each is learned from at three shares
MEASURES = {"accuracy": accuracy, "auc": auc, "macro_f1": macro_f1}
ENDS = tuple(f"end of level {level}" for level in range(1, LEVELS))


def transfer(
    features: Mapping[str, Features | Sequence[Features]],
    asked: Asked,
    seeds: Sequence[int] = SEEDS,
    reference: str | None = None,
    train_shares: Sequence[float] = TRAIN_SHARES,
) -> pl.DataFrame:
    """Foretell price levels from each kind of features, told the answers of few and of many users.

    Parameters
    ----------
    features
        By name, a sequence for several runs; rows as told to :func:`questions`. They must know nothing at or
        after the cut-off.
    asked
        What :func:`questions` made. Its notes belong beside the table.
    seeds
        One split into training (70 %) and test users (30 %) and one start of the probe for each.
    reference
        Features that the others' differences are taken from, paired by seed.
    train_shares
        Shares of the training users whose answers are told, each above 0 to 1; of every level one user at
        least. Smaller shares are parts of the larger ones; the test users are the same.

    Returns
    -------
    polars.DataFrame
        The table described in :func:`polyvec.evaluation.trials.attempt`, rows for each share: it has
        ``train_users``. ``metric`` is ``accuracy``, ``auc`` (mean of each level against the rest) or
        ``macro_f1``. No row if the task was not asked.
    """
    problems = [replace(problem, train_share=share) for problem in asked.problems for share in train_shares]
    return attempt_all(features, problems, MEASURES, seeds, reference)


def questions(dataset: Dataset, cutoff: int, history_days: float = 365, target_days: float = 30) -> Asked:
    """Ask for the price level of each user's purchases after the cut-off.

    Prices are those of the purchases where the Dataset keeps them, otherwise the catalogue's.

    Parameters
    ----------
    dataset
        Events with timestamps. Where actions are told apart, all of them make a user one with history, and
        the price of purchases alone is foretold. Rows of the features are its users in order.
    cutoff
        T in microseconds since 1970 UTC.
    history_days, target_days
        Days before and after the cut-off.

    Raises
    ------
    DataError
        If the data has no timestamps.
    UsageError
        If actions are told apart and none is a purchase.
    """
    purchases = dataset.only_action()
    prices_E = _prices(purchases)
    if prices_E is None:
        return _not_asked("neither the purchases nor the catalogue have prices")
    windows = cut(purchases, cutoff, history_days, target_days)
    groups_N = _groups(purchases)
    before = _priced(purchases, prices_E, groups_N, windows.history_start, windows.history_end)
    after = _priced(purchases, prices_E, groups_N, windows.target_start, windows.target_end)
    ends = _ends_of_levels(before)
    if not len(ends):
        return _not_asked(
            f"no category has {LEAST_PRICES} purchases at prices different enough for {LEVELS} levels "
            "before the cut-off"
        )
    seen = cut(dataset, cutoff, history_days, target_days)
    levels = _levels(after, ends)
    has_history = (seen.history_end > seen.history_start)[levels["user"].to_numpy()]
    return _ask(levels.filter(pl.Series(has_history)))


def _not_asked(why: str) -> Asked:
    return Asked([], [f"{TASK} was not asked: {why}"])


def _ask(levels: pl.DataFrame) -> Asked:
    """Make a problem of the users' levels; levels of too few users are left out, the others numbered."""
    sizes = levels["level"].value_counts(name="users").filter(pl.col("users") >= LEAST_USERS)
    if len(sizes) < 2:
        return _not_asked(f"fewer than two price levels have {LEAST_USERS} users with history")
    kept = levels.join(sizes, on="level", how="semi", maintain_order="left")
    answers = kept["level"].rank("dense").to_numpy().astype(np.int64) - 1
    return Asked([Problem(TASK, LABEL, kept["user"].to_numpy(), answers).at_most(MOST_USERS)], [])


def _prices(purchases: Dataset) -> npt.NDArray[np.floating] | None:
    """Price of every event: its own, else its item's; None if there is none above 0."""
    if "price" in purchases.columns and (purchases.columns["price"] > 0).any():
        return purchases.columns["price"]
    if "price" not in purchases.item_table.columns:
        return None
    prices_N = purchases.item_table["price"].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    return prices_N[purchases.item_rows] if (prices_N > 0).any() else None


def _groups(purchases: Dataset) -> npt.NDArray[np.int64]:
    """Group of every item, whose prices make its levels: its category; items of no category are a group."""
    categories_N = item_categories(purchases)
    return np.full(purchases.num_items, -1) if categories_N is None else categories_N


def _priced(
    purchases: Dataset,
    prices_E: npt.NDArray[np.floating],
    groups_N: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    stop: npt.NDArray[np.int64],
) -> pl.DataFrame:
    """``user, group, price`` of the events of all users' windows."""
    users, events = expand_ranges(start, stop)
    groups = groups_N[purchases.item_rows[events]]
    table = pl.DataFrame({"user": users, "group": groups, "price": prices_E[events].astype(np.float64)})
    return table.filter(pl.col("price").is_finite(), pl.col("price") > 0)


def _ends_of_levels(before: pl.DataFrame) -> pl.DataFrame:
    """Sevenths of the prices paid in every group that has enough different ones: ``group`` and its ends."""
    sevenths = [pl.col("price").quantile(n / LEVELS, "linear").alias(end) for n, end in enumerate(ENDS, 1)]
    ends = before.group_by("group").agg(pl.len().alias("purchases"), *sevenths)
    rising = [pl.col(low) < pl.col(high) for low, high in pairwise(ENDS)]
    return ends.filter(pl.col("purchases") >= LEAST_PRICES, *rising).drop("purchases")


def _levels(after: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """``user, level``: median level, from 0, of each user's purchases in groups that have levels."""
    level = pl.sum_horizontal([pl.col("price") > pl.col(end) for end in ENDS])
    levels = after.join(ends, on="group").select("user", level.cast(pl.Int64).alias("level"))
    medians = levels.group_by("user").agg(pl.col("level").quantile(0.5, "lower").cast(pl.Int64))
    return medians.sort("user")
