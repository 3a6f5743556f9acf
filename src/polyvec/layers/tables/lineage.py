"""What a clustered table remembers of its past: which cluster split from which, and who moved how often.

**n** entities, **M** of them, **K** rows of the table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

UNTOLD = -1
"""Step of a split that nobody told, and of clusters that were there from the start."""
MOST_MOVES = torch.iinfo(torch.uint8).max


class Lineage(nn.Module):
    """The tree of splits and the entities' moves, for people to look at: no answer needs it.

    All of it is in buffers, so that it goes into checkpoints and models with the rows.

    Parameters
    ----------
    num_rows
        n.
    max_clusters
        K.
    number_type
        Integer type that numbers the clusters.

    Attributes
    ----------
    parents
        Cluster that each one split from, ``[K]``; its own number where it did not split from another.
    born
        Training step of that split, int32 ``[K]``, or :data:`UNTOLD`.
    moves
        How often each entity went to another cluster by reassignment, uint8 ``[n]``; 255: or more.
    """

    parents: Tensor
    born: Tensor
    moves: Tensor

    def __init__(self, num_rows: int, max_clusters: int, number_type: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("parents", torch.arange(max_clusters).to(number_type))
        self.register_buffer("born", torch.full((max_clusters,), UNTOLD, dtype=torch.int32))
        self.register_buffer("moves", torch.zeros(num_rows, dtype=torch.uint8))

    def split(self, cluster: int, new: int, step: int) -> None:
        """Remember that a cluster split from another."""
        self.parents[new] = cluster
        self.born[new] = step

    def reseed(self, empty: int, source: int, step: int) -> None:
        """Remember that a cluster which had died out began anew as a part of another.

        What had split from it goes to where it came from itself, so that what is left is a tree.
        """
        came_from, clusters_K = int(self.parents[empty]), torch.arange(len(self.parents)).to(self.parents)
        is_orphan_K = (self.parents == empty) & (clusters_K != empty)
        self.parents[is_orphan_K] = clusters_K[is_orphan_K] if came_from == empty else came_from
        self.split(source, empty, step)

    def count(self, moved_M: Tensor) -> None:
        """Remember that these distinct entities moved, int64 ``[M]``."""
        self.moves[moved_M] += self.moves[moved_M] < MOST_MOVES

    def bytes(self) -> int:
        """Bytes of what is remembered."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())
