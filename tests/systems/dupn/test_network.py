"""DUPN's network: the spec's checks A 1 and 4 to 12."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from polyvec.evaluation.scenarios import area_under_curve
from polyvec.systems.dupn import DUPNConfig, Task
from polyvec.systems.dupn.batch import Batch, Items, Shape
from polyvec.systems.dupn.network import DUPNNetwork
from polyvec.systems.dupn.objective import Objective
from polyvec.systems.dupn.samples import Known
from polyvec.training.optimizers import make_optimizers
from polyvec.training.options import TrainingOptions

SHAPE = Shape(
    {"item_id": 20, "shop": 5, "brand": 6, "category": 7},
    9,
    {"action": 4, "scenario": 3},
    True,
    {"age": 4},
    8,
)
TASKS = {
    "ctr": (Task("item"), Known()),
    "l2r": (Task("rank"), Known(spreads={f"n{place}": (0.0, 1.0) for place in range(26)})),
    "ppp": (Task("class", column="price"), Known(edges=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))),
    "fifp": (Task("entity", column="brand"), Known(edges=(1.0,))),
    "spp": (Task("entity", column="shop", entity_width=64), Known(edges=(1.0,))),
    "next": (Task("next"), Known()),
}
LENGTHS = [3, 0, 6, 1, 4, 2]


def network_of(tasks=TASKS, shape: Shape = SHAPE, **changes) -> DUPNNetwork:
    torch.manual_seed(0)
    return DUPNNetwork(DUPNConfig(**changes), shape, tasks).eval()


def batch_of(names=tuple(TASKS), lengths=LENGTHS, seed: int = 0) -> Batch:
    """As many samples of every task as lengths, of like histories."""
    random = torch.Generator().manual_seed(seed)

    def draw(high: int, *size: int) -> torch.Tensor:
        return torch.randint(high, size, generator=random)

    count, distinct = len(lengths) * len(names), 10
    lengths_B = torch.tensor(lengths * len(names))
    total = int(lengths_B.sum())
    codes = torch.stack(
        [torch.randperm(19, generator=random)[:distinct] + 1, *[draw(5, distinct)] * 3], dim=1
    )
    words = draw(9, 2 * distinct)
    some = draw(2, count) * 2
    return Batch(
        items=Items(codes, words, torch.arange(0, 2 * distinct, 2), torch.full((distinct,), 0.1)),
        lengths=lengths_B,
        history=draw(distinct, total),
        owners=torch.arange(count).repeat_interleave(lengths_B),
        properties=torch.stack([draw(4, total), draw(3, total), draw(11, total), draw(12, total)], dim=1),
        users=draw(4, count, 1),
        words=draw(8, int(some.sum())),
        word_offsets=some.cumsum(0) - some,
        candidates=draw(distinct, count),
        entities=draw(2, count),
        answers=draw(2, count),
        weights=torch.ones(count),
        numbers={
            name: torch.randn(len(lengths), 26 if name == "l2r" else 0, generator=random) for name in names
        },
        sizes={name: len(lengths) for name in names},
    )


def count(module: torch.nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


def test_at_the_papers_widths_parts_are_as_large_as_the_paper_has_them():
    network = network_of()
    encoder = network.encoder
    assert (encoder.items.width, encoder.properties.width, encoder.width) == (124, 48, 256)
    assert count(encoder.lstm) == 147_968
    sizes = {name: count(network.head(name).layers) for name in TASKS if name != "next"}
    assert sizes == {"ctr": 65_921, "l2r": 36_250, "ppp": 33_799, "fifp": 65_921, "spp": 49_409}


def test_what_the_data_has_not_is_left_out():
    shape = Shape({"item_id": 20}, 0, {}, False, {}, 0)
    network = network_of({"next": TASKS["next"]}, shape)
    encoder = network.encoder
    assert (encoder.items.width, encoder.properties.width, encoder.query.width, encoder.width) == (
        32,
        0,
        0,
        128,
    )
    batch = batch_of(("next",))
    batch = replace(
        batch, items=replace(batch.items, codes=batch.items.codes[:, :1]), properties=batch.properties[:, :0],
        users=batch.users[:, :0],
    )  # fmt: skip
    assert network(batch).rep.shape == (6, 128)


def test_attention_adds_up_to_one_and_rep_is_a_mean_of_hidden_states():
    network, batch = network_of(), batch_of()
    hidden = []
    network.encoder.lstm.register_forward_hook(lambda *_: hidden.append(_[2]))
    found = network(batch)
    sums = torch.zeros(len(batch)).index_add(0, batch.owners, found.weights)
    torch.testing.assert_close(sums, (batch.lengths > 0).float())
    assert (found.weights[batch.lengths[batch.owners] == 1] == 1).all()
    expected = torch.zeros(len(batch), 128).index_add(0, batch.owners, found.weights[:, None] * hidden[0])
    torch.testing.assert_close(found.rep[:, :128], expected)
    assert (found.rep[batch.lengths == 0, :128] == 0).all()


def test_attention_is_that_of_the_equations():
    network, batch = network_of(), batch_of(("ctr",))
    pooling = network.encoder.pooling
    hidden, beside = torch.randn(16, 128), torch.randn(16, 48 + 64 + 128)
    weights = pooling(hidden, beside, batch.owners, 6)[1]
    first, second, third = pooling.layers
    for sample in (0, 2, 4):
        mine = batch.owners == sample
        inner = torch.relu(first(torch.cat([hidden[mine], beside[mine]], dim=1)))
        torch.testing.assert_close(
            weights[mine], torch.softmax(third(torch.relu(second(inner)))[:, 0], dim=0)
        )


def test_the_query_and_the_property_change_the_attention():
    network, batch = network_of(properties="attention"), batch_of(("ctr",))
    before = network(batch).weights
    other = replace(batch, words=(batch.words + 1) % 8)
    assert not network(other).weights.equal(before)
    other = replace(batch, properties=(batch.properties + 1) % 3)
    assert not network(other).weights.equal(before)
    assert network_of(properties="none").encoder.lstm.property_width == 0


def test_no_query_is_learned_where_everybody_searches():
    """Users' vectors are read with it; without a share of silent queries it would stay as it began."""
    for share, learns in ((0.0, False), (0.5, True)):
        network, batch = network_of(query_dropout=share), batch_of(("ctr",))
        each = torch.arange(len(batch.word_offsets))
        batch = replace(batch, words=each % 8, word_offsets=each)
        for _ in range(4):  # silent are drawn
            network.train()(batch).logits["ctr"].sum().backward()
        gradient = network.encoder.query.none.grad
        assert bool(gradient is not None and gradient.abs().sum() > 0) is learns


