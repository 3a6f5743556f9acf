"""GUIM on Online Retail II: a year of history, the month from 2011-11-01 foretold.

    python studies/guim_online_retail/run.py DATA [--seeds 3] [--workers 2] [--quick] [--out FOLDER]

DATA is a folder with ``events.parquet`` (user_id, item_id, timestamp, quantity, price, country) and
``items.parquet`` (item_id, title) made from UCI *Online Retail II* (D. Chen, CC BY 4.0,
https://doi.org/10.24432/C5CG6D): one row per invoice line, one title per stock code.

Every model is trained on events before the cut-off as ``polyvec fit … --validation window --refit`` does: the
number of epochs and the habits' weights are chosen on the month before (targets in October 2011) by a model
that knows nothing of it, and a second one is trained on everything before the cut-off. The test month is
asked about once. The recipe itself was chosen on that earlier month, too: see README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
import torch

import polyvec
from polyvec.data.dataset import parse_time
from polyvec.data.item_sets import ItemSets
from polyvec.data.split import Windows, cut
from polyvec.evaluation.baselines import PERSONAL_FREQUENCY, counting_baselines
from polyvec.evaluation.rankers import EmbeddingsRanker, HabitsRanker, Ranker
from polyvec.evaluation.runs import spread
from polyvec.evaluation.tasks.matching import matching
from polyvec.retrieval.habits import Weights
from polyvec.systems.guim import GUIMConfig, default, paper
from polyvec.training.options import TrainingOptions

CUTOFF = "2011-11-01"
REPORTED = ("recall@100", "ndcg@10")
PARTS = ("all", "repeats", "new")
VARIANTS = ("alone", "with trend", "with habits", "alone, new items only", "with trend, new items only")


def systems(quick: bool) -> dict[str, tuple[GUIMConfig, TrainingOptions]]:
    """Configurations to compare; ``quick`` trains each for a moment only."""
    config, options = default()
    found = {
        "GUIM C=4": (config, options),
        "GUIM C=1": (replace(config, num_vectors=1), options),
        "GUIM C=4, paper's recipe": paper(4),
        "GUIM C=1, paper's recipe": paper(1),
    }
    if not quick:
        return found
    small = {"num_cutoffs": 1, "max_length": 32, "width": 32, "id_width": 32, "num_layers": 1}
    return {
        name: (replace(config, **small), replace(options, epochs=1))
        for name, (config, options) in list(found.items())[1:3]  # one of each recipe
    }


class NewItemsOnly:
    """A ranker whose answers leave out what the user bought in the history window."""

    def __init__(self, ranker: Ranker, dataset: polyvec.Dataset, windows: Windows) -> None:
        self._ranker = ranker
        self._own = ItemSets.of_events(dataset, windows.history_start, windows.history_end)

    def rank(self, user_rows: np.ndarray, k: int) -> np.ndarray:
        """Best k new items of every user, −1 padded."""
        own = self._own.select(user_rows)
        ranked = self._ranker.rank(user_rows, k + int(own.sizes.max()))
        ranked = np.where(own.contains(ranked), -1, ranked)
        return np.take_along_axis(ranked, np.argsort(ranked < 0, axis=1, kind="stable")[:, :k], axis=1)


def run_once(
    data: Path, config: GUIMConfig, options: TrainingOptions, folder: Path
) -> tuple[pl.DataFrame, dict[str, float]]:
    """Train, embed, ask: the matching table of one model, and what it cost; on one thread."""
    torch.set_num_threads(1)
    dataset = polyvec.Dataset.open(data)
    cutoff = parse_time(CUTOFF, dataset)
    folder.mkdir()
    started = time.perf_counter()
    model = polyvec.fit(
        dataset, folder / "model", config, options, until=cutoff, validation="window", refit=True
    )
    trained = time.perf_counter()
    embeddings = polyvec.embed(model, dataset, folder / "emb", until=cutoff)
    purchases = dataset.only_action()
    windows = cut(purchases, cutoff, config.history_days, 0)
    weights = Weights(**embeddings.provenance["habits"])
    alone = EmbeddingsRanker(embeddings, purchases)
    trend = HabitsRanker(embeddings, purchases, windows, Weights(0, weights.trend))
    rankers = {
        PERSONAL_FREQUENCY: counting_baselines(purchases, cutoff, config.history_days)[PERSONAL_FREQUENCY],
        "alone": alone,
        "with trend": trend,
        "with habits": HabitsRanker(embeddings, purchases, windows, weights),
        "alone, new items only": NewItemsOnly(alone, purchases, windows),
        "with trend, new items only": NewItemsOnly(trend, purchases, windows),
    }
    costs = {
        "train_seconds": round(trained - started, 1),
        "parameters": model.manifest.meta["parameters"],
        "bytes_per_user": embeddings.num_vectors * embeddings.width * 4,
        "habits": embeddings.provenance["habits"],
        "best_epoch": model.manifest.meta["best_epoch"],
        "validation": model.manifest.meta["validation"],
    }
    return matching(rankers, purchases, cutoff), costs


def differences(table: pl.DataFrame) -> dict[str, dict[str, list[float]]]:
    """Recall@100 of CMP-L minus personal frequency's, paired by user: value and 95 % bootstrap interval."""
    rows = table.filter(
        pl.col("task") == "CMP-L", pl.col("metric") == "recall@100", pl.col("part").is_in(PARTS)
    )
    found: dict[str, dict[str, list[float]]] = {}
    for r in rows.filter(pl.col("ranker") != PERSONAL_FREQUENCY).iter_rows(named=True):
        triple = [round(r[f"difference{end}"], 4) for end in ("", "_low", "_high")]
        found.setdefault(r["ranker"], {})[r["part"]] = triple
    return found


