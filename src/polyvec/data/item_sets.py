"""Sets of items, one per user, as flat arrays: what was bought, what is to be foretold, what is barred.

Shapes: **B** sets (one per user or query), **P** members of all sets together, **k** ranked items.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset


def expand_ranges(
    start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """List every index of the ranges ``start[i] : stop[i]``.

    Returns
    -------
    owners, index
        int64 ``[P]`` each: the range every index belongs to, and the index.

    Examples
    --------
    >>> owners, index = expand_ranges(np.array([4, 0]), np.array([6, 1]))
    >>> owners.tolist(), index.tolist()
    ([0, 0, 1], [4, 5, 0])
    """
    lengths = np.maximum(stop - start, 0)
    owners = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    skipped = start - (np.cumsum(lengths) - lengths)
    return owners, np.arange(len(owners), dtype=np.int64) + np.repeat(skipped, lengths)


@dataclass(frozen=True, eq=False)
class ItemSets:
    """B sets of item rows. Immutable.

    Attributes
    ----------
    offsets
        int64 ``[B+1]``; set b is ``items[offsets[b] : offsets[b+1]]``.
    items
        int64 ``[P]``, ascending and distinct within a set.
    num_items
        N; item rows are below it.
    """

    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    num_items: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def from_pairs(
        cls, owners: npt.NDArray[Any], items: npt.NDArray[Any], num_sets: int, num_items: int
    ) -> ItemSets:
        """Collect (set, item row) pairs in any order, repetitions included."""
        keys = np.asarray(owners, np.int64) * num_items + np.asarray(items, np.int64)
        return cls._from_keys(np.unique(keys), num_sets, num_items)

    @classmethod
    def of_events(
        cls, dataset: Dataset, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]
    ) -> ItemSets:
        """Distinct items of the events ``start[b] : stop[b]`` of a Dataset, for every b."""
        owners, events = expand_ranges(start, stop)
        return cls.from_pairs(owners, dataset.item_rows[events], len(start), dataset.num_items)

    @classmethod
    def _from_keys(cls, keys: npt.NDArray[np.int64], num_sets: int, num_items: int) -> ItemSets:
        owners, items = np.divmod(keys, max(num_items, 1))
        offsets = np.searchsorted(owners, np.arange(num_sets + 1)).astype(np.int64)
        return cls(offsets, items, num_items)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Members of every set, int64 ``[B]``."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> npt.NDArray[np.int64]:
        """Set of every member, int64 ``[P]``."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.sizes)

    @cached_property
    def _keys(self) -> npt.NDArray[np.int64]:
        return self.owners * self.num_items + self.items

    def contains(self, rows_Bk: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether set b holds each item of row b, bool ``[B, k]``; never for −1."""
        return self.contains_pairs(np.arange(len(self), dtype=np.int64)[:, None], rows_Bk)

    def contains_pairs(
        self, owners: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Whether set ``owners[p]`` holds item ``rows[p]``; arrays that broadcast; never for −1."""
        keys = owners * self.num_items + rows
        if not len(self._keys):
            return np.zeros(keys.shape, dtype=np.bool_)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return (self._keys[places] == keys) & (rows >= 0)

    def select(self, index: npt.NDArray[np.int64]) -> ItemSets:
        """Pick the sets at these positions, in this order."""
        owners, members = expand_ranges(self.offsets[index], self.offsets[index + 1])
        offsets = np.searchsorted(owners, np.arange(len(index) + 1)).astype(np.int64)
        return ItemSets(offsets, self.items[members], self.num_items)

    def only(self, allowed_N: npt.NDArray[np.bool_]) -> ItemSets:
        """Members that are allowed, bool ``[N]``."""
        kept = allowed_N[self.items]
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets].astype(np.int64)
        return ItemSets(offsets, self.items[kept], self.num_items)

    def both(self, other: ItemSets) -> ItemSets:
        """Members that are in the other's set, too."""
        keys = np.intersect1d(self._keys, other._keys, assume_unique=True)
        return self._from_keys(keys, len(self), self.num_items)

    def without(self, other: ItemSets) -> ItemSets:
        """Members that are not in the other's set."""
        keys = np.setdiff1d(self._keys, other._keys, assume_unique=True)
        return self._from_keys(keys, len(self), self.num_items)
