"""CEL, hashes and full tables on other ratings, each with settings chosen on validation.

    python studies/cel/chosen.py DATA --out studies/cel [--sets …] [--seeds 3] [--workers 2]

DATA holds ``movielens_1m`` (GroupLens, Harper and Konstan 2015) and ``xmarket_electronics`` (XMarket, Bonab
et al. 2021; markets of four countries), each with events.parquet (user_id, item_id, rating).

Protocol: ratings are parted as in run.py, 80 % to learn from, 10 % for validation, 10 % for the test. Every
method is trained with every setting of its grid by seed 0; the one of least validation error, at its best
step, is trained by the other seeds. The test is asked at the step that each run's validation chose. Mean
squared errors; by training ratings of the user and of the item besides. Every run becomes a line of
OUT/chosen.jsonl: the study can be stopped and started again. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from run import EVERY, NEARER, POPULARITY, PRIOR_EVENTS, by_popularity, part, pooled, served_errors

from polyvec.errors import TrainingError
from polyvec.evaluation.runs import add_run, over_runs, read_runs, run_study, side_by_side
from polyvec.systems.cel.config import paper
from polyvec.systems.cel.network import CELNetwork
from polyvec.systems.cel.train import make_trainer

COMMAND = "python studies/cel/chosen.py DATA --out studies/cel"
RUNS, CHOSEN = "chosen.jsonl", "chosen.json"
SETS = ("movielens_1m", "xmarket_electronics")
STEPS = 2000
RATES = (5e-4, 2.5e-4, 1.25e-4, 5e-5)
Setting = dict[str, Any]


def grid(**values: Iterable[Any]) -> list[Setting]:
    """All combinations of some settings' values."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


CLUSTERS = (50, 200)
METHODS: dict[str, list[Setting]] = {
    "CEL": grid(learning_rate=RATES, item_clusters=CLUSTERS, decay=(1, 5)),
    "CEL, users and items": grid(
        learning_rate=RATES, item_clusters=CLUSTERS, user_table=["clustered"], user_clusters=CLUSTERS
    ),
    "modulo hash": grid(learning_rate=RATES, item_table=["hash"], item_clusters=CLUSTERS, decay=(1, 5)),
    "full NMF": grid(learning_rate=RATES, item_table=["full"], decay=(1, 5, 20, 60)),
}


