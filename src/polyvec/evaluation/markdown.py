"""Pages in Markdown, and their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

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


def study_page(study: Path, verdicts: Iterable[str], sections: Iterable[str]) -> str:
    """Page of a study: ``about.md`` of its folder, a list of verdicts, and those sections that hold text."""
    about = (study / "about.md").read_text("utf-8").rstrip()
    told = "## Verdicts\n\n" + "\n".join(f"- {line}" for line in verdicts)
    return "\n\n".join([about, told, *filter(None, sections)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
