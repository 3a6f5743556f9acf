"""A row for every id, or for the popular ones only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyvec.layers.tables.table import INITIAL_STD, Table


class PopularTable(Table):
    """Own rows for the most popular ids, one shared row for all others (GUIM section 3.2).

    Slot 0 is the shared row, slots 1 … X belong to the popular ids. Where all are, this is the full table.

    Parameters
    ----------
    num_popular
        X, ids with a row of their own.
    width
        d_i, numbers per row.
    sparse
        Whether gradients are sparse: a step then touches only the rows that it reads. Where every step reads
        all rows, dense gradients and their optimizer are several times faster.
    """

    def __init__(self, num_popular: int, width: int, *, sparse: bool = True) -> None:
        super().__init__()
        self.num_rows = num_popular + 1
        self.width = width
        self.sparse = sparse
        self.weight = nn.Parameter(torch.empty(num_popular + 1, width).normal_(std=INITIAL_STD))

    def forward(self, ids: Tensor) -> Tensor:
        """Rows of slots. int64 ``[…] → […, D]``."""
        return nn.functional.embedding(ids, self.weight, sparse=self.sparse)

    def all(self) -> Tensor:
        """The rows. ``→ [1 + X, width]``."""
        return self.weight
