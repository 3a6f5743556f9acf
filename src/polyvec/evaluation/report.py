"""The Report: what the tasks said, as one self-contained HTML page and the same as JSON and Parquet.

On disk::

    report.html       readable by a person, no other file or network needed
    report.json       everything the page says, but the pictures
    results.parquet   the matching tasks' table
    profiles.parquet  the profile tasks' table, where labels were given
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from polyvec.artifact import read_manifest, writing
from polyvec.data.dataset import format_time, read_profile
from polyvec.errors import DataError
from polyvec.evaluation.baselines import PERSONAL_FREQUENCY
from polyvec.evaluation.evaluate import EMBEDDINGS, ORACLE, REPEATS_FIRST, WITH_HABITS
from polyvec.evaluation.pages import page_environment
from polyvec.evaluation.plots import ACCENT, POSSIBLE, bars, lines, training_curves
from polyvec.evaluation.tasks.comparison import HISTORY_LENGTHS, MEASURE, NO_HISTORY, RESULTS
from polyvec.evaluation.verdicts import verdicts

if TYPE_CHECKING:
    from pathlib import Path

    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings
    from polyvec.evaluation.evaluate import Evaluation, Settings

PAGE = "report.html"
TEMPLATE = "report.html.jinja"
MARKED = {EMBEDDINGS: ACCENT, WITH_HABITS: "#5b82e0", REPEATS_FIRST: "#86a3e8", ORACLE: POSSIBLE}
PARTS = {"all": "all targets", "repeats": "repeats", "new": "new items"}
COLUMNS = (
    ("recall@100", "all"),
    ("recall@100", "repeats"),
    ("recall@100", "new"),
    ("recall@50", "all"),
    ("recall@10", "all"),
    ("ndcg@10", "all"),
    ("hit_rate@10", "all"),
    ("coverage@100", "all"),
)
LENGTHS = (NO_HISTORY, *HISTORY_LENGTHS)


@dataclass(frozen=True)
class Sources:
    """Where the things reported on lie.

    Attributes
    ----------
    embeddings, dataset
        Folders.
    model
        Folder of the model whose training is shown; None to show none.
    """

    embeddings: Path
    dataset: Path
    model: Path | None = None


def write_report(
    path: Path,
    evaluation: Evaluation,
    embeddings: Embeddings,
    dataset: Dataset,
    settings: Settings,
    sources: Sources,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the Report folder ``path``, whole or not at all.

    Returns
    -------
    dict
        The content of ``report.json``.

    Raises
    ------
    ArtifactError
        If ``path`` is in the way, or a source folder is missing or damaged.
    DataError
        If the model's training log cannot be read.
    """
    content = _content(evaluation, embeddings, dataset, settings, sources)
    training = [] if sources.model is None else read_training(sources.model)
    parents = {
        "embeddings": read_manifest(sources.embeddings, "embeddings"),
        "dataset": read_manifest(sources.dataset, "dataset"),
    }
    meta = {"verdicts": content["verdicts"]}
    with writing(path, "report", meta=meta, parents=parents, overwrite=overwrite) as stage:
        (stage / PAGE).write_text(render(content, training), "utf-8")
        (stage / "report.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
        evaluation.results.write_parquet(stage / "results.parquet")
        if evaluation.profiles is not None:
            evaluation.profiles.write_parquet(stage / "profiles.parquet")
    return content


def render(content: dict[str, Any], training: list[dict[str, Any]]) -> str:
    """Make the page of a report's content and a model's training records."""
    results = pl.DataFrame(content["results"], schema=RESULTS)
    environment = page_environment()
    environment.filters |= {"number": _number, "measure": _measure, "title": _title}
    return environment.get_template(TEMPLATE).render(
        content,
        tables=_tables(results),
        lengths=_tables(results, tuple((MEASURE, part) for part in LENGTHS)),
        over_time=_over_time(results),
        mixture_plot=_mixture_plot(content["mixture"]),
        training=training_curves(training),
        reference=PERSONAL_FREQUENCY,
        marked=tuple(MARKED),
    )


def read_training(model: Path) -> list[dict[str, Any]]:
    """Read the records of a model's training; empty if the model has none.

    Raises
    ------
    ArtifactError
        If the folder is no model, or damaged.
    DataError
        If a line is not a JSON object.
    """
    read_manifest(model, "model")
    file = model / "training.jsonl"
    if not file.is_file():
        return []
    records = []
    for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
        try:
            records.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"this line is not a JSON object: {error}", file=file, row=number, expected="one per line"
            ) from error
    return records


