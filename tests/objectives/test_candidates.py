"""Moving one item: the change of the loss agrees with the loss worked out again."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from polyvec.objectives.candidates import Positives, Rivals, candidate_losses

STATES, ITEMS, CANDIDATES, WIDTH = 7, 5, 3, 4


def test_losses_of_candidates_differ_as_the_softmax_loss_does_when_the_item_alone_moves() -> None:
    torch.manual_seed(0)
    states_PD, items_MD = torch.randn(STATES, WIDTH).double(), torch.randn(ITEMS, WIDTH).double()
    vectors_MQD = torch.randn(ITEMS, CANDIDATES, WIDTH).double()
    targets_P, weights_P = torch.randint(ITEMS, (STATES,)), torch.rand(STATES).double()
    scores_PM = states_PD @ items_MD.T

    found_MQ, squares_MQ = candidate_losses(
        Positives(targets_P, torch.einsum("pd,pqd->pq", states_PD, vectors_MQD[targets_P]), weights_P),
        Rivals(
            torch.einsum("pd,mqd->pmq", states_PD, vectors_MQD),
            scores_PM,
            scores_PM.logsumexp(dim=1),
            weights_P,
        ),
    )
    for item in range(ITEMS):
        losses_Q = []
        for candidate in range(CANDIDATES):
            moved_MD = items_MD.clone()
            moved_MD[item] = vectors_MQD[item, candidate]
            losses_P = cross_entropy(states_PD @ moved_MD.T, targets_P, reduction="none")
            losses_Q.append((weights_P * losses_P).sum())
        expected_Q = torch.stack(losses_Q)
        torch.testing.assert_close(found_MQ[item] - found_MQ[item, 0], expected_Q - expected_Q[0])
        moved_PQ = states_PD @ vectors_MQD[item].T
        differences_PQ = (weights_P * (targets_P == item))[:, None] * (moved_PQ - moved_PQ[:, :1])
        torch.testing.assert_close(squares_MQ[item], differences_PQ.square().sum(dim=0))
