"""What an updated model is held to."""

from __future__ import annotations

import numpy as np
import pytest

from polyvec.errors import TrainingError
from polyvec.systems.updating import Comparison, check, held_out, one_pass
from polyvec.training.options import TrainingOptions

USERS = np.repeat(np.arange(200), 5)


def compared(fall: float, noise: float = 0.1, users=USERS) -> Comparison:
    random = np.random.default_rng(0)
    before = random.random(len(users))
    after = before - fall + noise * random.standard_normal(len(users))
    return Comparison.of("auc", before, after, users)


def test_a_measure_that_surely_falls_is_refused_and_named():
    with pytest.raises(TrainingError, match="worse than the one that serves") as caught:
        check({"click": compared(0.05), "price": compared(0)}, 0.002)
    assert "click: auc" in str(caught.value.expected)
    assert "price" not in str(caught.value.expected)


def test_chance_refuses_nobody():
    few = compared(0.005, noise=0.5, users=np.arange(20))
    assert few.low < -0.002 < few.high
    check({"click": few}, 0.002)
    check({"click": compared(-0.05)}, 0.002)


def test_a_fall_within_the_tolerance_passes():
    check({"click": compared(0.05)}, 0.1)


def test_samples_of_one_user_do_not_count_as_many():
    random, users = np.random.default_rng(0), np.repeat(np.arange(50), 40)
    shift = np.repeat(random.standard_normal(50), 40)
    zero = np.zeros(len(users))
    together = Comparison.of("auc", zero, shift, users)
    apart = Comparison.of("auc", zero, shift, np.arange(len(users)))
    assert together.high - together.low == pytest.approx(40**0.5 * (apart.high - apart.low), rel=0.05)
    expected = 2 * 2.01 * shift[::40].std(ddof=1) / 50**0.5  # Student's t of 49
    assert together.high - together.low == pytest.approx(expected, rel=1e-3)


def test_a_measure_that_is_no_number_is_refused():
    broken = Comparison.of("auc", np.ones(4), np.full(4, np.nan), np.arange(4))
    with pytest.raises(TrainingError):
        check({"click": broken}, 1.0)


def test_all_samples_of_a_user_are_held_out_or_none():
    chosen = held_out(USERS, 200, 0.3, seed=1)
    shares = chosen.reshape(200, 5).mean(axis=1)
    assert set(shares) == {0, 1}
    assert 0.15 < shares.mean() < 0.45
    assert not held_out(USERS, 200, 0, seed=1).any()


def test_an_update_is_one_pass_at_a_steady_rate():
    options = one_pass(TrainingOptions(epochs=9, learning_rate=0.01, final_rate=0.1, warmup=0.1, patience=2))
    assert (options.epochs, options.warmup, options.patience, options.final_rate) == (1, 0, 0, 1)
    assert options.learning_rate == 0.01


@pytest.mark.parametrize("users", [1, 2, 3])
def test_a_few_users_who_differ_by_chance_refuse_nobody(users):
    refused = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        before, after = random.random((2, users))
        one = Comparison.of("recall", before, after, np.arange(users))
        refused += one.high < -0.002
    assert refused <= 12, "a fortieth, and what chance adds"


def test_one_user_is_told_without_an_interval():
    told = Comparison.of("recall", np.array([1.0]), np.array([0.0]), np.array([7])).told
    assert (told["users"], told["low"], told["high"]) == (1, None, None)


@pytest.mark.parametrize(("users", "judges"), [(200, 60), (1000, 100), (100_000, 5000)])
def test_few_users_are_not_judged_by_a_handful(users, judges):
    chosen = held_out(np.arange(users), users, 0.05, 0)
    assert chosen.sum() == pytest.approx(judges, rel=0.3)
    assert not held_out(np.arange(users), users, 0.0, 0).any()
