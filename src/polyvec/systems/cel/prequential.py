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
Figures = dict[str, dict[str, float | None]]


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
