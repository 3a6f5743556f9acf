"""Vectors made without polyvec, judged by ``polyvec bench``: ALS of ``implicit`` on Online Retail II.

    python studies/foreign_vectors/run.py DATA [--seeds 5] [--quick] [--out FOLDER] [--keep FOLDER]

DATA is a folder with ``events.parquet`` (user_id, item_id, timestamp, quantity) and ``items.parquet``
(item_id, title) made from UCI *Online Retail II* (D. Chen, CC BY 4.0, https://doi.org/10.24432/C5CG6D): one
row per invoice line, one title per stock code.

:func:`embed_with_als` is what somebody who has never heard of polyvec would write: it reads the table, and
saves ``users.npy``, ``user_ids.npy``, ``items.npy`` and ``item_ids.npy``. All that follows is the command
line: ``polyvec prepare``, ``polyvec import`` once per seed, ``polyvec bench``. The last line of the output is
one JSON object with the scores of the vectors beside those of the built-in methods.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # implicit has threads of its own; with BLAS's it crawls

HISTORY, CUTOFF = "2010-11-01", "2011-11-01"
NAME = "ALS, made elsewhere"
QUICK_USERS = 400
METRICS = ("recall@100", "ndcg@10")
PARTS = ("all", "repeats", "new")


def embed_with_als(events: Path, out: Path, seed: int) -> None:
    """Factorise who bought what in the year before the cut-off, and save four npy files. No polyvec here.

    Factors, regularisation and confidence are those that polyvec's built-in ALS has by default, so that the
    two must agree: any difference would be a fault of the import or of the suite.
    """
    import numpy as np
    import polars as pl
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    start, end = datetime.fromisoformat(HISTORY), datetime.fromisoformat(CUTOFF)
    bought = pl.read_parquet(events, columns=["user_id", "item_id", "timestamp", "quantity"]).filter(
        pl.col("user_id").is_not_null(),
        pl.col("quantity") > 0,  # negative ones are returns
        pl.col("timestamp").is_between(start, end, closed="left"),
    )
    pairs = bought.select("user_id", "item_id").unique(maintain_order=True)
    users, rows = np.unique(pairs["user_id"].to_numpy().astype(np.int64), return_inverse=True)
    items, columns = np.unique(pairs["item_id"].to_numpy().astype(str), return_inverse=True)
    model = AlternatingLeastSquares(
        factors=128, regularization=1.0, alpha=5.0, iterations=15, random_state=seed
    )
    model.fit(csr_matrix((np.ones(len(rows), np.float32), (rows, columns))), show_progress=False)
    out.mkdir(parents=True)
    np.save(out / "users.npy", model.user_factors)
    np.save(out / "user_ids.npy", users)
    np.save(out / "items.npy", model.item_factors)
    np.save(out / "item_ids.npy", items)


def polyvec(*words: str | Path) -> dict[str, Any]:
    """Run the command line and return the JSON object that it prints; its notes go to stderr."""
    command = [sys.executable, "-m", "polyvec", *map(str, words), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)  # the command has said why
    return json.loads(done.stdout)


def import_vectors(vectors: Path, dataset: Path, out: Path) -> None:
    """Tell polyvec what the files are, how they are compared and what they were made from."""
    files = [word for side in ("user", "item") for word in (f"--{side}s", vectors / f"{side}s.npy")]
    ids = [word for side in ("user", "item") for word in (f"--{side}-ids", vectors / f"{side}_ids.npy")]
    told = ["--events-until", CUTOFF, "--trained-until", CUTOFF, "--score", "max_dot", "--name", NAME]
    polyvec("import", *files, *ids, *told, "--dataset", dataset, "--out", out)


def some_users(events: Path, out: Path) -> Path:
    """Write the events of some users alone, all of whom bought in the history year."""
    import polars as pl

    table = pl.read_parquet(events)
    year = pl.col("timestamp").is_between(datetime.fromisoformat(HISTORY), datetime.fromisoformat(CUTOFF))
    users = table.filter(year)["user_id"].drop_nulls().unique().sort()
    kept = users.gather_every(max(1, len(users) // QUICK_USERS))
    table.filter(pl.col("user_id").is_in(kept.implode())).write_parquet(out)
    return out


def measure(events: Path, items: Path, folder: Path, seeds: int) -> dict[str, Any]:
    """Embed, import and ask everything; what ``polyvec bench`` printed, and seconds of the steps."""
    dataset, run = folder / "shop.dataset", folder / "run"
    polyvec("prepare", events, "--items", items, "--out", dataset)
    given: list[str] = []
    seconds = {"embed": 0.0}
    for seed in range(seeds):
        started = time.perf_counter()
        embed_with_als(events, folder / f"vectors-{seed}", seed)
        seconds["embed"] += (time.perf_counter() - started) / seeds
        import_vectors(folder / f"vectors-{seed}", dataset, folder / f"als-{seed}.emb")
        given += ["--embeddings", f"{NAME}={folder / f'als-{seed}.emb'}"]
    started = time.perf_counter()
    content = polyvec("bench", dataset, *given, "--cutoff", CUTOFF, "--out", run)
    seconds["bench"] = time.perf_counter() - started
    return content | {"seconds": {name: round(value, 1) for name, value in seconds.items()}}


def summarise(content: dict[str, Any]) -> dict[str, Any]:
    """Figures of the matching tasks, of trials and of item similarity, rounded, by method."""
    matching: dict[str, dict[str, Any]] = {}
    for row in content["matching"]:
        if row["metric"] in METRICS and row["part"] in PARTS:
            key = f"{row['task']} {row['metric']} {row['part']}"
            matching.setdefault(row["ranker"], {})[key] = figures(row)
    several = asked_with_several(content["trials"])
    behaviour = {
        f"{row['task']} {row['metric']}, {row['features']}, {row['probe']}"
        + (f", {row['train_users']} labels" if (row["task"], row["label"]) in several else ""): figures(row)
        for row in content["trials"]
    }
    similarity = {f"{row['scorer']}, {row['part']}": figures(row) for row in content["similarity"]}
    return {
        "matching": matching,
        "behaviour": behaviour,
        "similarity": similarity,
        "verdicts": [f"{verdict['task']}: {verdict['text']}" for verdict in content["verdicts"]],
        "costs": content["costs"],
        "notes": content["notes"],
        "seconds": content["seconds"],
    }


def asked_with_several(trials: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Task and label of the problems that were asked with several numbers of users to learn from."""
    told: dict[tuple[str, str], set[int]] = {}
    for row in trials:
        told.setdefault((row["task"], row["label"]), set()).add(row["train_users"])
    return {key for key, numbers in told.items() if len(numbers) > 1}


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """Value, its interval and the value of every seed, to four places."""
    known = {key: row[key] for key in ("value", "low", "high") if row[key] is not None}
    rounded: dict[str, Any] = {key: round(value, 4) for key, value in known.items()}
    if len(row["per_seed"]) > 1:
        rounded["seeds"] = [round(value, 4) for value in row["per_seed"]]
    return rounded


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with events.parquet and items.parquet")
    parser.add_argument("--seeds", type=int, default=5, help="factorisations, each from another start")
    parser.add_argument("--quick", action="store_true", help="one seed, few users: under a minute")
    parser.add_argument("--out", type=Path, help="folder for results.json; none writes nothing")
    parser.add_argument("--keep", type=Path, help="folder to keep vectors, Embeddings and the run in")
    arguments = parser.parse_args()
    if find_spec("implicit") is None:
        sys.exit("the library implicit is not installed: pip install 'polyvec[als]'")
    events = arguments.data / "events.parquet"
    if not events.is_file():
        sys.exit(f"{events} does not exist: DATA is a folder with events.parquet and items.parquet")
    with nullcontext(arguments.keep) if arguments.keep else tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.quick:
            events = some_users(events, folder / "events.parquet")
        seeds = 1 if arguments.quick else arguments.seeds
        content = measure(events, arguments.data / "items.parquet", folder, seeds)
    asked = "--quick" if arguments.quick else f"--seeds {seeds}"
    command = f"python studies/foreign_vectors/run.py DATA {asked}"
    report = {"command": command, "cutoff": CUTOFF, "seeds": seeds}
    report |= summarise(content)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "results.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
