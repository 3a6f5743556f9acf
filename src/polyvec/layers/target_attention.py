"""Target attention: what of a history speaks of a candidate item. Histories lie flat, without padding.

Letters: B samples, T events of all their histories, X numbers of a key or query, V of a value, H heads, E
numbers per head. Rows are read by ``index_select``, whose gradients are the same bits on several threads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TargetAttention(nn.Module):
    """Multi-head attention of one query per sample over the events of its history.

    The values come from outside, for several attentions may share them (SAML's V_g).

    Parameters
    ----------
    width
        X.
    heads, head_width
        H and E.
    """

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, heads * head_width)
        self.key = nn.Linear(width, heads * head_width)
        self.output = nn.Linear(heads * head_width, heads * head_width, bias=False)  # of nothing, nothing

    def forward(self, queries_BX: Tensor, keys_TX: Tensor, values_THE: Tensor, owners_T: Tensor) -> Tensor:
        """What each sample's history says, ``[B, H · E]``; zeros of an empty one.

        ``owners_T`` says whose history an event is of.
        """
        queries_BHE = self.query(queries_BX).unflatten(-1, (self.heads, -1))
        keys_THE = self.key(keys_TX).unflatten(-1, (self.heads, -1))
        weights_TH = attention_weights(queries_BHE, keys_THE, owners_T)
        weighted_THE = weights_TH[..., None] * values_THE.float()
        sums_BHE = weighted_THE.new_zeros(queries_BHE.shape).index_add(0, owners_T, weighted_THE)
        attended: Tensor = self.output(sums_BHE.flatten(1))
        return attended


def attention_weights(queries_BHE: Tensor, keys_THE: Tensor, owners_T: Tensor) -> Tensor:
    """Softmax of QKᵀ/√E over the events of each history, ``[T, H]``."""
    width = queries_BHE.shape[-1]
    scores_TH = (queries_BHE.index_select(0, owners_T) * keys_THE).sum(dim=-1).float() * width**-0.5
    everyone_TH = owners_T[:, None].expand_as(scores_TH)
    lowest_BH = scores_TH.new_full(queries_BHE.shape[:2], -torch.inf)
    highest_BH = lowest_BH.scatter_reduce(0, everyone_TH, scores_TH.detach(), "amax")
    weights_TH = (scores_TH - highest_BH[owners_T]).exp()
    sums_BH = torch.zeros_like(lowest_BH).index_add(0, owners_T, weights_TH)
    return weights_TH / sums_BH.index_select(0, owners_T)
