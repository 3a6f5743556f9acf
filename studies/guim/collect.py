"""What the runs say together: means over seeds, intervals, and differences paired by user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from polyvec.evaluation.benchmark import paired
from polyvec.evaluation.runs import over_runs

MODEL = "model"  # name of the ranker in every table of users
REFERENCE = "GUIM C=1"
PAIRED = (
    ("GUIM C=4", "GUI-EDI C=4"),
    ("GUIM C=4", "GUIM-MH C=4"),
    ("GUIM C=8", "GUIM C=4"),
    ("GUIM C=8", "GUIM-MH C=8"),
    ("GUIM C=4, D=32", "SASRec D=128"),
    ("GUIM C=1", "SASRec D=128"),
    ("GUIM C=4", "SASRec D=512"),
)
LIST = "CMP-L recall@100 all"


def collect(runs: Path) -> dict[str, Any]:
    """Figures of every set and model, and differences of CMP-L recall@100.

    Returns
    -------
    dict
        ``sets``: by set and model ``measures`` (``mean``, ``half_width`` of the 95 % t interval over seeds,
        each seed's value), ``profiles`` alike, costs as means. ``differences``: one per set and pair of
        models: ``difference``, its 95 % bootstrap interval over users (values of the seeds that both have
        averaged user by user), ``relative`` to the second's mean, and each seed's difference.
    """
    sets: dict[str, Any] = {}
    differences: list[dict[str, Any]] = []
    for folder in sorted(path for path in runs.iterdir() if path.is_dir()):
        models = {one.name: _read(one) for one in sorted(folder.iterdir()) if any(one.glob("*/run.json"))}
        sets[folder.name] = {name: _summary(seeds) for name, seeds in models.items()}
        pairs = [(name, REFERENCE) for name in models if name != REFERENCE] + list(PAIRED)
        differences += [
            {"set": folder.name, "model": one, "against": other, **_difference(models[one], models[other])}
            for one, other in dict.fromkeys(pairs)
            if one in models and other in models
        ]
    return {"sets": sets, "differences": differences}


def merged(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Put what was found in place of what was known of the same models, and keep the rest."""
    sets = {name: before["sets"].get(name, {}) | models for name, models in found["sets"].items()}
    fresh = {(one["set"], one["model"], one["against"]) for one in found["differences"]}
    kept = [one for one in before["differences"] if (one["set"], one["model"], one["against"]) not in fresh]
    return {"sets": before["sets"] | sets, "differences": kept + found["differences"]}


def _read(model: Path) -> dict[int, dict[str, Any]]:
    """Figures and users' measures by seed."""
    found = {}
    for file in sorted(model.glob("*/run.json")):
        users = pl.read_parquet(file.parent / "users.parquet")
        found[int(file.parent.name)] = json.loads(file.read_text("utf-8")) | {"users": users}
    return found


def _summary(seeds: dict[int, dict[str, Any]]) -> dict[str, Any]:
    runs = list(seeds.values())
    measures: dict[str, list[float]] = {}
    for run in runs:
        means = (
            run["users"].group_by("task", "metric", "part", maintain_order=True).agg(pl.col("value").mean())
        )
        for task, metric, part, value in means.iter_rows():
            measures.setdefault(f"{task} {metric} {part}", []).append(value)
    profiles: dict[str, list[float]] = {}
    for run in runs:
        for label, metrics in run.get("profiles", {}).items():
            for metric, value in metrics.items():
                profiles.setdefault(f"{label} {metric}", []).append(value)
    return {
        "part": runs[0]["part"],
        "seeds": sorted(seeds),
        "C": runs[0]["C"],
        "D": runs[0]["D"],
        "parameters": runs[0]["parameters"],
        **{
            key: round(float(np.mean([run[key] for run in runs])), 1)
            for key in ("train_seconds", "epoch_seconds")
        },
        "epochs": [run["epochs"] for run in runs],
        "diagnostics": runs[0]["diagnostics"],
        "measures": {name: over_runs(values) for name, values in measures.items()},
        "profiles": {name: over_runs(values) for name, values in profiles.items()},
    }


def _difference(ours: dict[int, dict[str, Any]], theirs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """CMP-L recall@100 of the seeds that both have."""
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return {"seeds": []}
    mean, other = (_averaged(seeds, shared) for seeds in (ours, theirs))
    (found,) = paired(mean, other, MODEL, MODEL).iter_rows(named=True)
    base = other["value"].mean()
    by_seed = [_averaged(ours, [n])["value"].mean() - _averaged(theirs, [n])["value"].mean() for n in shared]
    return {
        "seeds": shared,
        **{key: round(found[key], 5) for key in ("difference", "low", "high")},
        "relative": round(found["difference"] / base, 4) if base else None,
        "by_seed": [round(value, 5) for value in by_seed],
        "users": found["users"],
    }


def _averaged(seeds: dict[int, dict[str, Any]], chosen: list[int]) -> pl.DataFrame:
    """CMP-L recall@100 of every user, mean over the chosen seeds; all models are asked about the same."""
    table = pl.concat([seeds[seed]["users"] for seed in chosen])
    asked = table.filter(pl.col("task") == "CMP-L", pl.col("metric") == "recall@100", pl.col("part") == "all")
    keys = [name for name in asked.columns if name != "value"]
    return asked.group_by(keys, maintain_order=True).agg(pl.col("value").cast(pl.Float64).mean())
