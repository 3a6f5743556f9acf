"""Does CEL hold on public ratings? Clusters, full tables, hashes and ablations on MovieLens 100K.

    python studies/cel/run.py DATA --out studies/cel [--methods …] [--seeds 3] [--workers 2]

DATA holds ``movielens_100k/events.parquet`` (user_id, item_id, rating; GroupLens, Harper and Konstan 2015).
Every run becomes a line of OUT/runs.jsonl: the study can be stopped and started again, and run in parts;
results.json is made anew of all of them. ``--quick`` keeps nothing.

Protocol: ratings are parted at random by seed, 80 % to learn from, 10 % for validation, 10 % for the test.
The error is the mean squared error. CEL is asked at fixed steps, 800 and 2,000, as its authors do; in
``chosen`` every method is asked at the step (of those 50 apart) that is best on validation, and in ``best``
at the one that is best on the test itself, which flatters methods that over-fit: rivals are given that.

The stream (stream.py) is the same ratings in order of time: each is foretold before it is learned from,
once. The error of the second half is reported; the step size of each method is the one of least error on
the first half.

Clicks (clicks.py) are the same ratings whatever their value: a deep interest network learns each user's films
but the last 20 against drawn ones, is chosen on the next ten and asked for the last ten, in each case after
what the user saw before. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from clicks import CLICKS, run_clicks
from stream import METHODS, run_stream
from torch import Tensor

from polyvec.evaluation.runs import add_run, over_runs, read_runs, run_study, side_by_side
from polyvec.ids import Vocabulary
from polyvec.systems.cel.config import default, paper
from polyvec.systems.cel.network import CELNetwork
from polyvec.systems.cel.objective import served_losses
from polyvec.systems.cel.records import Records
from polyvec.systems.cel.train import make_trainer

COMMAND = "python studies/cel/run.py DATA --out studies/cel"
RUNS = "runs.jsonl"
NEARER = "nearer to the mean"  # how the preset ``default`` serves users and items of few events
PRIOR_EVENTS = default()[0].prior_events
EVERY = 50  # steps between two looks
FIXED = (800, 2000)
QUICK = ["CEL", "modulo hash, 50 items", "CEL-Lite"]
POPULARITY = {"0": (0, 0), "1–4": (1, 4), "5–19": (5, 19), "20–99": (20, 99), "100 and more": (100, 2**31)}


@dataclass(frozen=True)
class Variant:
    """One method: changes to the authors' configuration, and how long it is trained."""

    config: dict[str, Any] = field(default_factory=dict)
    steps: int = 2000


