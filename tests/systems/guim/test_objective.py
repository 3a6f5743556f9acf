"""Both pre-training tasks on whole batches, against loops over users, targets and negatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polyvec.data.batches import Batch, BatchShape, assemble
from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.fields import FieldVocabulary
from polyvec.data.split import cut
from polyvec.objectives.masked_items import masked_item_loss
from polyvec.objectives.matching import balanced_shares
from polyvec.systems.guim.config import GUIMConfig
from polyvec.systems.guim.network import GUIMNetwork
from polyvec.systems.guim.objective import Objective, watch

CPU = torch.device("cpu")
Make = Callable[..., tuple[Objective, Batch]]


@pytest.fixture
def make(shop: Dataset, tiny: Callable[..., GUIMConfig]) -> Make:
    """Return a function that makes an objective in evaluation mode and a batch of six users."""

    def made(**changes: Any) -> tuple[Objective, Batch]:
        config = tiny(**({"negatives": "shared"} | changes))
        torch.manual_seed(0)
        network = GUIMNetwork(config, 9, 3, 100).eval()
        fields = FieldVocabulary.learn(shop.item_table, shop.item_counts(), 9, 100)
        frequencies = shop.item_counts() / shop.num_events
        objective = Objective(network, config, fields.encode(shop.item_table), frequencies, CPU)
        windows = cut(shop, 90 * MICROSECONDS_PER_DAY, 60, 20).with_targets()[slice(0, 6)]
        num_negatives = 7 if config.negatives == "sampled" else 0
        shape = BatchShape(12, 64, 0.3, num_negatives, whole_catalogue=config.negatives == "catalogue")
        return objective, assemble(shop, windows, shape, np.random.default_rng(1))

    return made


def scores(vectors_CD: Tensor, items_MD: Tensor) -> list[float]:
    """α max_c cos(u_c, v_j) for every item (eq. 3); one vector for a masked event."""
    return [
        GUIMConfig.alpha * max(float(torch.cosine_similarity(u, v, dim=0)) for u in vectors_CD)
        for v in items_MD
    ]


def info_nce(table: list[float], positive: int, negatives: list[int]) -> float:
    total = math.exp(table[positive]) + sum(math.exp(table[j]) for j in negatives)
    return -math.log(math.exp(table[positive]) / total)


@torch.no_grad()
def naive_losses(objective: Objective, batch: Batch) -> tuple[list[float], list[float]]:
    """Losses of all targets and of all masked events, one by one."""
    items_MD, users_BCD, masked_PD = objective._encode(batch)
    everything = list(range(len(items_MD)))
    matching, masked, place = [], [], 0
    for user in range(len(batch.lengths_B)):
        table = scores(users_BCD[user], items_MD)
        pairs = [p for p, owner in enumerate(batch.target_users_P) if owner == user]
        own = {int(batch.target_items_P[p]) for p in pairs}
        for p in pairs:
            drawn = (
                everything if batch.drawn_for_targets_PK is None else batch.drawn_for_targets_PK[p].tolist()
            )
            negatives = [j for j in drawn if j not in own and j >= 0]
            matching.append(info_nce(table, int(batch.target_items_P[p]), negatives))
        for position in np.flatnonzero(batch.masked_BL[user]):
            table = scores(masked_PD[place][None], items_MD)
            hidden = int(batch.items_BL[user, position])
            drawn = (
                everything if batch.drawn_for_masked_QK is None else batch.drawn_for_masked_QK[place].tolist()
            )
            masked.append(info_nce(table, hidden, [j for j in drawn if j != hidden and j >= 0]))
            place += 1
    return matching, masked


@pytest.mark.parametrize("negatives", ["shared", "sampled", "catalogue"])
def test_the_overall_loss_is_the_sum_of_both_tasks_over_all_pairs(make: Make, negatives: str) -> None:
    """Footnote 6; the sum is divided by the number of users."""
    objective, batch = make(weighting="pairs", negatives=negatives, mixture="max")
    matching, masked = naive_losses(objective, batch)
    assert len(matching) > 6
    assert len(masked) > 6
    loss, figures = objective(batch)
    weight = objective.config.masked_weight
    assert float(loss.detach()) == pytest.approx((sum(matching) + weight * sum(masked)) / 6, rel=1e-4)
    assert float(figures["matching_loss"]) == pytest.approx(sum(matching) / 6, rel=1e-4)
    assert float(figures["masked_loss"]) == pytest.approx(sum(masked) / 6, rel=1e-4)


def test_balanced_targets_are_scored_by_the_vectors_that_they_are_shared_out_to(make: Make) -> None:
    objective, batch = make(weighting="users", mixture="max", masked_weight=0, balance=0.7)
    with torch.no_grad():
        items_MD, users_BCD, _ = objective._encode(batch)
    users_P, items_P = batch.target_users_P.tolist(), batch.target_items_P.tolist()
    cosines_PC = torch.cosine_similarity(users_BCD[users_P], items_MD[items_P][:, None], dim=-1)
    weights_P = 1 / torch.bincount(torch.tensor(users_P))[users_P]
    shares_PC = balanced_shares(cosines_PC, weights_P, objective.config.sharpness, 0.7)
    assert not torch.allclose(shares_PC.max(dim=1).values, torch.ones(len(users_P)), atol=0.1)
    expected = 0.0
    for place, (user, item) in enumerate(zip(users_P, items_P, strict=True)):
        table = scores(users_BCD[user], items_MD)
        table[item] = GUIMConfig.alpha * float((shares_PC[place] * cosines_PC[place]).sum())
        own = {other for owner, other in zip(users_P, items_P, strict=True) if owner == user}
        loss = info_nce(table, item, [j for j in range(len(items_MD)) if j not in own])
        expected += loss * float(weights_P[place]) / len(set(users_P))
    assert float(objective(batch)[0].detach()) == pytest.approx(expected, rel=1e-4)


def test_weighted_by_users_every_user_counts_the_same(make: Make) -> None:
    objective, batch = make(weighting="users", mixture="max", masked_weight=2)
    matching, masked = naive_losses(objective, batch)

    def mean_of_means(losses: list[float], owners: Any) -> float:
        means = [np.mean([x for x, o in zip(losses, owners, strict=True) if o == u]) for u in set(owners)]
        return float(np.mean(means))

    expected = mean_of_means(matching, batch.target_users_P.tolist())
    expected += 2 * mean_of_means(masked, np.nonzero(batch.masked_BL)[0].tolist())
    assert float(objective(batch)[0].detach()) == pytest.approx(expected, rel=1e-4)


def test_the_weights_of_the_tasks_scale_them(make: Make) -> None:
    both = make(start="bert")  # starts alike whatever the weights
    figures = both[0](both[1])[1]
    for masked_weight, matching_weight in [(2.0, 0.5), (0.0, 1.0), (3.0, 0.0)]:
        weights = {"masked_weight": masked_weight, "matching_weight": matching_weight}
        objective, batch = make(start="bert", **weights)
        expected = masked_weight * figures["masked_loss"] + matching_weight * figures["matching_loss"]
        torch.testing.assert_close(objective(batch)[0].detach(), expected)


@pytest.mark.parametrize("weighting", ["users", "pairs"])
def test_the_masked_loss_in_slices_is_that_of_the_whole_matrix(make: Make, weighting: str) -> None:
    objective, batch = make(weighting=weighting)
    items_MD, _, masked_PD = objective._encode(batch)
    weights = objective._weights(torch.as_tensor(np.nonzero(batch.masked_BL)[0]), len(batch.lengths_B))
    hidden_P = torch.as_tensor(batch.items_BL[batch.masked_BL])
    whole = (weights * masked_item_loss(masked_PD, items_MD, hidden_P, objective.config.alpha)).sum()
    sliced = objective._masked_loss(batch, masked_PD, items_MD, None)
    torch.testing.assert_close(sliced, whole)
    leaves = (masked_PD, items_MD)
    for a, b in zip(
        *(torch.autograd.grad(loss, leaves, retain_graph=True) for loss in (sliced, whole)), strict=True
    ):
        torch.testing.assert_close(a, b)
    corrected = objective._masked_loss(batch, masked_PD, items_MD, torch.full((len(items_MD),), -1.5))
    torch.testing.assert_close(corrected, whole)  # a correction that is alike for all items changes nothing


def test_a_target_of_two_users_pushes_neither_away(make: Make) -> None:
    """Pitfall 6, by effect: with all other items gone nothing is left to learn from."""
    objective, batch = make(masked_weight=0)
    both = replace(
        batch,
        target_users_P=np.repeat(np.arange(6), len(batch.distinct_M)),
        target_items_P=np.tile(np.arange(len(batch.distinct_M)), 6),
    )
    loss, _ = objective(both)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(not p.grad.to_dense().any() for p in objective.network.parameters() if p.grad is not None)


def test_the_hidden_item_is_seen_by_the_loss_alone(make: Make) -> None:
    objective, batch = make(matching_weight=0)
    items_BL = batch.items_BL.copy()
    items_BL[batch.masked_BL] = (items_BL[batch.masked_BL] + 1) % len(batch.distinct_M)
    other = replace(batch, items_BL=items_BL)
    for one, two in zip(objective._encode(batch), objective._encode(other), strict=True):
        assert torch.equal(one, two)
    assert objective(batch)[0] != objective(other)[0]


def test_targets_pass_through_the_item_encoder_only(make: Make) -> None:
    objective, batch = make()
    fewer = replace(batch, target_users_P=batch.target_users_P[:1], target_items_P=batch.target_items_P[:1])
    for one, two in zip(objective._encode(batch), objective._encode(fewer), strict=True):
        assert torch.equal(one, two)


def test_the_correction_is_the_probability_to_be_in_the_batch(make: Make) -> None:
    objective, batch = make(log_q=1.0)
    draws = int(batch.lengths_B.sum()) + len(batch.target_users_P)
    expected = [math.log(1 - math.exp(-f * draws)) for f in objective.frequencies[batch.distinct_M]]
    correction = objective._log_q(batch)
    assert correction is not None
    np.testing.assert_allclose(correction, expected, rtol=1e-5)
    drawn, batch = make(log_q=1.0, negatives="sampled")  # with replacement: popular ones more than once
    frequencies = drawn.frequencies[batch.distinct_M]
    np.testing.assert_allclose(drawn._log_q(batch), np.log(np.maximum(frequencies, 1e-9)), rtol=1e-5)
    half, _ = make(log_q=0.5)
    np.testing.assert_allclose(half._log_q(batch), np.array(expected) / 2, rtol=1e-5)
    assert make(log_q=0.0)[0]._log_q(batch) is None
    assert objective(batch)[0] != make()[0](batch)[0]


def test_a_batch_in_which_nothing_happens_to_be_masked_is_a_step_of_zeros(make: Make) -> None:
    objective, batch = make(matching_weight=0)
    loss, figures = objective(replace(batch, masked_BL=np.zeros_like(batch.masked_BL)))
    loss.backward()
    assert float(loss.detach()) == 0
    assert figures == {}
    assert all(not p.grad.to_dense().any() for p in objective.network.parameters() if p.grad is not None)


# --- what is watched


def test_wins_are_shares_of_targets_and_sum_to_one() -> None:
    cosines_PC = torch.tensor([[0.1, 0.9, 0.0], [0.3, 0.2, 0.1], [0.0, 0.5, 0.4], [0.0, 0.2, 0.1]])
    assert watch(torch.randn(2, 3, 4), cosines_PC)["wins"].tolist() == [0.25, 0.75, 0]


def test_equal_vectors_have_cosine_and_rank_one_and_orthogonal_ones_zero_and_all() -> None:
    targets = torch.zeros(1, 3)
    equal = watch(torch.randn(5, 1, 4).expand(5, 3, 4) * torch.tensor([1.0, 2.0, 5.0])[:, None], targets)
    assert float(equal["cosine"]) == pytest.approx(1, abs=1e-5)
    assert float(equal["effective_rank"]) == pytest.approx(1, abs=0.02)
    apart = watch(torch.eye(4)[None, :3] * torch.tensor([1.0, 2.0, 5.0])[:, None], targets)
    assert float(apart["cosine"]) == pytest.approx(0, abs=1e-6)
    assert float(apart["effective_rank"]) == pytest.approx(3, abs=1e-4)


def test_the_effective_rank_is_exp_of_the_entropy_of_the_singular_values() -> None:
    users_BCD = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0))
    ranks = []
    for user in users_BCD.numpy():
        values = np.linalg.svd(user / np.linalg.norm(user, axis=1, keepdims=True), compute_uv=False)
        shares = values / values.sum()
        ranks.append(math.exp(-sum(share * math.log(share) for share in shares)))
    found = watch(users_BCD, torch.zeros(1, 3))["effective_rank"]
    assert float(found) == pytest.approx(float(np.mean(ranks)), rel=1e-4)


def test_one_vector_wins_everything() -> None:
    assert set(watch(torch.randn(2, 1, 4), torch.zeros(3, 1))) == {"wins"}
