"""CEL, hashes and full tables on other ratings, each with settings chosen on validation.

    python studies/cel/chosen.py DATA --runs FOLDER [--sets …] [--seeds 3] [--workers 2] [--quick]
    python studies/cel/chosen.py DATA --runs FOLDER --collect --out studies/cel

DATA holds ``movielens_1m`` (GroupLens, Harper and Konstan 2015) and ``xmarket_electronics`` (XMarket, Bonab
et al. 2021; markets of four countries), each with events.parquet (user_id, item_id, rating).

Protocol: ratings are parted as in run.py, 80 % to learn from, 10 % for validation, 10 % for the test. Every
method is trained with every setting of its grid by seed 0; the one of least validation error, at its best
step, is trained by the other seeds. The test is asked at the step that each run's validation chose. Mean
squared errors; by training ratings of the user and of the item besides. Every run is one file in FOLDER: the
study can be stopped and started again. The last line printed is one JSON object.
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
from run import EVERY, POPULARITY, by_popularity, part, pooled

from polyvec.errors import TrainingError
from polyvec.evaluation.runs import over_runs, side_by_side, write_run
from polyvec.systems.cel.config import paper
from polyvec.systems.cel.network import CELNetwork
from polyvec.systems.cel.train import make_trainer, mean_error

SETS = ("movielens_1m", "xmarket_electronics")
STEPS = 2000
RATES = (1.25e-4, 5e-5, 2e-5, 8e-6)
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
    "full NMF": grid(learning_rate=RATES, item_table=["full"], decay=(1, 5, 20)),
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
        looks.append({
            "validation": mean_error(network, parts.validation),
            "test": mean_error(network, parts.test),
            "by_item": by_popularity(network, parts, "items"),
            "by_user": by_popularity(network, parts, "users"),
            **{f"bytes_{side}": size for side, size in network.table_bytes().items()},
        })  # fmt: skip
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
    return best | {"setting": setting, "steps": EVERY * (looks.index(best) + 1)}


def place(runs: Path, name: str, method: str, number: int, seed: int) -> Path:
    """File of one run: setting ``number`` of a method."""
    return runs / name / f"{method}, setting {number}, seed {seed}.json"


def best_setting(runs: Path, name: str, method: str) -> int | None:
    """Setting of least validation error by seed 0, or None before all have been tried."""
    files = [place(runs, name, method, number, 0) for number in range(len(METHODS[method]))]
    if not all(file.exists() for file in files):
        return None
    figures = [json.loads(file.read_text("utf-8")) for file in files]
    tried = [number for number, one in enumerate(figures) if "diverged" not in one]
    return min(tried, key=lambda number: figures[number]["validation"])


def run_missing(arguments: argparse.Namespace, runs: Path, tasks: list[tuple[str, str, int, int]]) -> None:
    """Run what has no file yet."""
    missing = [task for task in tasks if not place(runs, *task).exists()]
    work = partial(run_setting, arguments.data, quick=arguments.quick)
    for task, figures in side_by_side(work, missing, arguments.workers):
        write_run(place(runs, *task), figures)


def run_setting(data: Path, name: str, method: str, number: int, seed: int, *, quick: bool) -> dict[str, Any]:
    """Train a method with one of its settings."""
    return run_once(data / name / "events.parquet", METHODS[method][number], seed, quick=quick)


def collect(runs: Path, sets: Iterable[str]) -> dict[str, Any]:
    """By set and method: the chosen setting, errors over seeds, and by popularity over all seeds together."""
    found: dict[str, Any] = {}
    for name, method in product(sets, METHODS):
        number = best_setting(runs, name, method)
        if number is None:
            continue
        files = sorted((runs / name).glob(f"{method}, setting {number}, seed *.json"))
        figures = [json.loads(file.read_text("utf-8")) for file in files]
        found.setdefault(name, {})[method] = {
            "seeds": len(figures),
            "setting": METHODS[method][number],
            **{key: over_runs([one[key] for one in figures], digits=4) for key in ("test", "validation")},
            **{key: figures[0][key] for key in ("bytes_items", "bytes_users")},
            **{
                side: {part_of: pooled(figures, part_of, side) for part_of in POPULARITY}
                for side in ("by_item", "by_user")
            },
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--runs", type=Path, help="folder of finished runs, kept between calls")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, help="folder for chosen.json")
    parser.add_argument(
        "--quick", action="store_true", help="XMarket, two methods, 100 steps: under a minute"
    )
    arguments = parser.parse_args()
    if arguments.quick and arguments.runs is not None:
        parser.error("--quick trains small models for a moment: they are not kept, leave out --runs")
    if arguments.runs is None and not arguments.quick:
        parser.error("--runs is missing: the folder in which finished runs are kept between calls")
    sets = SETS[1:] if arguments.quick else arguments.sets
    if arguments.quick:
        for method, settings in list(METHODS.items()):
            METHODS[method] = settings[:1]
    for name in sets:
        file = arguments.data / name / "events.parquet"
        if not file.is_file():
            sys.exit(f"{file} does not exist: DATA holds {name}/events.parquet (user_id, item_id, rating)")
    with tempfile.TemporaryDirectory() as scratch:
        runs = arguments.runs or Path(scratch)
        if not arguments.collect:
            search = [(name, method, number, 0) for name, method in product(sets, METHODS)
                      for number in range(len(METHODS[method]))]  # fmt: skip
            run_missing(arguments, runs, search)
            chosen = {
                (name, method): best_setting(runs, name, method) for name, method in product(sets, METHODS)
            }
            seeds = range(1, 1 if arguments.quick else arguments.seeds)
            again = [
                (*key, number, seed) for seed in seeds for key, number in chosen.items() if number is not None
            ]
            run_missing(arguments, runs, again)
        results = {"command": "python studies/cel/chosen.py DATA --runs FOLDER", "sets": collect(runs, sets)}
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "chosen.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
