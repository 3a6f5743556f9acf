"""What a step takes, found without taking it."""

from __future__ import annotations

import torch
from torch import nn

from polyvec.training.rehearsal import LiveBytes, num_bytes

FLOAT = 4


def test_bytes_are_counted_while_tensors_live_and_the_most_is_kept() -> None:
    with LiveBytes() as live:
        first = torch.zeros(100)
        second = first + 1
        del first
        third = second * 2
        del second, third
        torch.zeros(10)
    assert live.peak == 2 * 100 * FLOAT


def test_views_and_changes_in_place_take_nothing() -> None:
    given = torch.zeros(50, 2)
    with LiveBytes() as live:
        part = given[10:].T.add_(1)
    assert live.peak == 0
    assert part.shape == (2, 40)


def test_what_is_kept_for_the_backward_pass_counts_and_so_do_gradients() -> None:
    layers = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(5)])
    inputs, one = torch.ones(100, 8), 100 * 8 * FLOAT
    with LiveBytes() as answering, torch.no_grad():
        layers(inputs).sum()
    with LiveBytes() as training:
        layers(inputs).sum().backward()
    assert 2 * one <= answering.peak < 3 * one  # a layer's inputs and outputs
    assert training.peak >= 5 * one  # what every layer got, and the gradient of what it gave


def test_a_sparse_gradient_counts_the_rows_that_were_looked_up() -> None:
    table = nn.Embedding(1000, 4, sparse=True)
    with LiveBytes() as live:
        table(torch.tensor([5, 5, 7])).sum().backward()
    assert table.weight.grad is not None
    assert num_bytes([table.weight.grad]) == 3 * (4 * FLOAT + 8)
    assert live.peak < 1000