def _content(
    evaluation: Evaluation, embeddings: Embeddings, dataset: Dataset, settings: Settings, sources: Sources
) -> dict[str, Any]:
    told = verdicts(evaluation.results, [EMBEDDINGS, WITH_HABITS, REPEATS_FIRST], PERSONAL_FREQUENCY, ORACLE)
    return {
        "embeddings": {
            "path": str(sources.embeddings),
            "users": len(embeddings.users),
            "items": len(embeddings.items),
            "vectors_per_user": embeddings.num_vectors,
            "width": embeddings.width,
            "score": embeddings.score,
            "provenance": embeddings.provenance,
        },
        "dataset": {"path": str(sources.dataset), "profile": _profile(sources.dataset)},
        "settings": asdict(settings),
        "cutoffs": [format_time(cutoff, dataset.time_kind) for cutoff in evaluation.cutoffs],
        "notes": evaluation.notes,
        "verdicts": [asdict(verdict) for verdict in told],
        "results": evaluation.results.to_dicts(),
        "profiles": None if evaluation.profiles is None else evaluation.profiles.to_dicts(),
        "mixture": evaluation.mixture,
        "interests": None if evaluation.interests is None else evaluation.interests.to_dicts(),
        "users": evaluation.users,
        "items": evaluation.items,
    }


def _profile(dataset: Path) -> dict[str, Any]:
    return read_profile(dataset) if (dataset / "profile.json").is_file() else {}


def _tables(results: pl.DataFrame, columns: tuple[tuple[str, str], ...] = COLUMNS) -> list[dict[str, Any]]:
    """One table per task and cut-off: a row per ranker, a cell per (metric, part); and its bars."""
    tables = []
    for (cutoff, task), group in results.group_by("cutoff", "task", maintain_order=True):
        cells = {(row["ranker"], row["metric"], row["part"]): row for row in group.to_dicts()}
        rankers = group["ranker"].unique(maintain_order=True).to_list()
        rows = [
            {"ranker": ranker, "cells": [cells.get((ranker, *column)) for column in columns]}
            for ranker in rankers
        ]
        first = cells[rankers[0], MEASURE, "all"]
        table = {"cutoff": cutoff, "task": task, "columns": columns, "rows": rows, "plots": _bars(group)}
        tables.append(table | {key: first[key] for key in ("users", "without_history")})
    return tables


def _bars(group: pl.DataFrame) -> list[str]:
    """Bars of recall@100 for all targets, repeats and new items."""
    plots = []
    for part, title in PARTS.items():
        rows = group.filter(
            pl.col("metric") == MEASURE, pl.col("part") == part, pl.col("value").is_not_null()
        )
        if len(rows):
            values = rows.select("ranker", "value", "low", "high").rows()
            plots.append(bars(f"{MEASURE}, {title} ({rows['users'][0]:,} users)", values, MARKED))
    return plots


def _over_time(results: pl.DataFrame) -> str | None:
    """Recall at the cut-offs of windows slid forward; None with one cut-off."""
    if results["cutoff"].n_unique() < 2:
        return None
    asked = pl.col("task") == "CMP-L", pl.col("metric") == MEASURE, pl.col("part") == "all"
    long = results.filter(*asked).sort("cutoff", maintain_order=True)
    series = {
        str(key[0]): (list(range(1, len(group) + 1)), group["value"].to_list())
        for key, group in long.group_by("ranker", maintain_order=True)
    }
    return lines(f"CMP-L, {MEASURE}, at the cut-offs in order", series, "cut-off")


def _mixture_plot(mixture: dict[str, Any]) -> str:
    rows = [(f"vector {place}", share, None, None) for place, share in enumerate(mixture["target_wins"])]
    return bars("share of target items won by each vector", rows, {name: ACCENT for name, *_ in rows})


def _number(value: object) -> str:
    """Print a number, a text or a list for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(_number(one) for one in value)
    return str(value)


def _measure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _title(key: str) -> str:
    return key.replace("_", " ")
