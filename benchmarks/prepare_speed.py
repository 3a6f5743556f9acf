"""Speed and memory of ``prepare`` on synthetic events, beside Polars eagerly reading, sorting, writing them.

    python benchmarks/prepare_speed.py            50 million events (about 2 GB of temporary files)
    python benchmarks/prepare_speed.py --quick    2 million events, under a minute

Both run in a process of their own, one after the other, on the same files. ``prepare`` does more: checks,
ids, duplicates, a profile, hashes, whole-or-absent output, in bounded memory; the peer shows what the
plainest sort of the same columns costs here. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

FILES = 10
ACTIONS = ["click", "cart", "favourite", "purchase"]
MIB = 2**20


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(_child(arguments.child, Path(arguments.folder))))
        return
    events = 2_000_000 if arguments.quick else arguments.events
    with tempfile.TemporaryDirectory(prefix="prepare_speed_", dir=arguments.folder) as folder:
        make_events(Path(folder), events)
        results = {name: _in_own_process(name, Path(folder)) for name in ("polars", "polyvec")}
    _report(events, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000_000)
    parser.add_argument("--quick", action="store_true", help="2 million events")
    parser.add_argument("--folder", help="where to put temporary files")
    parser.add_argument("--child", choices=["polyvec", "polars"], help=argparse.SUPPRESS)
    return parser.parse_args()


def make_events(folder: Path, events: int) -> None:
    """Write Zipf-popular items bought by shuffled users over two years, in several Parquet files."""
    random = np.random.default_rng(0)
    users, items = max(10, events // 50), max(10, events // 100)
    rank_weights = np.cumsum(1.0 / np.arange(1, items + 1))
    for number in range(FILES):
        rows = events // FILES + (number < events % FILES)
        ranks = np.searchsorted(rank_weights, random.random(rows) * rank_weights[-1])
        seconds = random.integers(1_600_000_000, 1_663_000_000, rows)
        pl.DataFrame(
            {
                "user_id": 10**9 + random.integers(0, users, rows),
                "item_id": 10**6 + ranks * 7919 % items,
                "timestamp": pl.Series(seconds * 1000).cast(pl.Datetime("ms")),
                "action": pl.Series(random.integers(0, len(ACTIONS), rows)).replace_strict(
                    dict(enumerate(ACTIONS)), return_dtype=pl.String
                ),
                "price": random.gamma(2.0, 10.0, rows).astype(np.float32),
            }
        ).write_parquet(folder / f"events-{number:02d}.parquet")


def _in_own_process(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def _child(name: str, folder: Path) -> dict[str, Any]:
    """Run one contender; seconds without imports, peak memory of the whole process."""
    run = {"polyvec": _polyvec, "polars": _polars}[name]()
    start, start_cpu = time.perf_counter(), time.process_time()
    run(folder)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - start_cpu,
        "peak_rss_mb": _peak_rss() / MIB,
    }


def _polyvec() -> Any:
    from polyvec.data.prepare import prepare

    return lambda folder: prepare(str(folder / "events-*.parquet"), folder / "shop.dataset")


def _polars() -> Any:
    def run(folder: Path) -> None:
        events = pl.read_parquet(folder / "events-*.parquet")
        events.sort("user_id", "timestamp", maintain_order=True).write_parquet(folder / "sorted.parquet")

    return run


def _peak_rss() -> int:
    """Largest resident memory of this process in bytes: on Linux without that of the process before exec."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _report(events: int, results: dict[str, dict[str, Any]]) -> None:
    print(f"{events:,} events, {os.cpu_count()} cores, polars {pl.__version__}")
    print(f"{'':24}{'seconds':>10}{'CPU seconds':>13}{'events/s':>12}{'peak RSS MiB':>14}")
    for name, label in [("polyvec", "polyvec prepare"), ("polars", "polars read+sort+write")]:
        result = results[name]
        print(
            f"{label:24}{result['seconds']:>10.1f}{result['cpu_seconds']:>13.1f}"
            f"{events / result['seconds']:>12,.0f}{result['peak_rss_mb']:>14,.0f}"
        )
    ours, peer = results["polyvec"], results["polars"]
    summary = {
        "events": events,
        "events_per_s": round(events / ours["seconds"]),
        "seconds": round(ours["seconds"], 2),
        "cpu_seconds": round(ours["cpu_seconds"], 2),
        "peak_rss_mb": round(ours["peak_rss_mb"]),
        "ratio_polars": round(peer["seconds"] / ours["seconds"], 3),
        "polars_events_per_s": round(events / peer["seconds"]),
        "polars_cpu_seconds": round(peer["cpu_seconds"], 2),
        "polars_peak_rss_mb": round(peer["peak_rss_mb"]),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
