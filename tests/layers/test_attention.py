from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from polyvec.layers import attention
from polyvec.layers.attention import CachedAttention, attend, compete


def naive_attention(queries: Tensor, keys: Tensor, values: Tensor, visible_BT: Tensor) -> Tensor:
    """Loop transcription of softmax(QKᵀ/√E)V over the visible tokens."""
    result = torch.zeros_like(queries)
    for b in range(queries.shape[0]):
        seen = [t for t in range(keys.shape[2]) if visible_BT[b, t]]
        for h in range(queries.shape[1]):
            for q in range(queries.shape[2]):
                scores = [float(queries[b, h, q] @ keys[b, h, t]) / math.sqrt(queries.shape[3]) for t in seen]
                total = sum(math.exp(score) for score in scores)
                for score, t in zip(scores, seen, strict=True):
                    result[b, h, q] += math.exp(score) / total * values[b, h, t]
    return result


def inputs(
    dtype: torch.dtype, batch: int = 3, queries: int = 4, tokens: int = 6
) -> tuple[list[Tensor], Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = [(batch, 2, queries, 8), (batch, 2, tokens, 8), (batch, 2, tokens, 8)]
    tensors = [torch.randn(shape, generator=random).to(dtype).requires_grad_() for shape in shapes]
    visible_BT = torch.arange(tokens) < torch.tensor([tokens, 1, 3] * batch)[:batch, None]
    return tensors, visible_BT


def test_attention_is_the_formula() -> None:
    (queries, keys, values), visible_BT = inputs(torch.float32)
    with torch.no_grad():
        expected = naive_attention(queries, keys, values, visible_BT)
        torch.testing.assert_close(attend(queries, keys, values, visible_BT), expected)
        everything = torch.ones_like(visible_BT)
        torch.testing.assert_close(
            attend(queries, keys, values, None), naive_attention(queries, keys, values, everything)
        )


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("batch", [3, 40])  # 80 heads: more than one cacheful
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_the_path_for_cpus_gives_the_kernels_outputs_and_gradients(
    dtype: torch.dtype, tolerance: float, batch: int, *, hidden: bool
) -> None:
    tensors, visible_BT = inputs(dtype, batch)
    visible = visible_BT if hidden else None
    output = attention._attend_in_cache(*tensors, attention._bias(tensors[0], visible))
    twins = [tensor.detach().float().requires_grad_() for tensor in tensors]
    mask = None if visible is None else visible[:, None, None, :]
    expected = scaled_dot_product_attention(*twins, attn_mask=mask)
    torch.testing.assert_close(output.float(), expected, atol=tolerance, rtol=tolerance)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output.float() * weights).sum().backward()
    (expected * weights).sum().backward()
    for tensor, twin in zip(tensors, twins, strict=True):
        assert tensor.grad is not None
        assert twin.grad is not None
        torch.testing.assert_close(tensor.grad.float(), twin.grad, atol=2 * tolerance, rtol=2 * tolerance)


def test_its_gradient_agrees_with_finite_differences() -> None:
    random = torch.Generator().manual_seed(0)
    shapes = [(3, 2, 4), (3, 5, 4), (3, 5, 4)]
    tensors = [torch.randn(s, generator=random, dtype=torch.float64).requires_grad_() for s in shapes]
    bias = torch.zeros(3, 1, 5, dtype=torch.float64)
    bias[1, 0, 3:] = -torch.inf
    assert torch.autograd.gradcheck(CachedAttention.apply, (*tensors, None))
    assert torch.autograd.gradcheck(CachedAttention.apply, (*tensors, bias))


def test_a_hidden_token_gets_no_weight_and_no_gradient() -> None:
    (queries, keys, values), _ = inputs(torch.bfloat16)
    visible_BT = torch.ones(3, 6, dtype=torch.bool)
    visible_BT[:, 4:] = False
    output = attend(queries, keys, values, visible_BT)
    output.float().sum().backward()
    for tensor in (keys, values):
        assert tensor.grad is not None
        assert torch.equal(tensor.grad[:, :, 4:], torch.zeros_like(tensor.grad[:, :, 4:]))
    with torch.no_grad():
        keys[:, :, 4:], values[:, :, 4:] = 7, 9
    assert torch.equal(attend(queries, keys, values, visible_BT), output)


