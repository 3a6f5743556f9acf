"""How well a stream is foretold, each interaction before it is learned, beside means that learn alike.

**P** interactions of a batch; the first axis of ``[2, P]`` is users, then items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]

WARM = 10
"""Earlier interactions of a user or item that is not cold."""
DAMPING = 10
Figures = dict[str, dict[str, float | None]]


class Means:
    """The simple method to compare with: mean label so far, and how far the user and the item lie from it.

    ``μ + b_u + b_i``, where ``b_i`` is the sum of the item's distances to μ over its interactions + 10, and
    ``b_u`` the same of what ``b_i`` leaves. It holds one number per entity.
    """

    def __init__(self) -> None:
        self.labels, self.total = 0, 0.0
        self.users, self.items = np.zeros(0), np.zeros(0)

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
        users_P, items_P = entities_2P
        self.users, self.items = (
            _with_room(*pair) for pair in ((self.users, users_P), (self.items, items_P))
        )
        mean = self.total / self.labels if self.labels else float(labels_P.mean())
        by_user_P = self.users[users_P] / (earlier_2P[0] + DAMPING)
        by_item_P = self.items[items_P] / (earlier_2P[1] + DAMPING)
        np.add.at(self.items, items_P, labels_P - mean)
        np.add.at(self.users, users_P, labels_P - mean - by_item_P)
        self.labels += len(labels_P)
        self.total += float(labels_P.sum(dtype=np.float64))
        return mean + by_user_P + by_item_P


def _with_room(values: Doubles, entities_P: Ints) -> Doubles:
    missing = int(entities_P.max(initial=-1)) + 1 - len(values)
    return values if missing <= 0 else np.append(values, np.zeros(max(missing, len(values))))


def squared_errors(foretold: Mapping[str, Floats | Doubles], labels_P: Floats, earlier_2P: Ints) -> Figures:
    """Mean squared error of every method, and of how many interactions.

    Parameters
    ----------
    foretold
        By method, ``[P]``, in order of time.
    labels_P
        What came.
    earlier_2P
        Earlier interactions of the user and the item, when it was foretold.

    Returns
    -------
    dict
        For ``all``, the ``last half``, ``warm`` (user and item had at least ten interactions), ``cold user``
        and ``cold item`` (fewer): ``interactions`` and the error of every method, None where there are none.
    """
    is_cold_2P = earlier_2P < WARM
    parts = {
        "all": np.ones(len(labels_P), bool),
        "last half": np.arange(len(labels_P)) >= len(labels_P) // 2,
        "warm": ~is_cold_2P.any(axis=0),
        "cold user": is_cold_2P[0],
        "cold item": is_cold_2P[1],
    }
    errors = {name: (np.asarray(told, np.float64) - labels_P) ** 2 for name, told in foretold.items()}
    return {
        part: {"interactions": int(mask.sum())} | {name: _mean(each[mask]) for name, each in errors.items()}
        for part, mask in parts.items()
    }


def _mean(values: Doubles) -> float | None:
    return float(values.mean()) if len(values) else None
