"""CEL's steps between mini-batches: when they come, where clusters are cut, who moves."""

from __future__ import annotations

from itertools import pairwise

import torch

from polyvec.layers.tables import ClusteredTable, PopularTable, clusters_of, id_table
from polyvec.training.cluster_steps import ClusterSteps, cluster_steps, moments
from polyvec.training.options import TrainingOptions

ENTITIES, WIDTH, STEPS = 40, 6, 960


def made(start: int = 1, clusters: int = 8, seed: int = 0) -> ClusterSteps:
    torch.manual_seed(0)
    table = ClusteredTable(ENTITIES, clusters, WIDTH, start=start)
    return ClusterSteps(table, [torch.optim.Adam([table.weight])], STEPS, seed)


def look_up(steps: ClusterSteps, entities: torch.Tensor, pull: torch.Tensor) -> None:
    """One batch whose loss pulls every entity's row along its own vector."""
    steps.table.weight.grad = None
    (steps.table(entities) * pull).sum().backward()
    steps.before_update(None)


def test_clusters_grow_by_one_factor_in_the_first_part_then_entities_only_move_and_at_last_rest() -> None:
    found = moments(1000, 4, 1024)
    growing = {step: clusters for step, clusters in found.items() if step <= 400}
    assert len(growing) == 24
    assert growing[400] == 1024
    counts = [4, *growing.values()]
    assert all(1 < after / before < 1.5 for before, after in pairwise(counts))
    later = [step for step in found if step > 400]
    assert later
    assert max(later) < 900
    assert all(found[step] == 1024 for step in later)
    gaps = [b - a for a, b in pairwise(later)]
    assert gaps == sorted(gaps)


def test_a_run_of_few_steps_has_no_two_events_in_one() -> None:
    assert sorted(moments(30, 1, 8)) == list(range(1, 27))


def test_rows_move_by_the_mean_over_the_entities_of_the_batch() -> None:
    steps = made(start=2)
    entities, pull = torch.tensor([0, 2, 1]), torch.randn(3, WIDTH)
    look_up(steps, entities, pull)
    assert steps.table.weight.grad is not None
    torch.testing.assert_close(steps.table.weight.grad[0], (pull[0] + pull[1]) / 2)
    torch.testing.assert_close(steps.table.weight.grad[1], pull[2])


def test_an_entity_looked_up_twice_pulls_with_the_sum() -> None:
    table = made().table
    table.lookups = []
    first, again = torch.randn(2, WIDTH), torch.randn(1, WIDTH)
    ((table(torch.tensor([3, 1])) * first).sum() + (table(torch.tensor([3])) * again).sum()).backward()
    entities, gradients = table.take_gradients()
    assert entities.tolist() == [1, 3]
    torch.testing.assert_close(gradients, torch.stack([first[1], first[0] + again[0]]))
    assert not table.take_gradients()[0].numel()


def test_nothing_is_remembered_while_a_model_only_answers() -> None:
    table = made().table
    table(torch.arange(3))
    table.eval()
    table(torch.arange(3))
    with torch.no_grad():
        table.train()(torch.arange(3))
    assert len(table.lookups or []) == 1


