"""How fast a synthetic shop is made, and in how much memory.

    python benchmarks/synth_speed.py           # 10 million events
    python benchmarks/synth_speed.py --quick   # half a million, for a look

The last line is JSON: events_per_s and seconds of the whole call, peak_rss_mb of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from polyvec.data.synthetic.shop import write_shop
from polyvec.data.synthetic.world import ShopPlan

FULL = {"users": 100_000, "items": 50_000, "events": 10_000_000}
QUICK = {"users": 5_000, "items": 8_000, "events": 500_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half a million events instead of ten million")
    plan = ShopPlan(**(QUICK if parser.parse_args().quick else FULL))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        counts = write_shop(plan, Path(folder) / "shop", progress=lambda users: _say(users, plan.users))
        seconds = time.perf_counter() - start
    events = sum(counts.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    result = {"events_per_s": events / seconds, "seconds": seconds, "peak_rss_mb": peak, "events": events}
    print(json.dumps({name: round(value, 1) for name, value in result.items()}))


def _say(done: int, users: int) -> None:
    print(f"\r{done:,} of {users:,} users", end="" if done < users else "\n", file=sys.stderr)


if __name__ == "__main__":
    main()
