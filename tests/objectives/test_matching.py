"""Eq. 2, 3 and 4 of the GUIM paper, transcribed from its text in plain Python, against the code."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polyvec.objectives.matching import Mixture, Negatives, balanced_shares, cosines, matching_loss, mix

ALPHA = 20.0
Vector = Sequence[float]


def cosine(u: Vector, v: Vector) -> float:
    dot = sum(a * b for a, b in zip(u, v, strict=True))
    return dot / math.sqrt(sum(a * a for a in u)) / math.sqrt(sum(b * b for b in v))


def equation_2(user: Sequence[Vector], item: Vector, sharpness: float) -> float:
    """s(i, j) = α Σ_c π_c|ij cos(u_c, v_j), Σ_c π_c|ij = 1, with π = softmax_c(sharpness · cos)."""
    weights = [math.exp(sharpness * cosine(u, item)) for u in user]
    return ALPHA * sum(w / sum(weights) * cosine(u, item) for w, u in zip(weights, user, strict=True))


def equation_3(user: Sequence[Vector], item: Vector) -> float:
    """s(i, j) = α max_c cos(u_c, v_j)."""
    best = -2.0
    for u in user:
        if cosine(u, item) > best:
            best = cosine(u, item)
    return ALPHA * best


def equation_4(scores: Sequence[float]) -> float:
    """−log p(a = 0 | i, j(0) … j(K)): the positive's score first, then those of the K negatives."""
    return -math.log(math.exp(scores[0]) / sum(math.exp(score) for score in scores))


def made(users: int = 3, vectors: int = 3, items: int = 6, width: int = 5) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(7)
    return (
        torch.randn(users, vectors, width, generator=random, dtype=torch.float64),
        torch.randn(items, width, generator=random, dtype=torch.float64),
    )


def scores(users_BCD: Tensor, items_MD: Tensor, mixture: Mixture = "max", sharpness: float = 20.0) -> Tensor:
    return mix(cosines(users_BCD, items_MD), ALPHA, mixture, sharpness)


# --- scores


def test_scores_are_equation_3() -> None:
    users_BCD, items_MD = made()
    expected = [[equation_3(user, item) for item in items_MD.tolist()] for user in users_BCD.tolist()]
    np.testing.assert_allclose(scores(users_BCD, items_MD), expected, rtol=1e-12)


@pytest.mark.parametrize("sharpness", [0.1, 1, 7.5])
def test_attention_is_equation_2(sharpness: float) -> None:
    users_BCD, items_MD = made()
    expected = [
        [equation_2(user, item, sharpness) for item in items_MD.tolist()] for user in users_BCD.tolist()
    ]
    np.testing.assert_allclose(scores(users_BCD, items_MD, "attention", sharpness), expected, rtol=1e-12)


@pytest.mark.parametrize("sharpness", [0.01, 1, 100])
def test_the_weights_of_attention_sum_to_one(sharpness: float) -> None:
    equal_cosines = torch.full((2, 4, 3), 0.3, dtype=torch.float64)
    torch.testing.assert_close(mix(equal_cosines, 1.0, "attention", sharpness), equal_cosines[:, 0])
    shifted = torch.rand(2, 4, 3, dtype=torch.float64) / 2
    before = mix(shifted, 1.0, "attention", sharpness)
    torch.testing.assert_close(mix(shifted + 0.25, 1.0, "attention", sharpness), before + 0.25)


def test_attention_without_sharpness_is_the_mean_and_with_much_of_it_the_max() -> None:
    users_BCD, items_MD = made()
    cosines_BCM = cosines(users_BCD, items_MD)
    torch.testing.assert_close(
        mix(cosines_BCM, ALPHA, "attention", 1e-9), ALPHA * cosines_BCM.mean(dim=1), atol=1e-6, rtol=0
    )
    for mixture in ("attention", "soft_max"):
        torch.testing.assert_close(
            mix(cosines_BCM, ALPHA, mixture, 1e6), mix(cosines_BCM, ALPHA), atol=1e-4, rtol=0
        )


COSINES = st.lists(st.floats(-1, 1), min_size=1, max_size=6)


@given(COSINES, st.floats(0.01, 500))
def test_every_mixture_lies_below_the_max_and_within_alpha(values: list[float], sharpness: float) -> None:
    cosines_BCM = torch.tensor(values, dtype=torch.float64)[None, :, None]
    best = float(mix(cosines_BCM, ALPHA))
    assert best == ALPHA * max(values)
    attention = float(mix(cosines_BCM, ALPHA, "attention", sharpness))
    soft = float(mix(cosines_BCM, ALPHA, "soft_max", sharpness))
    assert -ALPHA - 1e-9 <= attention <= best + 1e-9
    assert best - ALPHA / sharpness * math.log(len(values)) - 1e-6 <= soft <= best + 1e-6
    assert soft >= -ALPHA - 1e-6


