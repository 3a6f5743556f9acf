"""Probes: they learn what is there, and nothing where nothing is."""

import numpy as np
import pytest

from polyvec.evaluation.classification import auc
from polyvec.evaluation.probes import (
    CLASS_PROBES,
    LABEL_PROBES,
    Features,
    FeedForward,
    learn_and_score,
    majority,
    of_vectors,
)

TRAIN, TEST = np.arange(0, 500), np.arange(500, 700)


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).normal(size=(700, 6)).astype(np.float32)


@pytest.mark.parametrize("name", CLASS_PROBES)
def test_every_probe_learns_classes(name, numbers):
    y = np.digitize(numbers[:, 2], [-0.5, 0.5])
    scores = learn_and_score(CLASS_PROBES[name](0), numbers, y, TRAIN, TEST)
    assert scores.shape == (200, 3)
    assert auc(np.eye(3, dtype=bool)[y[TEST]], scores).mean() > 0.8


@pytest.mark.parametrize("name", LABEL_PROBES)
def test_probes_of_labels_learn_several_that_hold_together(name, numbers):
    labels = numbers[:, :3] > np.array([0.0, 0.5, 1.0])
    scores = learn_and_score(LABEL_PROBES[name](0), numbers, labels, TRAIN, TEST)
    assert scores.shape == (200, 3)
    assert auc(labels[TEST], scores).mean() > 0.9


def test_one_label_alone_keeps_its_column(numbers):
    for make in LABEL_PROBES.values():
        assert learn_and_score(make(0), numbers, numbers[:, :1] > 0, TRAIN, TEST).shape == (200, 1)


def test_a_rare_class_does_not_stop_the_network_before_it_learned(numbers):
    """Accuracy is flat there from the first epoch on."""
    y = (numbers[:, 0] + 0.3 * numbers[:, 1] > 1.8).astype(np.int64)
    assert y.mean() < 0.06
    scores = learn_and_score(FeedForward(0), numbers, y, TRAIN, TEST)
    assert auc((y[TEST] == 1)[:, None], scores[:, 1:]).mean() > 0.95


def test_scale_and_constant_columns_do_not_matter(numbers):
    y = (numbers[:, 0] > 0).astype(np.int64)
    scaled = np.column_stack([numbers * 1e4 + 1e5, np.ones(len(y))]).astype(np.float32)
    for make in (*CLASS_PROBES.values(), *LABEL_PROBES.values()):
        answers = y if make in CLASS_PROBES.values() else y[:, None] > 0
        scores = learn_and_score(make(0), scaled, answers, TRAIN, TEST)
        assert auc((y[TEST] == 1)[:, None], scores[:, -1:]).mean() > 0.9


def test_vectors_become_one_row_of_numbers_per_user_and_the_majority_stands_beside():
    features = of_vectors(np.arange(24, dtype=np.float16).reshape(2, 3, 4))
    assert features.numbers.tolist() == np.arange(24.0).reshape(2, 12).tolist()
    assert features.numbers.dtype == np.float32
    assert features.probes["majority class"] is majority
    assert "majority class" not in Features(features.numbers).probes
