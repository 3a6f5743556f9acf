"""What is kept of every run, and what the runs say together: means, intervals, differences paired by user.

OUT/runs.jsonl has a line for each run: set, model, seed, figures. OUT/users/SET.parquet has every user's
recall@100 (CMP-L) in it, a column ``MODEL/SEED`` for each run, beside ``user_id`` and ``history``, the number
of distinct items known of the user; without those, runs of different days, or machines, could not be set
beside each other user by user. OUT/earlier.json has differences of runs whose users' values were not kept;
each stands until as many seeds of both models have been run again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from filelock import FileLock

from polyvec.artifact import write_whole
from polyvec.evaluation.paired import paired
from polyvec.evaluation.runs import add_run, over_runs, read_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

MODEL = "model"  # name of the ranker in every table of users
REFERENCE = "GUIM C=1"
MIXTURE = "GUIM C=4"
PAPER_1, PAPER_4, PAPER_8 = (f"GUIM C={c}, paper's recipe" for c in (1, 4, 8))
PRESET_1, PRESET_4, PRESET_8 = (f"GUIM C={c}, α=10" for c in (1, 4, 8))
PAIRED = (
    (MIXTURE, "GUI-EDI C=4"),
    ("GUI-EDI C=4", "GUI-EDI C=2"),
    (MIXTURE, "GUIM-MH C=4"),
    ("GUIM C=8", MIXTURE),
    ("GUIM C=8", "GUIM-MH C=8"),
    ("GUIM C=4, D=32", "SASRec D=128"),
    (REFERENCE, "SASRec D=128"),
    (PRESET_4, PRESET_1),
    (PRESET_8, PRESET_1),
    (PRESET_8, PRESET_4),
    (PAPER_4, PAPER_1),
    (PAPER_8, PAPER_4),
    (PRESET_4, PAPER_4),
    ("GUIM C=4, D=32, α=10", "SASRec D=128"),
    (MIXTURE, "SASRec D=512"),
)
LIST = "CMP-L recall@100 all"
CHANGES = {"ablations": MIXTURE, "paper": MIXTURE, "balance": PRESET_4}
"""What the models of a part change."""
ASKED = {"task": "CMP-L", "part": "all", "metric": "recall@100"}  # LIST among the measures of a user
USERS = "users"
HISTORY = "history"
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
        Rows of :func:`polyvec.evaluation.paired.per_user`.
    figures
        What else is told of it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):  # parts of the study may run side by side
        _add(out, name, model, seed, table, figures)


def _add(out: Path, name: str, model: str, seed: int, table: pl.DataFrame, figures: dict[str, Any]) -> None:
    asked = table.filter(*[pl.col(key) == value for key, value in ASKED.items()])
    mine = asked.select("user_id", pl.col("value").alias(f"{model}/{seed}"))
    file = users_file(out, name)
    if file.exists():
        others = pl.read_parquet(file).drop(mine.columns[1], strict=False)
        mine = others.join(mine, on="user_id", how="full", coalesce=True, maintain_order="left_right")
    _write(file, mine)
    means = table.group_by("task", "metric", "part", maintain_order=True).agg(pl.col("value").mean())
    measures = {f"{task} {metric} {part}": value for task, metric, part, value in means.iter_rows()}
    line = {"set": name, "model": model, "seed": seed, "figures": figures | {"measures": measures}}
    add_run(out / "runs.jsonl", line)


def keep_histories(out: Path, name: str, users: pl.Series, num_items: npt.NDArray[np.int64]) -> None:
    """Keep how many distinct items are known of each user of a set, beside the values of its runs.

    Parameters
    ----------
    out, name
        Folder of the study, and the set.
    users, num_items
        B user ids, and int64 ``[B]``.
    """
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):
        file = users_file(out, name)
        found = pl.DataFrame({"user_id": users, HISTORY: num_items})
        if file.exists():
            values = pl.read_parquet(file).drop(HISTORY, strict=False)
            found = found.join(values, on="user_id", how="full", coalesce=True, maintain_order="left_right")
        _write(file, found)


def has_histories(out: Path, name: str) -> bool:
    """Whether :func:`keep_histories` was called for the set."""
    file = users_file(out, name)
    return file.exists() and HISTORY in pl.read_parquet_schema(file)


def _write(file: Path, users: pl.DataFrame) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, lambda unfinished: users.write_parquet(unfinished, compression_level=19))


def users_file(out: Path, name: str) -> Path:
    """Table of the users of a set."""
    return out / USERS / f"{name}.parquet"


def seeds_by_model(out: Path, name: str) -> dict[str, set[int]]:
    """Runs of a set that are whole: with a line, and with values of their users."""
    file, lines = users_file(out, name), read(out).get(name, {})
    if not file.exists():
        return {}
    found: dict[str, set[int]] = {}
    for column in pl.read_parquet_schema(file):
        model, slash, seed = column.rpartition("/")
        if slash and int(seed) in lines.get(model, {}):
            found.setdefault(model, set()).add(int(seed))
    return found


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
        ``by_history``: the difference of C = 4 and C = 1 in each third of the users by ``history``.
    """
    sets: dict[str, Any] = {}
    by_history: list[dict[str, Any]] = []
    earlier = out / "earlier.json"
    differences = json.loads(earlier.read_text("utf-8")) if earlier.exists() else []
    found = {(one["set"], one["model"], one["against"]): one for one in differences}
    for name, models in read(out).items():
        sets[name] = {model: _summary(seeds) for model, seeds in models.items()}
        for fresh in _differences(out, name, sets[name]):
            key = (name, fresh["model"], fresh["against"])
            if key not in found or len(fresh["seeds"]) >= len(found[key]["seeds"]):
                found[key] = fresh
        by_history += _by_history(out, name)
    return {"sets": sets, "differences": list(found.values()), "by_history": by_history}


