"""What `polyvec plan` says beside what the same run then takes: checkpoint, model and peak memory.

    python benchmarks/plan_memory.py            made-up shop of 60,000 items; some minutes
    python benchmarks/plan_memory.py --quick    2,000 items: to see that it works

Plan and fit are processes of their own. Peak memory is the journal's ``peak_rss_mb`` at the end of the first
epoch, before anything is validated; of a stream, which has no journal, that of the process. It is read twice:
with glibc and oneDNN as they come, and ``settled``, where glibc gives freed memory back and oneDNN keeps few
kernels.
The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from polyvec.data.options import PrepareOptions
from polyvec.data.prepare import prepare

SETTLED = {
    "MALLOC_MMAP_THRESHOLD_": "1000000",
    "LRU_CACHE_CAPACITY": "16",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16",
}
WEIGHTS = ("weights.safetensors", "state.safetensors")
COMMON = ["epochs=1", "device=cpu", "history_days=60"]
GUIM = [*COMMON, "num_cutoffs=1", "negatives=shared", "num_layers=2"]
SASREC = [*COMMON, "width=64", "batch_size=64"]
RUNS = {
    "guim, float32": ("guim", [*GUIM, "precision=float32"]),
    "guim, as it comes": ("guim", GUIM),
    "guim, clustered": ("guim", [*GUIM, "precision=float32", "item_table=clustered", "item_rows=2000"]),
    "sasrec, float32": ("sasrec", [*SASREC, "precision=float32"]),
    "sasrec, clustered": ("sasrec", [*SASREC, "precision=float32", "item_table=clustered", "item_rows=1000"]),
    "cel": ("cel", ["epochs=1", "steps_per_epoch=20"]),
    "cel-lite": ("cel-lite", ["batch=256"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=RUNS, action="append")
    asked = parser.parse_args()
    items, events = (2_000, 20_000) if asked.quick else (60_000, 300_000)
    with tempfile.TemporaryDirectory() as folder:
        shop = make_shop(Path(folder) / "shop.dataset", items, events)
        rows = [
            {"run": name, "settled": bool(environment), **compare(*RUNS[name], shop, environment)}
            for name in asked.only or RUNS
            for environment in (SETTLED, {})
        ]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    print(json.dumps({"rows": rows}))


def make_shop(out: Path, items: int, events: int) -> Path:
    draw = np.random.default_rng(0)
    table = {
        "user_id": draw.integers(0, events // 100, events),
        "item_id": (items * draw.random(events) ** 1.3).astype(np.int64),
        "timestamp": 10**9 + draw.integers(0, 120 * 86_400, events),
        "rating": draw.integers(1, 6, events).astype(float),
    }
    prepare(pl.DataFrame(table), out, options=PrepareOptions())
    return out


def compare(system: str, settings: list[str], shop: Path, environment: dict[str, str]) -> dict[str, object]:
    chosen = [part for setting in settings for part in ("--set", setting)]
    planned, _ = run(["plan", system, str(shop), *chosen, "--json"], environment)
    model = shop.with_name("model")
    fit = ["fit", system, str(shop), *chosen, "--out", str(model), "--overwrite", "--json"]
    fitted, peak = run(fit, environment)
    journal = model / "training.jsonl"
    if journal.exists():
        peak = max(json.loads(line).get("peak_rss_mb", 0) for line in journal.read_text().splitlines())
    return {
        "planned_model": planned["model_bytes"],
        "model": fitted["bytes"],
        "file": sum(file.stat().st_size for file in (model / name for name in WEIGHTS) if file.exists()),
        "planned_peak_mb": planned["peak_bytes"] // 2**20,
        "peak_mb": peak,
        "ratio_peak": round(planned["peak_bytes"] / 2**20 / peak, 3),
    }


def run(arguments: list[str], environment: dict[str, str]) -> tuple[dict[str, Any], int]:
    """What a command prints, and the most memory that it had, in MiB."""
    command = [sys.executable, "-m", "polyvec", *arguments]
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"failed: {' '.join(command)}")
    return json.loads(printed), usage.ru_maxrss // 2**10


if __name__ == "__main__":
    main()