def test_scores_reach_both_ends_of_their_range() -> None:
    users_BCD = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    items_MD = torch.tensor([[5.0, 0.0], [-0.1, 0.0], [0.0, 3.0]])
    torch.testing.assert_close(scores(users_BCD, items_MD), torch.tensor([[20.0, -20.0, 0.0]]))


def test_lengths_of_vectors_do_not_count() -> None:
    users_BCD, items_MD = made()
    torch.testing.assert_close(scores(users_BCD * 100, items_MD / 100), scores(users_BCD, items_MD))


def test_a_vector_of_zeros_has_cosine_zero() -> None:
    assert cosines(torch.zeros(1, 1, 4), torch.ones(2, 4)).tolist() == [[[0, 0]]]


# --- targets shared out evenly


def one_winner(targets: int = 40, vectors: int = 4) -> Tensor:
    """Cosines of targets that the first of a user's vectors is nearest to, all of them."""
    cosines_PC = torch.rand(targets, vectors, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    cosines_PC[:, 0] += 1
    return cosines_PC / 2


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_every_vector_answers_for_its_part_of_the_targets(balance: float) -> None:
    weights_P = torch.linspace(1, 3, 40, dtype=torch.float64)
    shares_PC = balanced_shares(one_winner(), weights_P, 20.0, balance, rounds=200)
    torch.testing.assert_close(shares_PC.sum(dim=1), torch.ones(40, dtype=torch.float64))
    parts_C = (weights_P[:, None] * shares_PC).sum(dim=0) / weights_P.sum()
    goal_C = torch.tensor([1 - balance * 3 / 4, *[balance / 4] * 3], dtype=torch.float64)
    torch.testing.assert_close(parts_C, goal_C, atol=1e-3, rtol=0)


def test_a_target_stays_with_the_nearest_vector_where_all_have_enough() -> None:
    nearest_PC = torch.nn.functional.one_hot(torch.arange(12) % 3, 3).double()
    torch.testing.assert_close(
        balanced_shares(nearest_PC, torch.ones(12), 20.0), nearest_PC, atol=1e-6, rtol=0
    )


def test_of_targets_that_one_vector_wins_the_others_get_those_that_are_nearest_to_them() -> None:
    cosines_PC = torch.tensor([[0.9, 0.1], [0.9, 0.2], [0.9, 0.7], [0.9, 0.8]])
    shares_PC = balanced_shares(cosines_PC, torch.ones(4), 20.0, rounds=100)
    assert (shares_PC[:, 1] > 0.5).tolist() == [False, False, True, True]


def test_the_loss_of_given_scores_of_the_targets_is_equation_4() -> None:
    users_BCD, items_MD = made()
    scores_BM, items_P = scores(users_BCD, items_MD), torch.tensor([0, 4, 2])
    positives_P = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    losses_P = matching_loss(scores_BM, torch.arange(3), items_P, positives_P=positives_P)
    for user, item in enumerate(items_P.tolist()):
        others = [float(score) for place, score in enumerate(scores_BM[user]) if place != item]
        assert float(losses_P[user]) == pytest.approx(equation_4([float(positives_P[user]), *others]))


def test_the_gradient_of_the_max_reaches_the_winning_vector_only() -> None:
    users_BCD, items_MD = made()
    users_BCD.requires_grad_()
    winners_BM = cosines(users_BCD, items_MD).argmax(dim=1)
    assert winners_BM.unique().numel() > 1
    for user in range(len(users_BCD)):
        for item in range(len(items_MD)):
            users_BCD.grad = None
            scores(users_BCD, items_MD)[user, item].backward()
            gradient = users_BCD.grad
            assert gradient is not None
            reached = (gradient.abs().sum(dim=-1) > 0).nonzero().tolist()
            assert reached == [[user, int(winners_BM[user, item])]]


@pytest.mark.parametrize("mixture", ["attention", "soft_max"])
def test_the_other_mixtures_train_every_vector(mixture: Mixture) -> None:
    users_BCD, items_MD = made()
    users_BCD.requires_grad_()
    scores(users_BCD, items_MD, mixture, 5.0)[0, 0].backward()
    assert users_BCD.grad is not None
    assert (users_BCD.grad[0].abs().sum(dim=-1) > 0).all()
    assert not users_BCD.grad[1:].any()


@pytest.mark.parametrize("mixture", ["max", "attention", "soft_max"])
def test_gradients_agree_with_finite_differences(mixture: Mixture) -> None:
    users_BCD, items_MD = made()
    assert torch.autograd.gradcheck(
        lambda users, items: scores(users, items, mixture, 3.0),
        (users_BCD.requires_grad_(), items_MD.requires_grad_()),
    )


# --- loss

TARGET_USERS, TARGET_ITEMS = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 4, 1, 0])


def targets_of(user: int) -> set[int]:
    return {int(item) for owner, item in zip(TARGET_USERS, TARGET_ITEMS, strict=True) if int(owner) == user}