def epochs_of(run: Path) -> list[dict[str, Any]]:
    """What training told after each epoch; ``run`` is a Model, or its second run."""
    return [line for line in read_runs(run / "training.jsonl") if line["event"] == "epoch"]


def _differences(out: Path, name: str, models: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of all pairs with a seed in common."""
    seeds = seeds_by_model(out, name)
    users = pl.read_parquet(users_file(out, name)) if seeds else None
    for one, other in _pairs(models):
        shared = sorted(seeds.get(one, set()) & seeds.get(other, set()))
        if users is not None and shared:
            yield {"set": name, "model": one, "against": other, **_difference(users, one, other, shared)}


def _by_history(out: Path, name: str) -> Iterator[dict[str, Any]]:
    """What a user of four vectors gains, in thirds of the users from short histories to long ones."""
    seeds = seeds_by_model(out, name)
    shared = sorted(seeds.get(MIXTURE, set()) & seeds.get(REFERENCE, set()))
    users = pl.read_parquet(users_file(out, name)) if shared else pl.DataFrame()
    if HISTORY not in users.columns:
        return
    users = users.drop_nulls(
        [HISTORY, *[f"{model}/{seed}" for model in (MIXTURE, REFERENCE) for seed in shared]]
    )
    ends = [users[HISTORY].quantile(share, "nearest") for share in (1 / 3, 2 / 3)]
    thirds = (
        pl.col(HISTORY) <= ends[0],
        pl.col(HISTORY).is_between(ends[0], ends[1], closed="right"),
        pl.col(HISTORY) > ends[1],
    )
    for third in thirds:
        chosen = users.filter(third)
        if len(chosen):
            least, most = int(chosen[HISTORY].min()), int(chosen[HISTORY].max())  # type: ignore[arg-type]
            yield {
                "set": name,
                "least": least,
                "most": most,
                **_difference(chosen, MIXTURE, REFERENCE, shared),
            }


def _pairs(models: dict[str, Any]) -> dict[tuple[str, str], None]:
    """Which models are compared: all with one vector, changes with what they change, and the paper's."""
    pairs = [(name, REFERENCE) for name in models if name != REFERENCE]
    parts = {name: figures["part"] for name, figures in models.items()}
    changed = [(name, CHANGES[part]) for name, part in parts.items() if part in CHANGES]
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
        "precision": sorted({run["precision"] for run in runs}),
        "diagnostics": runs[0]["diagnostics"],
        "measures": _over([run["measures"] for run in runs]),
        "profiles": _over(profiles),
    }


def _over(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {name: over_runs([run[name] for run in runs if name in run]) for name in runs[0]}


def _difference(users: pl.DataFrame, one: str, other: str, shared: list[int]) -> dict[str, Any]:
    """CMP-L recall@100 of the seeds that both have."""
    ours, theirs = _averaged(users, one, shared), _averaged(users, other, shared)
    (found,) = paired(ours, theirs, MODEL, MODEL).iter_rows(named=True)
    base = theirs["value"].mean()
    by_seed = [users[f"{one}/{seed}"].mean() - users[f"{other}/{seed}"].mean() for seed in shared]
    return {
        "seeds": shared,
        **{key: round(found[key], 5) for key in ("difference", "low", "high")},
        "relative": round(found["difference"] / base, 4) if base else None,
        "by_seed": [round(value, 5) for value in by_seed],
        "users": found["users"],
    }


def _averaged(users: pl.DataFrame, model: str, seeds: list[int]) -> pl.DataFrame:
    """Each user's value, mean over seeds, as a table of :func:`polyvec.evaluation.paired.per_user`."""
    about = [pl.lit(value).alias(key) for key, value in {**ASKED, "ranker": MODEL}.items()]
    values = pl.mean_horizontal(pl.col([f"{model}/{seed}" for seed in seeds]).cast(pl.Float64))
    return users.select(*about, "user_id", values.alias("value")).drop_nulls("value")
