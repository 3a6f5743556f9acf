from __future__ import annotations

import pytest
import torch

from polyvec.systems.cel.network import pair_scores


@pytest.mark.parametrize("rows", [50, 200_000], ids=["one product", "pair by pair"])
def test_gradients_of_many_pairs_are_the_same_bits_each_time_on_several_threads(two_threads, rows):
    random = torch.Generator().manual_seed(0)
    left, right = torch.randn(900, 8, generator=random), torch.randn(rows, 8, generator=random)
    who = torch.randint(900, (80_000,), generator=random)
    what = torch.randint(rows, (80_000,), generator=random)

    def gradient() -> torch.Tensor:
        vectors = left.clone().requires_grad_()
        pair_scores(vectors, who, right, what).square().sum().backward()
        assert vectors.grad is not None
        return vectors.grad

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(10))
