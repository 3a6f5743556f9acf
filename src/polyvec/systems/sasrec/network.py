"""The SASRec network: a causal transformer over the items of a history.

**B** users, **L** events, **D** width, **N** items; token 0 is a start that every history has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polyvec.layers.dropout import Dropout
from polyvec.layers.mixture_transformer import EncoderLayer
from polyvec.layers.tables import INITIAL_STD, id_table

if TYPE_CHECKING:
    from polyvec.systems.sasrec.config import SASRecConfig


class SASRecNetwork(nn.Module):
    """Item slots in, one vector per position out: what comes next is the item with the largest dot product.

    Parameters
    ----------
    config
        Sizes.
    num_items
        Known items; slot 0 stands for all others.
    """

    def __init__(self, config: SASRecConfig, num_items: int) -> None:
        super().__init__()
        self.max_length = config.max_length
        self.items = id_table(config.item_table, num_items, config.item_rows, config.width, sparse=False)
        self.start = nn.Parameter(torch.empty(config.width).normal_(std=INITIAL_STD))
        self.places = nn.Embedding(config.max_length, config.width)
        nn.init.normal_(self.places.weight, std=INITIAL_STD)
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(config.width, config.num_heads, config.dropout) for _ in range(config.num_layers)
        )

    def forward(self, slots_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """What comes after nothing, after the first event, … after the last. ``→ [B, 1 + L, D]``.

        Parameters
        ----------
        slots_BL
            Item slots, oldest first, padded at the end.
        lengths_B
            Events of every history, 0 … ``max_length``. Places are counted back from the latest event; the
            start has none, so that it foretells the same whatever follows.
        """
        items_BLD = self.items(slots_BL)
        start_B1D = self.start.expand(len(slots_BL), 1, -1)
        ages_BL = lengths_B[:, None] - 1 - torch.arange(slots_BL.shape[1], device=slots_BL.device)
        events_BLD = items_BLD + self.places(ages_BL.clamp(min=0))
        tokens_BTD = self.dropout(self.norm(torch.cat([start_B1D, events_BLD], dim=1)))
        for layer in self.layers:
            tokens_BTD = layer(tokens_BTD, None, causal=True)
        return tokens_BTD
