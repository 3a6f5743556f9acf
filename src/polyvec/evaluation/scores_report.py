"""What a ranker's scores are worth, to look at: one self-contained HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.evaluation.pages import page_environment
from polyvec.evaluation.plots import heat, lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

TEMPLATE = "scores.html.jinja"
PARTS = 10


def render_scores(
    table: pl.DataFrame,
    by_scenario: Mapping[str, Mapping[str, float]],
    shares: Mapping[str, Mapping[str, float]],
    about: Mapping[str, Any],
) -> str:
    """Page of scored offers whose outcome is known.

    Parameters
    ----------
    table
        ``scenario``, ``label`` and ``score`` of every offer.
    by_scenario
        ``auc``, ``gauc``, ``log_loss`` and ``samples`` of every scenario.
    shares
        α by row and column; empty without.
    about
        ``model``, ``dataset``, ``method`` and ``parameters``, for the head of the page.
    """
    told: dict[str, dict[str, float]] = {}
    for name, figures in by_scenario.items():
        mine = table.filter(table["scenario"] == name)
        means = {"taken": mine["label"].mean(), "foretold": mine["score"].mean()}
        told[name] = {**figures, **means}  # type: ignore[dict-item]
    return (
        page_environment()
        .get_template(TEMPLATE)
        .render(
            **about,
            offers=len(table),
            by_scenario=told,
            reliability=_reliability(table),
            heat=heat("α", shares) if shares else None,
            equal=1 / max(len(shares) - 1, 1),
        )
    )


def _reliability(table: pl.DataFrame) -> str:
    """Chances that were foretold, and shares that were taken, of parts of equal size."""
    ordered = table.sort("score")
    parts = [part for part in np.array_split(np.arange(len(ordered)), PARTS) if len(part)]
    foretold = [float(ordered["score"].to_numpy()[part].mean()) for part in parts]
    taken = [float(ordered["label"].to_numpy()[part].mean()) for part in parts]
    ends = [min(foretold), max(foretold)]
    series = {"taken": (foretold, taken), "as foretold": (ends, ends)}
    return lines("share taken", series, "chance foretold")
