"""A benchmark run on disk: tables, one self-contained HTML page, and what two runs are paired by.

On disk::

    benchmark.html        readable by a person, no other file or network needed
    benchmark.json        everything the page says, but the pictures
    matching.parquet, trials.parquet, similarity.parquet, pairs.parquet
    per_user.parquet      recall@100 and ndcg@10 of every user: what runs are compared by
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from polyvec.artifact import read_manifest, writing
from polyvec.errors import DataError
from polyvec.evaluation.benchmark_sections import cold_and_warm, learning_curves
from polyvec.evaluation.curves import curves, sizes
from polyvec.evaluation.evaluate import ORACLE
from polyvec.evaluation.pages import page_environment
from polyvec.evaluation.paired import paired
from polyvec.evaluation.plots import ACCENT, POSSIBLE, bars
from polyvec.evaluation.plots import curves as drawn_curves
from polyvec.evaluation.runs import spread
from polyvec.evaluation.tasks import transfer
from polyvec.evaluation.tasks.comparison import MEASURE
from polyvec.evaluation.verdicts import WORDS, tone_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from polyvec.artifact import Manifest
    from polyvec.evaluation.benchmark import Benchmark

KIND = "benchmark"
PAGE = "benchmark.html"
TEMPLATE = "benchmark.html.jinja"
ASKED = ("cutoff", "history_days", "target_days", "seen_removed")  # of a protocol: what is asked
TABLES = ("matching", "trials", "similarity", "pairs", "per_user")
COLUMNS = (
    ("recall@100", "all"),
    ("recall@100", "repeats"),
    ("recall@100", "new"),
    ("recall@50", "all"),
    ("recall@10", "all"),
    ("ndcg@10", "all"),
    ("coverage@100", "all"),
)


def write_benchmark(
    path: Path,
    done: Benchmark,
    protocol: dict[str, Any],
    parents: Mapping[str, Manifest],
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the run's folder, whole or not at all.

    Parameters
    ----------
    path
        The folder.
    done
        What the tasks said.
    protocol
        What was asked of what: cut-off, lengths of the windows, folders.
    parents
        Manifests of the Dataset and the Embeddings.
    overwrite
        Replace an earlier run.

    Returns
    -------
    dict
        The content of ``benchmark.json``.

    Raises
    ------
    ArtifactError
        If ``path`` is in the way.
    """
    content = {
        "protocol": protocol,
        "notes": done.notes,
        "costs": done.costs.to_dicts(),
        "verdicts": _verdicts(done),
        "matching": done.matching.to_dicts(),
        "curves": curves(done.matching, done.costs),
        "sizes": sizes(done.matching, done.costs),
        "trials": done.trials.to_dicts(),
        "similarity": done.similarity.to_dicts(),
    }
    meta = {"protocol": protocol}
    with writing(path, KIND, meta=meta, parents=parents, overwrite=overwrite) as stage:
        for name in TABLES:
            getattr(done, name).write_parquet(stage / f"{name}.parquet")
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (stage / "benchmark.json").write_text(text, "utf-8")
        (stage / PAGE).write_text(_render(content, done), "utf-8")
    return content


def compare_runs(left: Path, right: Path, seed: int = 0) -> pl.DataFrame:
    """Differences, paired by user, of every ranker that two runs share, the first run minus the second.

    Systems that stand alone in either run are paired with each other's.

    Returns
    -------
    polars.DataFrame
        Rows of :func:`polyvec.evaluation.paired.paired`.

    Raises
    ------
    ArtifactError
        If a folder is no benchmark run, or damaged.
    DataError
        If the two were asked of different data or in another way, or have no user of a task in common.
    """
    _check_alike(left, right)
    first, second = _per_user(left), _per_user(right)
    names = [table["ranker"].unique(maintain_order=True).to_list() for table in (first, second)]
    shared = [(name, name) for name in names[0] if name in names[1]]
    alone = [[name for name in own if name not in other] for own, other in (names, names[::-1])]
    crossed = [(ours, theirs) for ours in alone[0] for theirs in alone[1]]
    if not (shared or crossed):
        raise DataError("the two runs have no ranker to compare", expected="runs with systems in them")
    return pl.concat([paired(first, second, ours, theirs, seed) for ours, theirs in [*shared, *crossed]])


def _check_alike(left: Path, right: Path) -> None:
    """Refuse runs that were asked of different data, or in another way: what they say cannot be paired."""
    one, other = (read_manifest(path, KIND) for path in (left, right))
    told = [
        manifest.meta.get("protocol", {}) | {"dataset": manifest.parents.get("dataset")}
        for manifest in (one, other)
    ]
    for key in ("dataset", *ASKED):
        values = [protocol.get(key) for protocol in told]
        if values[0] != values[1]:
            what = "data" if key == "dataset" else f"{key.replace('_', ' ')}: {values[0]} and {values[1]}"
            raise DataError(
                f"the two runs are of different {what}",
                file=right,
                expected="runs on the same Dataset with the same cut-off, history and targets",
                mend="run polyvec bench again with the options of the other run",
            )


