from __future__ import annotations

import pytest
import torch

from polyvec.layers.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_dropped_and_the_rest_is_scaled_so_that_the_mean_stays(share: float) -> None:
    torch.manual_seed(0)
    dropped = Dropout(share)(torch.ones(1000, 1000))
    rounded = round(256 * share) / 256
    assert abs(float((dropped == 0).float().mean()) - rounded) < 0.002
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - rounded)])
    assert abs(float(dropped.mean()) - 1) < 0.02


def test_activations_are_dropped_one_by_one() -> None:
    torch.manual_seed(0)
    kept = Dropout(0.5)(torch.ones(8, 100_000)) != 0
    agreement = (kept[:, None] == kept[None]).float().mean(dim=-1) - torch.eye(8)
    assert float((agreement - 0.5 + 0.5 * torch.eye(8)).abs().max()) < 0.01
    neighbours = (kept.flatten()[1:] == kept.flatten()[:-1]).float().mean()
    assert abs(float(neighbours) - 0.5) < 0.01


def test_the_gradient_passes_where_the_activation_did() -> None:
    activations = torch.ones(7, 11, requires_grad=True)
    dropped = Dropout(0.3)(activations)
    dropped.sum().backward()
    assert activations.grad is not None
    assert torch.equal(activations.grad, dropped.detach())


def test_nothing_is_dropped_in_evaluation_nor_with_a_share_of_zero() -> None:
    activations = torch.randn(5, 3)
    assert Dropout(0.9).eval()(activations) is activations
    assert Dropout(0.0)(activations) is activations


def test_the_seed_decides_and_each_call_draws_anew() -> None:
    activations = torch.ones(33, 7)
    torch.manual_seed(3)
    first, second = Dropout(0.4)(activations), Dropout(0.4)(activations)
    torch.manual_seed(3)
    assert torch.equal(first, Dropout(0.4)(activations))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_shape_and_type_stays_what_it_is(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    dropped = Dropout(0.5)(torch.ones(shape, dtype=dtype))
    assert dropped.shape == shape
    assert dropped.dtype == dtype


def test_even_the_largest_share_leaves_something() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.999)(torch.ones(100_000))
    assert 0 < int((dropped != 0).sum()) < 1000
    assert dropped.isfinite().all()


def test_it_shows_its_share() -> None:
    assert str(Dropout(0.25)) == "Dropout(share=0.25)"
