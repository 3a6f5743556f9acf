"""What CEL's cluster steps are told by a batch of DUPN: how items would fare in other clusters.

**B** samples of a task, **M** distinct items of the batch, **Q** candidate clusters, **P** samples that are
told of, **R** that stand for all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polyvec.objectives.candidates import Positives, Rivals, candidate_losses

if TYPE_CHECKING:
    from polyvec.systems.dupn.batch import Batch
    from polyvec.systems.dupn.network import Answers, DUPNNetwork
    from polyvec.training.cluster_steps import ClusterSteps

NUM_RIVALS = 8


@torch.no_grad()
def tell(
    clusters: ClusterSteps,
    network: DUPNNetwork,
    batch: Batch,
    answers: Answers,
    log_q_M: Tensor | None,
    factors: dict[str, float],
) -> None:
    """Score the items that tasks ask about with the rows of their candidate clusters.

    Tasks of kind ``next`` and ``item``; of histories items have their own rows.

    Parameters
    ----------
    clusters
        Whom to tell.
    network
        Its weights.
    batch, answers
        Samples, and what the network says of them.
    log_q_M
        What is taken off the scores of ``next``; None for nothing.
    factors
        By which the losses of tasks are multiplied.
    """
    was_training = network.training
    network.eval()
    items_ME = network.encoder.items(batch.items)
    for name, rows in batch.slices.items():
        kind, rep_BR, asked_B = network.head(name).kind, answers.rep[rows], batch.candidates[rows]
        if kind == "item":
            _tell_item(clusters, network, name, batch, items_ME, rep_BR, asked_B, factors[name])
        elif kind == "next" and len(asked_B):
            _tell_next(clusters, network, name, batch, items_ME, rep_BR, asked_B, log_q_M, factors[name])
    network.train(was_training)


def _with_ids(network: DUPNNetwork, items_XE: Tensor, slots_X: Tensor) -> Tensor:
    """What tasks see of items whose id is another, ``[X, …]``."""
    tables = network.encoder.items
    rest = items_XE[..., tables.ids.width :]
    encoded: Tensor = tables.encoding(torch.cat([tables.ids(slots_X), rest], dim=-1))
    return encoded


def _tell_item(
    clusters: ClusterSteps,
    network: DUPNNetwork,
    name: str,
    batch: Batch,
    items_ME: Tensor,
    rep_BR: Tensor,
    asked_B: Tensor,
    factor: float,
) -> None:
    answers_B = batch.answers[batch.slices[name]].float()
    nothing = batch.entities[:0]

    def losses_of(places_R: Tensor, entities_R: Tensor) -> Tensor:
        encoded = _with_ids(network, items_ME[asked_B[places_R]], entities_R + 1)
        logits = network.head(name)(rep_BR[places_R], encoded, nothing, rep_BR[:0])
        return factor * nn.functional.binary_cross_entropy_with_logits(
            logits.float(), answers_B[places_R], reduction="none"
        )

    clusters.ask(batch.items.codes[asked_B, 0] - 1, losses_of)


def _tell_next(
    clusters: ClusterSteps,
    network: DUPNNetwork,
    name: str,
    batch: Batch,
    items_ME: Tensor,
    rep_BR: Tensor,
    asked_B: Tensor,
    log_q_M: Tensor | None,
    factor: float,
) -> None:
    entities_M = batch.items.codes[:, 0] - 1  # −1 is in no cluster: worked out like the rest, then left out
    slots_MQ = clusters.candidates(entities_M.clamp(min=0)) + clusters.table.num_rows + 1
    items_MQE = items_ME[:, None].expand(-1, slots_MQ.shape[1], -1)
    head = network.head(name)
    vectors_MQR = nn.functional.normalize(head.items(_with_ids(network, items_MQE, slots_MQ)), dim=-1)
    own_MR = nn.functional.normalize(head.items(network.encoder.items.encoding(items_ME)), dim=-1)
    users_BR = network.config.alpha * nn.functional.normalize(rep_BR, dim=1)
    off_M = torch.zeros_like(own_MR[:, 0]) if log_q_M is None else log_q_M
    rivals_R = torch.arange(min(NUM_RIVALS, len(users_BR)), device=asked_B.device)
    own_RM = (users_BR[rivals_R] @ own_MR.T - off_M).float()
    weights_B = torch.full_like(users_BR[:, 0], factor / len(users_BR))
    losses_MQ, squares_MQ = candidate_losses(
        Positives(asked_B, torch.einsum("pr,pqr->pq", users_BR, vectors_MQR[asked_B]).float(), weights_B),
        Rivals(
            (torch.einsum("ur,mqr->umq", users_BR[rivals_R], vectors_MQR) - off_M[:, None]).float(),
            own_RM,
            own_RM.logsumexp(dim=1),
            weights_B[rivals_R] * len(users_BR) / len(rivals_R),
        ),
    )
    is_known_M, targets_P = entities_M >= 0, entities_M[asked_B]
    clusters.add_losses(
        entities_M[is_known_M], losses_MQ[is_known_M], squares_MQ[is_known_M], targets_P[targets_P >= 0]
    )