def test_with_shared_negatives_each_target_meets_all_items_but_the_users_other_targets() -> None:
    users_BCD, items_MD = made()
    table = [[equation_3(user, item) for item in items_MD.tolist()] for user in users_BCD.tolist()]
    expected = []
    for user, item in zip(TARGET_USERS.tolist(), TARGET_ITEMS.tolist(), strict=True):
        negatives = [j for j in range(len(items_MD)) if j not in targets_of(user)]
        expected.append(equation_4([table[user][item]] + [table[user][j] for j in negatives]))
    losses_P = matching_loss(scores(users_BCD, items_MD), TARGET_USERS, TARGET_ITEMS)
    np.testing.assert_allclose(losses_P, expected, rtol=1e-9)


def test_with_drawn_negatives_the_loss_is_equation_4() -> None:
    users_BCD, items_MD = made()
    table = [[equation_3(user, item) for item in items_MD.tolist()] for user in users_BCD.tolist()]
    items_PK = torch.tensor([[0, 2, 2], [5, 3, 0], [1, 0, 2], [5, 5, 5]])
    excluded_PK = torch.zeros(4, 3, dtype=torch.bool)
    excluded_PK[2, 0] = True  # the positive itself was drawn
    expected = []
    for p, (user, item) in enumerate(zip(TARGET_USERS.tolist(), TARGET_ITEMS.tolist(), strict=True)):
        drawn = [j for j, out in zip(items_PK[p].tolist(), excluded_PK[p].tolist(), strict=True) if not out]
        expected.append(equation_4([table[user][item]] + [table[user][j] for j in drawn]))
    losses_P = matching_loss(
        scores(users_BCD, items_MD), TARGET_USERS, TARGET_ITEMS, negatives=Negatives(items_PK, excluded_PK)
    )
    np.testing.assert_allclose(losses_P, expected, rtol=1e-9)


def test_an_item_that_two_users_bought_is_no_negative_of_either() -> None:
    """Item 1 is a target of users 0 and 1: moving what is excluded must move nothing."""
    table_BM = scores(*made()).requires_grad_()
    matching_loss(table_BM, TARGET_USERS, TARGET_ITEMS)[0].backward()
    gradient = table_BM.grad
    assert gradient is not None
    assert gradient[0, 4] == 0  # the user's other target has no effect on this one
    assert gradient[0, 1] < 0  # the positive, once
    assert float(gradient[0].sum()) == pytest.approx(0, abs=1e-12)
    moved_BM = table_BM.detach().clone()
    moved_BM[0, 4] += 1000
    losses = matching_loss(moved_BM, TARGET_USERS, TARGET_ITEMS)
    before = matching_loss(table_BM.detach(), TARGET_USERS, TARGET_ITEMS)
    assert losses[0] == before[0]
    assert (losses[2:] == before[2:]).all()
    assert losses[1] != before[1]


def test_an_excluded_draw_has_no_effect_whatever_its_score() -> None:
    table_BM = scores(*made())
    items_PK = torch.tensor([[0, 2], [5, 3], [1, 0], [5, 3]])
    excluded_PK = torch.tensor([[False, True], [False, False], [True, False], [True, True]])
    negatives = Negatives(items_PK, excluded_PK)
    before = matching_loss(table_BM, TARGET_USERS, TARGET_ITEMS, negatives=negatives)
    moved_BM = table_BM.clone()
    moved_BM[0, 2] += 1000
    after = matching_loss(moved_BM, TARGET_USERS, TARGET_ITEMS, negatives=negatives)
    assert torch.equal(before, after)
    assert before[3] == 0  # every draw was excluded


def test_the_log_q_correction_takes_popularity_out_of_the_scores() -> None:
    table_BM = scores(*made())
    log_q_M = torch.linspace(-4, -0.5, 6, dtype=torch.float64)
    corrected = matching_loss(table_BM, TARGET_USERS, TARGET_ITEMS, log_q_M=log_q_M)
    by_hand = [[float(s) - float(q) for s, q in zip(row, log_q_M, strict=True)] for row in table_BM]
    expected = []
    for user, item in zip(TARGET_USERS.tolist(), TARGET_ITEMS.tolist(), strict=True):
        others = [by_hand[user][j] for j in range(6) if j not in targets_of(user)]
        expected.append(equation_4([by_hand[user][item], *others]))
    np.testing.assert_allclose(corrected, expected, rtol=1e-9)
    constant = matching_loss(
        table_BM, TARGET_USERS, TARGET_ITEMS, log_q_M=torch.full((6,), -3.0, dtype=torch.float64)
    )
    np.testing.assert_allclose(constant, matching_loss(table_BM, TARGET_USERS, TARGET_ITEMS), rtol=1e-9)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 7), st.integers(0, 2**16))
def test_the_loss_is_never_negative_nor_infinite(users: int, vectors: int, items: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    users_BCD = torch.randn(users, vectors, 3, generator=random)
    items_MD = torch.randn(items, 3, generator=random)
    owners = torch.arange(users)
    losses_P = matching_loss(scores(users_BCD, items_MD), owners, owners % items)
    assert (losses_P >= 0).all()
    assert losses_P.isfinite().all()
