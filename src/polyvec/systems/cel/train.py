"""Train a CEL network on interactions, with the loop that all systems share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.optim import SGD, Adam

from polyvec.systems.cel.clustering import Clustering
from polyvec.systems.cel.network import CELNetwork
from polyvec.systems.cel.objective import Objective, record_losses
from polyvec.systems.cel.records import Index, RecordPlan
from polyvec.systems.cel.steps import Steps
from polyvec.training.loop import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch.optim import Optimizer

    from polyvec.systems.cel.config import CELConfig
    from polyvec.systems.cel.records import Records
    from polyvec.training.options import TrainingOptions


def make_trainer(
    records: Records,
    num_users: int,
    num_items: int,
    config: CELConfig,
    options: TrainingOptions,
    workspace: Path,
    *,
    validate: Callable[[CELNetwork], float] | None = None,
    stop_after: int = 0,
    name: str = "training",
) -> tuple[CELNetwork, Trainer]:
    """Make a new network, and what trains it or goes on with the one in the workspace.

    Parameters
    ----------
    records
        Training interactions.
    num_users, num_items
        U and N; entities without interactions have vectors, too.
    config, options
        What to train, and how.
    workspace
        Folder for checkpoints and the journal; exists.
    validate
        Figure to maximise, after every epoch; None keeps the last weights.
    stop_after, name
        See :class:`polyvec.training.loop.Trainer`. Plain gradient steps whose loss is not finite want a lower
        ``learning_rate``.
    """
    torch.manual_seed(options.seed)
    network = CELNetwork(config, num_users, num_items)
    indexes = Index(records.users, num_users), Index(records.items, num_items)
    clustering = Clustering(network, records, indexes, config)
    optimizers = make_optimizers(network, config, options)
    batch_size = 0 if config.full_batch else options.batch_size
    trainer = Trainer(
        network,
        Objective(network, config, len(records)),
        RecordPlan(records, batch_size, config.steps_per_epoch, options.seed),
        None if validate is None else lambda: validate(network),
        options,
        workspace,
        stop_after,
        name,
        optimizers=optimizers,
        hooks=Steps(network, config, clustering, optimizers, indexes[1].counts, options.seed),
    )
    return network, trainer


def make_optimizers(network: CELNetwork, config: CELConfig, options: TrainingOptions) -> list[Optimizer]:
    """Plain gradient steps for the rows, as in the authors' code; Adam for the interaction's own weights."""
    rows = [network.users.weight, network.items.weight]
    if network.personal is not None:
        rows.append(network.personal)
    optimizers: list[Optimizer] = [SGD(rows, lr=options.learning_rate)]
    weights = list(network.interaction.parameters())
    return [*optimizers, Adam(weights, lr=config.interaction_rate)] if weights else optimizers


@torch.no_grad()
def mean_error(network: CELNetwork, records: Records) -> float:
    """Mean squared error of ratings, or mean log loss of clicks."""
    scores_P = network(records.users, records.items)
    return float(record_losses(scores_P, records.labels, network.target).mean())
