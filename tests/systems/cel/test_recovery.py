"""Clusters that were planted are found again."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from polyvec.systems.cel.config import CELConfig

STEPS = 1600


def trained(begin, planted, observed, clusters, seed):
    config = CELConfig(
        width=4,
        item_clusters=clusters,
        decay=0.01,
        shrinkage=0,
        split_every=40,
        cluster_steps=0,
    )
    rate = 2e-3 * 0.1 / observed
    run = begin(config, planted.training, planted.num_users, planted.num_items, rate, seed)
    for step in range(STEPS):
        run.step(step)
    return run


def error(run, planted):
    held = planted.held_out
    with torch.no_grad():
        return float((run.network(held.users, held.items) - held.labels).square().mean())


def test_planted_clusters_are_found_by_nearly_every_run(begin, plant):
    rands = []
    for observed in (0.05, 0.1, 0.3):
        for seed in range(3):
            planted = plant(seed, observed)
            run = trained(begin, planted, observed, 6, seed)
            rands.append(adjusted_rand_score(planted.kinds, run.network.items.assign.numpy()))
            if rands[-1] >= 0.95:
                assert error(run, planted) <= 2 * 0.1**2
    assert sum(rand >= 0.95 for rand in rands) >= 8, rands


def test_too_few_clusters_are_clearly_worst_and_too_many_no_better(begin, plant):
    planted = plant(1, 0.1)
    few, right, many = (error(trained(begin, planted, 0.1, n, 1), planted) for n in (3, 6, 20))
    assert few > 4 * right
    assert many > right - 0.002
    assert right == pytest.approx(0.01, abs=0.006)
