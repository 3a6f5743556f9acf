"""How many bytes a model is kept in, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvec.layers.tables import tensors_in_tables
from polyvec.training.rehearsal import num_bytes

if TYPE_CHECKING:
    from torch import nn

    from polyvec.layers.tables import Table


@dataclass(frozen=True)
class Sizes:
    """Bytes of a model's weights: all that its file of weights holds, but the names.

    Attributes
    ----------
    item_table
        The ids' table: rows, assignments, codes and scales.
    other_tables
        Tables of users, categories, words, times and places.
    rest
        Matrices and whatever else there is.
    """

    item_table: int
    other_tables: int
    rest: int

    @classmethod
    def of(cls, network: nn.Module, item_table: Table | None) -> Sizes:
        """Sizes of a network, of which ``item_table`` is a part; its tensors may be on the meta device.

        None stands for a network whose tables hold more than items.
        """
        total = num_bytes(network.state_dict().values())
        in_all_tables = num_bytes(tensors_in_tables(network))
        of_items = 0 if item_table is None else item_table.bytes()
        return cls(of_items, in_all_tables - of_items, total - in_all_tables)

    @property
    def total(self) -> int:
        """All parts together."""
        return self.item_table + self.other_tables + self.rest
