"""Recall over C: what more vectors per user bring; and over bytes: what a larger model brings.

Lines are found by what made the vectors. Systems of one ``kind`` and one width D that differ in C make a
line. Single vectors that are C times as wide (GUI-EDI of GUIM's section 4.3.1) make one beside it, at the
same numbers per user: systems of one kind with one vector each, whose widths are different multiples of D.

Where two systems would stand at one place of a line (two recipes of one kind, say) there is a line for each
name without the number at its end: ``paper-1, paper-4, ours-1, ours-4`` are two.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import polars as pl

from polyvec.evaluation.tasks.comparison import MEASURE

if TYPE_CHECKING:
    from collections.abc import Sequence

    Lines = dict[str, dict[int, str]]

FIGURES = ("value", "low", "high", "per_seed")


def stem(name: str) -> str:
    """Name of a system without the number at its end.

    >>> stem("guim-16"), stem("als")
    ('guim', 'als')
    """
    return re.sub(r"[ _=-]*\d+$", "", name) or name


def curves(matching: pl.DataFrame, costs: pl.DataFrame) -> list[dict[str, Any]]:
    """Recall@100 of every system that stands on a line over C.

    Parameters
    ----------
    matching
        :func:`polyvec.evaluation.tasks.comparison.tabulate`, systems by their names.
    costs
        ``system``, ``kind``, ``C`` and ``D`` of every system.

    Returns
    -------
    list of dict
        ``task, line, C, system, value, low, high, per_seed``: by task and line, C ascending; ``value`` with
        its interval over users, and the value of every seed. What a task does not know is left out.
    """
    chosen = pl.col("metric") == MEASURE, pl.col("part") == "all", pl.col("value").is_not_null()
    measured = {(row["task"], row["ranker"]): row for row in matching.filter(*chosen).to_dicts()}
    found = lines(costs)
    return [
        {"task": task, "line": line, "C": c, "system": system}
        | {key: measured[task, system][key] for key in FIGURES}
        for task in dict.fromkeys(task for task, _ in measured)
        for line, systems in found.items()
        for c, system in systems.items()
        if (task, system) in measured
    ]


def sizes(matching: pl.DataFrame, costs: pl.DataFrame) -> list[dict[str, Any]]:
    """Size against quality: recall@100 of every system that tells the bytes of its model, the largest first.

    Parameters
    ----------
    matching
        :func:`polyvec.evaluation.tasks.comparison.tabulate`, systems by their names.
    costs
        ``system``, ``model_bytes`` and ``item_table_bytes`` of every system; the last may be unknown.

    Returns
    -------
    list of dict
        ``task, system, model_bytes, item_table_bytes, value, low, high``.
    """
    chosen = pl.col("metric") == MEASURE, pl.col("part") == "all", pl.col("value").is_not_null()
    told = costs.select(pl.col("system").alias("ranker"), "model_bytes", "item_table_bytes")
    joined = matching.filter(*chosen).join(told.drop_nulls("model_bytes"), on="ranker")
    columns = ("task", "system", "model_bytes", "item_table_bytes", "value", "low", "high")
    ordered = joined.sort("task", -pl.col("model_bytes"), "ranker").rename({"ranker": "system"})
    return ordered.select(columns).to_dicts()


def lines(costs: pl.DataFrame) -> Lines:
    """Name of the system at every C, ascending, of every line of two points or more.

    Parameters
    ----------
    costs
        As for :func:`curves`.
    """
    rows = costs.select("system", "kind", "C", "D").to_dicts()
    found: Lines = {}
    widths = []
    for kind, width in dict.fromkeys((row["kind"], row["D"]) for row in rows):
        same = [row for row in rows if (row["kind"], row["D"]) == (kind, width)]
        made = _lines(kind, f", D = {width}", [(row["C"], row["system"]) for row in same])
        found |= made
        widths += [width] * len(made)
    return found | (_single_vectors(rows, min(widths)) if widths else {})


def _single_vectors(rows: Sequence[dict[str, Any]], width: int) -> Lines:
    """Lines of single vectors that are as wide as C of this width."""
    found: Lines = {}
    wide = [row for row in rows if row["C"] == 1 and row["D"] % width == 0]
    for kind in dict.fromkeys(row["kind"] for row in wide):
        points = [(row["D"] // width, row["system"]) for row in wide if row["kind"] == kind]
        found |= _lines(kind, f", one vector of C · {width}", points)
    return found


def _lines(kind: str, ending: str, points: Sequence[tuple[int, str]]) -> Lines:
    """One line, or one per stem of the names where two points share a place; nothing of a single point."""
    together = {kind: points}
    if not _apart(points):
        stems = dict.fromkeys(stem(name) for _, name in points)
        together = {one: [point for point in points if stem(point[1]) == one] for one in stems}
    return {
        name + ending: dict(sorted(some)) for name, some in together.items() if len(some) > 1 and _apart(some)
    }


def _apart(points: Sequence[tuple[int, str]]) -> bool:
    return len({place for place, _ in points}) == len(points)
