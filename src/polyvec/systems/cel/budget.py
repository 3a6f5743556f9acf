"""Clusters that keep a CEL within a number of bytes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from polyvec.errors import UsageError
from polyvec.systems.cel.din import make_network
from polyvec.systems.sizes import Sizes

if TYPE_CHECKING:
    from polyvec.systems.cel.config import CELConfig


def within_budget(config: CELConfig, num_users: int, num_items: int) -> CELConfig:
    """Choose tables and clusters so that the model is kept in at most ``config.budget`` bytes.

    As it is configured, if that fits; else both sides are clustered, with as many clusters as fit, at most
    the configured ones: more than are asked for may err more.

    Parameters
    ----------
    config
        What to fit; as it is if its budget is 0.
    num_users, num_items
        U and N.

    Raises
    ------
    UsageError
        If nothing fits: told with the least budget that would do.
    """
    if not config.budget or _bytes(config, num_users, num_items) <= config.budget:
        return config

    def with_clusters(most: int) -> CELConfig:
        return replace(
            config,
            user_table="clustered",
            item_table="clustered",
            user_clusters=min(config.user_clusters, most),
            item_clusters=min(config.item_clusters, most),
        )

    candidates = range(config.start, max(config.user_clusters, config.item_clusters, config.start) + 1)
    fitting = bisect_right(
        candidates, config.budget, key=lambda most: _bytes(with_clusters(most), num_users, num_items)
    )
    if not fitting:
        least = with_clusters(config.start)
        raise UsageError(
            f"a budget of {config.budget:,} bytes is too little for this model",
            expected=f"at least {_bytes(least, num_users, num_items):,} bytes with user_clusters="
            f"{least.user_clusters} and item_clusters={least.item_clusters}: a byte or more of each of "
            f"{num_users:,} users and {num_items:,} items tells its cluster, and one how often it moved",
            mend="raise the budget, or lower width",
        )
    return with_clusters(candidates[fitting - 1])


def _bytes(config: CELConfig, num_users: int, num_items: int) -> int:
    with torch.device("meta"):  # no memory
        network = make_network(config, num_users, num_items)
    return Sizes.of(network, network.items).total
