"""Measures of ranked lists, one value per user, and their uncertainty.

Shapes: **B** users, **k** ranked items, **M** measures, **R** resamples. A value is NaN for a user whom the
measure does not count (no item to find); means and intervals leave such users out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.item_sets import ItemSets

RESAMPLES = 1000
RESAMPLES_AT_ONCE = 50
LEVEL = 0.95


def recall(ranked_Bk: npt.NDArray[np.int64], targets: ItemSets, m: int) -> npt.NDArray[np.float64]:
    """Share of each user's target items that are among the first m (GUIM, KDD 2022, eq. 5), ``[B]``.

    The divisor is the number of targets, also where it exceeds m.
    """
    found = targets.contains(ranked_Bk[:, :m]).sum(axis=1)
    return _divide(found, targets.sizes)


def hit_rate(ranked_Bk: npt.NDArray[np.int64], targets: ItemSets, m: int) -> npt.NDArray[np.float64]:
    """1 where at least one target item is among the first m, else 0, ``[B]``."""
    hit = targets.contains(ranked_Bk[:, :m]).any(axis=1)
    return np.where(targets.sizes > 0, hit.astype(np.float64), np.nan)


def ndcg(ranked_Bk: npt.NDArray[np.int64], targets: ItemSets, m: int) -> npt.NDArray[np.float64]:
    """Normalised discounted cumulative gain of the first m, binary relevance, ``[B]``.

    Gain 1 / log2(rank + 1); the ideal list holds min(m, targets) hits on top. (Some libraries divide by the
    ideal of the hits that were found, which rewards finding less.)
    """
    discounts = 1 / np.log2(np.arange(2, m + 2))
    hits = targets.contains(ranked_Bk[:, :m])
    gained = hits @ discounts[: hits.shape[1]]
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    return _divide(gained, ideal[np.minimum(targets.sizes, m)])


def coverage(ranked_Bk: npt.NDArray[np.int64], num_items: int) -> float:
    """Share of all items that at least one user is shown."""
    shown = np.unique(ranked_Bk[ranked_Bk >= 0])
    return len(shown) / num_items if num_items else float("nan")


@dataclass(frozen=True)
class Estimate:
    """A mean over users, its bootstrap interval and the number of users it counts."""

    value: float
    low: float
    high: float
    users: int


def resampled_means(
    values_BM: npt.NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES
) -> npt.NDArray[np.float64]:
    """Means over users drawn with replacement, ``[R, M]``.

    All M measures see the same draws, so that differences between columns are paired by user.
    """
    generator = np.random.default_rng(seed)
    counted = np.isfinite(values_BM).astype(np.float64)
    filled = np.nan_to_num(values_BM)
    parts = [np.empty((0, values_BM.shape[1]))]
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        weights_rB = _draws(generator, min(RESAMPLES_AT_ONCE, resamples - start), len(values_BM))
        parts.append(_divide(weights_rB @ filled, weights_rB @ counted))
    return np.concatenate(parts)


def _draws(generator: np.random.Generator, resamples: int, num_users: int) -> npt.NDArray[np.float64]:
    """How often each user is drawn in each resample, ``[r, B]``."""
    weights_rB = np.zeros((resamples, num_users))
    for row in weights_rB if num_users else []:
        row += np.bincount(generator.integers(0, num_users, num_users), minlength=num_users)
    return weights_rB


def estimate(values_BM: npt.NDArray[np.float64], means_RM: npt.NDArray[np.float64]) -> list[Estimate]:
    """Mean, 95 % bootstrap percentile interval and users counted, of every measure.

    Parameters
    ----------
    values_BM
        One value per user and measure.
    means_RM
        :func:`resampled_means` of the same values.
    """
    counted = np.isfinite(values_BM).sum(axis=0)
    values = _divide(np.nan_to_num(values_BM).sum(axis=0), counted)
    low, high = interval(means_RM)
    return [
        Estimate(float(value), float(lowest), float(highest), int(users))
        for value, lowest, highest, users in zip(values, low, high, counted, strict=True)
    ]


def interval(means_RM: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lower and upper end of the 95 % percentile interval of every column, ``[M]`` each; NaN if unknown."""
    known = np.isfinite(means_RM).any(axis=0)
    ends = np.full((2, means_RM.shape[1]), np.nan)
    quantiles = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    ends[:, known] = np.nanquantile(means_RM[:, known], quantiles, axis=0)
    return ends[0], ends[1]


def _divide(above: npt.ArrayLike, below: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Quotient, NaN where the divisor is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    quotient = np.full(above.shape, np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient
