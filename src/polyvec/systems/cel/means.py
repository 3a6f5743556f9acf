"""Means that learn a stream: what the mean, the user and the item alone foretell.

**P** interactions of a batch; the first axis of ``[2, P]`` is users, then items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]
    Arrays = dict[str, npt.NDArray[Any]]

DAMPING = 10
SIDES = ("users", "items")


class Means:
    """Mean label so far, and how far the user and the item lie from it: ``μ + b_u + b_i``.

    ``b_i`` is the sum of the item's distances to μ over its interactions + 10, and ``b_u`` the same of what
    ``b_i`` leaves. It holds one number per entity; who asks knows how many interactions each has had.

    Parameters
    ----------
    first
        μ before anything is learned.
    """

    def __init__(self, first: float = 0.0) -> None:
        self.first, self.labels, self.total = first, 0, 0.0
        self.sums = [np.zeros(0), np.zeros(0)]

    @property
    def mean(self) -> float:
        """μ."""
        return self.total / self.labels if self.labels else self.first

    def biases(self, place: int, entities_P: Ints, earlier_P: Ints) -> Doubles:
        """How far entities of a side (0 users, 1 items) lie from the mean, ``[P]``; 0 for those never met."""
        sums, sums_P = self.sums[place], np.zeros(len(entities_P))
        is_inside_P = (entities_P >= 0) & (entities_P < len(sums))
        sums_P[is_inside_P] = sums[entities_P[is_inside_P]]
        return sums_P / (earlier_P + DAMPING)

    def foretell(self, entities_2P: Ints, earlier_2P: Ints) -> Doubles:
        """``μ + b_u + b_i`` of pairs that have had so many interactions each, ``[P]``."""
        by_user_P, by_item_P = map(self.biases, (0, 1), entities_2P, earlier_2P)
        return self.mean + by_user_P + by_item_P

    def learn(self, entities_2P: Ints, earlier_2P: Ints, labels_P: Floats) -> Doubles:
        """Take in a batch; what was foretold of it beforehand, ``[P]``.

        Parameters
        ----------
        entities_2P
            Row numbers of users and items.
        earlier_2P
            Interactions of each before this batch.
        labels_P
            What came.
        """
        foretold_P = self.foretell(entities_2P, earlier_2P)
        distances_P = labels_P - self.mean
        left_P = distances_P - self.biases(1, entities_2P[1], earlier_2P[1])
        for place, more_P in enumerate((left_P, distances_P)):
            self.sums[place] = _with_room(self.sums[place], entities_2P[place])
            np.add.at(self.sums[place], entities_2P[place], more_P)
        self.labels += len(labels_P)
        self.total += float(labels_P.sum(dtype=np.float64))
        return foretold_P

    def state(self) -> Arrays:
        """Numbers of entities; whose number is 0 at the end is left out."""
        return {name: np.trim_zeros(sums, "b") for name, sums in zip(SIDES, self.sums, strict=True)}

    def counters(self) -> dict[str, float]:
        """What else it goes on from."""
        return {"first": self.first, "labels": self.labels, "total": self.total}

    def restore(self, state: Arrays, counters: dict[str, Any]) -> None:
        """Go on from what :meth:`state` and :meth:`counters` told; takes the arrays over."""
        self.sums = [state[name] for name in SIDES]
        self.first, self.labels, self.total = (counters[name] for name in ("first", "labels", "total"))


def _with_room(values: Doubles, entities_P: Ints) -> Doubles:
    missing = int(entities_P.max(initial=-1)) + 1 - len(values)
    return values if missing <= 0 else np.append(values, np.zeros(max(missing, len(values))))
