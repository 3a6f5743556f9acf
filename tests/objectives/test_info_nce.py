from __future__ import annotations

import math

import pytest
import torch

from polyvec.objectives.info_nce import info_nce, log_sum_exp


def test_the_loss_is_minus_log_of_the_positives_share() -> None:
    positive, negatives = 1.5, [0.5, -2.0, 3.0]
    expected = -math.log(math.exp(positive) / (math.exp(positive) + sum(map(math.exp, negatives))))
    rest = torch.logsumexp(torch.tensor([negatives]), dim=1)
    assert float(info_nce(torch.tensor([positive]), rest)) == pytest.approx(expected, abs=1e-6)


def test_without_any_negative_there_is_nothing_to_learn() -> None:
    positives = torch.tensor([3.0, -1.0], requires_grad=True)
    nothing = log_sum_exp(torch.zeros(2, 4), torch.ones(2, 4, dtype=torch.bool))
    losses = info_nce(positives, nothing)
    losses.sum().backward()
    assert losses.tolist() == [0, 0]
    assert positives.grad is not None
    assert positives.grad.tolist() == [0, 0]


def test_what_is_excluded_has_no_share_and_no_gradient() -> None:
    scores = torch.tensor([[1.0, 50.0, 2.0]], requires_grad=True)
    pooled = log_sum_exp(scores, torch.tensor([[False, True, False]]))
    pooled.backward()
    assert float(pooled.detach()) == pytest.approx(math.log(math.exp(1) + math.exp(2)), abs=1e-6)
    assert scores.grad is not None
    assert scores.grad[0, 1] == 0
    assert float(scores.grad.sum()) == pytest.approx(1)


def test_a_row_of_which_all_is_excluded_has_no_gradient_and_no_nan() -> None:
    scores = torch.randn(2, 3, requires_grad=True)
    excluded = torch.tensor([[True, True, True], [False, True, False]])
    info_nce(scores[:, 0], log_sum_exp(scores, excluded)).sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-3, 20.0, 1e4])
def test_large_scores_do_not_overflow(scale: float) -> None:
    loss = info_nce(torch.tensor([-scale]), torch.tensor([scale]))
    assert float(loss) == pytest.approx(2 * scale + math.log1p(math.exp(-2 * scale)), rel=1e-5)
