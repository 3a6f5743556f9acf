"""A table in a quarter of the bytes, to answer from but not to train."""

from __future__ import annotations

import torch
from torch import Tensor

from polyvec.layers.tables.table import Table

LARGEST = 127


class QuantisedTable(Table):
    """Int8 codes and one scale per row: off by at most 1/254 of a row's largest number.

    Parameters
    ----------
    num_rows
        n, entities.
    width
        D.
    """

    codes: Tensor
    scale: Tensor

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.num_rows, self.width = num_rows, width
        self.register_buffer("codes", torch.zeros(num_rows, width, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(num_rows))

    @classmethod
    @torch.no_grad()
    def of(cls, vectors_ND: Tensor) -> QuantisedTable:
        """Quantise finished vectors, row by row."""
        table = cls(*vectors_ND.shape)
        largest_N = vectors_ND.abs().amax(dim=1).float()
        table.scale = largest_N / LARGEST
        unit_ND = vectors_ND / table.scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
        table.codes = unit_ND.round().to(torch.int8)
        return table

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of entities, float32. int64 ``[…] → […, D]``."""
        return self.codes[ids].float() * self.scale[ids][..., None]
