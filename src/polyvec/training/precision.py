"""In which precision a run multiplies matrices."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from polyvec.training.options import Precision

Chosen = Literal["float32", "bfloat16"]
ROUNDS = 5
SIDE = 384  # of the matrices that are timed: 0.1 GFLOP, some milliseconds in all
NEEDED_GAIN = 1.2  # bfloat16 has fewer digits: it must be clearly faster


def autocast(precision: Chosen, device: torch.device) -> torch.autocast:
    """Mixed precision, where it is bfloat16."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def choose_precision(wanted: Precision, device: torch.device) -> Chosen:
    """What was asked for; of ``auto`` bfloat16 where the device multiplies faster in it.

    CPUs are asked by a stopwatch, once per process: of those with the instructions some take a quarter of the
    time (AMD Zen 4) and some twice as long (Intel Sapphire Rapids without its tiles, as in many virtual
    machines).
    """
    if wanted != "auto":
        return wanted
    gains = _cpu_gains_by_bfloat16() if device.type == "cpu" else _gpu_gains_by_bfloat16(device)
    return "bfloat16" if gains else "float32"


def _gpu_gains_by_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


@cache
def _cpu_gains_by_bfloat16() -> bool:
    has_unit = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if not (has_unit and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for each other where the machine is busy
    try:
        rounds = [(_seconds(torch.float32), _seconds(torch.bfloat16)) for _ in range(1 + ROUNDS)]
    finally:
        torch.set_num_threads(threads)
    single, half = (min(each) for each in zip(*rounds[1:], strict=True))  # the first makes the kernels
    return single > NEEDED_GAIN * half


def _seconds(dtype: torch.dtype) -> float:
    """Seconds that a product of two matrices takes on the CPU."""
    matrix = torch.ones(SIDE, SIDE, dtype=dtype)
    started = time.perf_counter()
    torch.mm(matrix, matrix)
    return time.perf_counter() - started
