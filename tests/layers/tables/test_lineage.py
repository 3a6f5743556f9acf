"""What a clustered table remembers of its past."""

from __future__ import annotations

import torch
from torch import Tensor

from polyvec.layers.tables import ClusteredTable
from polyvec.layers.tables.lineage import UNTOLD

ROWS = 12


def halves(table: ClusteredTable, cluster: int) -> Tensor:
    members = table.members(cluster)
    return torch.arange(len(members)) < len(members) // 2


def grown() -> ClusteredTable:
    """0 ← 1, 0 ← 2, 2 ← 3: sizes 3, 6, 2, 1."""
    table = ClusteredTable(ROWS, 5, 2)
    for cluster, step in ((0, 10), (0, 20), (2, 30)):
        table.split(cluster, halves(table, cluster), step)
    return table


def is_a_tree(parents: Tensor) -> bool:
    """Whether everyone's ancestors end."""
    at = torch.arange(len(parents))
    for _ in parents:
        at = parents[at].long()
    return bool((parents[at].long() == at).all())


def test_every_cluster_knows_which_one_it_split_from_and_when() -> None:
    lineage = grown().lineage
    assert lineage.parents.tolist() == [0, 0, 0, 2, 4]
    assert lineage.born.tolist() == [UNTOLD, 10, 20, 30, UNTOLD]
    assert lineage.moves.sum() == 0  # a split is no move


def test_moves_are_counted_for_those_that_moved_alone() -> None:
    table = ClusteredTable(ROWS, 3, 2, start=3)
    entities = torch.tensor([0, 1, 2])
    losses = torch.tensor([[5.0, 1, 9], [9, 1, 9], [9, 1, 9]])  # 0 and 2 go to 1, where 1 is
    assert table.reassign(entities, torch.arange(3), losses) == 2
    assert table.reassign(entities, torch.arange(3), losses) == 0
    assert table.lineage.moves.tolist() == [1, 0, 1] + [0] * (ROWS - 3)
    assert table.move(torch.tensor([0, 3]), torch.tensor([2, 0])) == 1
    assert table.clusters_of(torch.tensor([0, 3])).tolist() == [2, 0]
    assert table.lineage.moves[:4].tolist() == [2, 0, 1, 0]


def test_damped_moves_and_members_that_are_kept_do_not_count() -> None:
    table = ClusteredTable(4, 2, 2, start=2)
    losses = torch.tensor([[2.0, 1.0]] * 4)  # 0 and 2 would both leave cluster 0: one is kept
    assert table.reassign(torch.arange(4), torch.arange(2), losses) == 1
    assert int(table.lineage.moves.sum()) == 1
    still = ClusteredTable(4, 2, 2, start=2)
    assert still.reassign(torch.arange(4), torch.arange(2), losses, damping=1.0) == 0
    assert still.lineage.moves.sum() == 0


def test_the_count_of_moves_does_not_run_over() -> None:
    table = ClusteredTable(2, 2, 2, start=2)
    for turn in range(300):
        table.move(torch.tensor([0]), torch.tensor([(turn + 1) % 2]))
    assert table.lineage.moves.tolist() == [255, 0]


def test_a_cluster_that_died_out_becomes_a_part_of_the_largest() -> None:
    table = grown()
    table.assign[table.assign == 3] = 0
    table.repair(torch.Generator().manual_seed(0), step=40)
    assert table.lineage.parents.tolist() == [0, 0, 0, 1, 4]
    assert table.lineage.born.tolist() == [UNTOLD, 10, 20, 40, UNTOLD]


def test_what_had_split_from_a_cluster_that_died_out_goes_to_where_that_came_from() -> None:
    table = grown()
    table.assign[table.assign == 2] = 0
    table.repair(torch.Generator().manual_seed(0), step=40)
    assert table.lineage.parents.tolist() == [0, 0, 1, 0, 4]  # 3 had split from 2, which had from 0


def test_a_first_cluster_that_begins_anew_under_its_own_child_leaves_a_tree() -> None:
    table = grown()
    table.assign[table.assign == 0] = 1
    table.repair(torch.Generator().manual_seed(0), step=40)
    assert table.lineage.parents.tolist() == [1, 1, 2, 2, 4]
    assert table.lineage.born.tolist() == [40, 10, 20, 30, UNTOLD]
    assert (table.sizes() > 0).all()


def test_after_any_sequence_of_steps_the_parents_make_a_tree() -> None:
    random = torch.Generator().manual_seed(5)
    table = ClusteredTable(40, 12, 2, start=2)
    for step in range(60):
        largest = int(table.sizes().argmax())
        if table.num_clusters < table.max_clusters and step % 3 == 0:
            table.split(largest, halves(table, largest), step)
        emptied = int(torch.randint(table.num_clusters, (1,), generator=random))
        table.move(table.members(emptied), torch.full((int(table.sizes()[emptied]),), largest))
        table.repair(random, step)
        assert is_a_tree(table.lineage.parents)
    assert (table.sizes() > 0).all()


def test_the_past_goes_with_the_state_and_is_no_part_of_the_bytes() -> None:
    table, other = grown(), ClusteredTable(ROWS, 5, 2)
    table.move(torch.tensor([4]), torch.tensor([0]))
    other.load_state_dict(table.state_dict())
    for name, value in table.lineage.state_dict().items():
        assert torch.equal(value, other.lineage.state_dict()[name]), name
    assert table.bytes() == 5 * 2 * 4 + ROWS + 8
