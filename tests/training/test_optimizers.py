from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim import AdamW, SparseAdam

from polyvec.layers.branches import BranchLinear
from polyvec.layers.tables import (
    ClusteredTable,
    HashedTable,
    PopularTable,
    QuotientRemainderTable,
    Table,
    WordTable,
)
from polyvec.training.optimizers import clip_gradients, copy_rows, learning_rate_factor, make_optimizers
from polyvec.training.options import TrainingOptions


class Mixed(nn.Module):
    """Every kind of weight: two sparse tables, a dense one, matrices, biases, norms, a lone vector."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = PopularTable(6, 3)
        self.words = WordTable(5, 3)
        self.time = nn.Embedding(4, 3)
        self.linear = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.mask = nn.Parameter(torch.ones(3))

    def forward(self, scale: float = 1.0) -> torch.Tensor:
        rows = self.ids(torch.tensor([1, 1, 4])) + self.words(torch.tensor([0, 2]), torch.tensor([0, 1, 2]))
        tokens = rows + self.time(torch.tensor([0, 3, 3])) + self.mask
        return scale * self.norm(self.linear(tokens)).pow(3).sum() + self.linear.weight.sum()


def gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.to_dense().clone() for n, p in network.named_parameters() if p.grad is not None}


# --- who is trained by whom


def test_tables_get_sparse_adam_and_all_else_adamw_each_weight_once() -> None:
    network = Mixed()
    dense, sparse = make_optimizers(network, TrainingOptions())
    assert isinstance(dense, AdamW)
    assert isinstance(sparse, SparseAdam)
    names = {id(parameter): name for name, parameter in network.named_parameters()}

    def named(parameters: list[nn.Parameter]) -> set[str]:
        return {names[id(parameter)] for parameter in parameters}

    assert named(sparse.param_groups[0]["params"]) == {"ids.weight", "words.weight"}
    decaying, others = dense.param_groups
    assert named(decaying["params"]) == {"linear.weight"}
    assert named(others["params"]) == {"time.weight", "linear.bias", "norm.weight", "norm.bias", "mask"}
    assert decaying["weight_decay"] == 0.01
    assert others["weight_decay"] == 0


@pytest.mark.parametrize(
    "table", [ClusteredTable(9, 4, 3), HashedTable(9, 4, 3), QuotientRemainderTable(9, 4, 3)]
)
def test_no_row_of_any_table_decays(table: Table) -> None:
    decaying, others = make_optimizers(table, TrainingOptions())[0].param_groups
    assert decaying["params"] == []
    assert len(others["params"]) == len(list(table.parameters()))


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adagrad, torch.optim.SGD])
def test_a_copied_row_goes_on_as_its_parent_does(kind: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    table = ClusteredTable(6, 4, 3, start=2)
    optimizer = kind(table.parameters(), lr=0.1)  # type: ignore[call-arg]
    for _ in range(3):
        optimizer.zero_grad()
        table(torch.arange(6)).pow(3).sum().backward()
        optimizer.step()
    new = table.split(1, torch.tensor([True, False, False]))
    copy_rows([optimizer], table.weight, 1, new)
    assert table.weight.grad is not None
    table.weight.grad[new] = table.weight.grad[1]
    optimizer.step()
    assert torch.equal(table.weight[new], table.weight[1])
    assert not torch.equal(table.weight[new], table.weight[0])


def test_a_network_without_tables_has_one_optimizer() -> None:
    assert len(make_optimizers(nn.Linear(2, 2), TrainingOptions())) == 1


def test_rows_that_a_step_does_not_read_stay_as_they_are() -> None:
    network = Mixed()
    before = network.ids.weight.detach().clone()
    optimizers = make_optimizers(network, TrainingOptions(learning_rate=0.1))
    for _ in range(3):
        network().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    moved = (network.ids.weight != before).any(dim=1)
    assert moved.tolist() == [False, True, False, False, True, False, False]


# --- clipping


def test_clipping_equals_clipping_of_dense_gradients() -> None:
    torch.manual_seed(0)
    network = Mixed()
    network(scale=10).backward()
    dense = [value.clone() for value in gradients(network).values()]
    twins = [nn.Parameter(torch.zeros_like(value)) for value in dense]
    for twin, value in zip(twins, dense, strict=True):
        twin.grad = value
    expected = torch.nn.utils.clip_grad_norm_(twins, 1.5)
    norm = clip_gradients(network, 1.5)
    torch.testing.assert_close(norm, expected)
    assert float(norm) > 1.5
    for clipped, twin in zip(gradients(network).values(), twins, strict=True):
        torch.testing.assert_close(clipped, twin.grad)
    assert network.ids.weight.grad is not None
    assert network.ids.weight.grad.is_sparse
    assert float(clip_gradients(network, 1.5)) == pytest.approx(1.5, rel=1e-5)


def test_gradients_within_the_limit_are_left_alone() -> None:
    torch.manual_seed(0)
    network = Mixed()
    network().backward()
    before = gradients(network)
    norm = clip_gradients(network, 1e9)
    total = sum(float(value.square().sum()) for value in before.values())
    assert float(norm) == pytest.approx(total**0.5, rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in gradients(network).items())


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_norm_that_is_not_finite_is_reported_and_spreads_nowhere(broken: float) -> None:
    network = Mixed()
    network().backward()
    assert network.mask.grad is not None
    network.mask.grad[0] = broken
    before = gradients(network)["linear.weight"]
    assert not clip_gradients(network, 0.1).isfinite()
    assert torch.equal(gradients(network)["linear.weight"], before)


# --- learning rate


@pytest.mark.parametrize("total", [1, 2, 7, 100, 1005])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.333, 0.99])
@pytest.mark.parametrize("final_rate", [0.0, 0.1, 1.0])
def test_the_learning_rate_rises_once_to_its_peak_and_then_falls(
    total: int, warmup: float, final_rate: float
) -> None:
    options = TrainingOptions(warmup=warmup, final_rate=final_rate)
    factors = [learning_rate_factor(step, total, options) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert all(a <= b for a, b in pairwise(factors[: peak + 1]))
    assert all(a >= b for a, b in pairwise(factors[peak:]))
    assert abs(peak - warmup * total) <= 1
    assert max(factors) > 1 - 1 / (warmup * total + 1) - 1e-9


def test_the_learning_rate_is_linear_up_and_down() -> None:
    options = TrainingOptions(warmup=0.2, final_rate=0.1)
    factors = [learning_rate_factor(step, 20, options) for step in range(21)]
    assert factors[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert factors[4] == 1
    assert [a - b for a, b in pairwise(factors[4:])] == pytest.approx([0.9 / 16] * 16)
    assert factors[20] == pytest.approx(0.1)
    assert learning_rate_factor(1000, 20, options) == pytest.approx(0.1)


def test_a_limit_of_zero_clips_nothing() -> None:
    network = Mixed()
    network(100.0).backward()
    before = gradients(network)
    norm = clip_gradients(network, 0)
    assert norm > 100
    assert all(torch.equal(before[name], gradient) for name, gradient in gradients(network).items())


def test_biases_of_several_branches_do_not_decay() -> None:
    layer = BranchLinear(3, 4, 5)
    decaying, others = make_optimizers(layer, TrainingOptions())[0].param_groups
    assert [one is layer.weight for one in decaying["params"]] == [True]
    assert [one is layer.bias for one in others["params"]] == [True]
