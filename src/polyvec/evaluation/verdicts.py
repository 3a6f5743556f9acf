"""What a table of results says, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

Tone = Literal["better", "worse", "even"]
MEASURE = "recall@100"
POPULARITY = "popularity"


@dataclass(frozen=True)
class Verdict:
    """One sentence about one ranker on one task.

    Attributes
    ----------
    cutoff, task, ranker
        What it is about.
    tone
        Whether the ranker is better, worse or not significantly different.
    text
        The sentence.
    """

    cutoff: str
    task: str
    ranker: str
    tone: Tone
    text: str


def verdicts(results: pl.DataFrame, rankers: list[str], reference: str, oracle: str) -> list[Verdict]:
    """Judge rankers by recall@100 against the reference, against popularity on new items, and the oracle.

    Parameters
    ----------
    results
        Rows of :func:`polyvec.evaluation.tasks.comparison.compare`, with ``cutoff``.
    rankers
        Those to judge.
    reference
        The ranker that ``difference`` was taken from.
    oracle
        The best possible ranker's name; nothing is said of it if it is not there.
    """
    told = []
    for (cutoff, task), group in results.group_by("cutoff", "task", maintain_order=True):
        table = _Table(group)
        for ranker in rankers:
            for tone, text in table.judge(ranker, reference, oracle):
                told.append(Verdict(str(cutoff), str(task), ranker, tone, text))
    return told


class _Table:
    """Rows of one task at one cut-off, by (ranker, part)."""

    def __init__(self, group: pl.DataFrame) -> None:
        measured = group.filter(pl.col("metric") == MEASURE, pl.col("value").is_not_null())
        self._rows = {(row["ranker"], row["part"]): row for row in measured.to_dicts()}

    def judge(self, ranker: str, reference: str, oracle: str) -> Iterator[tuple[Tone, str]]:
        row = self._rows.get((ranker, "all"))
        against = self._rows.get((reference, "all"))
        best = self._rows.get((oracle, "all"))
        if row is None:
            return
        if against is not None and row["difference"] is not None:
            yield _beside_reference(row, against, best)
        yield from self._on_new_items(ranker)

    def _on_new_items(self, ranker: str) -> Iterator[tuple[Tone, str]]:
        """Compare with the best popularity; intervals that overlap leave it open."""
        row = self._rows.get((ranker, "new"))
        popular = [self._rows[key] for key in self._rows if key[0].startswith(POPULARITY) and key[1] == "new"]
        if row is None or not popular:
            return
        best = max(popular, key=lambda one: one["value"])
        tone: Tone = (
            "better" if row["low"] > best["high"] else "worse" if row["high"] < best["low"] else "even"
        )
        yield (
            tone,
            f"on items new to the user {_WORDS[tone]} {best['ranker']}, the best popularity baseline there: "
            f"{MEASURE} {row['value']:.3f} against {best['value']:.3f}",
        )


_WORDS = {"better": "better than", "worse": "worse than", "even": "not significantly different from"}


def _beside_reference(
    row: dict[str, Any], against: dict[str, Any], best: dict[str, Any] | None
) -> tuple[Tone, str]:
    """Judge by the paired interval of the difference."""
    tone: Tone = "better" if row["difference_low"] > 0 else "worse" if row["difference_high"] < 0 else "even"
    share = f"; {row['value'] / best['value']:.0%} of what is possible" if best and best["value"] else ""
    return tone, (
        f"{_WORDS[tone]} {against['ranker']}: {MEASURE} {row['value']:.3f} against {against['value']:.3f} "
        f"(difference {row['difference']:+.3f}, 95 % interval {row['difference_low']:+.3f} to "
        f"{row['difference_high']:+.3f}){share}"
    )
