"""Loss of SAML and its rivals, their predictions, and what these are worth in validation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from polyvec.evaluation.scenarios import area_under_curve
from polyvec.systems.saml.clusters import tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from polyvec.systems.saml.config import SAMLConfig
    from polyvec.systems.saml.features import Encoder
    from polyvec.systems.saml.network import Batch, Scores
    from polyvec.systems.saml.samples import Samples
    from polyvec.training.cluster_steps import ClusterSteps

    Floats = npt.NDArray[np.float64]

AT_ONCE = 8192  # samples that are scored together
LARGEST = 10.0  # bound of a calibration's numbers


@dataclass(frozen=True)
class Objective:
    """BCE of every sample's own branch + λ BCE of the auxiliary network.

    Attributes
    ----------
    network
        What is trained.
    config
        λ, and what weighs alike: samples or scenarios.
    clusters
        Told how items and users would fare in other clusters: of each field that is clustered.
    """

    network: nn.Module
    config: SAMLConfig
    clusters: Mapping[str, ClusterSteps] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss, and what it is made of."""
        weights = self._weights(batch)
        parts = self._parts(batch, weights)
        for name, clusters in self.clusters.items():
            tell(
                clusters,
                name,
                self.network,
                batch,
                lambda some, places: self._total(
                    self._parts(some, None if weights is None else weights[places])
                ),
            )
        means = {name: losses.mean() for name, losses in parts.items()}
        return self._total(means), {name: mean.detach() for name, mean in means.items()}

    def _parts(self, batch: Batch, weights: Tensor | None) -> dict[str, Tensor]:
        """Loss of every sample, ``[B]``, of its own branch and of the auxiliary network, if that counts."""
        scores: Scores = self.network(batch)
        logits = {"own": scores.logits}
        if scores.auxiliary is not None and self.config.auxiliary_weight:
            logits["auxiliary"] = scores.auxiliary
        return {
            name: nn.functional.binary_cross_entropy_with_logits(
                one.float(), batch.labels, weights, reduction="none"
            )
            for name, one in logits.items()
        }

    def _total(self, parts: dict[str, Tensor]) -> Tensor:
        if "auxiliary" not in parts:
            return parts["own"]
        return parts["own"] + self.config.auxiliary_weight * parts["auxiliary"]

    def _weights(self, batch: Batch) -> Tensor | None:
        """Weights of mean 1, of the same sum in every scenario of the batch; None if samples weigh alike."""
        if not self.config.balanced:
            return None
        sizes = torch.bincount(batch.scenarios).float()
        return (len(batch) / (sizes > 0).sum() / sizes)[batch.scenarios]


@dataclass(frozen=True)
class Validator:
    """Mean over scenarios of the AUC of held-out samples.

    Attributes
    ----------
    network
        May go on training between calls.
    samples, encoder
        What is asked.
    """

    network: nn.Module
    samples: Samples
    encoder: Encoder

    def __call__(self) -> float:
        """Chance that what was taken scores higher than what was not, in the same scenario."""
        offers = self.samples.offers
        scores = predict(self.network, self.samples, self.encoder)[0]
        areas = [
            area_under_curve(offers.labels[mine], scores[mine])
            for mine in (offers.scenarios == one for one in np.unique(offers.scenarios))
        ]
        return float(np.nanmean(areas))


def calibrate(logits: Floats, labels: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Scale and shift of logits that make the log-loss of these samples least (Platt 1999).

    Networks that were chosen for their AUC are too sure of themselves. The scale is above 0: what is ranked
    stays ranked. As Platt has it, of n samples that were taken each counts as (n + 1)/(n + 2), and of those
    that were not as 1/(n + 2): few samples never make a chance certain.
    """
    if labels.all() or not labels.any():
        return 1.0, 0.0
    taken = int(labels.sum())
    targets = np.where(labels, (taken + 1) / (taken + 2), 1 / (len(labels) - taken + 2))

    def loss(log_scale_and_shift: Floats) -> float:
        log_scale, shift = log_scale_and_shift
        scaled = np.exp(log_scale) * logits + shift
        return float((np.logaddexp(0, scaled) - targets * scaled).mean())

    found = minimize(loss, np.zeros(2), bounds=[(-LARGEST, LARGEST)] * 2)
    return float(np.exp(found.x[0])), float(found.x[1])


@torch.no_grad()
def predict(network: nn.Module, samples: Samples, encoder: Encoder) -> tuple[Floats, Floats]:
    """Logits of samples ``[P]``, and α ``[P, S]`` of a network that has it (else ``[P, 0]``)."""
    network.eval()
    device = next(network.parameters()).device
    logits, shares = [np.empty(0)], []
    for start in range(0, len(samples), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(samples)))
        found: Scores = network(encoder.batch(samples.take(rows), device))
        logits.append(found.logits.double().cpu().numpy())
        if found.shares is not None:
            shares.append(found.shares.double().cpu().numpy())
    return np.concatenate(logits), np.concatenate(shares) if shares else np.empty((len(samples), 0))