@pytest.mark.parametrize(
    ("dtype", "with_gradient", "cached"),
    [
        (torch.bfloat16, True, True),
        (torch.bfloat16, False, False),
        (torch.float32, True, False),
    ],
)
def test_the_path_for_cpus_is_taken_in_bf16_training_only(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, *, with_gradient: bool, cached: bool
) -> None:
    taken = []
    real = attention._attend_in_cache
    monkeypatch.setattr(attention, "_attend_in_cache", lambda *a: taken.append(1) or real(*a))
    tensors, visible_BT = inputs(dtype)
    with torch.set_grad_enabled(with_gradient):
        attend(*tensors, visible_BT)
    assert bool(taken) == cached


@pytest.mark.parametrize("length", [1, 5])
def test_causal_attention_sees_what_came_before_alone_on_both_paths(length: int) -> None:
    random = torch.Generator().manual_seed(0)
    tensors = [torch.randn((20, 2, length, 8), generator=random).requires_grad_() for _ in range(3)]
    plain = attend(*tensors, None, causal=True)
    for q in range(length):
        before = [tensors[0].detach()[:, :, q : q + 1], *(t.detach()[:, :, : q + 1] for t in tensors[1:])]
        expected = naive_attention(*before, torch.ones(20, q + 1, dtype=torch.bool))
        torch.testing.assert_close(plain[:, :, q : q + 1], expected)
    cached = attention._attend_in_cache(*tensors, attention._causal_bias(tensors[0]))
    torch.testing.assert_close(cached, plain)
    for a, b in zip(*(torch.autograd.grad(o.square().sum(), tensors) for o in (cached, plain)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def naive_competition(queries: Tensor, keys: Tensor, values: Tensor, visible_BT: Tensor) -> Tensor:
    """Loop transcription: every token's softmax over the readers, then every reader's weighted mean."""
    result = torch.zeros_like(queries)
    for b in range(queries.shape[0]):
        seen = [t for t in range(keys.shape[2]) if visible_BT[b, t]]
        for h in range(queries.shape[1]):
            scores = queries[b, h] @ keys[b, h].T / math.sqrt(queries.shape[3])
            shares = {t: scores[:, t].exp() / scores[:, t].exp().sum() for t in seen}
            total = sum(shares.values())
            for t in seen:
                result[b, h] += (shares[t] / total)[:, None] * values[b, h, t]
    return result


def test_competition_is_the_formula() -> None:
    (queries, keys, values), visible_BT = inputs(torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(
            compete(queries, keys, values, visible_BT), naive_competition(queries, keys, values, visible_BT)
        )
        torch.testing.assert_close(
            compete(queries, keys, values, None),
            naive_competition(queries, keys, values, torch.ones_like(visible_BT)),
        )


def test_a_token_that_only_one_reader_resembles_leaves_the_others_means() -> None:
    queries = torch.tensor([[[[9.0, 0.0], [0.0, 9.0]]]])
    keys = torch.tensor([[[[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]]]])
    values = torch.tensor([[[[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]]]])
    torch.testing.assert_close(compete(queries, keys, values, None)[0, 0], torch.tensor([[1.0, 0], [0, 2]]))


def test_a_single_competitor_gets_the_mean_of_what_it_sees() -> None:
    (queries, keys, values), visible_BT = inputs(torch.float32, queries=1)
    with torch.no_grad():
        means = [values[b, :, visible_BT[b]].mean(dim=1) for b in range(len(values))]
        torch.testing.assert_close(compete(queries, keys, values, visible_BT)[:, :, 0], torch.stack(means))


def test_a_token_hidden_from_competitors_gets_no_gradient() -> None:
    (queries, keys, values), visible_BT = inputs(torch.float32)
    compete(queries, keys, values, visible_BT).square().sum().backward()
    for tensor in (keys, values):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert (tensor.grad.transpose(1, 2)[~visible_BT] == 0).all()
        assert (tensor.grad.transpose(1, 2)[visible_BT] != 0).any()
