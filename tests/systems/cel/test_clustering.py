"""Gradients, losses and choices of the cluster steps against plain computations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyvec.systems.cel.config import CELConfig
from polyvec.systems.cel.records import Records

RATE = 1e-3
CONFIG = CELConfig(
    width=4,
    item_clusters=8,
    start=3,
    decay=0.01,
    shrinkage=0,
    split_every=4,
    reassign_every=3,
    reassign_at="all",
    cluster_steps=0,
    damping=0,
)
BOTH = replace(CONFIG, user_table="clustered", user_clusters=5)


def made(begin, small, config=CONFIG, steps=7):
    run = begin(config, small.training, small.num_users, small.num_items, RATE)
    for step in range(steps):
        run.step(step)
    return run


def item_side(run):
    return run.clustering.sides[-1]


def test_a_members_own_gradient_is_the_closed_form_of_nmf(begin, small):
    run = made(begin, small)
    members = run.network.items.members(1)
    found = run.clustering.own_gradients(item_side(run), members)
    records, users = run.records, run.network.users.weight
    row = run.network.items.weight[1]
    for member, gradient in zip(members.tolist(), found, strict=True):
        who = records.users[records.items == member]
        labels = records.labels[records.items == member]
        expected = 2 * ((users[who] @ row - labels)[:, None] * users[who]).sum(dim=0)
        torch.testing.assert_close(gradient, expected.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("config", [CONFIG, BOTH], ids=["items", "users and items"])
@pytest.mark.parametrize("interaction", ["dot", "mlp", "neunmf"])
def test_own_gradients_sum_to_the_rows_gradient_before_averaging(begin, small, config, interaction):
    run = made(begin, small, replace(config, interaction=interaction, decay=0, averaging="none"))
    run.optimizer.zero_grad()
    run.objective(run.records)[0].backward()
    for side in run.clustering.sides:
        for cluster in range(side.table.num_clusters):
            own = run.clustering.own_gradients(side, side.table.members(cluster))
            torch.testing.assert_close(own.sum(dim=0), side.table.weight.grad[cluster], rtol=1e-9, atol=1e-10)


def losses_under_every_cluster(run, side):
    clustering = run.clustering
    clusters, entities = torch.arange(side.table.num_clusters), torch.arange(side.table.num_rows)
    other = side.other()
    scores = clustering.scores(side, other[0], clusters)
    return clustering.own_losses(entities, clustering.sums(side, other), scores)


def test_losses_under_every_cluster_are_those_of_brute_force(begin, small, losses_by_brute_force):
    for config in (CONFIG, BOTH, replace(CONFIG, interaction="neunmf")):
        run = made(begin, small, config)
        found = losses_under_every_cluster(run, item_side(run))
        expected = losses_by_brute_force(run, run.network.items.num_clusters)
        shift = expected - found  # a constant of each item: the sum of its squared labels
        torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), rtol=0, atol=1e-8)


def test_log_losses_under_every_cluster_are_those_of_brute_force(begin, small):
    clicks = replace(small.training, labels=(small.training.labels > 0.5).double())
    config = replace(CONFIG, target="click", nonnegative=False)
    run = made(begin, replace(small, training=clicks), config)
    found = losses_under_every_cluster(run, item_side(run))
    scores = run.network.users.weight @ run.network.items.weight[: run.network.items.num_clusters].T
    for item in range(small.num_items):
        chosen = clicks.items == item
        logits = scores[clicks.users[chosen]]
        labels = clicks.labels[chosen][:, None].expand_as(logits)
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        torch.testing.assert_close(found[item], expected.sum(dim=0).detach(), rtol=0, atol=1e-8)


def test_a_split_changes_no_prediction_and_a_reassignment_never_raises_the_loss(begin, small):
    run = begin(BOTH, small.training, small.num_users, small.num_items, RATE)
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        before = run.loss()
        run.clustering.split([run.optimizer], generator)
        assert run.loss() == pytest.approx(before, rel=1e-12)
        run.clustering.reassign(generator)
        after = run.loss()
        assert after <= before * (1 + 1e-12)
        assert run.clustering.reassign(generator)[-1] == 0 or run.loss() < after
        run.step(step)
    assert (run.network.users.num_clusters, run.network.items.num_clusters) == (5, 8)


def test_a_second_reassignment_of_one_side_moves_nobody(begin, small):
    run = made(begin, small, replace(CONFIG, reassign_every=0))
    generator = torch.Generator()
    assert run.clustering.reassign(generator)[0] > 0
    assert run.clustering.reassign(generator) == [0]


def test_every_item_goes_where_its_loss_is_least_but_for_the_last_of_a_cluster(
    begin, small, losses_by_brute_force
):
    run = made(begin, small, replace(CONFIG, reassign_every=0))
    losses = losses_by_brute_force(run, run.network.items.num_clusters)
    run.clustering.reassign(torch.Generator())
    own = losses.gather(1, run.network.items.assign.long()[:, None])[:, 0]
    is_alone = run.network.items.sizes()[run.network.items.assign.long()] == 1
    assert (is_alone | (own <= losses.min(dim=1).values + 1e-9)).all()
    assert is_alone.sum() < run.network.items.num_clusters


def test_some_clusters_and_entities_at_a_time_are_reassigned_as_all_at_once(begin, small, monkeypatch):
    config = replace(BOTH, damping=0.3)
    at_once = made(begin, small, config, steps=12)
    monkeypatch.setattr("polyvec.systems.cel.clustering.CLUSTERS_AT_ONCE", 3)
    monkeypatch.setattr("polyvec.systems.cel.clustering.AT_ONCE", 7)
    in_parts = made(begin, small, config, steps=12)
    for one, other in zip(at_once.clustering.sides, in_parts.clustering.sides, strict=True):
        assert int(one.table.lineage.moves.sum()) > 0
        assert torch.equal(one.table.assign, other.table.assign)


def test_twins_that_have_just_split_are_not_merged_by_rounding(begin, small, monkeypatch):
    """Scores of one row may differ by where it stands in a product of matrices."""
    monkeypatch.setattr("polyvec.systems.cel.clustering.CLUSTERS_AT_ONCE", 2)
    run = made(begin, small, replace(CONFIG, reassign_every=0))
    items = run.network.items
    with torch.no_grad():
        items.weight[: items.num_clusters] = items.weight[0]
    real = run.clustering.scores

    def rounded(side, other, clusters):
        return real(side, other, clusters) * (1 - 1e-12 * float(clusters[0]))

    monkeypatch.setattr(run.clustering, "scores", rounded)
    assert run.clustering.reassign(torch.Generator()) == [0]


def test_items_without_records_stay_where_most_interactions_are(begin, small):
    """Else they end in whatever cluster the splits leave behind."""
    kept = small.training.items % 5 != 0
    records = small.training.take(kept.nonzero()[:, 0])
    run = begin(replace(CONFIG, split_every=5), records, small.num_users, small.num_items, RATE)
    unseen = torch.arange(0, small.num_items, 5)
    for step in range(60):
        run.step(step)
        items = run.network.items
        most = items.totals(torch.bincount(records.items, minlength=small.num_items)).argmax()
        if step % 5 == 1 and items.num_clusters > 1:  # a split has been
            elsewhere = items.assign[unseen][items.assign[unseen] != most].long()
            assert (items.sizes()[elsewhere] == 1).all()  # it keeps a cluster from being empty
        assert (items.sizes() > 0).all()
    assert items.num_clusters == items.max_clusters


# --- which cluster splits


@pytest.mark.parametrize("criterion", ["interactions", "entities", "loss", "mean_loss", "gradient"])
def test_the_cluster_that_splits_is_the_largest_by_the_criterion(begin, small, criterion):
    run = made(begin, small, replace(CONFIG, criterion=criterion))
    items, records = run.network.items, run.records
    clusters = items.clusters_of(records.items)
    errors = (run.network(records.users, records.items) - records.labels).square().detach()
    run.optimizer.zero_grad()
    run.objective(records)[0].backward()
    penalty = 2 * run.config.decay * items.weight.detach()
    values = []
    for cluster in range(items.num_clusters):
        mine = clusters == cluster
        values.append({
            "interactions": float(mine.sum()),
            "entities": len(items.members(cluster)),
            "loss": float(errors[mine].sum()),
            "mean_loss": float(errors[mine].sum()) / len(items.members(cluster)),
            "gradient": float((items.weight.grad[cluster] - penalty[cluster]).square().sum()),
        }[criterion])  # fmt: skip
    expected = sorted(range(items.num_clusters), key=lambda cluster: -values[cluster])
    assert run.clustering.ranked(item_side(run)) == expected


def test_a_cluster_that_cannot_be_parted_is_passed_over_and_there_are_never_too_many(begin):
    one, few = torch.zeros(50, dtype=torch.int64), torch.arange(1, 7)  # item 0 has most interactions
    users = torch.arange(56) % 4
    items = torch.cat([one, few])
    records = Records(users, items, torch.rand(56, generator=torch.Generator().manual_seed(0)).double())
    run = begin(replace(CONFIG, item_clusters=9, start=7), records, 4, 14, RATE)
    side = item_side(run)
    assert run.clustering.ranked(side)[0] == 0
    run.network.items.assign[7:] = 1  # the first cluster has item 0 alone
    run.network.items.assign[1] = 2
    run.network.items.assign[13] = 1
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        run.clustering.split([run.optimizer], generator)
    assert run.network.items.num_clusters <= 9
    seen = run.network.items.members(0)
    assert seen[seen < 7].tolist() == [0]  # and those without records


def test_where_all_agree_nothing_splits_and_nothing_fails(begin):
    records = Records(torch.zeros(3, dtype=torch.int64), torch.arange(3), torch.ones(3).double())
    run = begin(replace(CONFIG, item_clusters=3, start=1), records, 1, 3, RATE)
    run.clustering.split([run.optimizer], torch.Generator())
    assert run.network.items.num_clusters == 1
