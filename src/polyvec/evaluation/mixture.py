"""How a mixture of vectors is used: whether a user's C vectors say different things.

Vectors trained through a max can die or coincide, and then C = 4 is no better than C = 1.

Shapes: **U** users, **C** vectors per user, **P** (user, item) pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polyvec.embeddings import unit
from polyvec.retrieval.ranking import query_vectors

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.item_sets import ItemSets
    from polyvec.embeddings import Embeddings

PAIRS_AT_ONCE = 65_536
USED = 0.1  # a vector is used if it wins this share of its user's items


def wins(embeddings: Embeddings, dataset: Dataset, items: ItemSets) -> npt.NDArray[np.int64]:
    """Count how many items of each user every vector wins, int64 ``[U, C]``.

    A vector wins an item if it scores higher with it than the user's other vectors (GUIM eq. 3).

    Parameters
    ----------
    embeddings
        Vectors.
    dataset
        Whose user and item rows ``items`` speaks of.
    items
        One set per user of the Dataset. Users or items without vectors are passed over.
    """
    users_of = embeddings.users.ids.rows(dataset.users.series)
    items_of = embeddings.items.ids.rows(dataset.items.series)
    owners = items.owners
    there = (users_of[owners] >= 0) & (items_of[items.items] >= 0)
    owners, rows = owners[there], items_of[items.items[there]]
    items_ND = embeddings.unit_items()
    counts = np.zeros((dataset.num_users, embeddings.num_vectors), dtype=np.int64)
    for start in range(0, len(owners), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        users_PCD = query_vectors(embeddings, users_of[owners[part]])
        winners = np.einsum("pcd,pd->pc", users_PCD, items_ND[rows[part]]).argmax(axis=1)
        np.add.at(counts, (owners[part], winners), 1)
    return counts


def vectors_used(wins_UC: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count each user's vectors that win at least a tenth of the user's items, ``[U]``; 0 without items."""
    total_U1 = wins_UC.sum(axis=1, keepdims=True)
    used_U: npt.NDArray[np.int64] = ((wins_UC >= USED * total_U1) & (wins_UC > 0)).sum(axis=1)
    return used_U


def mean_cosine(embeddings: Embeddings, rows: npt.NDArray[np.int64]) -> float | None:
    """Mean cosine between two different vectors of a user; None with one vector per user or no user.

    1 means that all vectors of a user are the same.
    """
    num_vectors = embeddings.num_vectors
    if num_vectors == 1 or not len(rows):
        return None
    users_BCD = unit(embeddings.users.vectors[rows])
    # the squared length of the sum holds every pair twice, and each vector with itself
    whole_B = np.square(users_BCD.sum(axis=1)).sum(axis=1) - np.square(users_BCD).sum(axis=(1, 2))
    return float(whole_B.mean() / (num_vectors * (num_vectors - 1)))
