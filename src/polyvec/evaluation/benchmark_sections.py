"""Sections of the benchmark's page: cold and warm, and learning curves of the transfer task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from polyvec.evaluation.baselines import PERSONAL_FREQUENCY
from polyvec.evaluation.baselines.counting import POPULARITY
from polyvec.evaluation.plots import LINES, lines
from polyvec.evaluation.tasks.comparison import HISTORY_LENGTHS, ITEM_EVENTS, MEASURE, NO_HISTORY

if TYPE_CHECKING:
    from collections.abc import Sequence

SIDES = {"user": (NO_HISTORY, *HISTORY_LENGTHS), "item": tuple(ITEM_EVENTS)}
CURVE_MEASURE, CURVE_PROBE = "auc", "linear"


def cold_and_warm(matching: pl.DataFrame, shown: Sequence[str]) -> dict[str, Any]:
    """Recall@100 by the number of events of the user and of the item.

    Parameters
    ----------
    matching
        Rows of one task of :func:`polyvec.evaluation.tasks.comparison.tabulate`.
    shown
        Rankers that are drawn, beside popularity and personal frequency; at most eight lines.

    Returns
    -------
    dict
        ``columns`` (``part`` and ``users`` counted, those that count some), ``rows`` (``ranker``, ``seeds``
        and ``cells``, rows of the table) and ``plots``, one for users and one for items, SVG text.
    """
    table = matching.filter(pl.col("metric") == MEASURE)
    cells = {(row["ranker"], row["part"]): row for row in table.iter_rows(named=True)}
    users = {row["part"]: row["users"] for row in cells.values()}
    parts = [part for side in SIDES.values() for part in side if users.get(part)]
    rankers = table["ranker"].unique(maintain_order=True).to_list()
    wanted = [*shown, PERSONAL_FREQUENCY, POPULARITY]
    drawn = [ranker for ranker in wanted if ranker in rankers][: len(LINES)]
    return {
        "columns": [{"part": part, "users": users[part]} for part in parts],
        "rows": [_row(name, [cells[name, part] for part in parts]) for name in rankers],
        "plots": [_by_events(cells, drawn, side) for side in SIDES],
    }


def _row(ranker: str, cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seeds = max((len(cell["per_seed"]) for cell in cells), default=0)
    return {"ranker": ranker, "seeds": seeds, "cells": cells}


def _by_events(cells: dict[tuple[str, str], dict[str, Any]], rankers: Sequence[str], side: str) -> str:
    """One line per ranker over the ranges of events of a user or an item; a gap where nobody is counted."""
    parts = SIDES[side]
    series = {
        ranker: (list(range(len(parts))), [_value(cells.get((ranker, part))) for part in parts])
        for ranker in rankers
    }
    ticks = [part.removeprefix("history ").removeprefix("item ") for part in parts]
    return lines(
        f"{MEASURE} by events of the {side}", series, f"events of the {side} before the cut-off", ticks
    )


def _value(row: dict[str, Any] | None) -> float:
    return float("nan") if row is None or row["value"] is None else row["value"]


def learning_curves(trials: pl.DataFrame) -> list[dict[str, Any]]:
    """AUC by the number of users that a probe learned from, for each label.

    Parameters
    ----------
    trials
        Rows of :func:`polyvec.evaluation.tasks.transfer.transfer`.

    Returns
    -------
    list of dict
        ``label, users, classes, train_users`` (rising), ``rows`` (``features``, ``probe`` and ``cells``, rows
        of the table in the order of ``train_users``) and ``plots``: the linear probe's, SVG text.
    """
    measured = trials.filter(pl.col("metric") == CURVE_MEASURE).sort("train_users", maintain_order=True)
    return [_curve(str(label), group) for (label,), group in measured.group_by("label", maintain_order=True)]


def _curve(label: str, group: pl.DataFrame) -> dict[str, Any]:
    train_users = group["train_users"].unique().sort().to_list()
    rows = [
        {"features": features, "probe": probe, "cells": cells.to_dicts()}
        for (features, probe), cells in group.group_by("features", "probe", maintain_order=True)
    ]
    series = {
        row["features"]: (list(range(len(train_users))), [_value(cell) for cell in row["cells"]])
        for row in rows
        if row["probe"] == CURVE_PROBE
    }
    plot = lines(f"AUC of the {CURVE_PROBE} probe", series, "labels", [f"{users:,}" for users in train_users])
    about = {"label": label, "users": group["users"][0], "classes": group["classes"][0]}
    return about | {"train_users": train_users, "rows": rows, "plots": [plot]}
