"""Tables of pages in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NOTHING = "–"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Table whose first column stands left, the others right.

    Examples
    --------
    >>> print(table(["", "error"], [["CEL", "0.87"]]))
    |  | error |
    |---|--:|
    | CEL | 0.87 |
    """
    rule = "|---|" + "--:|" * (len(header) - 1)
    return "\n".join([_line(header), rule, *map(_line, rows)])


def cell(figures: Mapping[str, Any] | None, digits: int = 4) -> str:
    """Text of what :func:`polyvec.evaluation.runs.over_runs` gives: the mean ± half of its interval.

    Examples
    --------
    >>> cell({"mean": 0.5, "half_width": 0.01}, 2), cell(None)
    ('0.50 ± 0.01', '–')
    """
    if figures is None:
        return NOTHING
    half = f" ± {figures['half_width']:.{digits}f}" if "half_width" in figures else ""
    return f"{figures['mean']:.{digits}f}{half}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