def _per_user(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path / "per_user.parquet")


def _verdicts(done: Benchmark) -> list[dict[str, Any]]:
    """Every system beside the best simple method of each task, and beside the other systems."""
    own = _own(done)
    measured = done.matching.filter(pl.col("metric") == MEASURE, pl.col("part") == "all")
    simple = measured.filter(~pl.col("ranker").is_in([*own, ORACLE])).sort("value", descending=True)
    best = dict(simple.unique("task", keep="first", maintain_order=True).select("task", "ranker").iter_rows())
    rows = [
        row for row in done.pairs.iter_rows(named=True) if row["against"] in (best.get(row["task"]), *own)
    ]
    return [_sentence(row) for row in rows]


def _sentence(row: Mapping[str, Any]) -> dict[str, Any]:
    """Say in words how a system stands beside another ranker."""
    tone = tone_of(row["low"] > 0, row["high"] < 0)
    interval = f"{row['difference']:+.4f}, 95 % interval {row['low']:+.4f} to {row['high']:+.4f}"
    text = f"{row['ranker']} is {WORDS[tone]} {row['against']} ({row['metric']} {interval.replace('-', '−')})"
    return {"task": row["task"], "ranker": row["ranker"], "tone": tone, "text": text}


def _own(done: Benchmark) -> list[str]:
    """Rankers that belong to one of the systems: those that were paired with all others."""
    return done.pairs["ranker"].unique(maintain_order=True).to_list()


def _render(content: dict[str, Any], done: Benchmark) -> str:
    marked = dict.fromkeys(_own(done), ACCENT) | {ORACLE: POSSIBLE}
    return (
        page_environment()
        .get_template(TEMPLATE)
        .render(
            content,
            columns=COLUMNS,
            tasks=_tasks(done.matching, marked),
            plots=_curves(content["curves"]),
            labels=_labels(done.trials.filter(pl.col("task") != transfer.TASK)),
            learned=learning_curves(done.trials.filter(pl.col("task") == transfer.TASK)),
            similar=[row | _seeds(row["per_run"]) for row in content["similarity"]],
            marked=tuple(marked),
        )
    )


def _tasks(matching: pl.DataFrame, marked: Mapping[str, str]) -> list[dict[str, Any]]:
    """Tables and plots of each matching task."""
    tasks = []
    for (task,), group in matching.group_by("task", maintain_order=True):
        rows = {(row["ranker"], row["metric"], row["part"]): row for row in group.iter_rows(named=True)}
        rankers = group["ranker"].unique(maintain_order=True).to_list()
        bar = [rows[name, MEASURE, "all"] for name in rankers]
        told = [row for row in bar if row["value"] is not None]  # of nobody, nothing is told
        plot = bars(MEASURE, [(row["ranker"], row["value"], row["low"], row["high"]) for row in told], marked)
        cells = [
            {
                "ranker": name,
                "seeds": len(rows[name, "coverage@100", "all"]["per_seed"]),
                "cells": [_cell(rows.get((name, *column))) for column in COLUMNS],
            }
            for name in rankers
        ]
        cold = cold_and_warm(group, tuple(marked))
        tasks.append({"task": task, "users": bar[0]["users"], "plot": plot, "rows": cells, "cold": cold})
    return tasks


def _cell(row: Mapping[str, Any] | None) -> dict[str, str]:
    """Value, interval over users, and spread over seeds where there are several."""
    if row is None or row["value"] is None:
        return {"value": "–", "small": ""}
    small = "" if row["low"] is None else f"{row['low']:.3f} – {row['high']:.3f}"
    return {"value": f"{row['value']:.3f}", "small": small + _seeds(row["per_seed"])["spread"]}


def _seeds(per_run: list[float]) -> dict[str, Any]:
    """How many runs are in a value, and their spread in words where there are several."""
    half = spread(per_run)
    return {"seeds": len(per_run), "spread": "" if half is None else f"; seeds ± {half:.3f}"}


def _curves(points: list[dict[str, Any]]) -> dict[str, str]:
    """One plot over C per matching task, by its name; nothing where there is no line."""
    tasks: dict[str, dict[str, list[tuple[int, float, float, float]]]] = {}
    for row in points:
        line = tasks.setdefault(row["task"], {}).setdefault(row["line"], [])
        line.append((row["C"], row["value"], row["low"], row["high"]))
    return {task: drawn_curves(f"{MEASURE} over C", series, "C") for task, series in tasks.items()}


def _labels(trials: pl.DataFrame) -> list[dict[str, Any]]:
    """Profile and behaviour tasks: one table per task and label."""
    return [
        {
            "task": task,
            "label": label,
            "rows": [row | _seeds(row["per_run"]) for row in group.to_dicts()],
            "users": group["users"][0],
            "splits": len(group["per_seed"][0]),
        }
        for (task, label), group in trials.group_by("task", "label", maintain_order=True)
    ]
