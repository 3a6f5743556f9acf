"""Tables and lines that several verbs print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from polyvec.embeddings import Embeddings

PARTS = ("all", "repeats", "new")


def told_vectors(path: Path, embeddings: Embeddings) -> str:
    """How many vectors there are, of how many users and items."""
    each = f"{embeddings.num_vectors} vector{'s' if embeddings.num_vectors > 1 else ''}"
    return (
        f"{path}: {len(embeddings.users):,} users of {each} and {len(embeddings.items):,} items, "
        f"{embeddings.width} wide"
    )


def print_recall(results: pl.DataFrame, keys: tuple[str, ...]) -> None:
    """Print recall@100 of all targets, repeats and new items, a row for each value of the key columns."""
    import polars as pl
    from rich.console import Console
    from rich.table import Table

    names = [key.replace("cutoff", "cut-off") for key in keys]
    table = Table(*names, box=None, title="recall@100", title_justify="left")
    for part in PARTS:
        table.add_column(part, justify="right")
    measured = results.filter(pl.col("metric") == "recall@100")
    for key, group in measured.group_by(*keys, maintain_order=True):
        values = dict(group.select("part", "value").iter_rows())
        cells = ["–" if values.get(part) is None else f"{values[part]:.3f}" for part in PARTS]
        table.add_row(*map(str, key), *cells)
    Console().print(table)
