from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from polyvec.objectives import full_softmax
from polyvec.objectives.full_softmax import full_softmax_loss


@pytest.fixture
def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(37, 8, generator=generator, requires_grad=True)
    items = torch.randn(11, 8, generator=generator, requires_grad=True)
    return queries, items, torch.randint(0, 11, (37,), generator=generator)


def gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize("scores_at_once", [1, 50, 2**21])
def test_the_loss_and_its_gradients_are_those_of_cross_entropy(
    drawn: tuple[torch.Tensor, ...], monkeypatch: pytest.MonkeyPatch, scores_at_once: int
) -> None:
    monkeypatch.setattr(full_softmax, "SCORES_AT_ONCE", scores_at_once)
    queries, items, targets = drawn
    ours, theirs = full_softmax_loss(queries, items, targets), cross_entropy(queries @ items.T, targets)
    assert torch.allclose(ours, theirs, atol=1e-6)
    for a, b in zip(gradients(3 * ours, queries, items), gradients(3 * theirs, queries, items), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("scores_at_once", [1, 50])
def test_weights_make_it_a_weighted_sum(
    drawn: tuple[torch.Tensor, ...], monkeypatch: pytest.MonkeyPatch, scores_at_once: int
) -> None:
    monkeypatch.setattr(full_softmax, "SCORES_AT_ONCE", scores_at_once)
    queries, items, targets = drawn
    weights = torch.rand(37, generator=torch.Generator().manual_seed(1))
    ours = full_softmax_loss(queries, items, targets, weights)
    theirs = (weights * cross_entropy(queries @ items.T, targets, reduction="none")).sum()
    assert torch.allclose(ours, theirs, atol=1e-5)
    for a, b in zip(gradients(3 * ours, queries, items), gradients(3 * theirs, queries, items), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_under_autocast_it_multiplies_in_bfloat16_and_stays_close(drawn: tuple[torch.Tensor, ...]) -> None:
    queries, items, targets = drawn
    exact = cross_entropy(queries @ items.T, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = full_softmax_loss(queries, items, targets)
    assert loss.dtype == torch.float32
    assert 0 < abs(loss - exact) < 0.02
    for a, b in zip(gradients(loss, queries, items), gradients(exact, queries, items), strict=True):
        assert torch.allclose(a, b, atol=0.01)


def test_in_bfloat16_what_is_told_with_confidence_still_has_a_gradient() -> None:
    """1 less a chance near 1 has no digits left in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    items = torch.nn.functional.normalize(torch.randn(300, 16, generator=generator), dim=1)
    targets = torch.randint(0, 300, (64,), generator=generator)
    queries = (20 * items[targets]).requires_grad_()
    items.requires_grad_()
    exact = cross_entropy(queries @ items.T, targets)
    assert float(exact.detach()) < 0.02
    with torch.autocast("cpu", torch.bfloat16):
        loss = full_softmax_loss(queries, items, targets)
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.2)
    for a, b in zip(gradients(loss, queries, items), gradients(exact, queries, items), strict=True):
        assert (a - b).norm() < 0.2 * b.norm()


def test_nothing_to_foretell_is_a_loss_of_zero() -> None:
    queries, items = torch.randn(0, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    nothing = torch.empty(0, dtype=torch.int64)
    for weights in (None, torch.empty(0)):
        loss = full_softmax_loss(queries, items, nothing, weights)
        assert float(loss.detach()) == 0
        assert gradients(loss, items)[0].abs().sum() == 0


def test_large_scores_do_not_overflow() -> None:
    queries = torch.full((2, 4), 1e4)
    items = torch.stack([torch.ones(4), -torch.ones(4)])
    assert full_softmax_loss(queries, items, torch.tensor([0, 0])) == 0
