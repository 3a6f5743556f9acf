"""Does CEL find clusters that are known? Ratings with planted kinds of items.

    python studies/cel/planted.py [--seeds 3] [--workers 2] [--quick] [--out FOLDER]

400 items are of 6 kinds; an item's ratings by 300 users are the products of the user's row and its kind's,
four numbers each, non-negative, a third of them zero, plus noise of variance 0.01. Of all pairs 5, 10 or 30 %
are seen, and 5 % held out. ``adjusted_rand`` is the agreement of the clusters with the kinds: 1 where they
are the same, 0 by chance. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import adjusted_rand_score

from polyvec.evaluation.runs import over_runs
from polyvec.systems.cel.config import CELConfig, paper
from polyvec.systems.cel.records import Records
from polyvec.systems.cel.train import make_trainer, mean_error

USERS, ITEMS, KINDS, WIDTH = 300, 400, 6, 4
NOISE = 0.1  # standard deviation
STEPS = 1600
OBSERVED = (0.05, 0.1, 0.3)
CLUSTERS = (3, 4, 5, 6, 8, 12, 20)
CUTS = {"CEL": {}, "random split": {"cut": "random"}, "no reassignment": {"reassign_every": 0}}


def plant(seed: int, observed: float) -> tuple[Records, Records, npt.NDArray[np.int64]]:
    """Ratings to learn from, ratings held out, and the kind of every item."""
    random = np.random.default_rng(seed)
    users, kinds = (
        1.35 * random.random((count, WIDTH)) * (random.random((count, WIDTH)) > 0.3)
        for count in (USERS, KINDS)
    )
    kind_of = random.integers(0, KINDS, ITEMS)
    labels = users @ kinds[kind_of].T + NOISE * random.normal(size=(USERS, ITEMS))
    seen = random.random((USERS, ITEMS)) < observed
    held = ~seen & (random.random((USERS, ITEMS)) < 0.05)

    def records(chosen: npt.NDArray[np.bool_]) -> Records:
        rows, columns = np.nonzero(chosen)
        return Records(*(torch.from_numpy(one) for one in (rows, columns, labels[chosen].astype(np.float32))))

    return records(seen), records(held), kind_of


def run_once(
    observed: float, clusters: int, changes: dict[str, Any], seed: int, *, steps: int = STEPS
) -> dict[str, float]:
    """Train on one planted log, on one thread."""
    torch.set_num_threads(1)
    training, held_out, kinds = plant(seed, observed)
    config = CELConfig(
        width=WIDTH, item_clusters=clusters, decay=0.01, shrinkage=0, cluster_steps=0, split_every=40
    )
    config = replace(config, steps_per_epoch=steps, **changes)
    options = replace(paper()[1], epochs=1, seed=seed, learning_rate=2e-3 * 0.1 / observed)
    with tempfile.TemporaryDirectory() as folder:
        network, trainer = make_trainer(training, USERS, ITEMS, config, options, Path(folder))
        trainer.run()
    assigned = network.items.assign.tolist()
    return {
        "adjusted_rand": float(adjusted_rand_score(kinds, assigned)),
        "error": mean_error(network, held_out),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    parser.add_argument("--quick", action="store_true", help="one seed, few steps: under a minute")
    parser.add_argument("--out", type=Path, help="folder for planted.json")
    arguments = parser.parse_args()
    seeds = range(1 if arguments.quick else arguments.seeds)
    run = partial(run_once, steps=100 if arguments.quick else STEPS)
    tasks = {
        f"{name}, {observed:.0%} seen": (observed, KINDS, changes)
        for observed in OBSERVED
        for name, changes in CUTS.items()
    }
    tasks |= {f"K = {clusters}": (0.1, clusters, {}) for clusters in CLUSTERS}
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        futures = {name: [pool.submit(run, *task, seed) for seed in seeds] for name, task in tasks.items()}
        found = {name: [future.result() for future in some] for name, some in futures.items()}
    results = {
        "command": "python studies/cel/planted.py --out studies/cel",
        "runs": {
            name: {"seeds": list(seeds)}
            | {key: over_runs([one[key] for one in runs], digits=4) for key in runs[0]}
            for name, runs in found.items()
        },
    }
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "planted.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
