"""Time of a request to a DUPN in two parts, beside the undivided network.

    python benchmarks/serving_speed.py [--rounds 20] [--quick]

One user with 100 events, a click task at the paper's widths, a catalogue of 20,000 items, random weights.
``tower``: behaviour to the user's part, once. ``head``: the candidates' scores from it. ``whole``: the
undivided network, which reads the user again for every candidate. Milliseconds, medians over rounds. The last
line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import torch

from polyvec.data.dataset import Dataset
from polyvec.data.split import cut
from polyvec.systems import dupn
from polyvec.systems.dupn.features import Encoder
from polyvec.systems.dupn.samples import samples_at
from polyvec.systems.dupn.serving import ItemHead, UserTower

ITEMS, EVENTS, HOUR = 20_000, 100, 3_600_000_000
MOMENT = 2 * EVENTS * HOUR


def made_up() -> Dataset:
    """A few users who buy anything."""
    random = np.random.default_rng(0)
    names = [f"i{item:05}" for item in range(ITEMS)]
    rows = [
        (f"u{user}", names[random.integers(ITEMS)], event * HOUR)
        for user in range(20)
        for event in range(EVENTS)
    ]
    categories = [f"c{item % 200}" for item in range(ITEMS)]
    return Dataset.from_rows(rows, pl.DataFrame({"item_id": names, "category": categories}))


def timed(run: Callable[[], object], rounds: int) -> float:
    """Median milliseconds; the first round warms up."""
    times = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - begun))
    return median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three rounds: under a minute")
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else arguments.rounds
    data = made_up()
    config, options = dupn.default()
    config = replace(config, tasks={"click": dupn.Task("item")})
    with tempfile.TemporaryDirectory() as scratch:
        options = replace(options, epochs=1)
        model = dupn.fit(data, Path(scratch) / "model", config, options, validation="none")
    tower, head = UserTower(model), ItemHead.of(model, data.item_table)
    part = tower.read(data, np.array([0]), MOMENT)
    encoder = Encoder.of(data, model.fields)

    @torch.no_grad()
    def whole(count: int) -> torch.Tensor:
        windows = cut(data, MOMENT, None, 0)[np.zeros(count, np.int64)]
        samples = replace(samples_at(windows, config.max_length), items=np.arange(count))
        logits: torch.Tensor = model.network(encoder.batch({"click": samples}, torch.device("cpu"))).logits[
            "click"
        ]
        return logits

    with torch.no_grad():
        windows = cut(data, MOMENT, None, 0)[np.array([0])]
        batch = encoder.batch({"": samples_at(windows, config.max_length)}, torch.device("cpu"))
        encode = model.network.encoder
        found = {"tower": timed(lambda: tower.part(encode(batch, encode.items(batch.items))[0]), rounds)}
    for count in (1_000, 10_000):
        rows = np.arange(count)
        found[f"head, {count:,}"] = timed(lambda rows=rows: head.score(part, "click", rows), rounds)
    found["whole, 1,000"] = timed(lambda: whole(1_000), max(rounds // 5, 1))
    apart = (head.score(part, "click", np.arange(1_000)) - whole(1_000)).abs().max()
    faster = found["whole, 1,000"] / (found["tower"] + found["head, 1,000"])
    for name, value in found.items():
        print(f"{name:14} {value:9.2f} ms")
    print(
        f"in two parts {faster:.0f} times as fast at 1,000 candidates; largest difference {float(apart):.1e}"
    )
    told = {"milliseconds": {name: round(value, 3) for name, value in found.items()}}
    print(json.dumps(told | {"ratio": round(faster, 1), "difference": float(apart)}))


if __name__ == "__main__":
    main()
