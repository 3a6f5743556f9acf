"""Speed of the property-gated LSTM beside torch's own LSTM of the same size, forward and backward.

    python benchmarks/gated_lstm_speed.py [--batch-size 1024] [--rounds 10] [--quick]

Both take 172 numbers per event (124 of the item, 48 of the property) and remember 128, the paper's sizes, and
take turns in one process. ``alike``: all sequences have 100 events. ``mixed``: 0 to 100, which torch's LSTM
takes padded, and ``packed`` without padding (torch.nn.utils.rnn.pack_padded_sequence). Figures are medians;
``ratio`` is our seconds in parts of torch's. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from polyvec.layers.property_gated_lstm import PropertyGatedLSTM

ITEM, PROPERTY, WIDTH, LENGTH = 124, 48, 128, 100


def runs_of(lengths: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Forward passes over the same number of events, ready to be timed."""
    total, size = int(lengths.sum()), len(lengths)
    items = torch.randn(total, ITEM, requires_grad=True)
    properties = torch.randn(total, PROPERTY, requires_grad=True)
    padded = torch.randn(int(lengths.max()), size, ITEM + PROPERTY, requires_grad=True)
    ours, torchs = PropertyGatedLSTM(ITEM, PROPERTY, WIDTH), nn.LSTM(ITEM + PROPERTY, WIDTH)
    some = lengths.clamp(min=1)  # torch packs no empty sequence

    def packed() -> Tensor:
        output: Tensor = torchs(pack_padded_sequence(padded, some, enforce_sorted=False))[0].data
        return output

    return {
        "property gated": lambda: ours(items, properties, lengths),
        "torch": lambda: torchs(padded)[0],
        "torch, packed": packed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="64 sequences, two rounds: under a minute")
    arguments = parser.parse_args()
    size, rounds = (64, 2) if arguments.quick else (arguments.batch_size, arguments.rounds)
    torch.manual_seed(0)
    found = {}
    for name, lengths in {
        "alike": torch.full((size,), LENGTH),
        "mixed": torch.randint(LENGTH + 1, (size,)),
    }.items():
        runs = runs_of(lengths)
        seconds: dict[str, list[float]] = {method: [] for method in runs}
        for turn in range(-1, rounds):  # the first one warms up
            for method, run in runs.items():
                begun = time.perf_counter()
                run().sum().backward()
                if turn >= 0:
                    seconds[method].append(time.perf_counter() - begun)
        medians = {method: median(times) for method, times in seconds.items()}
        found[name] = {
            method: {"seconds": round(value, 4), "ratio": round(medians["property gated"] / value, 3)}
            for method, value in medians.items()
        }
        for method, figures in found[name].items():
            print(f"{name:6} {method:15} {figures['seconds']:.4f} s, ours {figures['ratio']:.2f} of it")
    print(json.dumps({"batch_size": size, "threads": torch.get_num_threads(), "sequences": found}))


if __name__ == "__main__":
    main()
