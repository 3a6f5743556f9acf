"""The embedding tables of a network, whatever their kind."""

from __future__ import annotations

from torch import Tensor, nn

from polyvec.layers.tables.table import Table
from polyvec.layers.tables.words import WordTable


def tensors_in_tables(network: nn.Module) -> list[Tensor]:
    """Parameters and buffers of all embedding tables of a network, each once."""
    tables = [module for module in network.modules() if isinstance(module, nn.Embedding | Table | WordTable)]
    found = {id(part): part for table in tables for part in (*table.parameters(), *table.buffers())}
    return list(found.values())
