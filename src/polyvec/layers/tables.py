"""Embedding tables: from row numbers to vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INITIAL_STD = 0.02
"""Standard deviation of all initial weights, as in BERT (Devlin et al. 2018)."""


class PopularTable(nn.Module):
    """Own rows for the most popular ids, one shared row for all others (GUIM section 3.2).

    Slot 0 is the shared row, slots 1 … X belong to the popular ids.

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
        self.width = width
        self.sparse = sparse
        self.weight = nn.Parameter(torch.empty(num_popular + 1, width).normal_(std=INITIAL_STD))

    @property
    def num_rows(self) -> int:
        """Rows of the table, the shared one included."""
        return self.weight.shape[0]

    def forward(self, slots_M: Tensor) -> Tensor:
        """Rows of the slots. ``[M] → [M, width]``."""
        return nn.functional.embedding(slots_M, self.weight, sparse=self.sparse)


class WordTable(nn.Module):
    """Mean of the vectors of an item's words; the zero vector for an item without words.

    Parameters
    ----------
    num_words
        Words with a row.
    width
        d_w, numbers per row.
    sparse
        As for :class:`PopularTable`.
    """

    def __init__(self, num_words: int, width: int, *, sparse: bool = True) -> None:
        super().__init__()
        self.width = width
        self.sparse = sparse
        self.weight = nn.Parameter(torch.empty(num_words, width).normal_(std=INITIAL_STD))

    def forward(self, words_W: Tensor, offsets_M: Tensor) -> Tensor:
        """Mean over each bag of words. ``[W], [M] → [M, width]``; bag m starts at ``offsets_M[m]``."""
        return nn.functional.embedding_bag(words_W, self.weight, offsets_M, mode="mean", sparse=self.sparse)
