"""The strong single-vector baseline: SASRec with a full softmax on published leave-one-out splits.

    python studies/single_vector/run.py DATA [--sets beauty ml1m] [--seeds 5] [--out FOLDER --resume]

DATA holds ``amazon_beauty/events.parquet`` (user_id, item_id, position; Amazon reviews 2014, 5-core, Beauty,
McAuley et al. 2015: 22,363 users, 12,101 items) and ``movielens_1m/events.parquet`` (the same columns,
MovieLens 1M, GroupLens). ``position`` is the rank in time within a user; rows without one are left out.

Protocol of the published tables: the last item of every user is asked for, all items are ranked, those of
the history are taken out; the test is asked once. Everything was chosen by NDCG@10 on the last item but
one: width, dropout, epochs. Some published tables are then made by a model that was trained without that
item, others by one that was trained on all but the last; both are here. ``beauty`` and ``beauty, 8 epochs``
train on all but the last item, for the number of epochs that was chosen before; ``beauty, two held back``
and ``ml1m`` train on all but the last two and keep the best epoch. Leave-one-out lets a model learn from
other users' future: compare with tables made the same way, and nothing else.

The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

import polyvec
from polyvec.data.options import PrepareOptions
from polyvec.evaluation.rankers import EmbeddingsRanker
from polyvec.evaluation.runs import spread
from polyvec.evaluation.tasks.next_item import next_item
from polyvec.systems.sasrec import SASRec, default, fit

REPORTED = ("ndcg@10", "hit_rate@10", "recall@100")


@dataclass(frozen=True)
class Trial:
    """One data set, how the preset is changed for it, and what is held back from training.

    With ``validation`` of ``window`` the last item but one chooses the epoch; with ``none`` it is trained on.
    """

    folder: str
    validation: Literal["window", "none"]
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


TRIALS = {
    "beauty": Trial("amazon_beauty", "none", options={"epochs": 14}),
    "beauty, two held back": Trial("amazon_beauty", "window", options={"validate_every": 2}),
    "beauty, 8 epochs": Trial("amazon_beauty", "none", options={"epochs": 8}),
    "ml1m": Trial(
        "movielens_1m",
        "window",
        config={"width": 128, "max_length": 200, "dropout": 0.2},
        options={"epochs": 80, "batch_size": 128, "validate_every": 4},
    ),
}


def check_data(data: Path, asked: list[tuple[str, int]]) -> None:
    """Stop before anything is trained if the events of any set are missing."""
    for folder in dict.fromkeys(TRIALS[name].folder for name, _ in asked):
        file = data / folder / "events.parquet"
        if not file.is_file():
            sys.exit(f"{file} does not exist: DATA holds {folder}/ with events.parquet (see --help)")


def prepare(events: Path, out: Path, users: int | None) -> None:
    """Write a Dataset of the rows that have a position; of some users only for a quick look."""
    rows = pl.read_parquet(events).filter(pl.col("position").is_not_null())
    if users is not None:
        rows = rows.filter(pl.col("user_id").is_in(rows["user_id"].unique().sort().head(users).implode()))
    polyvec.prepare(rows, out, options=PrepareOptions(order="position"))


def run_once(data: Path, trial: Trial, seed: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Train, embed, ask for the last item; on one thread."""
    torch.set_num_threads(1)
    folder.mkdir()
    dataset = polyvec.Dataset.open(data)
    config, options = default()
    config = replace(config, remove_seen=True, **trial.config)
    options = replace(options, seed=seed, **trial.options)
    if quick:
        config, options = replace(config, width=32, max_length=20), replace(options, epochs=2)
    started = time.perf_counter()
    model = fit(dataset, folder / "model", config, options, held_back=1, validation=trial.validation)
    minutes = (time.perf_counter() - started) / 60
    embeddings = polyvec.embed(model, dataset, folder / "emb", held_back=1)
    table = next_item({"sasrec": EmbeddingsRanker(embeddings, dataset)}, dataset, remove_seen=True)
    asked = table.filter(pl.col("part") == "all", pl.col("metric").is_in(REPORTED))
    figures = {row["metric"]: row["value"] for row in asked.iter_rows(named=True)}
    return {
        **{name.replace("hit_rate", "hr"): round(value, 5) for name, value in figures.items()},
        "minutes": round(minutes, 2),
        **({} if trial.validation == "none" else validated(model)),
        "parameters": model.manifest.meta["parameters"],
        "config": asdict(config),
        "training": asdict(options),
    }


def validated(model: SASRec) -> dict[str, Any]:
    """What validation said."""
    meta = model.manifest.meta
    return {"validation_ndcg@10": round(meta["validation"], 5), "best_epoch": meta["best_epoch"]}


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds and half its 95 % t interval of every number; configuration of the first."""
    summary: dict[str, Any] = {"seeds": len(runs)}
    for key, value in runs[0].items():
        if isinstance(value, dict):
            summary[key] = value
            continue
        values = [run[key] for run in runs]
        summary[key] = round(float(np.mean(values)), 5)
        half_width = spread(values)
        if half_width is not None:
            summary[f"{key}_half_width"] = round(half_width, 5)
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with amazon_beauty/ and movielens_1m/")
    parser.add_argument("--sets", nargs="+", choices=list(TRIALS), default=list(TRIALS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    parser.add_argument(
        "--quick", action="store_true", help="few users, one seed, two epochs: under a minute"
    )
    parser.add_argument("--out", type=Path, help="folder for results.json, written after every model")
    parser.add_argument("--resume", action="store_true", help="keep what results.json tells")
    arguments = parser.parse_args()
    file = None if arguments.out is None else arguments.out / "results.json"
    done = json.loads(file.read_text("utf-8")) if file and arguments.resume and file.exists() else {}
    seeds = range(1 if arguments.quick else arguments.seeds)
    asked = [(name, seed) for name in arguments.sets for seed in seeds]
    asked = [(name, seed) for name, seed in asked if str(seed) not in done.get(name, {}).get("runs", {})]
    command = "python " + " ".join("DATA" if word == str(arguments.data) else word for word in sys.argv)
    check_data(arguments.data, asked)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for data in {TRIALS[name].folder for name, _ in asked}:
            prepare(arguments.data / data / "events.parquet", folder / data, 300 if arguments.quick else None)
        with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
            futures = {}
            for name, seed in asked:
                trial, out = TRIALS[name], folder / f"{name} {seed}"
                future = pool.submit(run_once, folder / trial.folder, trial, seed, out, arguments.quick)
                futures[future] = (name, seed)
            for future in as_completed(futures):
                name, seed = futures[future]
                runs = done.get(name, {}).get("runs", {}) | {str(seed): future.result()}
                done[name] = summarise(list(runs.values())) | {"command": command, "runs": runs}
                print(name, seed, json.dumps(runs[str(seed)]), file=sys.stderr, flush=True)
                if file is not None:
                    file.write_text(json.dumps(done, indent=1) + "\n", "utf-8")
    show(done)
    print(json.dumps(done))


def show(results: dict[str, Any]) -> None:
    """Print the figures that tables are made of."""
    print(f"{'':20}{'NDCG@10':>20}{'HR@10':>20}{'minutes':>10}")
    for name, result in results.items():
        cells = [
            f"{result[key]:.4f} ± {result.get(f'{key}_half_width', float('nan')):.4f}"
            for key in ("ndcg@10", "hr@10")
        ]
        print(f"{name:20}" + "".join(f"{cell:>20}" for cell in cells) + f"{result['minutes']:>10.1f}")


if __name__ == "__main__":
    main()
