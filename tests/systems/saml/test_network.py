"""SAML's network: the spec's checks A 1 to 3 and 6 to 11."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from polyvec.evaluation.scenarios import area_under_curve
from polyvec.systems.saml.config import SAMLConfig
from polyvec.systems.saml.network import Batch, SAMLNetwork, Shape
from polyvec.training.optimizers import make_optimizers
from polyvec.training.options import TrainingOptions

SCENARIOS = 3
SMALL = {
    "hidden": (32, 16, 8),
    "global_width": 4,
    "specific_width": 2,
    "heads": 2,
    "head_width": 3,
    "dropout": 0.0,
}


def shape_of(scenarios: int = SCENARIOS) -> Shape:
    return Shape({"gender": 3}, {"item_id": 20, "category": 5}, dense=2, scenarios=scenarios)


def network_of(scenarios: int = SCENARIOS, *, alike: bool = False, **changes) -> SAMLNetwork:
    torch.manual_seed(0)
    network = SAMLNetwork(SAMLConfig(**(SMALL | changes)), shape_of(scenarios))
    if not alike:
        for name, weights in network.named_parameters():
            if name.startswith(("levels", "output", "view.own.")):
                torch.nn.init.normal_(weights, std=0.3)
    return network.eval()


def batch_of(size: int = 12, scenarios: torch.Tensor | None = None, seed: int = 1) -> Batch:
    random = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=random)

    owners = draw(size - 1, 4 * size).sort().values  # the last sample has no history
    return Batch(
        draw(SCENARIOS, size) if scenarios is None else scenarios,
        draw(3, size, 1),
        torch.cat([draw(20, size, 1), draw(5, size, 1)], dim=1),
        torch.cat([draw(20, len(owners), 1), draw(5, len(owners), 1)], dim=1),
        owners,
        torch.randn(size, 2, generator=random),
        draw(2, size).float(),
    )


def replaced(batch: Batch, **changes) -> Batch:
    return Batch(**(vars(batch) | changes))


def rows_of(batch: Batch, rows: torch.Tensor) -> Batch:
    """Some samples with their histories."""
    kept = torch.isin(batch.owners, rows)
    places = torch.full((len(batch),), -1)
    places[rows] = torch.arange(len(rows))
    return Batch(
        batch.scenarios[rows], batch.context[rows], batch.item[rows], batch.history[kept],
        places[batch.owners[kept]], batch.dense[rows], batch.labels[rows],
    )  # fmt: skip


def loss_of(network: SAMLNetwork, batch: Batch, auxiliary_weight: float = 1.0) -> torch.Tensor:
    scores = network(batch)
    loss = binary_cross_entropy_with_logits(scores.logits, batch.labels)
    if auxiliary_weight:
        loss = loss + auxiliary_weight * binary_cross_entropy_with_logits(scores.auxiliary, batch.labels)
    return loss


@pytest.mark.parametrize("scenarios", [1, 2, 5])
def test_shapes_are_those_of_the_paper_whatever_the_number_of_scenarios(scenarios):
    network = SAMLNetwork(SAMLConfig(), shape_of(scenarios))
    widths = [level.layer.weight.shape for level in network.levels]
    attended, fields = 4 * 8, 3
    assert network.view.independent == 2 + attended + fields * 16
    assert network.view.dependent == attended + 2 * 8  # of the item's fields alone
    assert widths == [
        (scenarios, network.view.dependent + 512, 512),
        (scenarios, 512 + 256, 256),
        (scenarios, 256 + 128, 128),
    ]  # fmt: skip
    assert network.output.weight.shape == (scenarios, 128 + 1, 1)
    scores = network(batch_of(scenarios=torch.arange(12) % scenarios))
    assert scores.logits.shape == scores.auxiliary.shape == (12,)
    assert scores.shares.shape == (12, scenarios)


def test_another_scenario_sees_other_tables_but_shares_what_is_known():
    network, batch = network_of(), batch_of()
    other = replaced(batch, scenarios=(batch.scenarios + 1) % SCENARIOS)
    with torch.no_grad():
        (independent, dependent), (same, different) = network.view(batch), network.view(other)
        scores, changed = network(batch), network(other)
    assert independent.equal(same)
    assert scores.auxiliary.allclose(changed.auxiliary, atol=1e-7)
    attended = 6
    chooses = torch.bincount(batch.owners, minlength=12) > 1  # from one event alone there is no choice
    assert (dependent != different)[chooses, :attended].any(dim=1).all()  # Z_l
    assert (dependent != different)[:, attended:].any(dim=1).all()  # P
    assert (scores.logits != changed.logits).all()


def test_a_step_of_one_scenario_leaves_the_tables_of_others_as_they_are():
    network, batch = network_of(), batch_of(scenarios=torch.ones(12, dtype=torch.int64))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizers = make_optimizers(network, TrainingOptions(weight_decay=0.1))
    for _ in range(2):
        loss_of(network, batch).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    for name, value in network.view.own.tables.items():  # one for each of the item's fields
        change = (value.weight - before[f"view.own.tables.{name}.weight"]).unflatten(0, (SCENARIOS, -1))
        assert (change[[0, 2]] == 0).all()
        assert change[1].any()
    assert not network.view.everyone.table("item_id").weight.equal(
        before["view.everyone.tables.of item_id.weight"]
    )


def test_both_attentions_read_the_same_values_unless_asked_otherwise():
    network, batch = network_of(), batch_of()
    with torch.no_grad():
        network.view.values.weight.zero_(), network.view.values.bias.zero_()
        dependent = network.view(batch)[1]
    assert (dependent[:, :6] == 0).all()
    assert hasattr(network_of(values="specific").view, "own_values")


def test_a_sample_trains_its_own_branch_and_not_those_that_it_consults():
    network, batch = network_of(), batch_of(scenarios=torch.ones(12, dtype=torch.int64))
    loss_of(network, batch).backward()
    layers = [*(level.layer for level in network.levels), network.output, network.levels[0].mutual.gate]
    for layer in layers:
        assert (layer.weight.grad[[0, 2]] == 0).all()
        assert layer.weight.grad[1].any()
    assert all(layer.weight.grad.any() for layer in network.auxiliary.layers)


def test_unless_others_are_to_learn_too_then_their_first_layers_do():
    network = network_of(detach_others=False)
    loss_of(network, batch_of(scenarios=torch.ones(12, dtype=torch.int64))).backward()
    assert all(network.levels[0].layer.weight.grad[branch].any() for branch in range(SCENARIOS))
    for layer in (
        *(level.layer for level in network.levels[1:]),
        network.output,
        network.levels[0].mutual.gate,
    ):
        assert (layer.weight.grad[[0, 2]] == 0).all()


def test_without_its_own_loss_the_auxiliary_network_learns_through_the_side_links():
    network, batch = network_of(), batch_of()
    loss_of(network, batch, auxiliary_weight=0).backward()
    assert all(layer.weight.grad.any() for layer in network.auxiliary.layers)
    with torch.no_grad():
        network.output.weight[:, -1] = 0  # the last side link: logit_a
    network.zero_grad()
    loss_of(network, batch, auxiliary_weight=0).backward()
    assert not network.auxiliary.output.weight.grad.any()


def test_dense_numbers_enter_the_shared_side_alone():
    network, batch = network_of(), batch_of()
    other = replaced(batch, dense=batch.dense + 1)
    with torch.no_grad():
        assert network.view(batch)[1].equal(network.view(other)[1])
        assert not network.view(batch)[0].equal(network.view(other)[0])


@pytest.mark.parametrize("mutual", ["first", "none", "all"])
def test_all_at_once_is_what_a_loop_over_branches_computes(mutual):
    network, batch = network_of(mutual=mutual), batch_of()
    with torch.no_grad():
        scores = network(batch)
        independent, dependent = network.view(batch)
        shared = [independent]
        for layer in network.auxiliary.layers:
            shared.append(torch.relu(layer(shared[-1])))
        logit = network.auxiliary.output(shared[-1])
        outputs = [dependent] * SCENARIOS
        for number, level in enumerate(network.levels):
            layer = level.layer
            outputs = [
                torch.relu(
                    torch.cat([outputs[s], shared[number + 1]], dim=1) @ layer.weight[s] + layer.bias[s]
                )
                for s in range(SCENARIOS)
            ]
            if level.mutual is not None:
                outputs = list(level.mutual.all(torch.stack(outputs, dim=1))[0].unbind(dim=1))
        naive = torch.stack(
            [
                torch.cat([outputs[s], logit], dim=1) @ network.output.weight[s] + network.output.bias[s]
                for s in range(SCENARIOS)
            ]
        )[batch.scenarios, range(len(batch)), 0]
    torch.testing.assert_close(scores.logits, naive, atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.auxiliary, logit[:, 0], atol=1e-5, rtol=0)


def test_scenarios_mixed_in_a_batch_score_as_each_by_itself():
    network, batch = network_of(), batch_of()
    with torch.no_grad():
        together = network(batch).logits
        for scenario in range(SCENARIOS):
            rows = torch.nonzero(batch.scenarios == scenario)[:, 0]
            torch.testing.assert_close(network(rows_of(batch, rows)).logits, together[rows])


def test_branches_that_are_alike_do_not_know_the_scenario():
    network, batch = network_of(alike=True, mutual="none"), batch_of()
    with torch.no_grad():
        scores = network(batch).logits
        others = network(replaced(batch, scenarios=(batch.scenarios + 1) % SCENARIOS)).logits
    torch.testing.assert_close(scores, others)


@pytest.mark.parametrize(
    "changes",
    [
        {"auxiliary": False}, {"embeddings": "global"}, {"attention": "global"}, {"values": "specific"},
        {"max_length": 0}, {"mutual": "none"}, {"gate": "open"}, {"shares": "uniform"},
        {"specific_fields": ("category", "gender")}, {"item_table": "hash", "item_rows": 5}, {"hidden": (8,)},
    ],
)  # fmt: skip
def test_every_reading_of_the_paper_learns_samples_by_heart(changes):
    torch.manual_seed(0)
    wide = {"hidden": (64, 32), "dropout": 0.0} | changes
    network, batch = SAMLNetwork(SAMLConfig(**wide), shape_of()), batch_of(64)
    optimizers = make_optimizers(network, TrainingOptions(learning_rate=1e-2, weight_decay=0))
    for _ in range(80):
        loss = loss_of(network, batch, network.config.auxiliary)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    assert ((network(batch).logits > 0) == (batch.labels > 0)).float().mean() > 0.95


def test_512_samples_are_told_apart():
    torch.manual_seed(0)
    network, batch = SAMLNetwork(SAMLConfig(hidden=(64, 32), dropout=0.0), shape_of()), batch_of(512)
    optimizers = make_optimizers(network, TrainingOptions(learning_rate=1e-2, weight_decay=0))
    for _ in range(80):
        loss_of(network, batch, True).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    logits = network.eval()(batch).logits.detach().numpy()
    assert area_under_curve(batch.labels.numpy() > 0, logits) > 0.99


def test_without_the_auxiliary_network_branches_read_its_features():
    network, batch = network_of(auxiliary=False), batch_of()
    with torch.no_grad():
        assert network(batch).auxiliary is None
        assert (network(batch).logits != network(replaced(batch, dense=batch.dense + 1)).logits).all()
