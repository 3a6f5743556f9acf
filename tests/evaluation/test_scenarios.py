"""Measures of scores against a second implementation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from polyvec.evaluation.scenarios import area_under_curve, grouped_auc, measures


@pytest.mark.parametrize("decimals", [1, 6])  # with and without ties
def test_measures_are_those_of_scikit_learn(decimals):
    random = np.random.default_rng(0)
    users = random.integers(0, 40, 600)
    labels = random.random(600) < 0.4
    labels[users == 3] = True  # a user without any of the other kind
    logits = np.round(random.normal(size=600) + labels, decimals)
    found = measures(labels, logits, users)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, logits))
    assert found["log_loss"] == pytest.approx(log_loss(labels, 1 / (1 + np.exp(-logits))))
    assert found["samples"] == 600
    areas, weights = [], []
    for user in range(40):
        mine = users == user
        if len(set(labels[mine])) == 2:
            areas.append(roc_auc_score(labels[mine], logits[mine]))
            weights.append(mine.sum())
    assert found["gauc"] == pytest.approx(np.average(areas, weights=weights))


def test_where_all_labels_are_alike_there_is_no_area():
    ones, scores = np.ones(4, np.bool_), np.arange(4.0)
    assert np.isnan(area_under_curve(ones, scores))
    assert np.isnan(grouped_auc(ones, scores, np.zeros(4, np.int64)))
    assert np.isnan(area_under_curve(ones[:0], scores[:0]))


def test_a_logarithm_of_certainty_is_finite():
    found = measures(np.array([True, False]), np.array([-2000.0, 2000.0]), np.zeros(2, np.int64))
    assert np.isfinite(found["log_loss"])
