"""What a table of results says, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from polyvec.evaluation.baselines.counting import POPULARITY
from polyvec.evaluation.tasks.comparison import MEASURE

Tone = Literal["better", "worse", "even"]


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
        Those to judge; the first also on new items, by itself.
    reference
        The ranker that ``difference`` was taken from.
    oracle
        The best possible ranker's name; nothing is said of it if it is not there.
    """
    told = []
    for (cutoff, task), group in results.group_by("cutoff", "task", maintain_order=True):
        table = _Table(group)
        judged = [(ranker, table.beside(ranker, reference, oracle)) for ranker in rankers]
        judged.append((rankers[0], table.on_new_items(rankers[0])))
        for ranker, judgement in judged:
            if judgement is not None:
                told.append(Verdict(str(cutoff), str(task), ranker, *judgement))
    return told


class _Table:
    """Rows of one task at one cut-off, by (ranker, part)."""

    def __init__(self, group: pl.DataFrame) -> None:
        measured = group.filter(pl.col("metric") == MEASURE, pl.col("value").is_not_null())
        self._rows = {(row["ranker"], row["part"]): row for row in measured.to_dicts()}

    def beside(self, ranker: str, reference: str, oracle: str) -> tuple[Tone, str] | None:
        """Compare with the reference by the paired difference; None where it is not known."""
        row = self._rows.get((ranker, "all"))
        against = self._rows.get((reference, "all"))
        if row is None or against is None or row["difference"] is None:
            return None
        best = self._rows.get((oracle, "all"))
        share = f"; {row['value'] / best['value']:.0%} of what is possible" if best and best["value"] else ""
        tone = tone_of(row["difference_low"] > 0, row["difference_high"] < 0)
        return tone, (
            f"{WORDS[tone]} {reference}: {MEASURE} {row['value']:.3f} against {against['value']:.3f} "
            f"(difference {_signed(row['difference'])}, 95 % interval {_signed(row['difference_low'])} to "
            f"{_signed(row['difference_high'])}){share}"
        )

    def on_new_items(self, ranker: str) -> tuple[Tone, str] | None:
        """Compare with the best popularity; intervals that overlap leave it open."""
        row = self._rows.get((ranker, "new"))
        popular = [self._rows[key] for key in self._rows if key[0].startswith(POPULARITY) and key[1] == "new"]
        if row is None or not popular:
            return None
        best = max(popular, key=lambda one: float(one["value"]))
        tone = tone_of(row["low"] > best["high"], row["high"] < best["low"])
        return tone, (
            f"on items new to the user {WORDS[tone]} {best['ranker']}, the best popularity baseline there: "
            f"{MEASURE} {row['value']:.3f} against {best['value']:.3f}"
        )


WORDS = {"better": "better than", "worse": "worse than", "even": "not significantly different from"}


def tone_of(above: bool, below: bool) -> Tone:
    """Better where it is surely above, worse where surely below, else even."""
    if above:
        return "better"
    return "worse" if below else "even"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