def measures(table: pl.DataFrame, ranker: str) -> dict[str, float]:
    """Value of every task, part and metric of one ranker."""
    rows = table.filter(
        pl.col("ranker") == ranker, pl.col("metric").is_in(REPORTED), pl.col("part").is_in(PARTS)
    )
    return {f"{r['task']} {r['metric']} {r['part']}": r["value"] for r in rows.iter_rows(named=True)}


def summarise(per_seed: list[dict[str, float]]) -> dict[str, dict[str, float | list[float]]]:
    """Mean over seeds, half width of the 95 % t interval of the mean (of several), and every seed's value."""
    summary = {}
    for key in per_seed[0]:
        values = [seed[key] for seed in per_seed]
        half_width = spread(values)
        summary[key] = {"mean": round(float(np.mean(values)), 4)}
        if half_width is not None:
            summary[key]["half_width"] = round(half_width, 4)
        summary[key]["seeds"] = [round(value, 4) for value in values]
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with events.parquet and items.parquet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="models trained side by side, a thread each")
    parser.add_argument("--quick", action="store_true", help="one seed, two tiny models: under a minute")
    parser.add_argument("--out", type=Path, help="folder for results.json; none writes nothing")
    arguments = parser.parse_args()
    check_data(arguments.data)
    seeds = range(1 if arguments.quick else arguments.seeds)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        items = arguments.data / "items.parquet"
        dataset = polyvec.prepare(arguments.data / "events.parquet", folder / "dataset", items=items)
        results = {"baselines": baselines(dataset)}
        with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
            futures = {
                name: [
                    pool.submit(
                        run_once,
                        folder / "dataset",
                        config,
                        replace(options, seed=seed),
                        folder / f"{name} {seed}",
                    )
                    for seed in seeds
                ]
                for name, (config, options) in systems(arguments.quick).items()
            }
        for name in futures:
            runs = [future.result() for future in futures[name]]
            results[name] = {
                **{
                    variant: summarise([measures(table, variant) for table, _ in runs])
                    for variant in VARIANTS
                },
                "minus personal frequency": [differences(table) for table, _ in runs],
                "costs": [costs for _, costs in runs],
            }
            print(name, json.dumps(results[name]["costs"]), file=sys.stderr)
    report = {
        "command": "python " + " ".join("DATA" if word == str(arguments.data) else word for word in sys.argv),
        "cutoff": CUTOFF,
        "seeds": len(seeds),
        "results": results,
    }
    show(results)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "results.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(json.dumps(report))


def check_data(data: Path) -> None:
    """Stop before anything is trained if a file is missing."""
    for file in (data / "events.parquet", data / "items.parquet"):
        if not file.is_file():
            sys.exit(f"{file} does not exist: DATA is a folder with events.parquet and items.parquet")


def baselines(dataset: polyvec.Dataset) -> dict[str, dict[str, dict[str, float]]]:
    """Counting baselines: value and bootstrap interval over users of every measure."""
    purchases = dataset.only_action()
    cutoff = parse_time(CUTOFF, purchases)
    windows = cut(purchases, cutoff, 365, 0)
    rankers = counting_baselines(purchases, cutoff, 365)
    rankers |= {f"{name}, new items only": NewItemsOnly(r, purchases, windows) for name, r in rankers.items()}
    table = matching(rankers, purchases, cutoff)
    rows = table.filter(pl.col("metric").is_in(REPORTED), pl.col("part").is_in(PARTS))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows.iter_rows(named=True):
        key = f"{row['task']} {row['metric']} {row['part']}"
        found.setdefault(row["ranker"], {})[key] = {
            name: round(row[name], 4) for name in ("value", "low", "high") if row.get(name) is not None
        }
    return found


def show(results: dict[str, dict]) -> None:
    """Print CMP-L recall@100 of everything."""
    print(f"{'CMP-L recall@100':56}{'all':>8}{'repeats':>9}{'new':>8}")
    for name, values in results["baselines"].items():
        cells = [values[f"CMP-L recall@100 {part}"]["value"] for part in PARTS]
        print(f"{name:56}" + "".join(f"{cell:>8.3f}" for cell in cells))
    for name, systems_results in results.items():
        for variant in VARIANTS:
            if name != "baselines":
                cells = [systems_results[variant][f"CMP-L recall@100 {part}"]["mean"] for part in PARTS]
                print(f"{name + ' ' + variant:56}" + "".join(f"{cell:>8.3f}" for cell in cells))


if __name__ == "__main__":
    main()
