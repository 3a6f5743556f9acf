"""From a raw log of two countries to item vectors of the small one: what every command takes.

    python benchmarks/pgtl_commands.py [--quick]

``polyvec synth --countries 2`` makes the log and is not counted; ``prepare``, ``fit pgtl``, ``embed`` and
``explain`` are, each as it is typed, start of the process and all. ``fit`` trains the target's network alone,
too, for the guard (``guard=warn``); beside it stands ``--set method=target``, that network by itself. What is
claimed: less than three minutes together on two cores. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

MARKETS = ["--set", "source=de", "--set", "target=fr"]
SMALL = ["--users", "600", "--items", "500", "--events", "60000", "--days", "120"]


def seconds_of(folder: Path, *arguments: str) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "polyvec", *arguments], cwd=folder, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small shop, two epochs: under a minute")
    arguments = parser.parse_args()
    shop, epochs = (SMALL, ["--set", "epochs=2"]) if arguments.quick else ([], [])
    with TemporaryDirectory() as name:
        folder = Path(name)
        seconds_of(folder, "synth", "--out", "shop", "--countries", "2", *shop)
        log = ["shop/events.parquet", "--items", "shop/items.parquet", "--out", "two.dataset"]
        fit = ["fit", "pgtl", "two.dataset", *MARKETS, *epochs]
        taken = {
            "prepare": seconds_of(folder, "prepare", *log),
            "fit": seconds_of(folder, *fit, "--out", "two.model"),
            "embed": seconds_of(folder, "embed", "two.model", "two.dataset", "--out", "two.emb"),
            "explain": seconds_of(folder, "explain", "two.model", "two.dataset"),
        }
        alone = seconds_of(folder, *fit, "--set", "method=target", "--out", "alone.model")
    report = {
        "command": " ".join(["python benchmarks/pgtl_commands.py", *sys.argv[1:]]),
        "seconds": {name: round(value, 1) for name, value in taken.items()},
        "seconds in all": round(sum(taken.values()), 1),
        "fit over fit of the target alone": round(taken["fit"] / alone, 2),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