VARIANTS = {
    "CEL": Variant(),
    "CEL, no reassignment": Variant({"reassign_every": 0}),
    "random split, reassignment": Variant({"cut": "random"}),
    "random split, no reassignment": Variant({"cut": "random", "reassign_every": 0}),
    "modulo hash, 50 items": Variant({"item_table": "hash"}),
    "CEL, gradients not averaged": Variant({"averaging": "none"}),
    "CEL, no second layer": Variant({"shrinkage": 0}),
    "CEL, no damping": Variant({"damping": 0}),
    "CEL, cut at the median": Variant({"cut": "median"}),
    "CEL, cut that halves interactions": Variant({"cut": "interactions"}),
    "CEL, most entities split": Variant({"criterion": "entities"}),
    "CEL, largest loss splits": Variant({"criterion": "loss"}),
    "CEL, largest loss per item splits": Variant({"criterion": "mean_loss"}),
    "CEL, largest gradient splits": Variant({"criterion": "gradient"}),
    "CEL, then personal at 800": Variant({"personal_from": 800}, 6000),
    "CEL, then personal at 1600": Variant({"personal_from": 1600, "damping": 0}, 6000),
    **{
        f"CEL, K = {k}": Variant({"item_clusters": k, "split_every": max(1, 500 // k)})
        for k in (5, 10, 20, 100, 200)
    },
    **{
        f"CEL, users and items, K = {k}": Variant(
            {
                "user_table": "clustered",
                "user_clusters": k,
                "item_clusters": k,
                "split_every": min(10, 500 // k),
                "shrinkage": 0,
            }
        )
        for k in (10, 50, 100)
    },
    **{
        f"full NMF, decay {decay}": Variant({"item_table": "full", "decay": decay}) for decay in (1, 3, 5, 10)
    },
    f"CEL, {NEARER}": Variant({"prior_events": PRIOR_EVENTS}),
    f"full NMF, decay 5, {NEARER}": Variant({"item_table": "full", "decay": 5, "prior_events": PRIOR_EVENTS}),
    "CEL, NeuNMF": Variant({"interaction": "neunmf"}),
    "full NeuNMF": Variant({"item_table": "full", "interaction": "neunmf"}),
    "CEL, MLP": Variant({"interaction": "mlp"}),
    "full MLP": Variant({"item_table": "full", "interaction": "mlp"}),
}


PARTS = {
    "movielens_100k": VARIANTS,
    "movielens_100k, one pass": METHODS,
    "movielens_100k, clicks": CLICKS,
}
"""Methods by part of the study."""


@dataclass(frozen=True)
class Parts:
    """Ratings, parted."""

    training: Records
    validation: Records
    test: Records
    num_users: int
    num_items: int


def part(file: Path, seed: int) -> Parts:
    """Number the ids and part the ratings at random."""
    table = pl.read_parquet(file, columns=["user_id", "item_id", "rating"]).drop_nulls()
    known = [Vocabulary(table[name].unique().sort(), name) for name in ("user_id", "item_id")]
    users, items = (torch.from_numpy(ids.rows(table[ids.name])) for ids in known)
    records = Records(users, items, torch.from_numpy(table["rating"].cast(pl.Float32).to_numpy().copy()))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(table)))
    ends = int(0.8 * len(order)), int(0.9 * len(order))
    pieces = order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] :]
    return Parts(*(records.take(rows) for rows in pieces), len(known[0]), len(known[1]))


