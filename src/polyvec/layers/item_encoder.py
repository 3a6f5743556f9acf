"""The item embedding layer f_i: from an item's fields to its vector (GUIM section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polyvec.layers.tables import INITIAL_STD, PopularTable, TableKind, WordTable, id_table

if TYPE_CHECKING:
    from polyvec.data.fields import ItemFields


@dataclass(frozen=True)
class FieldTensors:
    """Fields of M items as tensors: see :class:`polyvec.data.fields.ItemFields`."""

    slots_M: Tensor
    categories_M: Tensor
    words_W: Tensor
    offsets_M: Tensor

    @classmethod
    def of(cls, fields: ItemFields, device: torch.device) -> FieldTensors:
        """Copy fields to a device."""
        return cls(
            torch.from_numpy(fields.slots).to(device),
            torch.from_numpy(fields.categories).to(device),
            torch.from_numpy(fields.words).to(device),
            torch.from_numpy(fields.word_offsets[:-1]).to(device),
        )

    def part(self, start: int, stop: int) -> FieldTensors:
        """Fields of the items ``start : stop``."""
        offsets_M = self.offsets_M[start:stop]
        after = [int(one) for one in self.offsets_M[stop : stop + 1]] or [len(self.words_W)]
        begin = int(offsets_M[0]) if len(offsets_M) else after[0]
        words_W = self.words_W[begin : after[0]]
        return FieldTensors(
            self.slots_M[start:stop], self.categories_M[start:stop], words_W, offsets_M - begin
        )


class ItemEncoder(nn.Module):
    """Category, id and mean title-word embeddings, concatenated, through one linear layer and GELU.

    Parameters
    ----------
    num_popular
        X, ids with a row of their own.
    num_categories
        Known categories; 0 leaves the part out.
    num_words
        Known title words; 0 leaves the part out.
    widths
        (d_i, d_c, d_w): widths of the id, category and word tables.
    width
        D, width of the item's vector.
    gelu
        Whether GELU follows the linear layer, as in the paper.
    sparse
        Whether the tables' gradients are sparse: see :class:`polyvec.layers.tables.PopularTable`.
    table, rows
        Which table holds the ids' vectors, and rows that they share: see
        :func:`polyvec.layers.tables.id_table`.
    """

    def __init__(
        self,
        num_popular: int,
        num_categories: int,
        num_words: int,
        widths: tuple[int, int, int],
        width: int,
        *,
        gelu: bool,
        sparse: bool = True,
        table: TableKind = "popular",
        rows: int = 0,
    ) -> None:
        super().__init__()
        id_width, category_width, word_width = widths
        self.ids = id_table(table, num_popular, rows, id_width, sparse=sparse)
        self.categories = (
            PopularTable(num_categories, category_width, sparse=sparse) if num_categories else None
        )
        self.words = WordTable(num_words, word_width, sparse=sparse) if num_words else None
        parts_width = id_width + category_width * bool(num_categories) + word_width * bool(num_words)
        self.projection = nn.Linear(parts_width, width)
        nn.init.normal_(self.projection.weight, std=INITIAL_STD)
        nn.init.zeros_(self.projection.bias)
        self.activation = nn.GELU() if gelu else nn.Identity()

    def forward(self, fields: FieldTensors) -> Tensor:
        """Vectors v_j of items. ``→ [M, D]``."""
        parts = [self.ids(fields.slots_M), *self._content(fields)]
        vectors: Tensor = self.activation(self.projection(torch.cat(parts, dim=-1)))
        return vectors

    def with_ids(self, fields: FieldTensors, ids_MQX: Tensor) -> Tensor:
        """Vectors of items whose ids had other vectors. ``[M, Q, d_i] → [M, Q, D]``."""
        ids_weight, content_weight = self.projection.weight.split(
            [self.ids.width, self.projection.in_features - self.ids.width], dim=1
        )
        projected_MQD = nn.functional.linear(ids_MQX, ids_weight, self.projection.bias)
        content = self._content(fields)
        if content:
            projected_MQD = (
                projected_MQD + nn.functional.linear(torch.cat(content, dim=-1), content_weight)[:, None]
            )
        vectors: Tensor = self.activation(projected_MQD)
        return vectors

    def _content(self, fields: FieldTensors) -> list[Tensor]:
        """Vectors of category and title, those of the two that there are."""
        parts: list[Tensor] = []
        if self.categories is not None:
            parts.append(self.categories(fields.categories_M))
        if self.words is not None:
            parts.append(self.words(fields.words_W, fields.offsets_M))
        return parts
