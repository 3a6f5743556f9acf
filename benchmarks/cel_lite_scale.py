"""CEL-Lite's time per interaction, as the stream and the numbers of entities grow.

    python benchmarks/cel_lite_scale.py [--clusters 100 1000] [--interactions 1e7] [--entities 1e5 1e6]
                                       [--batch 1024] [--quick]

What is timed is the default of ``polyvec fit cel-lite``: means learn, and clusters what they leave over.
A synthetic stream: users and items drawn from long tails (log-uniform ranks), labels of planted kinds.
Every stream is learned in a process of its own; time is taken between 10 % marks. What is claimed: time per
interaction is flat from a tenth of the stream to all of it and from the fewest entities to the most, and
memory holds no vector per entity; searches for the nearest clusters grow by their number over ``volume``.
``full_table_mb`` is what tables with a row of the same width for every entity, and Adagrad's memory of them,
would take. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from typing import Any

import numpy as np

from polyvec.systems.cel.config import LiteConfig
from polyvec.systems.cel.lite import CELLite

KINDS = 50
WIDTH = 64
PARTS = 10


def draw(random: np.random.Generator, entities: int, count: int) -> np.ndarray:
    """Entities whose rank is log-uniform: a few have most interactions, most have few."""
    ranks = np.exp(random.random(count) * np.log(entities)).astype(np.int64)
    return np.minimum(ranks, entities - 1)


def run(entities: int, interactions: int, clusters: int, batch: int) -> dict[str, Any]:
    """Learn one stream."""
    before = peak_mb()
    random = np.random.default_rng(0)
    tastes = 1 + 4 * random.random((KINDS, KINDS))
    config = LiteConfig(
        width=WIDTH,
        user_clusters=clusters,
        item_clusters=clusters,
        volume=500,
        ring=100_000,
        rate=0.1,
        residual=True,
    )
    model = CELLite(config, 3.0)
    seconds, errors = [], []
    for _ in range(PARTS):
        spent, total, done = 0.0, 0.0, 0
        while done < interactions // PARTS:
            users, items = (draw(random, entities, batch) for _ in range(2))
            labels = tastes[users % KINDS, items % KINDS].astype(np.float32)
            started = time.perf_counter()
            foretold = model.learn(users, items, labels)
            spent += time.perf_counter() - started
            total += float(((foretold - labels) ** 2).sum())
            done += batch
        seconds.append(spent / done)
        errors.append(total / done)
    return {
        "entities": entities,
        "interactions": interactions,
        "microseconds": [round(1e6 * value, 2) for value in seconds],
        "error": [round(value, 3) for value in errors],
        "most_clusters": clusters,
        "batch": batch,
        "clusters": [model.users.clusters, model.items.clusters],
        "evaluations_per_interaction": round(model.costs.evaluations / model.costs.interactions, 1),
        "rows_compared_per_interaction": round(model.costs.compared / model.costs.interactions, 1),
        "peak_mb": round(peak_mb() - before),
        "full_table_mb": round(2 * entities * WIDTH * 4 * 2 / 2**20),
    }


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clusters", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--interactions", type=float, default=1e7)
    parser.add_argument("--entities", type=float, nargs="+", default=[1e5, 1e6])
    parser.add_argument("--batch", type=int, default=1024, help="interactions that are learned together")
    parser.add_argument("--quick", action="store_true", help="a small stream: under a minute")
    arguments = parser.parse_args()
    interactions, clusters, sizes = int(arguments.interactions), arguments.clusters, arguments.entities
    if arguments.quick:
        interactions, clusters, sizes = 100_000, [10, 50], [1e3, 1e4]
    runs = {}
    for key in product(map(int, sizes), clusters):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            runs[key] = pool.submit(run, key[0], interactions, key[1], arguments.batch).result()
        print(json.dumps(runs[key]))
    late = {key: one["microseconds"][-1] for key, one in runs.items()}
    few, many = int(sizes[0]), int(sizes[-1])
    report = {
        "command": " ".join(["python benchmarks/cel_lite_scale.py", *sys.argv[1:]]),
        "streams": list(runs.values()),
        "last part over second part": [
            round(one["microseconds"][-1] / one["microseconds"][1], 2) for one in runs.values()
        ],
        "most entities over fewest": [round(late[many, each] / late[few, each], 2) for each in clusters],
        "most clusters over fewest": [
            round(late[each, clusters[-1]] / late[each, clusters[0]], 2) for each in (few, many)
        ],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
