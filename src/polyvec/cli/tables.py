"""Tables that several verbs print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

PARTS = ("all", "repeats", "new")


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
