"""Which windows are learned from: none touches the validation targets or the future."""

import numpy as np
import pytest

from polyvec.data.dataset import Dataset, days
from polyvec.errors import DataError
from polyvec.systems.guim.config import GUIMConfig
from polyvec.systems.guim.windows import training_windows

CONFIG = GUIMConfig(history_days=40, target_days=10, num_cutoffs=4, stride_days=3, target_events=2)
UNTIL = days(100)


def shop(seed: int = 0, time_kind: str = "timestamp") -> Dataset:
    random = np.random.default_rng(seed)
    rows = [
        (f"u{user:02d}", f"i{random.integers(20)}", days(random.uniform(0, 120)))
        for user in range(40)
        for _ in range(25)
    ]
    return Dataset.from_rows(rows, time_kind=time_kind)


def test_no_window_touches_an_event_at_or_after_the_moment():
    dataset = shop()
    for validation in ("users", "window", "none"):
        windows = training_windows(dataset, CONFIG, UNTIL, 0, validation, seed=1)
        for part in (windows.training, windows.validation):
            ends = part.target_end[part.target_end > part.target_start]
            assert (dataset.times[ends - 1] < UNTIL).all()
            assert (part.history_end <= part.target_start).all()


def test_targets_of_the_validation_window_are_in_no_training_window():
    dataset = shop()
    windows = training_windows(dataset, CONFIG, UNTIL, 0, "window", seed=1)
    assert (dataset.times[windows.training.target_end - 1] < UNTIL - days(10)).all()
    assert (dataset.times[windows.validation.target_start] >= UNTIL - days(10)).all()
    assert windows.learned_until == UNTIL - days(10)
    assert len(np.unique(windows.training.cutoffs)) == CONFIG.num_cutoffs  # the gap costs no cut-off


def test_held_out_users_are_in_no_training_window_and_are_a_tenth():
    windows = training_windows(shop(), CONFIG, UNTIL, 0, "users", seed=1)
    assert len(windows.validation) == 4
    assert not np.isin(windows.validation.user_rows, windows.training.user_rows).any()
    other = training_windows(shop(), CONFIG, UNTIL, 0, "users", seed=2)
    assert windows.validation.user_rows.tolist() != other.validation.user_rows.tolist()


def test_cutoffs_slide_back_by_the_stride():
    windows = training_windows(shop(), CONFIG, UNTIL, 0, "none", seed=1)
    assert np.unique(windows.training.cutoffs).tolist() == [days(day) for day in (81, 84, 87, 90)]


def test_ordered_data_holds_back_last_events_and_shares_no_target():
    dataset = shop(time_kind="order")
    windows = training_windows(dataset, CONFIG, 0, 3, "none", seed=1)
    last = dataset.user_offsets[1:][windows.training.user_rows] - 3
    assert (windows.training.target_end <= last).all()
    targets = np.concatenate(
        [
            np.arange(a, b)
            for a, b in zip(windows.training.target_start, windows.training.target_end, strict=True)
        ]
    )
    assert len(np.unique(targets)) == len(targets) == 40 * CONFIG.num_cutoffs * CONFIG.target_events


def test_nothing_to_learn_from_is_said_with_the_remedy():
    with pytest.raises(DataError) as refused:
        training_windows(shop(), CONFIG, days(-50), 0, "none", seed=1)
    assert str(refused.value) == (
        "no window has anything to learn from\n"
        "  expected: users with events within 10 days before a cut-off\n"
        "  mend: lower target_days or history_days, choose a later --until, or prepare more data"
    )
