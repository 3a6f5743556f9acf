"""In which precision a run multiplies matrices."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from polyvec.training.options import TrainingOptions

ROUNDS = 5
SIDE = 384  # of the matrices that are timed: 0.1 GFLOP, some milliseconds in all
NEEDED_GAIN = 1.2  # bfloat16 has fewer digits: it must be clearly faster, and chance must not decide


def autocast(options: TrainingOptions, device: torch.device) -> torch.autocast:
    """Mixed precision as the options ask for it."""
    wanted = options.precision == "bfloat16" or (options.precision == "auto" and gains_by_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def gains_by_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices faster in bfloat16.

    CPUs are asked by a stopwatch, once per process: of those with the instructions some take a quarter of the
    time (AMD Zen 4) and some twice as long (Intel Sapphire Rapids without its tiles, as in many virtual
    machines).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and _cpu_gains_by_bfloat16()


@cache
def _cpu_gains_by_bfloat16() -> bool:
    has_unit = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if not (has_unit and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    return seconds_of_product(torch.float32) > NEEDED_GAIN * seconds_of_product(torch.bfloat16)


def seconds_of_product(dtype: torch.dtype) -> float:
    """Seconds that a product of two matrices takes on the CPU, the least of some rounds."""
    matrix = torch.ones(SIDE, SIDE, dtype=dtype)
    found = []
    for _ in range(1 + ROUNDS):  # the first makes the kernel
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        found.append(time.perf_counter() - started)
    return min(found[1:])