def run_once(file: Path, variant: Variant, seed: int, *, quick: bool) -> dict[str, Any]:
    """Train one method and look at it every 50 steps; on one thread."""
    torch.set_num_threads(1)
    parts = part(file, seed)
    config, options = paper()
    config = replace(config, steps_per_epoch=EVERY, **variant.config)
    steps = 100 if quick else variant.steps
    options = replace(options, epochs=steps // EVERY, seed=seed)
    looks: list[dict[str, Any]] = []

    def look(network: CELNetwork) -> float:
        validation, test = served_errors(network, parts)
        looks.append({
            "validation": float(validation.mean()),
            "test": float(test.mean()),
            "by_popularity": by_popularity(test, parts),
        })  # fmt: skip
        return -looks[-1]["validation"]

    with tempfile.TemporaryDirectory() as folder:
        network, trainer = make_trainer(
            parts.training, parts.num_users, parts.num_items, config, options, Path(folder), validate=look
        )
        progress = trainer.run()
    chosen = min(looks, key=lambda one: one["validation"])
    figures = {f"step {step}": looks[step // EVERY - 1]["test"] for step in FIXED if step <= steps}
    return {
        **figures,
        "chosen": chosen["test"],
        "best": min(one["test"] for one in looks),
        "last": looks[-1]["test"],
        "by_popularity": chosen["by_popularity"],
        "steps_chosen": EVERY * (looks.index(chosen) + 1),
        **{f"bytes_{side}": size for side, size in network.table_bytes().items()},
        "seconds": round(progress.seconds, 1),
    }


def served_errors(network: CELNetwork, parts: Parts) -> tuple[Tensor, Tensor]:
    """Squared errors of validation and test as users and items are served, unseen ones, too."""
    events = (
        torch.bincount(parts.training.users, minlength=parts.num_users),
        torch.bincount(parts.training.items, minlength=parts.num_items),
    )
    return served_losses(network, parts.validation, events), served_losses(network, parts.test, events)


def by_popularity(errors_P: Tensor, parts: Parts, side: str = "items") -> dict[str, list[float]]:
    """Sum of squared errors of the test, and ratings in it, by training ratings of the item or the user."""
    size = parts.num_users if side == "users" else parts.num_items
    counts = torch.bincount(getattr(parts.training, side), minlength=size)[getattr(parts.test, side)]
    found = {}
    for name, (least, most) in POPULARITY.items():
        chosen = (counts >= least) & (counts <= most)
        found[name] = [float(errors_P[chosen].sum()), int(chosen.sum())]
    return found


def run_method(file: Path, name: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Train and ask one method."""
    if name in METHODS:
        return run_stream(file, name, seed, quick=quick)
    if name in CLICKS:
        return run_clicks(file, name, seed, quick=quick)
    return run_once(file, VARIANTS[name], seed, quick=quick)


def collect(out: Path) -> dict[str, Any]:
    """Figures of all runs, by part of the study and method."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for line in read_runs(out / RUNS):
        found.setdefault(line["method"], {})[line["seed"]] = line["figures"]
    return {
        name: {
            method: summarise(dict(sorted(found[method].items()))) for method in methods if method in found
        }
        for name, methods in PARTS.items()
    }


def summarise(runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds with half their 95 % t intervals; errors by popularity over all seeds together."""
    figures = list(runs.values())
    summary: dict[str, Any] = {"seeds": list(runs)}
    for key in (key for key, value in figures[0].items() if not isinstance(value, dict)):
        summary[key] = over_runs([run[key] for run in figures], digits=4)
    if "by_popularity" in figures[0]:
        summary["by_popularity"] = {name: pooled(figures, name) for name in POPULARITY}
    return summary


def pooled(runs: list[dict[str, Any]], name: str, key: str = "by_popularity") -> dict[str, Any]:
    """Error of the ratings of all seeds of items, or users, of one popularity."""
    total, ratings = np.sum([run[key][name] for run in runs], axis=0)
    return {"error": round(float(total / ratings), 4) if ratings else None, "ratings": int(ratings)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with movielens_100k/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    known = [method for methods in PARTS.values() for method in methods]
    parser.add_argument("--methods", nargs="+", choices=known, default=known, help="all without it")
    parser.add_argument("--quick", action="store_true", help="three methods, one seed: under a minute")
    parser.add_argument("--out", type=Path, help="folder of runs.jsonl and results.json")
    arguments = parser.parse_args()
    if arguments.out is None and not arguments.quick:
        parser.error("--out is missing: the folder in which finished runs are kept between calls")
    if arguments.out is not None and arguments.quick:
        parser.error("--quick trains small models for a moment: they are not kept, leave out --out")
    file = arguments.data / "movielens_100k" / "events.parquet"
    if not file.is_file():
        sys.exit(
            f"{file} does not exist: DATA holds movielens_100k/events.parquet (user_id, item_id, rating)"
        )
    print(json.dumps(run_study(COMMAND, arguments.out, partial(train, arguments, file), collect)))


def train(arguments: argparse.Namespace, file: Path, out: Path, _scratch: Path) -> None:
    """Train what is missing: seed by seed, so that a stopped study has whole comparisons."""
    names = QUICK if arguments.quick else arguments.methods
    done = {(line["method"], line["seed"]) for line in read_runs(out / RUNS)}
    seeds = range(1 if arguments.quick else arguments.seeds)
    missing = [(name, seed) for seed in seeds for name in names if (name, seed) not in done]
    work = partial(run_method, file, quick=arguments.quick)
    for (name, seed), figures in side_by_side(work, missing, arguments.workers):
        add_run(out / RUNS, {"method": name, "seed": seed, "figures": figures})


if __name__ == "__main__":
    main()
