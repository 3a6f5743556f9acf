"""What every table of ids has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

INITIAL_STD = 0.02
"""Standard deviation of all initial weights, as in BERT (Devlin et al. 2018)."""


class Table(nn.Module, ABC):
    """Vectors of n entities, looked up by row number.

    Its state, all that it needs to answer, is in its parameters and buffers: ``state_dict`` round-trips.

    Attributes
    ----------
    num_rows
        n, entities that have an answer: 0 … n − 1.
    width
        D, numbers per vector.
    """

    num_rows: int
    width: int

    @abstractmethod
    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of entities. int64 ``[…] → […, D]``."""

    def all(self) -> Tensor:
        """Vectors of all entities. ``→ [n, D]``."""
        some: Tensor = next(iter((*self.parameters(), *self.buffers())))
        vectors: Tensor = self(torch.arange(self.num_rows, device=some.device))
        return vectors

    def bytes(self) -> int:
        """Bytes of everything that an answer needs: rows, assignments and codes; not of a lineage."""
        own = (*self.parameters(recurse=False), *self.buffers(recurse=False))
        inner = sum(child.bytes() for child in self.children() if isinstance(child, Table))
        return sum(part.numel() * part.element_size() for part in own) + inner
