"""What is kept of every run, and what the runs say together: means, intervals, differences paired by user.

OUT/runs.jsonl has a line for each run: set, model, seed, figures. OUT/users/SET.parquet has every user's
recall@100 (CMP-L) in it: ``model, seed, user_id, value``; without those, runs of different days, or machines,
could not be set beside each other user by user.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from polyvec.artifact import write_whole
from polyvec.evaluation.benchmark import paired
from polyvec.evaluation.runs import add_run, over_runs, read_runs

MODEL = "model"  # name of the ranker in every table of users
REFERENCE = "GUIM C=1"
MIXTURE = "GUIM C=4"
PAIRED = (
    (MIXTURE, "GUI-EDI C=4"),
    ("GUI-EDI C=4", "GUI-EDI C=2"),
    (MIXTURE, "GUIM-MH C=4"),
    ("GUIM C=8", MIXTURE),
    ("GUIM C=8", "GUIM-MH C=8"),
    ("GUIM C=4, D=32", "SASRec D=128"),
    (REFERENCE, "SASRec D=128"),
    (MIXTURE, "SASRec D=512"),
)
LIST = "CMP-L recall@100 all"
CHANGES = ("ablations", "paper")
ASKED = {"task": "CMP-L", "part": "all", "metric": "recall@100"}  # LIST among the measures of a user
USERS = "users"
COSTS = ("train_seconds", "epoch_seconds")

Runs = dict[str, dict[str, dict[int, dict[str, Any]]]]
"""Figures by set, model and seed."""


def add(out: Path, name: str, model: str, seed: int, table: pl.DataFrame, figures: dict[str, Any]) -> None:
    """Keep a run, in place of one of the same name; its users first: a run that has a line is whole.

    Parameters
    ----------
    out
        Folder of the study.
    name, model, seed
        Which run.
    table
        Rows of :func:`polyvec.evaluation.benchmark.per_user`.
    figures
        What else is told of it.
    """
    asked = table.filter(*[pl.col(key) == value for key, value in ASKED.items()])
    mine = asked.select(pl.lit(model).alias("model"), pl.lit(seed).alias("seed"), "user_id", "value")
    file = users_file(out, name)
    if file.exists():
        others = pl.read_parquet(file).filter((pl.col("model") != model) | (pl.col("seed") != seed))
        mine = pl.concat([others, mine])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, lambda unfinished: mine.write_parquet(unfinished, compression_level=19))
    means = table.group_by("task", "metric", "part", maintain_order=True).agg(pl.col("value").mean())
    measures = {f"{task} {metric} {part}": value for task, metric, part, value in means.iter_rows()}
    line = {"set": name, "model": model, "seed": seed, "figures": figures | {"measures": measures}}
    add_run(out / "runs.jsonl", line)


def users_file(out: Path, name: str) -> Path:
    """Table of the users of a set."""
    return out / USERS / f"{name}.parquet"


def read(out: Path) -> Runs:
    """Figures of all runs; of several lines of one run the last."""
    found: Runs = {}
    for line in read_runs(out / "runs.jsonl"):
        found.setdefault(line["set"], {}).setdefault(line["model"], {})[line["seed"]] = line["figures"]
    return found


def collect(out: Path) -> dict[str, Any]:
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
    for name, models in read(out).items():
        sets[name] = {model: _summary(seeds) for model, seeds in models.items()}
        file = users_file(out, name)
        if file.exists():
            users = pl.read_parquet(file)
            differences += [
                {"set": name, "model": one, "against": other, **found}
                for one, other in _pairs(sets[name])
                if (found := _difference(users, one, other)) is not None
            ]
    return {"sets": sets, "differences": differences}


def _pairs(models: dict[str, Any]) -> dict[tuple[str, str], None]:
    """Which models are compared: all with one vector, changes with what they change, and the paper's."""
    pairs = [(name, REFERENCE) for name in models if name != REFERENCE]
    changed = [(name, MIXTURE) for name, figures in models.items() if figures["part"] in CHANGES]
    return dict.fromkeys([*pairs, *changed, *PAIRED])


def _summary(seeds: dict[int, dict[str, Any]]) -> dict[str, Any]:
    runs = [seeds[seed] for seed in sorted(seeds)]
    profiles = [
        {f"{label} {metric}": value for label, metrics in run.get("profiles", {}).items()
         for metric, value in metrics.items()}
        for run in runs
    ]  # fmt: skip
    return {
        **{key: runs[0][key] for key in ("part", "C", "D", "parameters")},
        "seeds": sorted(seeds),
        **{key: round(float(np.mean([run[key] for run in runs])), 1) for key in COSTS},
        "epochs": [run["epochs"] for run in runs],
        "diagnostics": runs[0]["diagnostics"],
        "measures": _over([run["measures"] for run in runs]),
        "profiles": _over(profiles),
    }


def _over(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {name: over_runs([run[name] for run in runs if name in run]) for name in runs[0]}


def _difference(users: pl.DataFrame, one: str, other: str) -> dict[str, Any] | None:
    """CMP-L recall@100 of the seeds that both have; None if there are none."""
    ours, theirs = (users.filter(pl.col("model") == name) for name in (one, other))
    shared = sorted(set(ours["seed"]) & set(theirs["seed"]))
    if not shared:
        return None
    (found,) = paired(_averaged(ours, shared), _averaged(theirs, shared), MODEL, MODEL).iter_rows(named=True)
    base = _averaged(theirs, shared)["value"].mean()
    by_seed = [
        _averaged(ours, [seed])["value"].mean() - _averaged(theirs, [seed])["value"].mean() for seed in shared
    ]
    return {
        "seeds": shared,
        **{key: round(found[key], 5) for key in ("difference", "low", "high")},
        "relative": round(found["difference"] / base, 4) if base else None,
        "by_seed": [round(value, 5) for value in by_seed],
        "users": found["users"],
    }


def _averaged(users: pl.DataFrame, seeds: list[int]) -> pl.DataFrame:
    """Each user's value, mean over seeds, as a table of :func:`polyvec.evaluation.benchmark.per_user`."""
    about = [pl.lit(value).alias(key) for key, value in {**ASKED, "ranker": MODEL}.items()]
    chosen = users.filter(pl.col("seed").is_in(seeds))
    means = chosen.group_by("user_id", maintain_order=True).agg(pl.col("value").cast(pl.Float64).mean())
    return means.select(*about, pl.all())


def with_known(found: dict[str, Any], known: list[dict[str, Any]]) -> dict[str, Any]:
    """Keep differences of runs whose users' values are not there, until as many seeds have been run again."""

    def pair(one: dict[str, Any]) -> tuple[str, str, str]:
        return one["set"], one["model"], one["against"]

    before = {pair(one): one for one in known}
    fresh = {pair(one): one for one in found["differences"]}
    fresh = {
        key: one for key, one in fresh.items() if len(one["seeds"]) >= len(before.get(key, one)["seeds"])
    }
    return found | {"differences": list((before | fresh).values())}
