from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from polyvec.objectives.masked_items import masked_item_loss
from polyvec.objectives.matching import Negatives

ALPHA = 20.0
MASKED_ITEMS = torch.tensor([2, 0, 2])


def made() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    return (
        torch.randn(3, 4, generator=random, dtype=torch.float64),
        torch.randn(5, 4, generator=random, dtype=torch.float64),
    )


def naive(output: list[float], items: list[list[float]], positive: int, negatives: list[int]) -> float:
    """InfoNCE of one masked item with scores α·cos(o_n, v_j), written out."""

    def score(j: int) -> float:
        dot = sum(a * b for a, b in zip(output, items[j], strict=True))
        return ALPHA * dot / math.hypot(*output) / math.hypot(*items[j])

    total = math.exp(score(positive)) + sum(math.exp(score(j)) for j in negatives)
    return -math.log(math.exp(score(positive)) / total)


def test_with_shared_negatives_every_masked_item_meets_all_other_items() -> None:
    outputs_PD, items_MD = made()
    expected = [
        naive(output, items_MD.tolist(), item, [j for j in range(5) if j != item])
        for output, item in zip(outputs_PD.tolist(), MASKED_ITEMS.tolist(), strict=True)
    ]
    losses_P = masked_item_loss(outputs_PD, items_MD, MASKED_ITEMS, ALPHA)
    np.testing.assert_allclose(losses_P, expected, rtol=1e-9, atol=1e-12)


def test_with_drawn_negatives_it_meets_only_these() -> None:
    outputs_PD, items_MD = made()
    items_PK = torch.tensor([[1, 1], [0, 3], [4, 3]])
    expected = [
        naive(outputs_PD[0].tolist(), items_MD.tolist(), 2, [1, 1]),
        naive(outputs_PD[1].tolist(), items_MD.tolist(), 0, [3]),  # the item itself was drawn
        naive(outputs_PD[2].tolist(), items_MD.tolist(), 2, [4, 3]),
    ]
    negatives = Negatives(items_PK, items_PK == MASKED_ITEMS[:, None])
    losses_P = masked_item_loss(outputs_PD, items_MD, MASKED_ITEMS, ALPHA, negatives=negatives)
    np.testing.assert_allclose(losses_P, expected, rtol=1e-9, atol=1e-12)


def test_drawing_the_masked_item_itself_changes_nothing() -> None:
    outputs_PD, items_MD = made()
    with_it, without = torch.tensor([[2, 1]] * 3), torch.tensor([[1, 1]] * 3)
    losses = [
        masked_item_loss(
            outputs_PD[:1],
            items_MD,
            MASKED_ITEMS[:1],
            ALPHA,
            negatives=Negatives(drawn[:1], torch.tensor([[hidden, False]])),
        )
        for drawn, hidden in [(with_it, True), (without, True)]
    ]
    assert torch.equal(*losses)


def test_the_correction_is_subtracted_from_every_score() -> None:
    outputs_PD, items_MD = made()
    plain = masked_item_loss(outputs_PD, items_MD, MASKED_ITEMS, ALPHA)
    constant = torch.full((5,), -1.5, dtype=torch.float64)
    same = masked_item_loss(outputs_PD, items_MD, MASKED_ITEMS, ALPHA, log_q_M=constant)
    torch.testing.assert_close(plain, same)
    rare = torch.tensor([0.0, 0.0, -30.0, 0.0, 0.0], dtype=torch.float64)
    losses = masked_item_loss(outputs_PD, items_MD, MASKED_ITEMS, ALPHA, log_q_M=rare)
    assert (losses[[0, 2]] < plain[[0, 2]]).all()  # as positives, rare items are helped
    assert losses[1] > plain[1]  # as negatives, they weigh more


def test_its_gradient_agrees_with_finite_differences() -> None:
    outputs_PD, items_MD = made()
    assert torch.autograd.gradcheck(
        lambda outputs, items: masked_item_loss(outputs, items, MASKED_ITEMS, 2.0),
        (outputs_PD.requires_grad_(), items_MD.requires_grad_()),
    )


@pytest.mark.parametrize("items", [1, 5])
def test_no_masked_items_give_no_losses(items: int) -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    assert masked_item_loss(torch.empty(0, 4), torch.randn(items, 4), nothing, ALPHA).shape == (0,)
