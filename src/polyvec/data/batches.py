"""Batches of histories and targets; which samples, in which order, with which masks, is a pure function.

The order depends on (seed, epoch), the masks on (seed, epoch, index of the batch), and on nothing else, so a
resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.data.dataset import MICROSECONDS_PER_DAY
from polyvec.data.fields import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows

NUM_AGES = 365
"""Days of a year: ages of an event before the cut-off (GUIM Table 3: 366 time embeddings with t0)."""
TOKENS_AT_ONCE = 65_536  # encoded together
POOL = 32  # batches whose samples are sorted by length together


@dataclass(frozen=True)
class Batch:
    """Histories and targets of B samples over M distinct items.

    Attributes
    ----------
    distinct_M
        Item row of every distinct item, ascending; int64 ``[M]``.
    items_BL
        Index into ``distinct_M`` of every event, oldest first, padded with 0 at the end; int64 ``[B, L]``.
    ages_BL
        Age of every event, 0 … 364; int64 ``[B, L]``.
    lengths_B
        Events of every history; int64 ``[B]``.
    masked_BL
        Events chosen for masking; bool ``[B, L]``.
    target_users_P, target_items_P
        Positives: sample ``target_users_P[p]`` takes item ``distinct_M[target_items_P[p]]``; int64 ``[P]``,
        ordered by sample, each pair once.
    drawn_for_targets_PK, drawn_for_masked_QK
        K items drawn from the other samples' events for every positive and every masked event, indices
        into ``distinct_M``; −1 where no other sample has an event. None unless negatives are drawn.
    """

    distinct_M: npt.NDArray[np.int64]
    items_BL: npt.NDArray[np.int64]
    ages_BL: npt.NDArray[np.int64]
    lengths_B: npt.NDArray[np.int64]
    masked_BL: npt.NDArray[np.bool_]
    target_users_P: npt.NDArray[np.int64]
    target_items_P: npt.NDArray[np.int64]
    drawn_for_targets_PK: npt.NDArray[np.int64] | None = None
    drawn_for_masked_QK: npt.NDArray[np.int64] | None = None

    @property
    def num_tokens(self) -> int:
        """Real events in the histories, padding not counted."""
        return int(self.lengths_B.sum())


@dataclass(frozen=True)
class BatchShape:
    """What a batch takes of its windows.

    Attributes
    ----------
    max_length
        L at most: the latest events of a longer history are kept.
    max_targets
        Target events of one sample at most; the earliest are kept.
    masking
        Share of history events to mask.
    num_negatives
        K, items to draw for every positive and every masked event; 0 draws none.
    whole_catalogue
        Whether ``distinct_M`` is all items instead of those of the batch.
    """

    max_length: int
    max_targets: int = 0
    masking: float = 0.0
    num_negatives: int = 0
    whole_catalogue: bool = False


@dataclass(frozen=True)
class BatchPlan:
    """How samples become batches.

    Attributes
    ----------
    dataset
        Where the windows' events lie.
    windows
        The samples.
    batch_size
        B.
    shape
        What a batch takes of its windows.
    seed
        Root of all randomness.
    """

    dataset: Dataset
    windows: Windows
    batch_size: int
    shape: BatchShape
    seed: int

    def __len__(self) -> int:
        return -(-len(self.windows) // self.batch_size)

    def order(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Samples of every batch of an epoch: shuffled, then sorted by length within pools of batches."""
        random = np.random.default_rng([self.seed, epoch])
        samples = random.permutation(len(self.windows))
        lengths = self._lengths()
        batches = []
        for start in range(0, len(samples), POOL * self.batch_size):
            pool = samples[start : start + POOL * self.batch_size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            batches += [pool[at : at + self.batch_size] for at in range(0, len(pool), self.batch_size)]
        return [batches[index] for index in random.permutation(len(batches))]

    def widest(self) -> Batch:
        """The batch of the first epoch that takes the most room, padding counted."""
        lengths = self._lengths()
        room = [len(samples) * int(lengths[samples].max()) for samples in self.order(0)]
        return next(self.epoch(0, int(np.argmax(room))))

    def _lengths(self) -> npt.NDArray[np.int64]:
        """Events of every window's history that are used, int64 ``[W]``."""
        return np.minimum(self.windows.history_end - self.windows.history_start, self.shape.max_length)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from number ``skip`` on."""
        for index, samples in enumerate(self.order(epoch)):
            if index >= skip:
                random = np.random.default_rng([self.seed, epoch, index])
                yield assemble(self.dataset, self.windows[samples], self.shape, random)


def groups_of_like_length(tokens_W: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Windows of similar length, about :data:`TOKENS_AT_ONCE` tokens per group with the padding.

    ``tokens_W`` is how many tokens each window takes, at least 1; groups are rows of it, int64.
    """
    order = np.argsort(tokens_W, kind="stable")
    start = 0
    while start < len(order):
        widths = tokens_W[order[start : start + TOKENS_AT_ONCE]]
        sizes = widths * np.arange(1, len(widths) + 1)
        stop = start + max(int(np.searchsorted(sizes, TOKENS_AT_ONCE, side="right")), 1)
        yield order[start:stop]
        start = stop


def assemble(
    dataset: Dataset, windows: Windows, shape: BatchShape, random: np.random.Generator | None = None
) -> Batch:
    """Make one batch of windows; without ``random`` nothing is masked and no negatives are drawn."""
    starts = np.maximum(windows.history_start, windows.history_end - shape.max_length)
    lengths_B = windows.history_end - starts
    events = ranges(starts, windows.history_end)
    target_ends = np.minimum(windows.target_end, windows.target_start + shape.max_targets)
    targets = ranges(windows.target_start, target_ends)
    distinct_M, index = _distinct(dataset, np.concatenate([events, targets]), shape)
    real_BL = np.arange(int(lengths_B.max(initial=0))) < lengths_B[:, None]
    target_users = np.repeat(np.arange(len(windows)), target_ends - windows.target_start)
    pairs = np.unique(target_users * max(len(distinct_M), 1) + index[len(events) :])
    batch = Batch(
        distinct_M=distinct_M,
        items_BL=_padded(index[: len(events)], real_BL),
        ages_BL=_padded(_ages(dataset, windows, events, lengths_B), real_BL),
        lengths_B=lengths_B,
        masked_BL=_masks(real_BL, shape.masking, random),
        target_users_P=pairs // max(len(distinct_M), 1),
        target_items_P=pairs % max(len(distinct_M), 1),
    )
    return (
        batch
        if random is None or not shape.num_negatives
        else _with_draws(batch, shape.num_negatives, random)
    )


def _distinct(
    dataset: Dataset, events: npt.NDArray[np.int64], shape: BatchShape
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    rows = np.asarray(dataset.item_rows[events], dtype=np.int64)
    if shape.whole_catalogue:
        return np.arange(dataset.num_items), rows
    distinct_M, index = np.unique(rows, return_inverse=True)
    return distinct_M, index


def _with_draws(batch: Batch, num_negatives: int, random: np.random.Generator) -> Batch:
    """Draw negatives from the events, history and target, of the batch's other samples (GUIM 3.3)."""
    history_owners, positions = np.nonzero(np.arange(batch.items_BL.shape[1]) < batch.lengths_B[:, None])
    owners = np.concatenate([history_owners, batch.target_users_P])
    items = np.concatenate([batch.items_BL[history_owners, positions], batch.target_items_P])
    items = items[np.argsort(owners, kind="stable")]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(batch.lengths_B)))])

    def draw(users: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        own = bounds[users + 1] - bounds[users]
        others = len(items) - own
        picks = (random.random((len(users), num_negatives)) * others[:, None]).astype(np.int64)
        picks += np.where(picks >= bounds[users][:, None], own[:, None], 0)
        return np.where(others[:, None] > 0, items[np.minimum(picks, len(items) - 1)], -1)

    return replace(
        batch,
        drawn_for_targets_PK=draw(batch.target_users_P),
        drawn_for_masked_QK=draw(np.nonzero(batch.masked_BL)[0]),
    )


def _ages(
    dataset: Dataset, windows: Windows, events: npt.NDArray[np.int64], lengths_B: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Whole days from an event to its cut-off, or events after it where the data has only an order."""
    if dataset.time_kind == "timestamp":
        cutoffs = np.repeat(windows.cutoffs, lengths_B)
        ages = (cutoffs - 1 - dataset.times[events]) // MICROSECONDS_PER_DAY
    else:
        ages = np.repeat(windows.history_end, lengths_B) - 1 - events
    return np.clip(ages, 0, NUM_AGES - 1)


def _padded(values: npt.NDArray[Any], real_BL: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    padded_BL = np.zeros(real_BL.shape, dtype=np.int64)
    padded_BL[real_BL] = values
    return padded_BL


def _masks(
    real_BL: npt.NDArray[np.bool_], masking: float, random: np.random.Generator | None
) -> npt.NDArray[np.bool_]:
    if random is None or not masking:
        return np.zeros(real_BL.shape, dtype=bool)
    return real_BL & (random.random(real_BL.shape, dtype=np.float32) < masking)
