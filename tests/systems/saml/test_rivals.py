"""What SAML is compared with: each learns, and each keeps to its own mechanism."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from polyvec.systems.saml.config import Method, SAMLConfig
from polyvec.systems.saml.network import Batch, Shape
from polyvec.systems.saml.rivals import NETWORKS, Rival, make_network
from polyvec.training.optimizers import make_optimizers
from polyvec.training.options import TrainingOptions

RIVALS = tuple(NETWORKS)
SHAPE = Shape({"gender": 3}, {"item_id": 20, "category": 5}, dense=2, scenarios=3)


def made(method: str, **changes) -> Rival:
    torch.manual_seed(0)
    settings = {
        "hidden": (32, 16, 8),
        "global_width": 4,
        "heads": 2,
        "head_width": 3,
        "dropout": 0.0,
    } | changes
    return make_network(SAMLConfig(method=method, **settings), SHAPE)


def scrambled(network: Rival) -> Rival:
    """Weights and norms that differ from branch to branch."""
    torch.manual_seed(1)
    for name, weights in network.named_parameters():
        if not name.startswith("view"):
            torch.nn.init.normal_(weights, std=0.3)
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(norm.running_mean)
    return network


def batch_of(size: int = 48, scenario: int | None = None) -> Batch:
    random = torch.Generator().manual_seed(0)

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=random)

    owners = draw(size, 3 * size).sort().values
    scenarios = draw(3, size)
    return Batch(
        scenarios if scenario is None else torch.full((size,), scenario),
        draw(3, size, 1),
        torch.cat([draw(20, size, 1), draw(5, size, 1)], dim=1),
        torch.cat([draw(20, len(owners), 1), draw(5, len(owners), 1)], dim=1),
        owners,
        torch.randn(size, 2, generator=random),
        draw(2, size).float(),
    )


def test_every_method_but_saml_is_a_rival():
    assert set(get_args(Method)) == {"saml", *RIVALS}


@pytest.mark.parametrize("hidden", [(32, 16, 8), (16, 8), (8,)])
@pytest.mark.parametrize("method", RIVALS)
def test_samples_are_learned_by_heart(method, hidden):
    network, batch = made(method, hidden=hidden), batch_of()
    optimizers = make_optimizers(network, TrainingOptions(learning_rate=2e-2, weight_decay=0))
    for _ in range(150):
        logits = network(batch).logits
        torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.labels).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    assert ((network(batch).logits > 0) == (batch.labels > 0)).float().mean() > 0.9


@pytest.mark.parametrize("method", RIVALS)
def test_a_sample_scores_alike_whatever_stands_beside_it(method):
    network, batch = scrambled(made(method)).eval(), batch_of()
    with torch.no_grad():
        together = network(batch).logits
        everywhere = []
        for scenario in range(3):
            mine = batch.scenarios == scenario
            alone = network(Batch(**(vars(batch) | {"scenarios": torch.full((48,), scenario)}))).logits
            torch.testing.assert_close(together[mine], alone[mine])
            everywhere.append(alone)
        assert (everywhere[0] != everywhere[1]).any()


@pytest.mark.parametrize("method", ["shared_bottom", "mmoe", "ple", "star", "hmoe"])
def test_what_is_of_other_scenarios_learns_nothing(method):
    network = made(method)
    network(batch_of(scenario=1)).logits.sum().backward()
    own = [weights for weights in network.parameters() if weights.ndim > 1 and len(weights) == 3]
    own = [weights for weights in own if weights.grad is not None and not weights.grad.is_sparse]
    assert own
    for weights in own:
        assert (weights.grad[[0, 2]] == 0).all()


def test_star_begins_with_what_all_share_and_a_single_sample_has_a_norm():
    network = made("star")
    layer = network.layers[0]
    assert (layer.weight == 0).all()  # less 1
    assert network(batch_of(1)).logits.isfinite().all()
    assert network.norms[0].training


def test_gates_of_pepnet_train_ids_and_leave_what_else_they_look_at_alone():
    network, batch = made("pepnet"), batch_of()
    for layer in network.layers:
        torch.nn.init.zeros_(layer.weight)  # features reach the output through gates alone
    network(batch).logits.sum().backward()
    category, item = (network.view.everyone.table(name).weight for name in ("category", "item_id"))
    assert category.grad is None or not category.grad.to_dense().any()
    assert item.grad.to_dense().any()  # but the ids, which they learn


def test_hmoe_weighs_all_networks_but_trains_its_own():
    network, batch = made("hmoe"), batch_of(scenario=1)
    before = network(batch).logits
    with torch.no_grad():
        network.layers[-1].bias[0] += 10
    assert (network(batch).logits != before).all()