def test_a_cluster_is_cut_between_members_that_pull_apart() -> None:
    steps = made()
    apart, random = torch.randn(WIDTH), torch.Generator().manual_seed(1)
    side = torch.where(torch.arange(ENTITIES) % 3 == 0, 1.0, -1.0)
    for _ in range(20):  # every batch sees half of the entities, with noise
        entities = torch.randperm(ENTITIES, generator=random)[: ENTITIES // 2]
        noise = 0.3 * torch.randn(len(entities), WIDTH, generator=random)
        look_up(steps, entities, side[entities, None] * apart + noise + 5.0)
    axis = torch.nn.functional.normalize(steps.axes_KD[0], dim=0, eps=1e-30)
    assert abs(float(axis @ torch.nn.functional.normalize(apart.double(), dim=0))) > 0.95
    steps.targets_N += 1
    steps._split_until(2, 7)
    halves = {frozenset(steps.table.members(cluster).tolist()) for cluster in (0, 1)}
    thirds = frozenset(range(0, ENTITIES, 3))
    assert halves == {thirds, frozenset(range(ENTITIES)) - thirds}
    assert torch.equal(steps.table.weight[0], steps.table.weight[1])
    assert (int(steps.table.lineage.parents[1]), int(steps.table.lineage.born[1])) == (0, 7)


def test_the_clusters_of_most_targets_split_first_and_each_once() -> None:
    steps = made(start=4, clusters=8)
    steps.along_N.copy_(torch.where(torch.arange(ENTITIES) % 8 < 4, 1.0, -1.0))
    steps.targets_N.copy_(torch.arange(ENTITIES) % 4)
    steps._split_until(6, 7)
    assert steps.table.sizes().tolist() == [10, 10, 5, 5, 5, 5]
    steps._split_until(8, 7)
    assert steps.table.num_clusters == 8


def test_entities_move_to_the_candidate_of_least_loss_and_those_without_losses_stay() -> None:
    steps = made(start=8)
    entities = torch.arange(0, ENTITIES, 2)
    candidates = steps.candidates(entities)
    assert torch.equal(candidates[:, 0], steps.table.clusters_of(entities))
    losses = torch.ones(candidates.shape)
    losses[:, 2] = 0.0
    before = steps.table.clusters_of(torch.arange(ENTITIES))
    steps.add_losses(entities, losses, torch.zeros_like(losses), entities)
    steps.begin(min(moments(STEPS, 8, 8)))
    after = steps.table.clusters_of(torch.arange(ENTITIES))
    assert torch.equal(after[1::2], before[1::2])
    moved = after[entities] != before[entities]
    assert moved.any()
    assert torch.equal(after[entities[moved]], candidates[moved, 2])
    assert not steps.losses_NQ.any()


def test_who_gains_less_than_the_sample_can_tell_and_who_was_no_target_stays() -> None:
    steps = made(start=8)
    entities = torch.arange(ENTITIES)
    candidates = steps.candidates(entities)
    losses, squares = torch.ones(candidates.shape), torch.zeros(candidates.shape)
    losses[:, 2] = 0.0
    squares[: ENTITIES // 2, 2] = 0.5  # 1.5 · √0.5 > 1
    before = steps.table.clusters_of(entities)
    steps.add_losses(entities, losses, squares, torch.arange(0, ENTITIES, 2))
    steps.begin(min(moments(STEPS, 8, 8)))
    moved = (steps.table.clusters_of(entities) != before).nonzero()[:, 0]
    assert len(moved)
    assert (moved >= ENTITIES // 2).all()
    assert (moved % 2 == 0).all()


def test_what_it_has_added_up_goes_on_after_a_checkpoint() -> None:
    first, second = made(start=4), made(start=4, seed=0)
    batch = torch.arange(ENTITIES), torch.randn(ENTITIES, WIDTH)
    look_up(first, *batch)
    losses, squares = torch.rand(2, 3, first.losses_NQ.shape[1])
    first.add_losses(torch.arange(3), losses, squares, torch.arange(3))
    second.load_state_dict(first.state_dict())
    assert set(first.state_dict()) == {
        "axes_KD",
        "along_N",
        "targets_N",
        "losses_NQ",
        "squares_NQ",
        "candidates_KQ",
    }
    for steps in (first, second):
        look_up(steps, batch[0], -batch[1])
        steps.begin(min(moments(STEPS, 4, 8)))
    assert torch.equal(first.table.assign, second.table.assign)
    assert torch.equal(first.candidates_KQ, second.candidates_KQ)


def test_only_clustered_tables_have_cluster_steps() -> None:
    assert cluster_steps(PopularTable(5, 4), [], 10, TrainingOptions()) is None
    assert cluster_steps(made().table, [], 10, TrainingOptions()) is not None


def test_clusters_are_cut_before_entities_move() -> None:
    """Where one lies along the axis of the cluster that it leaves tells nothing of the next one."""
    steps = made(start=2)
    table = steps.table
    apart = torch.randn(WIDTH)
    members = table.members(0)
    halves = torch.where(torch.arange(len(members)) % 2 == 0, 1.0, -1.0)
    for _ in range(20):
        look_up(steps, members, halves[:, None] * apart)
    newcomers = table.members(1)  # should move into the cluster that splits
    losses = torch.zeros(ENTITIES, steps.losses_NQ.shape[1])
    losses[newcomers] = -9.0 * (steps.candidates(newcomers) == 0)
    everyone = torch.arange(ENTITIES)
    steps.add_losses(everyone, losses, torch.zeros_like(losses), members)
    steps.targets_N += 0.1  # the cluster of the members has most
    steps._moments = {1: 3}
    steps.begin(1)
    new = table.clusters_of(members)
    assert {frozenset(members[new == one].tolist()) for one in (0, 2)} == {
        frozenset(members[halves > 0].tolist()), frozenset(members[halves < 0].tolist())
    }  # fmt: skip
    assert (table.clusters_of(newcomers) == 1).all()  # next time


def test_what_is_unknown_is_nobody_in_a_cluster() -> None:
    table = id_table("clustered", 20, 4, WIDTH)
    known = clusters_of(table)
    known.lookups = []
    vectors = table(torch.tensor([[3, 0], [0, 5]]))
    assert torch.equal(vectors[0, 1], table.rest[0])
    assert torch.equal(vectors[1, 1], known.weight[known.clusters_of(torch.tensor(4))])
    vectors.sum().backward()
    assert known.take_gradients()[0].tolist() == [2, 4]
