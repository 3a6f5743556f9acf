"""GUIM's two pre-training tasks on one batch, and what to watch while they train (GUIM section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from polyvec.layers.item_encoder import FieldTensors
from polyvec.objectives.full_softmax import full_softmax_loss
from polyvec.objectives.masked_items import masked_item_loss
from polyvec.objectives.matching import Negatives, balanced_shares, cosines, matching_loss, mix
from polyvec.systems.guim.clusters import Targets, tell
from polyvec.systems.guim.network import GUIMNetwork, Histories, tensors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from polyvec.data.batches import Batch
    from polyvec.data.fields import ItemFields
    from polyvec.systems.guim.config import GUIMConfig
    from polyvec.training.cluster_steps import ClusterSteps

LEAST_FREQUENCY = 1e-9  # of an item whose logarithm is asked for


@dataclass(frozen=True)
class Objective:
    """Loss of a batch.

    Attributes
    ----------
    network, config
        The model.
    fields
        Fields of all items of the Dataset.
    frequencies
        Share of each item among the training events, float64 ``[N]``, for the log-q correction.
    device
        Where to compute.
    clusters
        Told how items would fare in other clusters; None without clusters.
    """

    network: GUIMNetwork
    config: GUIMConfig
    fields: ItemFields
    frequencies: npt.NDArray[np.float64]
    device: torch.device
    clusters: ClusterSteps | None = None

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss (a scalar to descend) and figures to report."""
        items_MD, users_BCD, masked_PD = self._encode(batch)
        log_q_M = self._log_q(batch)
        loss, figures = torch.zeros((), device=self.device), {}
        if self.config.masked_weight and len(masked_PD):
            masked = self._masked_loss(batch, masked_PD, items_MD, log_q_M)
            loss = loss + self.config.masked_weight * masked
            figures["masked_loss"] = masked.detach()
        if self.config.matching_weight and len(batch.target_users_P):
            matching, watched = self._matching_loss(batch, users_BCD, items_MD, log_q_M)
            loss = loss + self.config.matching_weight * matching
            figures |= watched | {"matching_loss": matching.detach()}
        if not figures:  # by chance nothing was masked: a step with gradients of zero
            loss = masked_PD.sum() * 0
        return loss, figures

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        items_MD = self.network.encode_items(FieldTensors.of(self.fields.take(batch.distinct_M), self.device))
        histories = Histories(
            tensors(batch.items_BL, self.device),
            tensors(batch.ages_BL, self.device),
            tensors(batch.lengths_B, self.device),
            tensors(batch.masked_BL, self.device),
        )
        users_BCD, masked_PD = self.network.encode_histories(items_MD, histories)
        return items_MD.float(), users_BCD.float(), masked_PD.float()

    def _masked_loss(
        self, batch: Batch, masked_PD: Tensor, items_MD: Tensor, log_q_M: Tensor | None
    ) -> Tensor:
        masked_BL = tensors(batch.masked_BL, self.device)
        items_P = tensors(batch.items_BL, self.device)[masked_BL]
        weights_P = self._weights(masked_BL.nonzero()[:, 0], len(batch.lengths_B))
        drawn = _negatives(batch.drawn_for_masked_QK, items_P[:, None], self.device)
        if drawn is None and log_q_M is None:  # the same in less time and memory
            queries_PD = self.config.alpha * normalize(masked_PD, dim=-1)
            return full_softmax_loss(queries_PD, normalize(items_MD, dim=-1), items_P, weights_P)
        losses_P = masked_item_loss(
            masked_PD, items_MD, items_P, self.config.alpha, log_q_M=log_q_M, negatives=drawn
        )
        return (weights_P * losses_P).sum()

    def _matching_loss(
        self, batch: Batch, users_BCD: Tensor, items_MD: Tensor, log_q_M: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        users_P = tensors(batch.target_users_P, self.device)
        items_P = tensors(batch.target_items_P, self.device)
        weights_P = self._weights(users_P, len(batch.lengths_B))
        with torch.autocast(self.device.type, enabled=False):
            cosines_BCM = cosines(users_BCD, items_MD)
            scores_BM = self._scores(cosines_BCM)
            answers_PC = cosines_BCM[users_P, :, items_P]
            losses_P = matching_loss(
                scores_BM,
                users_P,
                items_P,
                positives_P=self._balanced(answers_PC, weights_P),
                log_q_M=log_q_M,
                negatives=self._drawn_for_targets(batch, users_P),
            )
            figures = watch(users_BCD.detach(), answers_PC.detach())
            if self.clusters is not None:  # by the score, also where targets are shared out
                targets = Targets(users_P, items_P, weights_P)
                fields = FieldTensors.of(self.fields.take(batch.distinct_M), self.device)
                tell(self.clusters, self.network.f_i, fields, users_BCD, scores_BM, targets, self._scores)
        return (weights_P * losses_P).sum(), figures

    def _drawn_for_targets(self, batch: Batch, users_P: Tensor) -> Negatives | None:
        if batch.drawn_for_targets_PK is None:
            return None
        is_target_BM = torch.zeros(
            len(batch.lengths_B), len(batch.distinct_M), dtype=torch.bool, device=self.device
        )
        is_target_BM[users_P, tensors(batch.target_items_P, self.device)] = True
        items_PK = tensors(batch.drawn_for_targets_PK, self.device)
        excluded_PK = (items_PK < 0) | is_target_BM[users_P[:, None], items_PK.clamp(min=0)]
        return Negatives(items_PK.clamp(min=0), excluded_PK)

    def _balanced(self, cosines_PC: Tensor, weights_P: Tensor) -> Tensor | None:
        """Scores of the targets by the vectors that they are shared out to, ``[P]``; None if by the best."""
        if not self.config.balance:
            return None
        shares_PC = balanced_shares(cosines_PC, weights_P, self.config.sharpness, self.config.balance)
        return self.config.alpha * (shares_PC * cosines_PC).sum(dim=1)

    def _scores(self, cosines_BCM: Tensor) -> Tensor:
        """Scores from the cosines of the users' vectors. ``[B, C, M] → [B, M]``."""
        return mix(cosines_BCM, self.config.alpha, self.config.mixture, self.config.sharpness)

    def _weights(self, users_P: Tensor, num_users: int) -> Tensor:
        """Weight of every pair: 1/B (the paper's sum, scaled), or so that users weigh alike; ``[P]``."""
        if self.config.weighting == "pairs":
            return torch.full(users_P.shape, 1 / num_users, device=self.device)
        per_user = torch.bincount(users_P, minlength=num_users)
        return 1 / (per_user[users_P] * (per_user > 0).sum())

    def _log_q(self, batch: Batch) -> Tensor | None:
        """Log of how often an item is a negative, times the configured share; ``[M]``.

        Of ``sampled`` negatives, which are drawn with replacement, its frequency, but for a number that all
        items share; of ``shared`` ones the chance that it is among the batch's events.
        """
        if not self.config.log_q or self.config.negatives == "catalogue":
            return None
        if self.config.negatives == "sampled":
            frequencies_M = tensors(self.frequencies[batch.distinct_M], self.device).float()
            return self.config.log_q * torch.log(frequencies_M.clamp(min=LEAST_FREQUENCY))
        draws = batch.num_tokens + len(batch.target_users_P)
        expected_M = tensors(self.frequencies[batch.distinct_M] * draws, self.device).float()
        return self.config.log_q * torch.log(-torch.expm1(-expected_M.clamp(min=1e-6)))


def watch(users_BCD: Tensor, target_cosines_PC: Tensor) -> dict[str, Tensor]:
    """Figures that tell dead or equal vectors early: the max passes its gradient to one vector per pair.

    Returns
    -------
    dict
        ``wins`` ``[C]``: share of targets nearest to each vector. ``cosine``: mean cosine of two vectors of a
        user. ``effective_rank``: exp of the entropy of a user's singular values, 1 … C.
    """
    num_vectors = users_BCD.shape[1]
    wins_C = torch.bincount(target_cosines_PC.argmax(dim=1), minlength=num_vectors) / max(
        len(target_cosines_PC), 1
    )
    if num_vectors == 1:
        return {"wins": wins_C}
    units_BCD = torch.nn.functional.normalize(users_BCD, dim=-1)
    gram_BCC = units_BCD @ units_BCD.transpose(1, 2)
    pairs = num_vectors * (num_vectors - 1)
    cosine = (gram_BCC.sum(dim=(1, 2)) - num_vectors) / pairs
    spectrum_BC = torch.linalg.eigvalsh(gram_BCC).clamp(min=0).sqrt()
    shares_BC = spectrum_BC / spectrum_BC.sum(dim=1, keepdim=True)
    entropy_B = torch.special.entr(shares_BC).sum(dim=1)
    return {"wins": wins_C, "cosine": cosine.mean(), "effective_rank": entropy_B.exp().mean()}


def _negatives(drawn_PK: object, positives_P1: Tensor, device: torch.device) -> Negatives | None:
    if drawn_PK is None:
        return None
    items_PK = tensors(drawn_PK, device)
    return Negatives(items_PK.clamp(min=0), (items_PK < 0) | (items_PK == positives_P1))
