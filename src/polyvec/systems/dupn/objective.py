"""Loss of DUPN over its tasks, its answers, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from polyvec.evaluation.classification import accuracy, auc
from polyvec.objectives.matching import matching_loss
from polyvec.systems.dupn.clusters import tell

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.systems.dupn.batch import Batch
    from polyvec.systems.dupn.config import DUPNConfig, Task
    from polyvec.systems.dupn.features import Encoder
    from polyvec.systems.dupn.network import Answers, DUPNNetwork
    from polyvec.systems.dupn.rivals import Network
    from polyvec.systems.dupn.samples import Samples
    from polyvec.training.cluster_steps import ClusterSteps

    Floats = npt.NDArray[np.float64]

AT_ONCE = 2048  # samples that are answered together
MOST_VALIDATED = 20_000  # samples of a task that validation asks about
CUT = 100  # k of recall@k
SCORES_AT_ONCE = 2**25
ITEMS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Objective:
    """Σ_k λ_k L_k over the tasks of a batch.

    Attributes
    ----------
    network
        What is trained.
    config
        α, weights.
    tasks
        By name.
    clusters
        Told how items would fare in other clusters; None without clusters.
    """

    network: Network
    config: DUPNConfig
    tasks: dict[str, Task]
    clusters: ClusterSteps | None = None

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss, and what it is made of."""
        answers: Answers = self.network(batch)
        if self.clusters is not None:
            network = cast("DUPNNetwork", self.network)  # no other has clusters
            factors = {name: float(torch.as_tensor(self._factor(name)).detach()) for name in batch.sizes}
            tell(self.clusters, network, batch, answers, self._log_q(batch), factors)
        losses = {name: self._loss(name, batch, answers) for name in batch.sizes}
        figures = {name: loss.detach() for name, loss in losses.items()}
        total = sum(self._weighted(name, loss) for name, loss in losses.items())
        return cast("Tensor", total), figures

    def _weighted(self, name: str, loss: Tensor) -> Tensor:
        weighted = self._factor(name) * loss
        key = f"of {name}"
        return weighted + self.network.log_variances[key] if key in self.network.log_variances else weighted

    def _factor(self, name: str) -> Tensor | float:
        """What the loss of a task is multiplied by: λ, or λ·exp(−s) where weights are learned."""
        weight, key = self.tasks[name].weight, f"of {name}"
        log_variances = self.network.log_variances
        return torch.exp(-log_variances[key]) * weight if key in log_variances else weight

    def _loss(self, name: str, batch: Batch, answers: Answers) -> Tensor:
        """Mean over the task's samples."""
        rows, kind = batch.slices[name], self.tasks[name].kind
        logits, weights = answers.logits[name].float(), batch.weights[rows]
        if kind == "next":
            each = matching_loss(
                logits,
                torch.arange(len(logits), device=logits.device),
                batch.candidates[rows],
                log_q_M=self._log_q(batch),
            )
        elif kind in ("class", "window"):
            each = nn.functional.cross_entropy(logits, batch.answers[rows], reduction="none")
        else:
            truth = batch.answers[rows].float()
            each = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return (weights * each).mean()

    def _log_q(self, batch: Batch) -> Tensor | None:
        """Log-probability that an item is among those of a batch, times its share in the configuration."""
        if not self.config.log_q:
            return None
        return self.config.log_q * torch.log(-torch.expm1(-batch.items.expected.clamp(min=1e-6)))


@dataclass(frozen=True)
class Validator:
    """What each task's answers are worth: see :func:`worth`.

    Attributes
    ----------
    network
        May go on training between calls.
    tasks, samples
        By name; tasks without samples are passed over.
    encoder
        What turns samples into batches.
    """

    network: Network
    tasks: dict[str, Task]
    samples: dict[str, Samples]
    encoder: Encoder

    def __call__(self) -> dict[str, float]:
        """Measure that counts, by task."""
        return {name: next(iter(found.values())) for name, found in self.measures().items()}

    def measures(self) -> dict[str, dict[str, float]]:
        """All measures of every task, the one that counts first."""
        found = {}
        for name, samples in self.samples.items():
            found[name] = worth(self.network, name, self.tasks[name], asked(samples), self.encoder)
        return found


def asked(samples: Samples) -> Samples:
    """As many samples of a task as are asked about, the same ones every time."""
    return samples.drawn(MOST_VALIDATED, 0)


def worth(network: Network, name: str, task: Task, samples: Samples, encoder: Encoder) -> dict[str, float]:
    """What a task's answers are worth.

    ``next``: recall@100, how often the item is among the best hundred of the catalogue. ``item``, ``rank``,
    ``entity``, and classes where there are two: AUC. More classes: AUC, mean over classes of each against the
    rest; and ``accuracy``.
    """
    return {
        measure: float(each.mean()) if len(each) else float("nan")
        for measure, each in worth_of_each(network, name, task, samples, encoder).items()
    }


