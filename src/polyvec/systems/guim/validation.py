"""What a run is judged by while it trains, and how the habits' weights are chosen: on validation only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polyvec.data.item_sets import ItemSets
from polyvec.embeddings import unit
from polyvec.evaluation.metrics import recall
from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.habits import (
    Purchases,
    Weights,
    favour_repeats,
    open_to_trend,
    recent_purchases,
    with_trend,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.systems.guim.model import GUIM

K = 100
REPEAT_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
TREND_WEIGHTS = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15)


@dataclass(frozen=True)
class Validator:
    """Recall@k (eq. 5) of a model on validation windows of one cut-off, among all items of the Dataset.

    k is 100, or a tenth of a small catalogue: a list of all items says nothing.

    Attributes
    ----------
    model
        Its network may go on training between calls.
    dataset, windows
        Histories to encode, targets to find.
    """

    model: GUIM
    dataset: Dataset
    windows: Windows

    @property
    def k(self) -> int:
        """Length of the lists."""
        return min(K, -(-self.dataset.num_items // 10))

    def __call__(self) -> float:
        """Mean over users, by the vectors alone."""
        return self.by_weights((Weights(),))[Weights()]

    def of_each(self) -> npt.NDArray[np.float64]:
        """Recall of every window by the vectors alone, ``[W]``."""
        return self._each((Weights(),))[Weights()]

    def by_weights(self, candidates: tuple[Weights, ...]) -> dict[Weights, float]:
        """Mean recall for several weights of the habits: see :mod:`polyvec.retrieval.habits`."""
        return {weights: float(np.nanmean(each)) for weights, each in self._each(candidates).items()}

    def _each(self, candidates: tuple[Weights, ...]) -> dict[Weights, npt.NDArray[np.float64]]:
        windows = self.windows
        users_BCD = open_to_trend(unit(self.model.encode_users(self.dataset, windows)))
        items_ND = unit(self.model.encode_items(self.dataset.item_table))
        targets = ItemSets.of_events(self.dataset, windows.target_start, windows.target_end)
        own = Purchases.of_events(self.dataset, windows.history_start, windows.history_end)
        recent_N = recent_purchases(self.dataset, int(windows.cutoffs[0]))
        results = {}
        for trend in sorted({weights.trend for weights in candidates}):
            vectors_ND = with_trend(items_ND, recent_N, trend)
            found = ExactIndex(vectors_ND).search(users_BCD, self.k)
            for weights in (weights for weights in candidates if weights.trend == trend):
                ranked = favour_repeats(found, users_BCD, vectors_ND, own, weights.repeats)
                results[weights] = recall(ranked.rows, targets, self.k)
        return results

    def best_weights(self, *, with_trend: bool) -> Weights:
        """The weights with the highest recall; the smaller ones where they are equal.

        The trend can be judged in a window later than all that was trained on only: where the vectors have
        learned from others what sold in the window, nothing is left for it to tell.
        """
        trends = TREND_WEIGHTS if with_trend else (0.0,)
        grid = tuple(Weights(repeats, trend) for repeats in REPEAT_WEIGHTS for trend in trends)
        results = self.by_weights(grid)
        return max(grid, key=lambda weights: results[weights])
