"""Embedding tables: from row numbers to vectors."""

from polyvec.layers.tables.choice import KnownTable, TableKind, clusters_of, id_table, kept
from polyvec.layers.tables.clustered import ClusteredTable
from polyvec.layers.tables.found import tensors_in_tables
from polyvec.layers.tables.hashed import HashedTable, QuotientRemainderTable
from polyvec.layers.tables.popular import PopularTable
from polyvec.layers.tables.quantised import QuantisedTable
from polyvec.layers.tables.table import INITIAL_STD, Table
from polyvec.layers.tables.words import WordTable

__all__ = [
    "INITIAL_STD",
    "ClusteredTable",
    "HashedTable",
    "KnownTable",
    "PopularTable",
    "QuantisedTable",
    "QuotientRemainderTable",
    "Table",
    "TableKind",
    "WordTable",
    "clusters_of",
    "id_table",
    "kept",
    "tensors_in_tables",
]
