"""Train a CEL network on interactions, with the loop that all systems share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.optim import SGD, Adagrad, Adam

from polyvec.systems.cel.clustering import Clustering
from polyvec.systems.cel.din import DeepClustering, make_network
from polyvec.systems.cel.network import CELNetwork
from polyvec.systems.cel.objective import Objective, losses_of
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

SPLITTING = 0.4  # share of training over which splits are spread where no interval is told


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
    batch_size = 0 if config.full_batch else options.batch_size
    plan = RecordPlan(records, batch_size, config.steps_per_epoch, options.seed)
    config = spread_splits(config, len(plan) * options.epochs)
    network = make_network(config, num_users, num_items)
    indexes = Index(records.users, num_users), Index(records.items, num_items)
    make_clustering = DeepClustering if config.interaction == "din" else Clustering
    clustering = make_clustering(network, records, indexes, config)
    optimizers = make_optimizers(network, config, options)
    trainer = Trainer(
        network,
        Objective(network, config, len(records)),
        plan,
        None if validate is None else lambda: validate(network),
        options,
        workspace,
        stop_after,
        name,
        optimizers=optimizers,
        hooks=Steps(network, config, clustering, optimizers, indexes[1].counts, options.seed),
    )
    return network, trainer


def spread_splits(config: CELConfig, steps: int) -> CELConfig:
    """Where no interval between splits is told, one that makes all clusters in the first part of training."""
    sides = (config.user_table, config.user_clusters), (config.item_table, config.item_clusters)
    splits = max((clusters - config.start for kind, clusters in sides if kind == "clustered"), default=1)
    every = config.split_every or max(1, int(SPLITTING * steps) // max(1, splits))
    return replace(config, split_every=every)


def make_optimizers(network: CELNetwork, config: CELConfig, options: TrainingOptions) -> list[Optimizer]:
    """One of the rows' own, by default plain gradient steps; Adam for the interaction's own weights."""
    rows = [network.users.weight, network.items.weight]
    if network.personal is not None:
        rows.append(network.personal)
    make = {"sgd": SGD, "adagrad": Adagrad, "adam": Adam}[config.optimizer]
    optimizers: list[Optimizer] = [make(rows, lr=options.learning_rate)]
    weights = list(network.interaction.parameters())
    return [*optimizers, Adam(weights, lr=config.interaction_rate)] if weights else optimizers


def mean_error(network: CELNetwork, records: Records) -> float:
    """Mean squared error of ratings, or mean log loss of clicks."""
    return float(losses_of(network, records).mean())
