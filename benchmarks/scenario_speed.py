"""Training speed of rankers of many scenarios: SAML and its rivals beside one mixed network.

    python benchmarks/scenario_speed.py [--scenarios 5] [--steps 30] [--quick]

All methods have the same made-up samples (five fields, histories of 25 events on average), widths (512, 256,
128) and batch (2048), and take turns, step by step, in one process. A step is forward, backward, optimizer.
Figures are medians over steps; ``ratio`` is a method's speed in parts of the mixed network's. The last line
printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from statistics import median
from typing import get_args

import torch

from polyvec.systems.saml import PRESETS
from polyvec.systems.saml.config import Method
from polyvec.systems.saml.network import Batch, Shape
from polyvec.systems.saml.objective import Objective
from polyvec.systems.saml.rivals import make_network
from polyvec.training.optimizers import make_optimizers

ITEMS, USERS, CATEGORIES, EVENTS = 50_000, 100_000, 500, 25


def made_up(scenarios: int, size: int, seed: int) -> Batch:
    """A batch of samples drawn at random."""
    random = torch.Generator().manual_seed(seed)

    def rows(count: int) -> torch.Tensor:
        columns = [
            torch.randint(high, (count,), generator=random) for high in (ITEMS, CATEGORIES, CATEGORIES)
        ]
        return torch.stack(columns, dim=1)

    owners = torch.randint(size, (EVENTS * size,), generator=random).sort().values
    context = [torch.randint(high, (size,), generator=random) for high in (USERS, 10)]
    return Batch(
        torch.randint(scenarios, (size,), generator=random),
        torch.stack(context, dim=1),
        rows(size),
        rows(len(owners)),
        owners,
        torch.randn(size, 4, generator=random),
        torch.randint(2, (size,), generator=random).float(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30, help="of each method")
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--quick", action="store_true", help="three steps: under a minute")
    arguments = parser.parse_args()
    config, options = PRESETS["default"]()
    shape = Shape(
        {"user_id": USERS, "age": 10},
        {"item_id": ITEMS, "category": CATEGORIES, "brand": CATEGORIES},
        dense=4,
        scenarios=arguments.scenarios,
    )
    configs = {str(method): replace(config, method=method) for method in get_args(Method)}
    configs["saml, as published"] = PRESETS["paper"]()[0]
    methods = list(configs)
    networks = {method: make_network(one, shape) for method, one in configs.items()}
    optimizers = {method: make_optimizers(network, options) for method, network in networks.items()}
    objectives = {method: Objective(network, configs[method]) for method, network in networks.items()}
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for step in range(-1, 3 if arguments.quick else arguments.steps):  # the first one warms up
        batch = made_up(arguments.scenarios, arguments.batch_size, step + 1)
        for method in methods:
            begun = time.perf_counter()
            loss, _ = objectives[method](batch)
            loss.backward()
            for optimizer in optimizers[method]:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if step >= 0:
                seconds[method].append(time.perf_counter() - begun)
    found = {
        method: {
            "samples_per_s": round(arguments.batch_size / median(times)),
            "ratio": round(median(seconds["mixed"]) / median(times), 3),
            "parameters": sum(weights.numel() for weights in networks[method].parameters()),
        }
        for method, times in seconds.items()
    }
    for method, figures in found.items():
        print(f"{method:18} {figures['samples_per_s']:>9,} samples/s, {figures['ratio']:.2f} of mixed's")
    print(
        json.dumps({"scenarios": arguments.scenarios, "threads": torch.get_num_threads(), "methods": found})
    )


if __name__ == "__main__":
    main()