@pytest.mark.parametrize("properties", ["both", "gates", "attention", "none"])
def test_properties_are_seen_where_they_are_to_be_seen(properties):
    network, batch = network_of(properties=properties), batch_of(("ctr",))
    hidden = []
    network.encoder.lstm.register_forward_hook(lambda *_: hidden.append(_[2]))
    first = network(batch)
    other = network(replace(batch, properties=(batch.properties + 1) % 3))
    assert hidden[0].equal(hidden[1]) == (properties in ("attention", "none"))
    assert first.rep.equal(other.rep) == (properties == "none")


def test_order_matters():
    network, batch = network_of(), batch_of(("ctr",))
    turned = batch.history.clone()
    turned[3:9] = turned[3:9].flip(0)  # of the third sample
    changed = (network(replace(batch, history=turned)).rep != network(batch).rep).any(dim=1)
    assert changed.tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("pooling", ["attention", "mean", "last"])
def test_a_sample_is_answered_alike_whatever_stands_beside_it(pooling):
    network = network_of(pooling=pooling)
    together, alone = batch_of(), batch_of(("ctr",))
    first = slice(0, 6)
    mine = together.owners < 6
    ends = int(together.word_offsets[6])
    alone = replace(
        together, lengths=together.lengths[first], history=together.history[mine],
        owners=together.owners[mine], properties=together.properties[mine], users=together.users[first],
        words=together.words[:ends], word_offsets=together.word_offsets[first],
        candidates=together.candidates[first], entities=together.entities[first],
        answers=together.answers[first], weights=together.weights[first],
        numbers={"ctr": together.numbers["ctr"]}, sizes={"ctr": 6},
    )  # fmt: skip
    one, other = network(together), network(alone)
    torch.testing.assert_close(one.rep[first], other.rep, rtol=0, atol=1e-6)
    torch.testing.assert_close(one.logits["ctr"], other.logits["ctr"], rtol=0, atol=1e-6)


def test_ranking_is_by_weights_that_are_never_below_zero():
    network, batch = network_of(), batch_of(("l2r",))
    found, head = network(batch), network.head("l2r")
    weights = torch.relu(head.layers(found.rep))
    torch.testing.assert_close(found.logits["l2r"], (weights * batch.numbers["l2r"]).sum(dim=1))
    assert (weights >= 0).all()


def test_no_number_begins_without_a_weight():
    """A weight that is 0 for all users gets no gradient and stays there."""
    for seed in range(5):
        torch.manual_seed(seed)
        network = DUPNNetwork(DUPNConfig(), SHAPE, TASKS).eval()
        weights = torch.relu(network.head("l2r").layers(network(batch_of(("l2r",))).rep))
        assert (weights > 0).any(dim=0).all()
        assert 0.3 < weights.square().sum(dim=1).sqrt().mean() < 3  # for numbers of deviation 1


