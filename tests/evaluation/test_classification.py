"""Every measure against scikit-learn; its numbers per user against refitting on resampled users."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from polyvec.evaluation.classification import accuracy, auc, macro_f1


def example(classes, users=300, seed=0):
    generator = np.random.default_rng(seed)
    y = generator.integers(0, classes, users)
    scores = np.round(generator.random((users, classes)) + 0.4 * np.eye(classes)[y], 1)  # with ties
    return y, np.eye(classes, dtype=bool)[y], scores


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_measures_of_classes_agree_with_scikit_learn(classes):
    y, truth, scores = example(classes)
    named = scores.argmax(axis=1)
    assert accuracy(truth, scores).mean() == pytest.approx(accuracy_score(y, named))
    assert macro_f1(truth, scores).mean() == pytest.approx(f1_score(y, named, average="macro"))
    assert auc(truth, scores).mean() == pytest.approx(roc_auc_score(truth, scores, average="macro"))


def test_auc_of_two_classes_is_the_customary_one():
    y, truth, scores = example(2)
    chance = np.round(scores[:, 1] / scores.sum(axis=1), 3)
    both = np.column_stack([1 - chance, chance])
    assert auc(truth, both).mean() == pytest.approx(roc_auc_score(y, chance))


def test_auc_of_labels_that_hold_together():
    generator = np.random.default_rng(0)
    truth, scores = generator.random((200, 5)) < 0.2, generator.random((200, 5)).astype(np.float32)
    assert auc(truth, scores).mean() == pytest.approx(roc_auc_score(truth, scores, average="macro"))


def test_auc_pair_by_pair():
    truth, scores = np.array([True, True, False, False]), np.array([0.9, 0.3, 0.3, 0.1])
    pairs = [(p > n) + (p == n) / 2 for p in scores[truth] for n in scores[~truth]]
    assert auc(truth[:, None], scores[:, None]).mean() == sum(pairs) / 4


def test_labels_that_all_or_none_have_are_left_out():
    _, truth, scores = example(3)
    alike = np.column_stack([truth, np.zeros(300, bool), np.ones(300, bool)])
    wide = np.column_stack([scores, scores[:, :2]])
    assert auc(alike, wide).mean() == auc(truth, scores).mean()
    assert np.isnan(auc(alike[:, 3:], wide[:, 3:])).all()


def test_a_class_that_nobody_has_and_nobody_is_named_is_left_out_of_f1():
    _, truth, scores = example(3)
    wide = np.column_stack([truth, np.zeros(300, bool)]), np.column_stack([scores, np.full(300, -1.0)])
    assert macro_f1(*wide).mean() == pytest.approx(macro_f1(truth, scores).mean())


@pytest.mark.parametrize("measure", [accuracy, macro_f1, auc])
def test_resampled_means_spread_as_the_measure_of_resampled_users(measure):
    _, truth, scores = example(3, seed=5)
    per_user = measure(truth, scores)
    generator = np.random.default_rng(1)
    draws = generator.integers(0, 300, (400, 300))
    exact = np.array([measure(truth[rows], scores[rows]).mean() for rows in draws])
    linear = per_user[draws].mean(axis=1)
    assert np.corrcoef(exact, linear)[0, 1] > 0.99
    assert linear.std() == pytest.approx(exact.std(), rel=0.05)


def test_of_classes_with_equal_scores_the_first_is_named():
    y, truth, scores = example(4, seed=2)
    named = [max(range(4), key=lambda k: (row[k], -k)) for row in scores.tolist()]
    assert any(sorted(row)[-1] == sorted(row)[-2] for row in scores.tolist())
    assert accuracy(truth, scores).tolist() == [float(a == b) for a, b in zip(y, named, strict=True)]
    f1 = []
    for k in range(4):
        hits = sum(a == b == k for a, b in zip(y, named, strict=True))
        f1.append(2 * hits / (list(y).count(k) + named.count(k)))
    assert macro_f1(truth, scores).mean() == pytest.approx(sum(f1) / 4)


def test_the_variance_of_auc_is_that_of_delong():
    """DeLong, DeLong and Clarke-Pearson (1988), eq. 5, by the letter but for the divisors m and n."""
    y, truth, scores = example(2, users=90, seed=3)
    positive, negative = scores[y == 1, 1], scores[y == 0, 1]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = wins.mean(axis=1).var() / len(positive) + wins.mean(axis=0).var() / len(negative)
    assert auc(truth[:, 1:], scores[:, 1:]).var() / 90 == pytest.approx(variance)
