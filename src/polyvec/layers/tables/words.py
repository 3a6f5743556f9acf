"""Mean of the words of a title."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyvec.layers.tables.table import INITIAL_STD


class WordTable(nn.Module):
    """Mean of the vectors of an item's words; the zero vector for an item without words.

    Parameters
    ----------
    num_words
        Words with a row.
    width
        d_w, numbers per row.
    sparse
        As for :class:`polyvec.layers.tables.PopularTable`.
    """

    def __init__(self, num_words: int, width: int, *, sparse: bool = True) -> None:
        super().__init__()
        self.width = width
        self.sparse = sparse
        self.weight = nn.Parameter(torch.empty(num_words, width).normal_(std=INITIAL_STD))

    def forward(self, words_W: Tensor, offsets_M: Tensor) -> Tensor:
        """Mean over each bag of words. ``[W], [M] → [M, width]``; bag m starts at ``offsets_M[m]``."""
        return nn.functional.embedding_bag(words_W, self.weight, offsets_M, mode="mean", sparse=self.sparse)
