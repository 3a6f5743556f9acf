"""Which windows GUIM trains and is validated on (GUIM sections 3.1 and 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from polyvec.data.dataset import days
from polyvec.data.split import Windows, cut, leave_last_out
from polyvec.errors import DataError

if TYPE_CHECKING:
    from polyvec.data.dataset import Dataset
    from polyvec.systems.guim.config import GUIMConfig

Validation = Literal["users", "window", "none"]
HELD_OUT_SHARE = 0.1  # of the users, as in the paper (2 of 20 million)
MAX_HELD_OUT, MOST_VALIDATED = 5_000, 20_000


@dataclass(frozen=True)
class TrainingWindows:
    """Windows to learn from and windows to validate on, which share no sample.

    Attributes
    ----------
    training
        Windows with something to learn from.
    validation
        Windows with history and targets; empty if there is no validation.
    learned_until
        No event at or after this time is in a training window.
    """

    training: Windows
    validation: Windows
    learned_until: int


def training_windows(
    dataset: Dataset, config: GUIMConfig, until: int, held_back: int, validation: Validation, seed: int
) -> TrainingWindows:
    """Cut windows from all that happened before ``until``.

    Parameters
    ----------
    dataset
        Purchases.
    config
        Lengths of the windows and number of cut-offs.
    until
        For timestamps: no event at or after it is touched.
    held_back
        For ordered data: last events of every user that are not touched.
    validation
        ``users``: a tenth of the users (5,000 at most) is left out of training and validated on at the latest
        cut-off, as in the paper. ``window``: all users (20,000 at most) are validated on the latest window,
        and training ends before it. ``none``: everything is trained on.
    seed
        Which users are validated on.

    Raises
    ------
    DataError
        If no window has anything to learn from.
    """
    steps = _windows_before(dataset, config, until, held_back)
    latest, no_windows = steps[0], steps[0][:0]
    if validation == "window":
        earlier = (until - days(config.target_days), held_back + config.target_events)
        training = _join(_windows_before(dataset, config, *earlier), config, no_windows)
        checked = _complete(latest)
        some = np.random.default_rng(seed).permutation(len(checked))[:MOST_VALIDATED]
        result = TrainingWindows(training, checked[np.sort(some)], _first_target(latest, until))
    elif validation == "users":
        held_out = _held_out_users(latest, seed)
        others = [step[np.flatnonzero(~held_out[step.user_rows])] for step in steps]
        checked = _complete(latest[np.flatnonzero(held_out[latest.user_rows])])
        result = TrainingWindows(_join(others, config, no_windows), checked, until)
    else:
        result = TrainingWindows(_join(steps, config, no_windows), no_windows, until)
    if not len(result.training):
        raise DataError(
            "no window has anything to learn from",
            expected=f"users with events within {config.target_days:g} days before a cut-off",
            mend="lower target_days or history_days, choose a later --until, validate on users instead of a "
            "window (--validation users), or prepare more data",
        )
    return result


def latest_windows(dataset: Dataset, config: GUIMConfig, since: int, until: int) -> Windows:
    """Windows that end in a period, as :func:`training_windows` would cut them: the latest ends with it.

    Parameters
    ----------
    dataset
        Purchases, with timestamps.
    config
        Lengths of the windows; ``num_cutoffs`` is the most cut-offs.
    since, until
        The period: no event at or after ``until`` is touched.
    """
    needed = -(-(until - since) // days(config.stride_days))
    steps = _timed(dataset, replace(config, num_cutoffs=min(max(needed, 1), config.num_cutoffs)), until)
    return _join(steps, config, steps[0][:0])


def _windows_before(dataset: Dataset, config: GUIMConfig, until: int, held_back: int) -> list[Windows]:
    """Windows of every cut-off, the latest first, whose targets end before ``until`` or ``held_back``."""
    if dataset.time_kind == "timestamp":
        return _timed(dataset, config, until)
    if not config.matching_weight:  # masked items alone: the history is all there is
        return [leave_last_out(dataset, held_back, targets=0)]
    return [
        leave_last_out(dataset, held_back + number * config.target_events, config.target_events)
        for number in range(config.num_cutoffs)
    ]


def _timed(dataset: Dataset, config: GUIMConfig, until: int) -> list[Windows]:
    latest = until - days(config.target_days)
    cutoffs = [latest - number * days(config.stride_days) for number in range(config.num_cutoffs)]
    first = dataset.time_span[0]
    return [
        cut(dataset, cutoff, config.history_days, config.target_days)
        for number, cutoff in enumerate(cutoffs)
        if number == 0 or cutoff > first
    ]


def _first_target(latest: Windows, until: int) -> int:
    return int(latest.cutoffs.min()) if len(latest) else until


def _complete(windows: Windows) -> Windows:
    return windows.with_targets().with_history()


def _join(steps: list[Windows], config: GUIMConfig, nothing: Windows) -> Windows:
    """All windows of the steps that can teach something: targets, or events to mask."""
    joined = Windows.concatenate([nothing, *steps])
    return joined.with_targets() if config.matching_weight else joined.with_history()


def _held_out_users(latest: Windows, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mask over user rows: a tenth of those that have history and targets at the latest cut-off."""
    candidates = _complete(latest).user_rows
    count = min(round(HELD_OUT_SHARE * len(candidates)), MAX_HELD_OUT)
    chosen = np.random.default_rng(seed).choice(candidates, size=count, replace=False)
    held_out = np.zeros(int(latest.user_rows.max(initial=-1)) + 1, dtype=bool)
    held_out[chosen] = True
    return held_out
