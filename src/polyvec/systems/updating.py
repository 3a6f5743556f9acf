"""How a model is updated, and whether it may then take the place of the one that serves."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked
from scipy.stats import t

from polyvec.errors import TrainingError, UsageError
from polyvec.evaluation.metrics import LEVEL
from polyvec.layers.tables.choice import can_grow

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.layers.tables.choice import TableKind
    from polyvec.training.options import TrainingOptions

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


LEAST_JUDGES, MOST_JUDGING = 100, 0.3  # so many users hold the rest to account, or so large a share of few


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class UpdateOptions:
    """How a model is updated, and what it is held to.

    Attributes
    ----------
    share
        Of the users, whose new events are not learned from: with them the new model is compared. With 0 all
        is learned, and nothing compared. Of fewer than 2,000 users it is larger, up to 0.3: 100 are to judge.
    tolerance
        By how much a measure may fall.
    decay
        γ, what Adagrad's sums of squares are multiplied by before; Adam forgets by itself.
    rehearsal, rehearsal_days
        Samples of the days before that are learned again with each new one, at most, drawn at random from so
        many days: several passes over what is new alone soon know it by heart, and forget. (Ours.)
    """

    share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    tolerance: Annotated[float, Field(ge=0)] = 0.002
    decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    rehearsal: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    rehearsal_days: Annotated[float, Field(gt=0, le=100_000)] = 30.0


def one_pass(options: TrainingOptions) -> TrainingOptions:
    """How a model that was trained with those options is updated: once, at its learning rate's peak.

    Training ends at a tenth of it; with 0.3 fewer of a day's new items were found (studies/dupn/replay.py).
    """
    return replace(options, epochs=1, warmup=0.0, final_rate=1.0, patience=0)


@dataclass(frozen=True)
class Comparison:
    """A measure of the serving model and of the new one, on the same users that neither learned from.

    Attributes
    ----------
    measure, users
        What, and of how many users.
    before, after
        Of the model that serves and of the new one.
    low, high
        95 % interval of the difference ``after − before``, paired, by users.
    """

    measure: str
    users: int
    before: float
    after: float
    low: float
    high: float

    @classmethod
    def of(cls, measure: str, before_P: Floats, after_P: Floats, users_P: Ints) -> Comparison:
        """Compare two models by one number each for every sample, whose mean is the measure."""
        difference_P = after_P - before_P
        mean = float(difference_P.mean())
        _, places = np.unique(users_P, return_inverse=True)
        sums_U = np.bincount(places, difference_P - mean)  # samples of one user are no independent ones
        users = len(sums_U)
        half = float("inf")  # of one user nothing can be said
        if users > 1:
            variance = np.square(sums_U).sum() * users / (users - 1)
            half = float(t.ppf((1 + LEVEL) / 2, users - 1) * np.sqrt(variance) / len(difference_P))
        return cls(measure, users, float(before_P.mean()), float(after_P.mean()), mean - half, mean + half)

    @property
    def told(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            key: (round(value, 5) if np.isfinite(value) else None) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }

    def __str__(self) -> str:
        return f"{self.measure} {self.before:.4f} → {self.after:.4f} ({self.low:+.4f} to {self.high:+.4f})"


def check_growing(kind: TableKind, rows: int, known: int) -> None:
    """Refuse a model whose item table takes no new items.

    Raises
    ------
    UsageError
        If it does not.
    """
    if not can_grow(kind, rows, known):
        raise UsageError(
            f"a table of item ids of kind '{kind}' takes no new items",
            expected="item_table=popular, or hash or double_hash of no more rows than there are items",
            mend="fit a Model with such a table",
        )


def with_counts(trained: pl.DataFrame, dataset: Dataset, counts_N: Ints) -> pl.DataFrame:
    """Training events of every item, with those of a period.

    Parameters
    ----------
    trained
        ``item_id`` and ``events``.
    dataset, counts_N
        Events of every item of the Dataset.
    """
    seen = np.flatnonzero(counts_N)
    more = pl.DataFrame({"item_id": dataset.items.take(seen), "events": counts_N[seen]})
    together = pl.concat([trained, more.cast(trained.schema)])
    return together.group_by("item_id", maintain_order=True).agg(pl.col("events").sum())


def with_update(old: dict[str, Any], new: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Manifest entries of an updated model: those of the one before, its own, and what the update did."""
    return (
        old
        | new
        | {
            "version": told["version"],
            "steps": old["steps"] + told["steps"],
            "training_seconds": round(old["training_seconds"] + told["update_seconds"], 3),
            "updates": [*old.get("updates", []), told],
        }
    )


def held_out(users_P: Ints, num_users: int, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which samples are of users that are held out, ``[P]``; the users follow from the seed.

    Of few users a larger share: fewer than a hundred judges would let anything pass.
    """
    if share:
        share = max(share, min(MOST_JUDGING, LEAST_JUDGES / max(num_users, 1)))
    chosen = np.random.default_rng(seed).random(num_users) < share
    return chosen[users_P]


def check(comparisons: dict[str, Comparison], tolerance: float) -> None:
    """Refuse a model that is worse than the one that serves.

    A measure is worse if its difference is surely below ``−tolerance``: all of its 95 % interval. By chance
    alone few users would differ by more.

    Raises
    ------
    TrainingError
        Naming every measure that is worse.
    """
    worse = [f"{name}: {one}" for name, one in comparisons.items() if not one.high >= -tolerance]
    if worse:
        raise TrainingError(
            "the updated model is worse than the one that serves, which stays in place",
            expected=f"no measure lower by more than {tolerance:g}; worse are {'; '.join(worse)}",
            mend="look at the new events; learn slower (--set learning_rate=…); or publish it all the same "
            "with --resume --no-gate",
        )
