"""SAML's mutual unit and branches: the spec's checks A 5 and 9."""

from __future__ import annotations

import math

import pytest
import torch

from polyvec.layers.branches import BranchLinear, MutualUnit


def unit_of(branches: int, width: int = 6, **changes) -> MutualUnit:
    settings = {"gate": "vector", "shares": "ratio_softmax"} | changes
    return MutualUnit(branches, width, **settings)


def own_of(unit: MutualUnit, values_BSH: torch.Tensor, branch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """M and α of one branch for all samples."""
    branches_B = torch.full((len(values_BSH),), branch)
    sizes = [len(values_BSH) * (one == branch) for one in range(unit.num_branches)]
    return unit.own(values_BSH[:, branch], values_BSH, branches_B, sizes)


def test_the_example_worked_by_hand():
    values = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    mixed, shares = own_of(unit_of(3, 2, gate="open"), values, 0)
    torch.testing.assert_close(shares, torch.tensor([[0.0, 0.7311, 0.2689]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(mixed, torch.tensor([[1.7311, 0.2689]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("branches", [2, 3, 5, 10])
def test_shares_are_of_the_others_and_never_far_from_equal(branches):
    _, shares = own_of(unit_of(branches), torch.rand(200, branches, 6), 1)
    others = [place for place in range(branches) if place != 1]
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(200))
    assert (shares[:, 1] == 0).all()
    count = branches - 1
    assert shares[:, others].min() >= 1 / (math.e + count - 1) - 1e-6
    assert shares[:, others].max() <= math.e / (math.e + count - 1) + 1e-6


def test_how_long_a_vector_is_does_not_matter_and_vectors_of_zeros_have_equal_shares():
    values = torch.rand(20, 4, 6)
    longer = values * torch.tensor([1.0, 7.0, 0.1, 3.0])[:, None]
    torch.testing.assert_close(own_of(unit_of(4), values, 0)[1], own_of(unit_of(4), longer, 0)[1])
    mixed, shares = own_of(unit_of(4), torch.zeros(3, 4, 6), 2)
    torch.testing.assert_close(shares, torch.tensor([1 / 3, 1 / 3, 0.0, 1 / 3]).expand(3, -1))
    assert (mixed == 0).all()


def test_cosines_below_zero_count_as_zero():
    values = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0]]])
    _, shares = own_of(unit_of(3, 2), values, 0)
    assert shares[0, 2] == pytest.approx(math.e / (math.e + 1))


def test_a_closed_gate_leaves_a_branch_alone_as_does_being_the_only_one():
    unit, values = unit_of(3), torch.rand(8, 3, 6)
    torch.nn.init.zeros_(unit.gate.weight)
    torch.nn.init.constant_(unit.gate.bias, -torch.inf)
    torch.testing.assert_close(own_of(unit, values, 1)[0], values[:, 1])
    single = torch.rand(8, 1, 6)
    assert own_of(unit_of(1), single, 0)[0].equal(single[:, 0])


@pytest.mark.parametrize("changes", [{}, {"gate": "scalar"}, {"shares": "softmax"}, {"shares": "uniform"}])
def test_all_branches_at_once_are_each_branch_by_itself(changes):
    unit, values = unit_of(4, **changes), torch.randn(10, 4, 6)
    torch.nn.init.normal_(unit.gate.weight)
    mixed_BSH, shares_BSS = unit.all(values)
    for branch in range(4):
        mixed_BH, shares_BS = own_of(unit, values, branch)
        torch.testing.assert_close(mixed_BSH[:, branch], mixed_BH)
        torch.testing.assert_close(shares_BSS[:, branch], shares_BS)


def test_a_low_temperature_asks_the_most_alike_alone():
    values = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]])
    _, shares = own_of(unit_of(3, 2, shares="softmax", temperature=0.01), values, 0)
    assert shares[0, 1] > 0.999


def test_branches_begin_alike_and_compute_what_a_linear_map_of_each_does():
    layer = BranchLinear(3, 4, 5)
    inputs = torch.randn(6, 4)
    assert layer.all(inputs)[:, 0].equal(layer.all(inputs)[:, 2])
    torch.nn.init.normal_(layer.weight)
    own = layer.own(inputs, [1, 0, 5])
    naive = [
        torch.nn.functional.linear(inputs[row], layer.weight[branch].T, layer.bias[branch])
        for row, branch in enumerate([0, 2, 2, 2, 2, 2])
    ]
    torch.testing.assert_close(own, torch.stack(naive))
    torch.testing.assert_close(layer.all(inputs)[range(6), [0, 2, 2, 2, 2, 2]], own)
    beside = layer.all(inputs[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(beside, layer.all(inputs))


def test_branches_that_share_weights_differ_by_a_part_of_what_is_their_own():
    torch.manual_seed(0)
    layer, inputs = BranchLinear(3, 4, 5, independence=0.25), torch.randn(6, 4)
    assert layer.all(inputs)[:, 0].equal(layer.all(inputs)[:, 2])
    torch.nn.init.normal_(layer.weight)
    weight = layer.common_weight + 0.25 * layer.weight[1]
    torch.testing.assert_close(layer.own(inputs, [0, 6, 0]), inputs @ weight + layer.common_bias)
    torch.testing.assert_close(layer.all(inputs)[:, 1], layer.own(inputs, [0, 6, 0]))
    layer.own(inputs, [0, 6, 0]).sum().backward()
    assert layer.common_weight.grad.any()
    assert [bool(part.any()) for part in layer.weight.grad] == [False, True, False]


def test_branches_apart_share_no_weights():
    assert {name for name, _ in BranchLinear(3, 4, 5).named_parameters()} == {"weight", "bias"}


def test_a_gate_lets_in_its_share_of_what_the_others_make():
    unit, values = unit_of(2, 2), torch.tensor([[[1.0, 0.0], [0.0, 4.0]]])
    torch.nn.init.zeros_(unit.gate.weight)
    mixed, _ = own_of(unit, values, 0)
    share = 1 / (1 + math.exp(2))  # the first bias is −2
    torch.testing.assert_close(mixed, torch.tensor([[1.0, 4 * share]]))
