from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.split import Windows, check_moment
from polyvec.errors import DataError, UsageError
from polyvec.systems.guim.config import GUIMConfig
from polyvec.systems.guim.windows import Validation, training_windows

DAY = MICROSECONDS_PER_DAY
UNTIL = 100 * DAY
VALIDATIONS: list[Validation] = ["users", "window", "none"]


def touched(windows: Windows) -> set[int]:
    """All events that a window lets anybody see."""
    pairs = zip(windows.history_start, windows.target_end, strict=True)
    return {event for start, stop in pairs for event in range(start, stop)}


@pytest.mark.parametrize("validation", VALIDATIONS)
def test_nothing_at_or_after_the_moment_is_in_any_window(
    shop: Dataset, tiny: Callable[..., GUIMConfig], validation: Validation
) -> None:
    cut = training_windows(shop, tiny(), UNTIL, 0, validation, seed=0)
    for windows in (cut.training, cut.validation):
        assert all(shop.times[event] < UNTIL for event in touched(windows))
    assert max(shop.times[event] for event in touched(cut.training)) < cut.learned_until


def test_targets_lie_in_the_days_after_each_cutoff_and_histories_in_those_before(
    shop: Dataset, tiny: Callable[..., GUIMConfig]
) -> None:
    windows = training_windows(shop, tiny(), UNTIL, 0, "none", seed=0).training
    assert sorted(set(windows.cutoffs // DAY)) == [60, 70, 80]
    for w in range(len(windows)):
        history = shop.times[windows.history_start[w] : windows.history_end[w]]
        targets = shop.times[windows.target_start[w] : windows.target_end[w]]
        cutoff = windows.cutoffs[w]
        assert ((history >= cutoff - 60 * DAY) & (history < cutoff)).all()
        assert ((targets >= cutoff) & (targets < cutoff + 20 * DAY)).all()
        assert len(targets) > 0


def test_users_held_out_for_validation_are_in_no_training_window(
    shop: Dataset, tiny: Callable[..., GUIMConfig]
) -> None:
    cut = training_windows(shop, tiny(), UNTIL, 0, "users", seed=0)
    held_out = set(cut.validation.user_rows)
    assert len(held_out) == len(cut.validation) == 5  # a tenth of those with history and targets
    assert not held_out & set(cut.training.user_rows)
    assert set(cut.validation.cutoffs) == {80 * DAY}
    assert (cut.validation.history_end > cut.validation.history_start).all()
    again = training_windows(shop, tiny(), UNTIL, 0, "users", seed=0)
    other = training_windows(shop, tiny(), UNTIL, 0, "users", seed=1)
    assert held_out == set(again.validation.user_rows)
    assert held_out != set(other.validation.user_rows)


def test_validated_on_the_last_window_training_ends_before_it(
    shop: Dataset, tiny: Callable[..., GUIMConfig]
) -> None:
    cut = training_windows(shop, tiny(num_cutoffs=5), UNTIL, 0, "window", seed=0)
    assert cut.learned_until == 80 * DAY
    assert set(cut.training.cutoffs // DAY) == {60, 50, 40, 30, 20}
    assert all(shop.times[event] < 80 * DAY for event in touched(cut.training))
    assert len(set(cut.validation.user_rows)) > 20


def test_ordered_data_is_cut_by_numbers_of_events(
    make_shop: Callable[..., Dataset], tiny: Callable[..., GUIMConfig]
) -> None:
    shop = make_shop(users=30, events=12, time_kind="order")
    config = tiny(target_events=3, num_cutoffs=2)
    windows = training_windows(shop, config, 12, 2, "none", seed=0).training
    starts = shop.user_offsets[windows.user_rows]
    assert set(windows.history_end - starts) == {7, 4}
    assert set(windows.target_end - windows.target_start) == {3}
    assert (windows.target_end - starts).max() == 10  # the last two are held back
    latest = training_windows(shop, config, 12, 2, "window", seed=0)
    assert set(latest.training.target_end - shop.user_offsets[latest.training.user_rows]) == {7, 4}
    assert set(latest.validation.target_start - shop.user_offsets[latest.validation.user_rows]) == {7}


def test_without_matching_ordered_histories_are_used_whole(
    make_shop: Callable[..., Dataset], tiny: Callable[..., GUIMConfig]
) -> None:
    shop = make_shop(users=30, events=12, time_kind="order")
    windows = training_windows(shop, tiny(matching_weight=0), 12, 2, "none", seed=0).training
    assert set(windows.history_end - windows.history_start) == {10}
    assert len(windows) == 30


def test_cutoffs_before_the_first_event_are_left_out(shop: Dataset, tiny: Callable[..., GUIMConfig]) -> None:
    windows = training_windows(shop, tiny(num_cutoffs=1000), UNTIL, 0, "none", seed=0).training
    assert windows.cutoffs.min() > shop.time_span[0]
    assert len(set(windows.cutoffs)) == 8


@pytest.mark.parametrize(("until", "validation"), [(0, "none"), (5 * DAY, "window"), (0, "users")])
def test_nothing_to_learn_from_is_said_with_a_mend(
    shop: Dataset, tiny: Callable[..., GUIMConfig], until: int, validation: Validation
) -> None:
    with pytest.raises(DataError) as caught:
        training_windows(shop, tiny(), until, 0, validation, seed=0)
    assert caught.value.what == "no window has anything to learn from"
    assert caught.value.expected == "users with events within 20 days before a cut-off"
    assert "lower target_days" in str(caught.value.mend)


def test_few_users_are_all_trained_on() -> None:
    one = Dataset.from_rows([("ann", "pen", day * DAY) for day in range(60)])
    cut = training_windows(one, GUIMConfig(), 60 * DAY, 0, "users", seed=0)
    assert len(cut.validation) == 0
    assert set(np.unique(cut.training.user_rows)) == {0}


# --- moments that the data does not have


@pytest.mark.parametrize(
    ("kind", "until", "held_back", "what"),
    [
        ("order", 5, 0, "until needs timestamps, and this data has only an order column"),
        ("timestamp", None, 1, "held_back is for data with an order column, and this data has timestamps"),
        ("order", None, -1, "held_back is -1"),
    ],
)
def test_a_moment_that_the_data_does_not_have_is_refused(
    make_shop: Callable[..., Dataset], kind: str, until: int | None, held_back: int, what: str
) -> None:
    shop = make_shop(users=3, time_kind=kind)
    with pytest.raises(UsageError) as caught:
        check_moment(shop, until, held_back)
    assert caught.value.what == what
    check_moment(shop, None, 0)


def test_a_moment_before_all_events_is_refused_with_the_time_that_there_is(
    make_shop: Callable[..., Dataset],
) -> None:
    shop = make_shop(users=3)
    first = shop.time_span[0]
    with pytest.raises(UsageError, match="nothing lies before") as caught:
        check_moment(shop, first, 0)
    assert str(caught.value.expected).startswith("a later moment: the events are from ")
    check_moment(shop, first + 1, 0)
    check_moment(shop, first, 0, needs_past=False)


def test_a_date_in_words_is_refused_with_the_function_that_reads_it(
    make_shop: Callable[..., Dataset],
) -> None:
    with pytest.raises(UsageError, match="until is '2025-01-05'") as caught:
        check_moment(make_shop(users=3), "2025-01-05", 0)  # type: ignore[arg-type]
    assert caught.value.mend == "polyvec.parse_time('2025-01-05', dataset)"