def run_once(file: Path, setting: Setting, seed: int, *, quick: bool) -> dict[str, Any]:
    """Train one setting, on one thread; what the look of least validation error saw."""
    torch.set_num_threads(1)
    parts = part(file, seed)
    config, options = paper()
    changes = {key: value for key, value in setting.items() if key != "learning_rate"}
    clusters = changes.get("item_clusters", config.item_clusters)
    config = replace(config, steps_per_epoch=EVERY, split_every=max(1, 500 // clusters), **changes)
    steps = 100 if quick else STEPS
    options = replace(
        options, learning_rate=setting["learning_rate"], epochs=steps // EVERY, seed=seed, patience=6
    )
    looks: list[dict[str, Any]] = []

    def look(network: CELNetwork) -> float:
        served = {}
        for prior_events in (PRIOR_EVENTS, 0):
            network.prior_events = prior_events
            validation, test = served_errors(network, parts)
            served[prior_events] = {
                "validation": float(validation.mean()),
                "test": float(test.mean()),
                "by_item": by_popularity(test, parts, "items"),
                "by_user": by_popularity(test, parts, "users"),
            }
        sizes = {f"bytes_{side}": size for side, size in network.table_bytes().items()}
        looks.append(served[0] | sizes | {NEARER: served[PRIOR_EVENTS]})
        return -looks[-1]["validation"]

    with tempfile.TemporaryDirectory() as folder:
        _, trainer = make_trainer(
            parts.training, parts.num_users, parts.num_items, config, options, Path(folder), validate=look
        )
        try:
            trainer.run()
        except TrainingError:
            if not looks:
                return {"diverged": True}
    best = min(looks, key=lambda one: one["validation"])
    return best | {"steps": EVERY * (looks.index(best) + 1)}


def read(out: Path) -> dict[tuple[str, str], dict[int, dict[int, dict[str, Any]]]]:
    """Figures of all runs by set and method, then by setting, a place in its grid, and by seed."""
    found: dict[tuple[str, str], dict[int, dict[int, dict[str, Any]]]] = {}
    for line in read_runs(out / RUNS):
        of_method = found.setdefault((line["set"], line["method"]), {})
        of_method.setdefault(line["setting"], {})[line["seed"]] = line["figures"]
    return found


def best_setting(runs: dict[int, dict[int, dict[str, Any]]], method: str) -> int | None:
    """Setting of least validation error by seed 0, or None before all have been tried."""
    tried = {number: runs[number][0] for number in range(len(METHODS[method])) if 0 in runs.get(number, {})}
    if len(tried) < len(METHODS[method]):
        return None
    ended = [number for number, figures in tried.items() if "diverged" not in figures]
    return min(ended, key=lambda number: tried[number]["validation"])


def best_settings(out: Path) -> dict[tuple[str, str], int]:
    """Best setting by set and method; where the search is not whole, the one that chosen.json names."""
    runs, file = read(out), out / CHOSEN
    named = json.loads(file.read_text("utf-8"))["sets"] if file.exists() else {}
    found = {}
    for name, method in product(SETS, METHODS):
        best = best_setting(runs.get((name, method), {}), method)
        if best is None and method in named.get(name, {}):
            best = METHODS[method].index(named[name][method]["setting"])
        if best is not None:
            found[name, method] = best
    return found


def train(arguments: argparse.Namespace, out: Path, _scratch: Path) -> None:
    """Try all settings by seed 0, then the best of each method by the other seeds."""
    if arguments.quick:
        for method in METHODS:
            METHODS[method] = METHODS[method][:1]
    cells = list(product(SETS[1:] if arguments.quick else arguments.sets, METHODS))
    search = [(*cell, number, 0) for cell in cells for number in range(len(METHODS[cell[1]]))]
    if not arguments.again:
        run_missing(arguments, out, search)
    best = best_settings(out)
    seeds = range(1 if arguments.quick else arguments.seeds)
    run_missing(
        arguments, out, [(*cell, best[cell], seed) for seed in seeds for cell in cells if cell in best]
    )


def run_missing(arguments: argparse.Namespace, out: Path, tasks: list[tuple[str, str, int, int]]) -> None:
    """Run what is not among the runs yet."""
    found = read(out)
    missing = [task for task in tasks if task[3] not in found.get(task[:2], {}).get(task[2], {})]
    work = partial(run_setting, arguments.data, quick=arguments.quick)
    for (name, method, number, seed), figures in side_by_side(work, missing, arguments.workers):
        about = {"set": name, "method": method, "setting": number, "seed": seed}
        add_run(out / RUNS, about | {"figures": figures})


def run_setting(data: Path, name: str, method: str, number: int, seed: int, *, quick: bool) -> dict[str, Any]:
    """Train a method with one of its settings."""
    return run_once(data / name / "events.parquet", METHODS[method][number], seed, quick=quick)


def collect(out: Path) -> dict[str, Any]:
    """By set and method: the chosen setting, errors over seeds, and by popularity over all seeds together.

    What has not been trained anew stays as it was.
    """
    runs, file = read(out), out / CHOSEN
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))["sets"] if file.exists() else {}
    for (name, method), number in best_settings(out).items():
        by_seed = dict(sorted(runs.get((name, method), {}).get(number, {}).items()))
        if not by_seed:
            continue
        if len(by_seed) < len(found.get(name, {}).get(method, {}).get("seeds", [])):
            continue  # more seeds are told already
        figures = list(by_seed.values())
        about = {"seeds": list(by_seed), "setting": METHODS[method][number]}
        about |= {key: figures[0][key] for key in ("bytes_items", "bytes_users")}
        of_set = found.setdefault(name, {})
        of_set[method] = about | errors_of(figures)
        if all(NEARER in one for one in figures):
            of_set[f"{method}, {NEARER}"] = about | errors_of([one[NEARER] for one in figures])
    return {"sets": found}


def errors_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over seeds, and by popularity over all seeds together."""
    return {
        **{key: over_runs([one[key] for one in runs], digits=4) for key in ("test", "validation")},
        **{
            side: {part_of: pooled(runs, part_of, side) for part_of in POPULARITY}
            for side in ("by_item", "by_user")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    parser.add_argument(
        "--again", action="store_true", help="the settings that OUT/chosen.json names, without a search"
    )
    parser.add_argument("--out", type=Path, help="folder of chosen.jsonl and chosen.json")
    parser.add_argument("--quick", action="store_true", help="XMarket, one setting of each, 100 steps")
    arguments = parser.parse_args()
    if arguments.out is None and not arguments.quick:
        parser.error("--out is missing: the folder in which finished runs are kept between calls")
    if arguments.out is not None and arguments.quick:
        parser.error("--quick trains small models for a moment: they are not kept, leave out --out")
    for name in SETS[1:] if arguments.quick else arguments.sets:
        file = arguments.data / name / "events.parquet"
        if not file.is_file():
            sys.exit(f"{file} does not exist: DATA holds {name}/events.parquet (user_id, item_id, rating)")
    found = run_study(COMMAND, arguments.out, partial(train, arguments), collect, CHOSEN)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
