"""What scores of offered items are worth, scenario by scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from polyvec.evaluation.classification import auc

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LEAST = 1e-7  # probability that a logarithm is taken of


def area_under_curve(labels_P: npt.NDArray[np.bool_], scores_P: Floats) -> float:
    """AUC; NaN where all labels are alike."""
    return float(auc(labels_P[:, None], scores_P[:, None]).mean()) if len(labels_P) else float("nan")


def grouped_auc(labels_P: npt.NDArray[np.bool_], scores_P: Floats, users_P: npt.NDArray[np.int64]) -> float:
    """GAUC: mean of users' AUCs, weighted by their samples, of users with labels of both kinds.

    NaN if there is no such user.
    """
    order = np.lexsort((scores_P, users_P))
    users, labels, scores = users_P[order], labels_P[order], scores_P[order]
    begins = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    sizes = np.diff(np.append(begins, len(users)))
    group = np.repeat(np.arange(len(begins)), sizes)
    ranks = _mid_ranks(group, scores) - begins[group]
    taken = np.bincount(group, labels, minlength=len(begins))
    left = sizes - taken
    both = (taken > 0) & (left > 0)
    if not both.any():
        return float("nan")
    sums = np.bincount(group, np.where(labels, ranks, 0.0), minlength=len(begins))
    areas = (sums[both] - taken[both] * (taken[both] - 1) / 2) / (taken[both] * left[both])
    return float(np.average(areas, weights=sizes[both]))


def measures(
    labels_P: npt.NDArray[np.bool_], logits_P: Floats, users_P: npt.NDArray[np.int64]
) -> dict[str, float]:
    """AUC, GAUC and log-loss of samples of one scenario, and how many they are."""
    if not len(labels_P):
        return {"auc": np.nan, "gauc": np.nan, "log_loss": np.nan, "samples": 0}
    chance = np.clip(expit(logits_P), LEAST, 1 - LEAST)
    return {
        "auc": area_under_curve(labels_P, logits_P),
        "gauc": grouped_auc(labels_P, logits_P, users_P),
        "log_loss": float(-np.mean(np.log(np.where(labels_P, chance, 1 - chance)))),
        "samples": len(logits_P),
    }


def _mid_ranks(group: npt.NDArray[np.int64], scores: Floats) -> Floats:
    """Place of every score, sorted by group and score, from 0 on; the mean place where scores tie."""
    place = np.arange(len(scores), dtype=np.float64)
    changes = np.append(True, (group[1:] != group[:-1]) | (scores[1:] != scores[:-1]))
    run = np.cumsum(changes) - 1
    return (np.bincount(run, place) / np.bincount(run))[run]