def losses(network: DUPNNetwork, batch: Batch) -> dict[str, torch.Tensor]:
    tasks = {name: task for name, (task, _) in TASKS.items()}
    return Objective(network, network.config, tasks)(batch)[1]


def test_losses_are_those_of_the_equations():
    network, batch = network_of(log_q=0), batch_of()
    batch = replace(batch, weights=torch.rand(len(batch)))
    logits, found = network(batch).logits, losses(network, batch)
    rows = batch.slices
    signs = 2.0 * batch.answers[rows["l2r"]] - 1
    each = functional.softplus(-signs * logits["l2r"])
    torch.testing.assert_close(found["l2r"], (batch.weights[rows["l2r"]] * each).mean())
    each = functional.cross_entropy(logits["ppp"], batch.answers[rows["ppp"]], reduction="none")
    torch.testing.assert_close(found["ppp"], (batch.weights[rows["ppp"]] * each).mean())
    each = functional.cross_entropy(logits["next"], batch.candidates[rows["next"]], reduction="none")
    torch.testing.assert_close(found["next"], (batch.weights[rows["next"]] * each).mean())
    with torch.no_grad():
        for weights in network.head("ppp").parameters():
            weights.zero_()
    assert float(losses(network, replace(batch, weights=torch.ones(len(batch))))["ppp"]) == pytest.approx(
        math.log(7), rel=1e-6
    )


def test_a_sample_of_twice_the_weight_has_twice_the_gradient():
    network, batch = network_of(), batch_of(("l2r",))
    tasks = {"l2r": TASKS["l2r"][0]}
    found = []
    for weight in (1.0, 2.0):
        network.zero_grad()
        weights = torch.zeros(6)
        weights[2] = weight
        Objective(network, network.config, tasks)(replace(batch, weights=weights))[0].backward()
        found.append(network.head("l2r").layers.layers[0].weight.grad.clone())
    torch.testing.assert_close(found[1], 2 * found[0])
    assert found[0].abs().sum() > 0


def test_a_batch_of_one_task_trains_the_encoder_and_its_own_head():
    network, batch = network_of(), batch_of(("ppp",))
    losses_of = Objective(network, network.config, {"ppp": TASKS["ppp"][0]})
    losses_of(batch)[0].backward()
    for name in TASKS:
        trained = [weights.grad is not None for weights in network.head(name).parameters()]
        assert all(trained) if name == "ppp" else not any(trained)
    assert network.encoder.lstm.item_weight.grad.abs().sum() > 0


def test_candidates_and_histories_share_the_table_of_items():
    network, batch = network_of(), batch_of(("ctr",))
    batch = replace(batch, history=batch.history.clamp(max=8), candidates=torch.arange(6) + 4)
    loss, _ = Objective(network, network.config, {"ctr": TASKS["ctr"][0]})(batch)
    loss.backward()
    moved = set(network.encoder.items.ids.weight.grad.coalesce().indices()[0].tolist())
    codes = batch.items.codes[:, 0]
    assert moved == set(codes.tolist())
    gradients = network.encoder.items.ids.weight.grad.to_dense()
    assert gradients[codes[9]].abs().sum() > 0  # asked about, and in no history
    both = set(batch.history.tolist()) & set(batch.candidates.tolist())
    assert all(gradients[codes[one]].abs().sum() > 0 for one in both)


def test_uncertain_tasks_weigh_less():
    network, batch = network_of(loss_weights="uncertainty"), batch_of()
    tasks = {name: task for name, (task, _) in TASKS.items()}
    objective = Objective(network, network.config, tasks)
    total, parts = objective(batch)
    torch.testing.assert_close(total, sum(parts.values()))
    with torch.no_grad():
        network.log_variances["of ctr"].fill_(2)
    torch.testing.assert_close(
        objective(batch)[0], total - parts["ctr"] * (1 - math.exp(-2)) + 2, rtol=1e-5, atol=1e-5
    )
    objective(batch)[0].backward()
    assert network.log_variances["of ctr"].grad is not None


@pytest.mark.parametrize("kind", ["ctr", "l2r", "ppp"])
def test_256_samples_are_learned_by_heart(kind):
    network = network_of({kind: TASKS[kind]}, dropout=0.0).train()
    batch = batch_of((kind,), lengths=np.random.default_rng(0).integers(1, 8, 256).tolist())
    if kind == "ppp":
        batch = replace(batch, answers=torch.arange(256) % 7)
    optimizers = make_optimizers(network, TrainingOptions(learning_rate=5e-3, weight_decay=0))
    objective = Objective(network, network.config, {kind: TASKS[kind][0]})
    for _ in range(120):
        objective(batch)[0].backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    logits = network.eval()(batch).logits[kind].detach()
    if kind == "ppp":
        assert (logits.argmax(dim=1) == batch.answers).float().mean() > 0.95
    else:
        assert area_under_curve(batch.answers.numpy() > 0, logits.numpy()) > 0.99
