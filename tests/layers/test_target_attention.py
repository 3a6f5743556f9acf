"""Attention over flat histories: the spec of SAML, check A 4."""

from __future__ import annotations

import torch

from polyvec.layers.target_attention import TargetAttention, attention_weights


def test_weights_of_every_history_add_up_to_one_and_are_those_of_a_softmax():
    queries, keys = torch.randn(3, 2, 4), torch.randn(7, 2, 4)
    owners = torch.tensor([2, 0, 2, 2, 0, 2, 0])
    weights = attention_weights(queries, keys, owners)
    for sample in (0, 2):
        mine = owners == sample
        scores = (queries[sample] * keys[mine]).sum(dim=-1) / 4**0.5
        torch.testing.assert_close(weights[mine], torch.softmax(scores, dim=0))


def test_it_is_the_attention_of_torch_where_histories_are_padded():
    attention = TargetAttention(6, heads=2, head_width=3)
    queries, keys, values = torch.randn(4, 6), torch.randn(4, 5, 6), torch.randn(4, 5, 2, 3)
    lengths = torch.tensor([5, 1, 3, 2])
    there = torch.arange(5) < lengths[:, None]
    owners = torch.arange(4).repeat_interleave(lengths)
    found = attention(queries, keys[there], values[there], owners)
    expected = torch.nn.functional.scaled_dot_product_attention(
        attention.query(queries).view(4, 1, 2, 3).transpose(1, 2),
        attention.key(keys).view(4, 5, 2, 3).transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=there[:, None, None],
    )
    torch.testing.assert_close(found, attention.output(expected.transpose(1, 2).flatten(1)))


def test_an_empty_history_says_nothing_and_has_finite_gradients():
    attention = TargetAttention(6, heads=2, head_width=3)
    keys = torch.randn(2, 6, requires_grad=True)
    found = attention(torch.randn(3, 6), keys, torch.randn(2, 2, 3), torch.tensor([1, 1]))
    assert (found[0] == 0).all()
    assert (found[2] == 0).all()
    found.square().sum().backward()
    assert keys.grad.isfinite().all()
    nobody = attention(torch.randn(3, 6), torch.randn(0, 6), torch.randn(0, 2, 3), torch.empty(0).long())
    assert (nobody == 0).all()
