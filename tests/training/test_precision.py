from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from polyvec.training import precision
from polyvec.training.options import TrainingOptions
from polyvec.training.precision import autocast, gains_by_bfloat16, seconds_of_product

CPU = torch.device("cpu")


@pytest.fixture
def _asked_anew() -> Iterator[None]:
    precision._cpu_gains_by_bfloat16.cache_clear()
    yield
    precision._cpu_gains_by_bfloat16.cache_clear()


def product(chosen: str) -> torch.dtype:
    with autocast(TrainingOptions(precision=chosen), CPU):  # type: ignore[arg-type]
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(("chosen", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_is_what_was_asked_for(chosen: str, dtype: torch.dtype) -> None:
    assert product(chosen) == dtype


@pytest.mark.usefixtures("_asked_anew")
@pytest.mark.parametrize(("seconds", "expected"), [(0.25, True), (0.95, False), (2.0, False)])
def test_bfloat16_is_taken_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: float, *, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(
        precision, "seconds_of_product", lambda dtype: seconds if dtype == torch.bfloat16 else 1.0
    )
    assert gains_by_bfloat16(CPU) == expected
    assert product("auto") == (torch.bfloat16 if expected else torch.float32)


@pytest.mark.usefixtures("_asked_anew")
def test_a_cpu_without_the_instructions_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(precision, "seconds_of_product", lambda dtype: 1 / 0)
    assert not gains_by_bfloat16(CPU)


def test_the_stopwatch_multiplies_in_the_precision_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(torch, "mm", lambda left, right: seen.append((left.dtype, right.dtype)))
    assert seconds_of_product(torch.bfloat16) > 0
    assert set(seen) == {(torch.bfloat16, torch.bfloat16)}
    assert len(seen) == precision.ROUNDS + 1
