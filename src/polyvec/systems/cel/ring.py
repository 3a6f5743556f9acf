"""Latest interactions of a stream, found by user and by item."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    from polyvec.systems.cel.lite import Side

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]
    Arrays = dict[str, npt.NDArray[Any]]

NOTHING = -1
PER_INTERACTION = ("entities", "labels", "previous")


class Ring:
    """Latest interactions of everyone, threaded by user and by item.

    Labels are what the rows were to foretell: of a residual, what the means of that moment left over. They
    stay so, whatever the means learn later: entities are checked and clusters split by them.

    Parameters
    ----------
    size
        Interactions that are kept.
    """

    def __init__(self, size: int) -> None:
        self.size, self.written = size, 0
        self.entities = np.zeros((2, size), np.int64)
        self.labels = np.zeros(size, np.float32)
        self.previous = np.full((2, size), NOTHING, np.int64)

    def append(self, sides: tuple[Side, Side], entities_2P: Ints, labels_P: Floats) -> None:
        """Add a batch, oldest first."""
        numbers_P = self.written + np.arange(len(labels_P))
        places = numbers_P % self.size
        self.entities[:, places], self.labels[places] = entities_2P, labels_P
        for number, side in enumerate(sides):
            self.previous[number, places] = _thread(side.latest, entities_2P[number], numbers_P)
        self.written += len(labels_P)

    def state(self) -> Arrays:
        """What it goes on from, not copied, without places that were never written."""
        used = min(self.written, self.size)
        return {name: getattr(self, name)[..., :used] for name in PER_INTERACTION}

    def restore(self, state: Arrays, written: int) -> None:
        """Go on from what :meth:`state` told after so many interactions."""
        self.written = written
        for name in PER_INTERACTION:
            getattr(self, name)[..., : min(written, self.size)] = state[name]

    def follow(self, number: int, side: Side, entities_E: Ints, most: int) -> tuple[Ints, Ints]:
        """Latest interactions of each entity: whose they are (a place in ``[E]``) and where, ``[R]`` each.

        Those of one entity stand latest first.
        """
        owners, at = np.arange(len(entities_E)), side.latest[entities_E]
        found = [(owners[:0], at[:0])]
        for _ in range(most):
            is_kept = at >= max(self.written - self.size, 0)
            owners, at = owners[is_kept], at[is_kept] % self.size
            if not len(at):
                break
            found.append((owners, at))
            at = self.previous[number, at]
        owners_R, places_R = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return owners_R, places_R


def _thread(latest: Ints, entities_P: Ints, numbers_P: Ints) -> Ints:
    """Number of the entity's interaction before each of these; and bring ``latest`` up to date."""
    order = np.argsort(entities_P, kind="stable")
    ordered = entities_P[order]
    is_first = np.append(True, ordered[1:] != ordered[:-1])
    before = np.where(is_first, latest[ordered], np.append(NOTHING, numbers_P[order][:-1]))
    previous = np.empty_like(numbers_P)
    previous[order] = before
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    latest[ordered[is_last]] = numbers_P[order][is_last]
    return previous
