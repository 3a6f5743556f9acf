"""PGTL's networks, against the equations."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from polyvec.layers.gradient_reversal import reverse_gradient
from polyvec.objectives.domains import mean_discrepancy
from polyvec.systems.pgtl.config import Method, PGTLConfig, paper
from polyvec.systems.pgtl.network import Encoded, Features, PGTLNetwork, similarity
from polyvec.systems.pgtl.objective import Objective, PairBatch, Part, risen

CONFIG = PGTLConfig(source="a", target="b", field_width=3, attention=(2,), hidden=(5,), width=4, dropout=0)
METHODS = get_args(Method)


def features(count: int, seed: int = 0) -> Features:
    random = np.random.default_rng(seed)
    sizes = random.integers(0, 3, count)
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    codes = torch.from_numpy(random.integers(0, 6, int(sizes.sum())))
    numbers = torch.from_numpy(random.integers(0, 5, (count, 2)) + np.array([0, 5]))
    return Features(numbers, [(codes, torch.from_numpy(offsets))])


def network(**changes: object) -> PGTLNetwork:
    torch.manual_seed(0)
    made = PGTLNetwork(replace(CONFIG, **changes), num_features=3, num_buckets=10, num_texts=6)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim:
                parameter.normal_(std=0.5)
    return made.eval()


def batch(progress: float = 0.5) -> PairBatch:
    labels = torch.tensor([1.0, 0.0, 1.0])
    return PairBatch(Part(features(6), None, labels), Part(features(6, 1), features(6, 2), labels), progress)


@pytest.mark.parametrize("trade_off", [0.0, 0.3, 2.0])
def test_gradient_reversal_is_the_identity_forward_and_minus_lambda_backward(trade_off):
    inputs = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    weight = torch.randn(4, 3, dtype=torch.double)
    outputs = reverse_gradient(inputs, trade_off)
    assert torch.equal(outputs, inputs)
    (outputs.square() * weight).sum().backward()
    step = 1e-5
    higher, lower = ((inputs.detach() + sign * step).square() * weight for sign in (1, -1))
    numeric = (higher - lower) / (2 * step)
    torch.testing.assert_close(inputs.grad, -trade_off * numeric, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("gate", ["vector", "number"])
@pytest.mark.parametrize("generator", ["source", "own"])
def test_the_targets_vector_is_gate_times_prior_plus_own(gate, generator):
    """Equations 7 and 8, item by item."""
    made = network(gate=gate, prior_generator=generator)
    own, prior = features(5, 1), features(5, 2)
    found = made.target(own, prior)

    def seen(which: Features, market: str, row: int) -> torch.Tensor:
        vectors = [made.embedding.numbers.weight[code] for code in which.numbers[row]]
        codes, offsets = which.bags[0]
        ends = [*offsets.tolist(), len(codes)]
        bag = codes[ends[row] : ends[row + 1]]
        vectors.append(made.embedding.texts.weight[bag].mean(dim=0) if len(bag) else torch.zeros(3))
        return torch.cat([
            2 * torch.sigmoid(made.perspectives[market].attention(one)) * one for one in vectors
        ])  # fmt: skip

    for row in range(5):
        z_p = made.generators["prior" if generator == "own" else "source"](seen(prior, "source", row))
        z_t = made.generators["target"](seen(own, "target", row))
        g = torch.sigmoid(made.gate.weight @ torch.cat([z_p, z_t]) + made.gate.bias)
        assert g.shape == ((4,) if gate == "vector" else (1,))
        torch.testing.assert_close(found.gate[row], g)
        torch.testing.assert_close(found.blocks[0][row], g * z_p + z_t)
        torch.testing.assert_close(found.aligned[row], z_p)


def test_a_batch_of_the_source_leaves_the_targets_attention_alone():
    made = network(alignment="none", decay=0).train()
    loss, _ = Objective(made)(replace(batch(), target=None))
    loss.backward()
    assert all(weight.grad is None for weight in made.perspectives["target"].parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in made.perspectives["source"].parameters())


def test_a_batch_of_the_target_reaches_the_sources_attention_by_the_prior_alone():
    made = network(alignment="none", decay=0).train()
    made.target(features(6), features(6, 1)).blocks[0].sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in made.perspectives["source"].parameters())
    made.zero_grad()
    made.gate.bias.data.fill_(-1e4)  # the gate is closed
    made.target(features(6), features(6, 1)).blocks[0].sum().backward()
    assert all(weight.grad.abs().sum() == 0 for weight in made.perspectives["source"].parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in made.perspectives["target"].parameters())


def test_the_discriminator_learns_to_tell_and_the_generators_to_hide():
    """The same loss goes down along the discriminator's gradient and up along the generators'."""
    made = network(decay=0)
    parts = batch()

    def loss() -> torch.Tensor:
        source = made.source(parts.source.features).aligned
        prior = made.target(parts.target.features, parts.target.prior).aligned
        scores, truth = made.tell_apart(source, prior, 1.0)
        return torch.nn.functional.binary_cross_entropy_with_logits(scores, truth)

    before = loss()
    before.backward()
    for name, sign in (("discriminator", 1), ("generators", -1)):
        weights = list(getattr(made, name).parameters())
        kept = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight in weights:
                if weight.grad is not None:
                    weight -= 0.01 * weight.grad
            assert sign * (float(loss()) - float(before)) < 0, name
            for weight, old in zip(weights, kept, strict=True):
                weight.copy_(old)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alignment", ["adversarial", "mmd", "none"])
def test_every_method_has_a_loss_and_gradients_where_it_learns(method, alignment):
    made = network(method=method, alignment=alignment).train()
    parts = batch()
    if method == "source":
        parts = replace(parts, target=None)
    if method in {"target", "fine_tune"}:
        parts = replace(parts, source=None)
    loss, figures = Objective(made)(parts)
    loss.backward()
    assert loss.isfinite()
    assert ("told_apart" in figures) == (made.aligns and alignment == "adversarial")
    assert ("gate" in figures) == method.startswith("pgtl")
    for name, weight in made.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None, name


def test_the_loss_is_cross_entropy_of_scaled_cosines():
    made = network(method="target", decay=0, scale=2.0)
    parts = replace(batch(), source=None)
    loss, _ = Objective(made)(parts)
    vectors = made.target(parts.target.features, None).blocks[0].detach()
    made.requires_grad_(requires_grad=False)
    expected = 0.0
    for pair, label in enumerate(parts.target.labels):
        one, other = vectors[pair], vectors[pair + 3]
        chance = torch.sigmoid(2.0 * (one @ other) / (one.norm() * other.norm()))
        expected -= float((chance if label else 1 - chance).log()) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_two_blocks_are_compared_by_both_cosines():
    made = network(method="sshare")
    encoded = made.source(features(4)), made.source(features(4, 1))
    both = [
        torch.nn.functional.cosine_similarity(*pair)
        for pair in zip(*(e.blocks for e in encoded), strict=True)
    ]
    torch.testing.assert_close(similarity(*encoded), both[0] + both[1])
    assert made.num_blocks == 2


def test_the_shared_methods_use_the_same_weights_for_both_markets():
    made = network(method="fshare")
    torch.testing.assert_close(made.source(features(4)).blocks, made.target(features(4), None).blocks)


def test_lambda_rises_from_nothing_to_all():
    values = [risen(progress / 10) for progress in range(11)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[5] > 0.95


def test_the_papers_constants():
    config, options = paper()
    assert (config.field_width, config.attention, config.hidden) == (8, (6, 4), (256, 128))
    assert (config.windows, config.dropout, config.scale) == ((1, 7, 30), 0.5, 1.0)
    assert options.learning_rate == 1e-4
    assert config.prior_generator == "own"
    made = PGTLNetwork(config, num_features=36, num_buckets=10, num_texts=6)
    assert made.width == 36
    layers = [m for m in made.perspectives["source"].attention if isinstance(m, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [6, 4, 8]


def test_discrepancy_is_zero_of_like_features_and_grows_with_their_distance():
    torch.manual_seed(0)
    one, other = torch.randn(200, 3), torch.randn(200, 3)
    assert float(mean_discrepancy(one, one)) == pytest.approx(0, abs=1e-6)
    near, far = (float(mean_discrepancy(one, other + shift)) for shift in (0.0, 2.0))
    assert near < 0.05 < 0.2 < far


def test_encoded_without_prior_is_refused_where_it_is_needed():
    with pytest.raises(ValueError, match="prior"):
        network().target(features(3), None)
    assert Encoded((torch.zeros(1, 1),)).gate is None
