"""The GUIM network: f_i, f_cls, f_t, transformer, f_o and f_u (GUIM section 3.2, figure 1).

**B** samples, **L** events, **C** vectors per user, **D** width, **M** distinct items, **P** masked events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polyvec.layers.attention import attend
from polyvec.layers.item_encoder import FieldTensors, ItemEncoder
from polyvec.layers.mixture_transformer import MixtureTransformer, add_identity
from polyvec.layers.tables import INITIAL_STD

if TYPE_CHECKING:
    from polyvec.systems.guim.config import GUIMConfig


@dataclass(frozen=True)
class Histories:
    """Histories of B users over M distinct items, as tensors: see :class:`polyvec.data.batches.Batch`."""

    items_BL: Tensor
    ages_BL: Tensor
    lengths_B: Tensor
    masked_BL: Tensor | None


class HeadsLayer(nn.Module):
    """GUIM-MH: one more self-attention layer whose H heads, each D wide, are the user's vectors (4.3.2).

    Parameters
    ----------
    width
        D.
    num_heads
        H.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = _linear(width, num_heads * width)
        self.key_value = _linear(width, 2 * num_heads * width)

    def forward(self, tokens_BTD: Tensor, visible_BT: Tensor | None) -> Tensor:
        """Heads of the first token. ``[B, T, D] → [B, H, D]``."""
        queries_BHQD = self._heads(self.query(tokens_BTD[:, :1]))
        keys_BTX, values_BTX = self.key_value(tokens_BTD).chunk(2, dim=-1)
        attended_BHQD = attend(queries_BHQD, self._heads(keys_BTX), self._heads(values_BTX), visible_BT)
        return attended_BHQD[:, :, 0]

    def _heads(self, tokens_BTX: Tensor) -> Tensor:
        return tokens_BTX.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class GUIMNetwork(nn.Module):
    """Items and histories in, item vectors, user vectors and outputs at masked events out.

    Parameters
    ----------
    config
        Sizes.
    num_popular, num_categories, num_words
        Rows of the item's tables; a count of 0 leaves categories or words out.
    """

    def __init__(self, config: GUIMConfig, num_popular: int, num_categories: int, num_words: int) -> None:
        super().__init__()
        widths = (config.id_width, config.category_width, config.word_width)
        self.f_i = ItemEncoder(
            num_popular,
            num_categories,
            num_words,
            widths,
            config.width,
            gelu=config.gelu,
            sparse=config.negatives != "catalogue",
            table=config.item_table,
            rows=config.item_rows,
        )
        self.transformer = MixtureTransformer(
            config.width,
            config.num_vectors,
            config.num_layers,
            config.num_heads,
            config.dropout,
            pooling=config.start == "pooling",
            by_likeness=config.matching_weight > 0,
            competing=config.competing and config.matching_weight > 0,
        )
        self.heads = HeadsLayer(config.width, config.user_heads) if config.user_heads else None
        self.f_o = _one_layer(config.width, gelu=config.gelu)
        self.f_u = _one_layer(config.width, gelu=config.gelu)
        if config.start == "pooling":
            nn.init.normal_(self.f_i.projection.weight, std=self.f_i.projection.in_features**-0.5)
            for weight in (*self.f_o.parameters(), *self.f_u.parameters()):
                if weight.ndim > 1:
                    add_identity(weight)

    def encode_items(self, fields: FieldTensors) -> Tensor:
        """v_j. ``→ [M, D]``."""
        vectors_MD: Tensor = self.f_i(fields)
        return vectors_MD

    def encode_histories(self, items_MD: Tensor, histories: Histories) -> tuple[Tensor, Tensor]:
        """User vectors u_c ``[B, C, D]`` and outputs o_n at the masked events ``[P, D]``."""
        items_BLD = _gather(items_MD, histories.items_BL)
        transformer = self.transformer
        if self.heads is None:
            cls_BCD, masked_PD = transformer(
                items_BLD, histories.ages_BL, histories.lengths_B, histories.masked_BL
            )
        else:
            tokens_BTD, visible_BT = transformer.all_tokens(
                items_BLD, histories.ages_BL, histories.lengths_B, histories.masked_BL
            )
            cls_BCD = self.heads(tokens_BTD, visible_BT)
            masked_PD = _masked_events(tokens_BTD[:, 1:], histories.masked_BL)
        return self.f_u(cls_BCD), self.f_o(masked_PD)

    def count_parameters(self) -> dict[str, int]:
        """Weights of matrices and tables as the paper's Table 3 counts them: no biases, no norms."""
        transformer = self.transformer
        counts = {
            "Final projection matrix in f_j()": self.f_i.projection.weight.numel(),
            "Embedding table in f_t()": transformer.time.weight.numel(),
            "Embedding table in f_cls()": transformer.cls.weight.numel(),
            "3-layer Transformer": sum(p.numel() for p in transformer.layers.parameters() if p.ndim > 1),
            "Projection matrix in f_u()": _matrix(self.f_u),
            "Projection matrix in f_o()": _matrix(self.f_o),
        }
        return counts | {"Summation of the above": sum(counts.values())}


def _matrix(layer: nn.Sequential) -> int:
    return sum(parameter.numel() for parameter in layer.parameters() if parameter.ndim > 1)


def _gather(items_MD: Tensor, index_BL: Tensor) -> Tensor:
    """Rows of a small matrix at many places; ``[M, D], [B, L] → [B, L, D]``, also where M is 0."""
    if not len(items_MD):
        return items_MD.new_zeros(*index_BL.shape, items_MD.shape[1])
    return nn.functional.embedding(index_BL, items_MD)


def _masked_events(tokens_BLD: Tensor, masked_BL: Tensor | None) -> Tensor:
    return tokens_BLD[:0, 0] if masked_BL is None else tokens_BLD[masked_BL]


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=INITIAL_STD)
    nn.init.zeros_(layer.bias)
    return layer


def _one_layer(width: int, *, gelu: bool) -> nn.Sequential:
    """f_o and f_u: a linear layer, with GELU after it in the paper's configuration."""
    layers: list[nn.Module] = [_linear(width, width)]
    return nn.Sequential(*layers, nn.GELU()) if gelu else nn.Sequential(*layers)


def tensors(array: object, device: torch.device) -> Tensor:
    """NumPy array to a tensor on a device."""
    return torch.as_tensor(array, device=device)
