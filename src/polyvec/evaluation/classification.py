"""Measures of predicted classes and labels as means over users, so that users can be resampled.

Every measure returns one number per user: their mean is the measure, and the mean over users drawn with
replacement follows the measure of the drawn users to first order. For accuracy the numbers are hits; for AUC
and F1, which are no means, they are the measure plus each user's influence on it (the infinitesimal
jackknife; for AUC it gives the variance of DeLong et al., 1988). One call of
:func:`polyvec.evaluation.metrics.resampled_means` then gives intervals of all measures, paired.

Shapes: **B** users, **K** classes or labels. ``truth_BK`` is bool: what holds; one column per class for
classes that exclude each other. A column in which all users are alike is left out of a mean over columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Measure = Callable[[npt.NDArray[np.bool_], npt.NDArray[np.floating]], npt.NDArray[np.float64]]


def accuracy(truth_BK: npt.NDArray[np.bool_], scores_BK: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """1 for every user whose class has the highest score, else 0, ``[B]``."""
    return truth_BK[np.arange(len(truth_BK)), scores_BK.argmax(axis=1)].astype(np.float64)


def macro_f1(truth_BK: npt.NDArray[np.bool_], scores_BK: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """F1 of naming the class with the highest score, mean over classes, as one number per user, ``[B]``.

    F1 of a class is 2 · hits / (users of the class + users named so); classes that are neither are left out.
    """
    named_BK = np.arange(truth_BK.shape[1]) == scores_BK.argmax(axis=1)[:, None]
    hits_BK, either_BK = truth_BK & named_BK, truth_BK.astype(np.float64) + named_BK
    some = either_BK.any(axis=0)
    hits_BK, either_BK = hits_BK[:, some], either_BK[:, some]
    f1_K = 2 * hits_BK.sum(axis=0) / either_BK.sum(axis=0)
    influence_BK = (2 * hits_BK - f1_K * either_BK) / either_BK.mean(axis=0)
    return (f1_K + influence_BK).mean(axis=1)


def auc(truth_BK: npt.NDArray[np.bool_], scores_BK: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Area under the ROC curve, mean over columns (each against the rest), as one number per user, ``[B]``.

    The area is the chance that a user for whom the label holds has a higher score than one for whom it does
    not, ties counting half. NaN for all if no column tells users apart.
    """
    columns = np.flatnonzero(truth_BK.any(axis=0) & ~truth_BK.all(axis=0))
    if not len(columns):
        return np.full(len(truth_BK), np.nan)
    total_B = np.zeros(len(truth_BK))
    for column in columns:
        total_B += _column_auc(truth_BK[:, column], scores_BK[:, column])
    return total_B / len(columns)


def _column_auc(
    truth_B: npt.NDArray[np.bool_], scores_B: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    positive, negative = scores_B[truth_B], scores_B[~truth_B]
    won = _share_below(positive, negative)
    area = won.mean()
    influence_B = np.empty(len(scores_B))
    influence_B[truth_B] = (won - area) / truth_B.mean()
    influence_B[~truth_B] = (1 - _share_below(negative, positive) - area) / (~truth_B).mean()
    return area + influence_B


def _share_below(
    scores: npt.NDArray[np.floating], others: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """For each score the share of others that are lower, ties counting half."""
    others = np.sort(others)
    below, not_above = (np.searchsorted(others, scores, side) for side in ("left", "right"))
    return (below + not_above) / (2 * len(others))
