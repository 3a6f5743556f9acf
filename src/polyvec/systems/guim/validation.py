"""What a run is judged by while it trains, and the repeat weight that is chosen after it: validation only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polyvec.data.item_sets import ItemSets
from polyvec.embeddings import unit
from polyvec.evaluation.metrics import recall
from polyvec.retrieval.exact import ExactIndex
from polyvec.retrieval.repeats import Purchases, favour_repeats

if TYPE_CHECKING:
    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.systems.guim.model import GUIM

K = 100
REPEAT_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Validator:
    """Recall@100 (eq. 5) of a model on validation windows, among all items of the Dataset.

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

    def __call__(self) -> float:
        """Mean over users."""
        return self.by_repeat_weight((0.0,))[0.0]

    def by_repeat_weight(self, weights: tuple[float, ...] = REPEAT_WEIGHTS) -> dict[float, float]:
        """Mean recall for several weights of :func:`polyvec.retrieval.repeats.favour_repeats`."""
        windows = self.windows
        users_BCD = unit(self.model.encode_users(self.dataset, windows))
        items_ND = unit(self.model.encode_items(self.dataset.item_table))
        found = ExactIndex(items_ND).search(users_BCD, K)
        targets = ItemSets.of_events(self.dataset, windows.target_start, windows.target_end)
        own = Purchases.of_events(self.dataset, windows.history_start, windows.history_end)
        results = {}
        for weight in weights:
            ranked = favour_repeats(found, users_BCD, items_ND, own, weight) if weight else found
            results[weight] = float(np.nanmean(recall(ranked.rows, targets, K)))
        return results

    def best_repeat_weight(self) -> float:
        """Weight with the highest recall, the smaller one where two are equal."""
        results = self.by_repeat_weight()
        return max(results, key=lambda weight: (results[weight], -weight))
