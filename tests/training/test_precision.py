from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from polyvec.training import precision
from polyvec.training.precision import autocast, choose_precision

CPU = torch.device("cpu")


@pytest.fixture
def _asked_anew() -> Iterator[None]:
    precision._cpu_gains_by_bfloat16.cache_clear()
    yield
    precision._cpu_gains_by_bfloat16.cache_clear()


@pytest.fixture
def has_instructions(monkeypatch: pytest.MonkeyPatch, _asked_anew: None) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)


@pytest.mark.parametrize("chosen", ["float32", "bfloat16"])
def test_precision_is_what_was_asked_for(chosen: precision.Chosen) -> None:
    assert choose_precision(chosen, CPU) == chosen
    with autocast(chosen, CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == getattr(torch, chosen)


@pytest.mark.usefixtures("has_instructions")
@pytest.mark.parametrize(("seconds", "expected"), [(0.25, "bfloat16"), (0.95, "float32"), (2.0, "float32")])
def test_bfloat16_is_taken_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: float, expected: str
) -> None:
    monkeypatch.setattr(precision, "_seconds", lambda dtype: seconds if dtype == torch.bfloat16 else 1.0)
    assert choose_precision("auto", CPU) == expected


@pytest.mark.usefixtures("has_instructions")
def test_rounds_that_something_else_slowed_down_do_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = iter([9.0, 9.0, 1.0, 9.0, 9.0, 0.3, 1.0, 9.0, 9.0, 0.3, 1.0, 0.3])
    monkeypatch.setattr(precision, "_seconds", lambda dtype: next(slow))
    assert choose_precision("auto", CPU) == "bfloat16"


@pytest.mark.usefixtures("has_instructions")
def test_the_stopwatch_multiplies_in_both_precisions_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def multiply(left: torch.Tensor, right: torch.Tensor) -> None:
        seen.append((left.dtype, right.dtype, torch.get_num_threads()))

    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "mm", multiply)
    choose_precision("auto", CPU)
    assert seen == [(dtype, dtype, 1) for dtype in (torch.float32, torch.bfloat16)] * (precision.ROUNDS + 1)
    assert torch.get_num_threads() == before


@pytest.mark.usefixtures("_asked_anew")
def test_a_cpu_without_the_instructions_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(precision, "_seconds", lambda dtype: 1 / 0)
    assert choose_precision("auto", CPU) == "float32"
