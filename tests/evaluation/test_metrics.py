"""Every measure against a second implementation: plain Python, or scikit-learn."""

import math

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import ndcg_score

from polyvec.data.item_sets import ItemSets
from polyvec.evaluation.metrics import (
    coverage,
    estimate,
    hit_rate,
    interval,
    ndcg,
    recall,
    resampled_means,
)

NUM_USERS, NUM_ITEMS, K = 50, 40, 15


@pytest.fixture
def ranked():
    generator = np.random.default_rng(0)
    rows = np.stack([generator.permutation(NUM_ITEMS)[:K] for _ in range(NUM_USERS)])
    rows[3, 4:] = -1  # a short answer
    rows[5] = -1  # none at all
    return rows


@pytest.fixture
def targets():
    generator = np.random.default_rng(1)
    owners = generator.integers(0, NUM_USERS, 300)
    owners[owners == 7] = 8  # nothing to find
    owners[:30] = 9  # more to find than k
    items = generator.integers(0, NUM_ITEMS, 300)
    return ItemSets.from_pairs(owners, items, NUM_USERS, NUM_ITEMS)


def sets_of(targets):
    bounds = zip(targets.offsets[:-1], targets.offsets[1:], strict=True)
    return [set(targets.items[start:stop].tolist()) for start, stop in bounds]


@pytest.mark.parametrize("m", [1, 5, 10, 15])
def test_recall_by_the_letter_of_equation_5(ranked, targets, m):
    expected = [
        len(set(row[:m].tolist()) & wanted) / len(wanted) if wanted else math.nan
        for row, wanted in zip(ranked, sets_of(targets), strict=True)
    ]
    np.testing.assert_allclose(recall(ranked, targets, m), expected)


@pytest.mark.parametrize("m", [1, 10])
def test_hit_rate_by_plain_python(ranked, targets, m):
    expected = [
        float(bool(set(row[:m].tolist()) & wanted)) if wanted else math.nan
        for row, wanted in zip(ranked, sets_of(targets), strict=True)
    ]
    np.testing.assert_allclose(hit_rate(ranked, targets, m), expected)


@pytest.mark.parametrize("m", [1, 5, 10])
def test_ndcg_agrees_with_scikit_learn(ranked, targets, m):
    expected = []
    for row, wanted in zip(ranked, sets_of(targets), strict=True):
        truth = np.isin(np.arange(NUM_ITEMS), list(wanted)).astype(float)
        scores = np.zeros(NUM_ITEMS)
        kept = row[row >= 0]
        scores[kept] = np.arange(len(kept), 0, -1)
        if len(kept) < m:  # scikit-learn would give ties of unranked items their share
            gains = sum(truth[item] / math.log2(place + 2) for place, item in enumerate(kept))
            ideal = sum(1 / math.log2(place + 2) for place in range(min(m, len(wanted))))
            expected.append(gains / ideal if wanted else math.nan)
        else:
            expected.append(ndcg_score([truth], [scores], k=m) if wanted else math.nan)
    np.testing.assert_allclose(ndcg(ranked, targets, m), expected)


def test_ndcg_divides_by_what_could_be_found_not_by_what_was():
    targets = ItemSets.from_pairs(np.zeros(2, int), np.array([0, 1]), 1, 5)
    half = ndcg(np.array([[0, 2, 3]]), targets, 3)
    assert half[0] == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_a_measure_deeper_than_the_answer_counts_what_is_there(targets):
    rows = np.tile(np.arange(3), (NUM_USERS, 1))
    np.testing.assert_allclose(recall(rows, targets, 100), recall(rows, targets, 3))
    assert np.nanmax(ndcg(rows, targets, 100)) <= 1


def test_coverage_counts_distinct_items(ranked):
    assert coverage(ranked, NUM_ITEMS) == len(set(ranked[ranked >= 0].tolist())) / NUM_ITEMS
    assert coverage(np.array([[1, 1], [-1, 1]]), 4) == 0.25


def naive_bootstrap(values, seed, resamples):
    """Draw users with replacement, average those that are counted."""
    generator = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        drawn = [values[index] for index in generator.integers(0, len(values), len(values))]
        counted = [value for value in drawn if not math.isnan(value)]
        means.append(sum(counted) / len(counted))
    return means


def test_resampled_means_equal_a_naive_bootstrap():
    values = np.random.default_rng(4).random(30)
    values[[2, 11]] = np.nan
    means = resampled_means(values[:, None], seed=9, resamples=120)[:, 0]
    np.testing.assert_allclose(means, naive_bootstrap(values.tolist(), 9, 120))


def test_the_interval_has_the_width_of_the_standard_error():
    values = np.random.default_rng(2).normal(size=(4000, 1))
    about = estimate(values, resampled_means(values))[0]
    assert about.value == pytest.approx(values.mean())
    assert about.users == 4000
    half = 1.96 * values.std() / math.sqrt(4000)
    assert (about.high - about.low) / 2 == pytest.approx(half, rel=0.1)


@pytest.mark.parametrize(
    "values", [np.random.default_rng(6).random(80) ** 3, np.repeat([0.0, 1.0], [60, 20])]
)
def test_the_interval_is_the_percentile_interval_of_scipy(values):
    low, high = interval(resampled_means(values[:, None], resamples=4000))
    other = bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = other.high - other.low
    assert low[0] == pytest.approx(other.low, abs=0.06 * width)
    assert high[0] == pytest.approx(other.high, abs=0.06 * width)


def test_the_interval_s_ends_are_the_quantiles_of_the_known_means():
    means = np.round(np.random.default_rng(7).random((201, 3)), 1)  # with ties
    means[:50, 1], means[:, 2] = np.nan, np.nan
    low, high = interval(means)
    for column in (0, 1):
        known = sorted(value for value in means[:, column] if not math.isnan(value))
        for end, share in ((low, 0.025), (high, 0.975)):
            place = share * (len(known) - 1)
            below, above = known[math.floor(place)], known[math.ceil(place)]
            assert end[column] == pytest.approx(below + (place % 1) * (above - below))
    assert math.isnan(low[2])
    assert math.isnan(high[2])


def test_differences_are_paired_by_user():
    """Two rankers that differ by little on every user are told apart, though users differ by much."""
    base = np.random.default_rng(3).random(300)
    means = resampled_means(np.stack([base + 0.01, base], axis=1))
    low, high = interval(means[:, [0]] - means[:, [1]])
    assert low[0] == pytest.approx(0.01)
    assert high[0] == pytest.approx(0.01)


def test_a_measure_that_counts_nobody_is_unknown():
    values = np.full((5, 1), np.nan)
    about = estimate(values, resampled_means(values))[0]
    assert about.users == 0
    assert math.isnan(about.value)
    assert math.isnan(about.low)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(5).random((40, 2))
    np.testing.assert_array_equal(resampled_means(values, 1), resampled_means(values, 1))
    assert (resampled_means(values, 1) != resampled_means(values, 2)).any()
