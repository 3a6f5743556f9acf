"""The steps of CEL on its table: exact properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from polyvec.layers.tables import ClusteredTable
from polyvec.layers.tables.clustered import gradient_cut

ROWS, CLUSTERS, WIDTH = 60, 12, 5


def made(start: int = 4, clusters: int = CLUSTERS) -> ClusteredTable:
    torch.manual_seed(0)
    return ClusteredTable(ROWS, clusters, WIDTH, start=start).double()


def check(table: ClusteredTable) -> None:
    """Every entity has one cluster in use, and none of these is empty."""
    sizes = table.sizes()
    assert len(sizes) == table.num_clusters <= table.max_clusters
    assert int(sizes.sum()) == ROWS
    assert (sizes > 0).all()
    ids = torch.arange(ROWS)
    assert torch.equal(table(ids), table.weight[table.clusters_of(ids)])
    assert sorted(torch.cat([table.members(q) for q in range(table.num_clusters)]).tolist()) == list(
        range(ROWS)
    )


def test_any_sequence_of_steps_leaves_every_entity_in_one_cluster_and_none_empty() -> None:
    table, random = made(), torch.Generator().manual_seed(3)
    check(table)
    for _ in range(40):
        largest = int(table.sizes().argmax())
        if table.num_clusters < table.max_clusters:
            leaving = gradient_cut(torch.randn(int(table.sizes()[largest]), WIDTH, generator=random))
            assert leaving is not None
            table.split(largest, leaving)
            check(table)
        chosen = torch.randperm(ROWS, generator=random)[:30]
        losses = torch.rand(30, table.num_clusters, generator=random)
        losses[:, 0] *= 0.2  # most want to go to one cluster
        table.reassign(chosen, torch.arange(table.num_clusters), losses)
        check(table)
    assert table.num_clusters == CLUSTERS


# --- gradients


def loss_of(vectors: Tensor) -> Tensor:
    """Any loss of entities that occur more than once."""
    return (vectors * torch.arange(1.0, vectors.numel() + 1).view_as(vectors)).square().sum()


def test_the_rows_gradient_is_the_sum_of_its_members_own_and_the_averaged_one_their_mean() -> None:
    table = made()
    ids = torch.cat([torch.arange(ROWS), torch.tensor([3, 3, 10])])
    own = table(torch.arange(ROWS)).detach().requires_grad_()
    loss_of(own[ids]).backward()
    loss_of(table(ids)).backward()
    assert own.grad is not None
    assert table.weight.grad is not None
    for cluster in range(4):
        members = table.members(cluster)
        torch.testing.assert_close(
            table.weight.grad[cluster], own.grad[members].sum(dim=0), rtol=1e-10, atol=0
        )
    table.average_gradients()
    for cluster in range(4):
        members = table.members(cluster)
        torch.testing.assert_close(
            table.weight.grad[cluster], own.grad[members].mean(dim=0), rtol=1e-10, atol=0
        )
    assert (table.weight.grad[4:] == 0).all()


def test_a_batchs_gradient_is_averaged_over_its_entities_or_over_their_records() -> None:
    table = made()
    ids = torch.tensor([[0, 0], [4, 1]])  # cluster 0 has entities 0 and 4 in three records, cluster 1 one
    table(ids).sum().backward()
    assert table.weight.grad is not None
    summed = table.weight.grad.clone()
    table.average_gradients(ids, by="record")
    torch.testing.assert_close(table.weight.grad[:2], summed[:2] / torch.tensor([[3.0], [1.0]]))
    table.weight.grad = summed.clone()
    table.average_gradients(ids, by="entity")
    torch.testing.assert_close(table.weight.grad[:2], summed[:2] / torch.tensor([[2.0], [1.0]]))


def test_where_every_entity_is_its_own_cluster_a_step_is_that_of_a_full_table() -> None:
    torch.manual_seed(0)
    table = ClusteredTable(ROWS, ROWS, WIDTH, start=ROWS).double()
    full = table.weight.detach().clone().requires_grad_()
    ids = torch.tensor([5, 9, 5, 30])
    loss_of(full[ids]).backward()
    loss_of(table(ids)).backward()
    table.average_gradients(ids, by="entity")
    torch.testing.assert_close(table.weight.grad, full.grad, rtol=0, atol=0)


# --- splits


def test_members_are_parted_along_the_first_principal_component_of_their_gradients() -> None:
    gradients = torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    centred = gradients.numpy() - gradients.numpy().mean(axis=0)
    along = centred @ np.linalg.svd(centred)[2][0]
    leaving = gradient_cut(gradients)
    assert leaving is not None
    assert leaving.tolist() in ((along < 0).tolist(), (along > 0).tolist())


def test_two_groups_that_pull_apart_are_parted_without_a_mistake() -> None:
    random = torch.Generator().manual_seed(1)
    pull = torch.tensor([3.0, 0, -4, 0, 0])
    is_left = torch.rand(40, generator=random) < 0.3
    common = torch.tensor([0.0, 50, 0, 0, 50])  # all agree on it
    noise = 0.1 * pull.norm() * torch.randn(40, WIDTH, generator=random) / WIDTH**0.5
    leaving = gradient_cut(common + torch.where(is_left[:, None], pull, -pull) + noise, cut="zero")
    assert leaving is not None
    assert leaving.tolist() in (is_left.tolist(), (~is_left).tolist()) or _agrees(leaving, is_left)


def _agrees(leaving: Tensor, planted: Tensor) -> bool:
    return bool((leaving == planted).all() or (leaving == ~planted).all())


@pytest.mark.parametrize(
    "gradients",
    [torch.zeros(0, 3), torch.ones(1, 3), torch.ones(7, 3), torch.zeros(7, 3)],
    ids=["none", "one", "all alike", "all zero"],
)
def test_members_that_agree_are_not_parted(gradients: Tensor) -> None:
    assert gradient_cut(gradients) is None


def test_a_member_at_the_cut_stays() -> None:
    leaving = gradient_cut(torch.tensor([[1.0, 0], [-1, 0], [0, 0]]))
    assert leaving is not None
    assert leaving.sum() == 1
    assert not leaving[2]


def test_other_cuts_halve_the_members_or_the_interactions() -> None:
    gradients = torch.tensor([[9.0], [0], [1], [2], [3], [4]])
    at_median = gradient_cut(gradients, "median")
    assert at_median is not None
    assert set(gradients[at_median].flatten().tolist()) in ({0, 1, 2}, {9, 3, 4})
    by_interactions = gradient_cut(gradients, "interactions", torch.tensor([1, 50, 20, 10, 10, 10]))
    assert by_interactions is not None
    assert set(gradients[by_interactions].flatten().tolist()) in ({0}, {0, 1}, {9, 4, 3, 2, 1})
    with pytest.raises(ValueError, match="halves the interactions"):
        gradient_cut(gradients, "interactions")


def test_a_split_changes_no_answer_and_copies_the_row() -> None:
    table, ids = made(), torch.arange(ROWS)
    before = table(ids)
    leaving = torch.arange(15) % 3 == 0
    members = table.members(2)
    assert table.split(2, leaving) == 4
    assert torch.equal(table(ids), before)
    assert torch.equal(table.weight[4], table.weight[2])
    assert torch.equal(table.members(4), members[leaving])
    assert torch.equal(table.members(2), members[~leaving])


def test_a_split_that_cannot_be_is_refused() -> None:
    table = made(clusters=4)
    with pytest.raises(ValueError, match="all 4 rows are in use"):
        table.split(0, torch.arange(15) < 3)
    table = made()
    for leaving in (torch.zeros(15, dtype=torch.bool), torch.ones(15, dtype=torch.bool)):
        with pytest.raises(ValueError, match="leaves one side empty"):
            table.split(0, leaving)


# --- reassignment


def test_entities_move_to_the_candidate_of_least_loss_and_stay_on_a_tie() -> None:
    table, entities = made(), torch.tensor([0, 1, 2, 3])  # clusters 0, 1, 2, 3
    losses = torch.tensor([[5.0, 1, 9, 9], [1, 1, 1, 1], [2, 3, 2, 9], [7, 7, 7, 8]])
    assert table.reassign(entities, torch.arange(4), losses) == 2
    assert table.clusters_of(entities).tolist() == [1, 1, 2, 0]
    assert table.reassign(entities, torch.arange(4), losses) == 0


def test_each_entity_may_have_candidates_of_its_own() -> None:
    table, entities = made(), torch.tensor([0, 1])
    candidates = torch.tensor([[0, 3], [2, 1]])
    assert table.reassign(entities, candidates, torch.tensor([[2.0, 1], [1, 5]])) == 2
    assert table.clusters_of(entities).tolist() == [3, 2]


def test_twins_that_have_just_split_do_not_merge() -> None:
    table = made(start=1)
    new = table.split(0, torch.arange(ROWS) < 20)
    before = table.assign.clone()
    losses = torch.rand(ROWS, 1).expand(ROWS, 2)  # one row, one loss
    assert table.reassign(torch.arange(ROWS), torch.arange(new + 1), losses) == 0
    assert torch.equal(table.assign, before)


def test_a_cluster_that_all_would_leave_keeps_the_member_that_gains_least() -> None:
    table = ClusteredTable(5, 3, 2, start=3)  # clusters 0 1 2 0 1
    losses = torch.tensor([[9.0, 0, 9], [9, 8, 0], [9, 0, 3], [9, 9, 8.5], [9, 5, 0]])
    table.reassign(torch.arange(5), torch.arange(3), losses)
    assert table.assign.tolist() == [1, 2, 1, 0, 2]  # 3 gains 0.5 and stays in 0; the rest goes on a circle


def test_where_keeping_one_empties_another_that_keeps_one_too() -> None:
    table = ClusteredTable(3, 3, 2, start=3)
    losses = torch.tensor([[5.0, 4, 9], [9, 5, 1], [9, 9, 0]])  # 0 → 1 → 2, which all would keep
    assert table.reassign(torch.arange(3), torch.arange(3), losses) == 0
    assert table.assign.tolist() == [0, 1, 2]


def test_damping_keeps_its_share_of_the_movers() -> None:
    table = ClusteredTable(20_000, 2, 2, start=2)
    losses = torch.where(
        torch.arange(20_000)[:, None] % 2 == 0, torch.tensor([1.0, 0]), torch.tensor([0.0, 1])
    )
    moved = table.reassign(
        torch.arange(20_000),
        torch.arange(2),
        losses,
        damping=0.3085,
        generator=torch.Generator().manual_seed(0),
    )
    assert moved / 20_000 == pytest.approx(1 - 0.3085, abs=0.02)


def test_repair_fills_empty_clusters_from_the_largest() -> None:
    table = made(start=4)
    table.assign[table.assign == 1] = 0
    table.assign[table.assign == 3] = 0
    copied = table.repair(torch.Generator().manual_seed(0))
    check(table)
    assert copied == [(0, 1), (0, 3)]
    assert torch.equal(table.weight[1], table.weight[0])
    assert table.sizes().tolist() == [12, 22, 15, 11]


def test_assignments_take_one_byte_up_to_256_clusters() -> None:
    sizes = {256: 1, 257: 2, 32_768: 2, 32_769: 4}
    for clusters, size in sizes.items():
        table = ClusteredTable(10, clusters, 1)
        assert table.assign.element_size() == size
    assert ClusteredTable(1000, 20, 8).bytes() == 20 * 8 * 4 + 1000 + 8


def test_the_state_goes_on_where_it_was() -> None:
    table, other = made(), ClusteredTable(ROWS, CLUSTERS, WIDTH).double()
    table.split(1, torch.arange(15) < 5)
    other.load_state_dict(table.state_dict())
    assert other.num_clusters == 5
    for one in (table, other):
        one.split(0, torch.arange(15) < 7)
    assert torch.equal(other.assign, table.assign)
    assert torch.equal(other.weight, table.weight)
