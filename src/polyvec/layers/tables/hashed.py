"""Tables with fewer rows than ids, shared by chance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyvec.layers.tables.table import INITIAL_STD, Table

PRIME = 2_147_483_647  # 2³¹ − 1
FACTOR, SHIFT = 1_103_515_245, 12_345  # of the second hash: ids that share a row in one do not in the other


class HashedTable(Table):
    """Ids share m rows by a hash: modulo (Weinberger et al. 2009), or the sum of two rows of two hashes.

    With two hashes (Zhang et al. 2020, section 3) two ids are told apart unless both their rows agree.

    Parameters
    ----------
    num_rows
        n, entities.
    num_buckets
        m, rows that they share.
    width
        D.
    num_hashes
        1 or 2.
    """

    def __init__(self, num_rows: int, num_buckets: int, width: int, *, num_hashes: int = 1) -> None:
        super().__init__()
        self.num_rows, self.width, self.num_hashes = num_rows, width, num_hashes
        std = INITIAL_STD * num_hashes**-0.5  # the sum's is INITIAL_STD
        self.weight = nn.Parameter(torch.empty(num_buckets, width).normal_(std=std))

    def forward(self, ids: Tensor) -> Tensor:
        """Row of the hash, or the sum of two. int64 ``[…] → […, D]``."""
        rows = nn.functional.embedding(ids % len(self.weight), self.weight)
        if self.num_hashes == 1:
            return rows
        other = (ids % PRIME * FACTOR + SHIFT) % PRIME % len(self.weight)
        return rows + nn.functional.embedding(other, self.weight)


class QuotientRemainderTable(Table):
    """Row of the quotient times row of the remainder, element by element (Shi et al. 2020, section 3.1).

    No two ids share both, so all vectors differ. ``⌈n/m⌉ + m`` rows.

    Parameters
    ----------
    num_rows
        n, entities.
    num_buckets
        m, rows of remainders.
    width
        D.
    """

    def __init__(self, num_rows: int, num_buckets: int, width: int) -> None:
        super().__init__()
        self.num_rows, self.width = num_rows, width
        quotients = -(-num_rows // num_buckets)
        self.remainder = nn.Parameter(torch.empty(num_buckets, width).normal_(std=INITIAL_STD))
        self.quotient = nn.Parameter(torch.empty(quotients, width).normal_(mean=1, std=INITIAL_STD))

    def forward(self, ids: Tensor) -> Tensor:
        """Product of the two rows. int64 ``[…] → […, D]``."""
        quotient = torch.div(ids, len(self.remainder), rounding_mode="floor")
        remainder = nn.functional.embedding(ids % len(self.remainder), self.remainder)
        return remainder * nn.functional.embedding(quotient, self.quotient)
