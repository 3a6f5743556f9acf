"""What an epoch costs with C vectors, one vector C times as wide, and C heads (paper: GUIM almost constant).

    python studies/guim/times.py DATA --out studies/guim [--rounds 3] [--quick]

DATA holds uci_online_retail (UCI Online Retail II, D. Chen, CC BY 4.0). Models take turns, a round each, so
that whatever else the machine does hits all of them: one epoch over the windows of one cut-off, on one
thread. Writes OUT/times.json: median seconds over rounds, and their ratio to GUIM with C = 1. The last line
printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from collect import REFERENCE, epochs_of
from recipes import recipes
from sets import SETS

import polyvec
from polyvec.systems import guim

SET = "online_retail"
MODELS = (
    *[f"GUIM C={c}" for c in (1, 2, 3, 4, 8, 16, 32)],
    *[f"GUI-EDI C={c}" for c in (2, 3, 4)],
    *[f"GUIM-MH C={c}" for c in (1, 2, 4, 8, 16, 32)],
)
QUICK = (REFERENCE, "GUIM C=4", "GUI-EDI C=2")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--out", type=Path, help="folder of times.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="three models, few users: under a minute")
    arguments = parser.parse_args()
    if arguments.out is not None and arguments.quick:
        parser.error("--quick measures little: it is not kept, leave out --out")
    file = SETS[SET].files(arguments.data)[0]
    if not file.is_file():
        sys.exit(f"{file} does not exist: DATA holds {SETS[SET].folder}/ ({SETS[SET].source})")
    torch.set_num_threads(1)
    found = measured(arguments.data, arguments.rounds, quick=arguments.quick)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "times.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps(found))


def measured(data: Path, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Seconds and ratios by model."""
    models = QUICK if quick else MODELS
    seconds: dict[str, list[float]] = {model: [] for model in models}
    with tempfile.TemporaryDirectory() as scratch:
        dataset = SETS[SET].prepare(data, Path(scratch) / "dataset", quick=quick)
        for number in range(1 if quick else rounds):
            for model in models:
                seconds[model].append(_seconds(dataset, model, Path(scratch) / f"{model} {number}"))
                print(f"round {number + 1}, {model}: {seconds[model][-1]:.1f} s", file=sys.stderr, flush=True)
    base = seconds[REFERENCE]
    ratios = {model: np.divide(each, base) for model, each in seconds.items()}  # within each round
    return {
        "command": "python studies/guim/times.py DATA --out studies/guim",
        "rounds": len(base),
        "seconds": {model: round(float(np.median(each)), 2) for model, each in seconds.items()},
        "ratios": {model: round(float(np.median(each)), 3) for model, each in ratios.items()},
    }


def _seconds(dataset: polyvec.Dataset, model: str, folder: Path) -> float:
    recipe = recipes()[model]
    config, options = replace(recipe.config, num_cutoffs=1), replace(recipe.options, epochs=1)
    guim.fit(dataset, folder, config, options, **SETS[SET].moment(dataset), validation="none")
    (epoch,) = epochs_of(folder)
    return float(epoch["seconds"])


if __name__ == "__main__":
    main()
