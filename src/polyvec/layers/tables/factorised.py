"""Few numbers for each id, from which matrices that all share make vectors.

**n** entities, **r** numbers of each, **D** width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyvec.layers.tables.quantised import LARGEST
from polyvec.layers.tables.table import Table


class FactorisedTable(Table):
    """``own[id] @ basis``: a table of rank r (Lan et al. 2020, *ALBERT*, section 3.1).

    All vectors are zero to begin with: beside a table of clusters, what tells their members apart.

    Parameters
    ----------
    num_rows
        n, entities.
    rank
        r.
    width
        D.
    """

    def __init__(self, num_rows: int, rank: int, width: int) -> None:
        super().__init__()
        self.num_rows, self.width = num_rows, width
        self.own = nn.Parameter(torch.zeros(num_rows, rank))
        self.basis = nn.Parameter(torch.empty(rank, width).normal_(std=width**-0.5))

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of entities, float32. int64 ``[…] → […, D]``."""
        return _product(nn.functional.embedding(ids, self.own), self.basis)


class RoundedFactors(Table):
    """A finished :class:`FactorisedTable` in int8: off by at most 1/254 of the largest of each of r numbers.

    Parameters
    ----------
    num_rows, rank, width
        n, r and D.
    """

    codes: Tensor

    def __init__(self, num_rows: int, rank: int, width: int) -> None:
        super().__init__()
        self.num_rows, self.width = num_rows, width
        self.register_buffer("codes", torch.zeros(num_rows, rank, dtype=torch.int8))
        self.basis = nn.Parameter(torch.zeros(rank, width))

    @classmethod
    @torch.no_grad()
    def of(cls, table: FactorisedTable) -> RoundedFactors:
        """Round the entities' own numbers; what one code is worth goes into the basis."""
        found = cls(table.num_rows, *table.basis.shape)
        step_r = (table.own.abs().amax(dim=0) / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
        found.codes = (table.own / step_r).round().to(torch.int8)
        found.basis = nn.Parameter(step_r[:, None] * table.basis)
        return found

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of entities, float32. int64 ``[…] → […, D]``."""
        return _product(self.codes[ids].float(), self.basis)


def _product(own: Tensor, basis: Tensor) -> Tensor:
    with torch.autocast(own.device.type, enabled=False):  # as exact as the rows of other tables
        return own @ basis