def worth_of_each(
    network: Network, name: str, task: Task, samples: Samples, encoder: Encoder
) -> dict[str, Floats]:
    """One number for every sample, ``[P]``, whose mean is the measure: see :func:`worth`.

    For AUC, which is no mean, the measure plus the sample's influence on it: see
    :mod:`polyvec.evaluation.classification`.
    """
    if task.kind == "next":
        compared = cast("DUPNNetwork", network)  # no other answers it
        return {f"recall@{CUT}": _are_found(compared, name, samples, encoder)}
    logits = predict(network, name, samples, encoder)
    if logits.ndim == 1:
        return {"auc": auc((samples.answers > 0)[:, None], logits[:, None])}
    truth = np.arange(logits.shape[1]) == samples.answers[:, None]
    return {"auc": auc(truth, logits), "accuracy": accuracy(truth, logits)}


@torch.no_grad()
def predict(network: Network, name: str, samples: Samples, encoder: Encoder) -> Floats:
    """Logits of a task's samples, ``[P]``, or of every class ``[P, K]``; not of ``next``."""
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for start in range(0, max(len(samples), 1), AT_ONCE):
        some = samples.take(np.arange(start, min(start + AT_ONCE, len(samples))))
        parts.append(network(encoder.batch({name: some}, device)).logits[name].double().cpu().numpy())
    return np.concatenate(parts)


def represent(network: DUPNNetwork, samples: Samples, encoder: Encoder, *, asks: bool = True) -> Floats:
    """Represent the users of some samples, float32 ``[P, R]``; without ``asks`` as if nobody searched."""
    return _encoded(network, samples, encoder, asks=asks)[0]


def attention(network: DUPNNetwork, samples: Samples, encoder: Encoder) -> Floats:
    """Weight a of every event of the histories of some samples, one after the other, float32 ``[T]``."""
    return _encoded(network, samples, encoder, asks=True)[1]


@torch.no_grad()
def _encoded(
    network: DUPNNetwork, samples: Samples, encoder: Encoder, *, asks: bool
) -> tuple[Floats, Floats]:
    """What the encoder makes of some samples: rep ``[P, R]`` and attention ``[T]``."""
    network.eval()
    device = next(network.parameters()).device
    parts = [(np.empty((0, network.encoder.width), np.float32), np.empty(0, np.float32))]
    for start in range(0, len(samples), AT_ONCE):
        some = samples.take(np.arange(start, min(start + AT_ONCE, len(samples))))
        batch = encoder.batch({"": some}, device, asks=asks)
        rep, weights = network.encoder(batch, network.encoder.items(batch.items))
        parts.append((rep.float().cpu().numpy(), weights.float().cpu().numpy()))
    rep_PR, weights_T = (np.concatenate(some) for some in zip(*parts, strict=True))
    return rep_PR, weights_T


@torch.no_grad()
def item_vectors(network: DUPNNetwork, name: str, encoder: Encoder, rows: npt.NDArray[np.int64]) -> Floats:
    """Vectors of items as a task of kind ``next`` compares them with rep, float32 ``[M, R]``."""
    network.eval()
    device, parts = next(network.parameters()).device, []
    for start in range(0, len(rows), ITEMS_AT_ONCE):
        items = encoder.catalogue.take(rows[start : start + ITEMS_AT_ONCE], device)
        encoded = network.encoder.items.encoding(network.encoder.items(items))
        parts.append(network.head(name).items(encoded).float().cpu().numpy())
    return np.concatenate(parts)


def _are_found(network: DUPNNetwork, name: str, samples: Samples, encoder: Encoder) -> Floats:
    """Whether the item of every sample is among the best of the catalogue, ``[P]``."""
    num_items = len(encoder.catalogue.codes)
    users = torch.from_numpy(represent(network, samples, encoder))
    items = torch.from_numpy(item_vectors(network, name, encoder, np.arange(num_items)))
    users, items = nn.functional.normalize(users, dim=1), nn.functional.normalize(items, dim=1)
    hits, rows = [np.empty(0)], max(SCORES_AT_ONCE // num_items, 1)
    for start in range(0, len(users), rows):
        scores = users[start : start + rows] @ items.T
        own = scores.gather(1, torch.from_numpy(samples.answers[start : start + rows])[:, None])
        # of items of the same score the middle: who has no history likes all of them alike
        ranks = (scores > own).sum(dim=1) + ((scores == own).sum(dim=1) - 1) / 2
        hits.append(((ranks < CUT) & own[:, 0].isfinite()).double().numpy())
    return np.concatenate(hits)
