"""The tree of a clustered table: who is where, what is typical, who moved."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from polyvec.evaluation.cluster_tree import cluster_tree, distinctive, placed
from polyvec.layers.tables import ClusteredTable

KINDS = ["pen"] * 4 + ["ink"] * 3 + ["cup"] * 2
EVENTS = [5, 9, 0, 7, 3, 8, 1, 6, 2]


@pytest.fixture
def table() -> ClusteredTable:
    """Pens in 0, ink in 1, cups in 2, which split from 1; the last row is nobody's."""
    made = ClusteredTable(10, 5, 2)
    made.split(0, torch.arange(10) >= 4, step=10)
    made.split(1, torch.arange(6) >= 3, step=20)
    return made


@pytest.fixture
def entities() -> pl.DataFrame:
    ids = [f"{kind}{row}" for row, kind in enumerate(KINDS)]
    titles = [f"the {name}" for name in ids]
    return pl.DataFrame({"row": range(9), "id": ids, "title": titles, "events": EVENTS})


def test_every_cluster_tells_its_place_its_size_and_its_entities_of_most_events(table, entities):
    tree = cluster_tree(table, entities, typical=2)
    told = [(one.parent, one.born, one.size, one.empty, one.events) for one in tree.clusters]
    assert told == [(None, None, 4, 1, 21), (0, 10, 3, 0, 12), (1, 20, 2, 0, 8)]
    assert [[row["id"] for row in one.typical] for one in tree.clusters] == [
        ["pen1", "pen3"],
        ["ink5", "ink4"],
        ["cup7", "cup8"],
    ]
    assert tree.clusters[0].typical[0] == {"id": "pen1", "title": "the pen1", "events": 9, "moves": 0}
    assert tree.num_entities == 9
    assert tree.clusters[1].names == ["the ink5", "the ink4"]


def test_entities_need_no_order_no_title_and_not_every_row(table, entities):
    shuffled = entities.drop("title").filter(pl.col("row") != 1)[::-1]
    tree = cluster_tree(table, shuffled)
    assert [one.size for one in tree.clusters] == [3, 3, 2]
    assert tree.clusters[0].names == ["pen3", "pen0", "pen2"]


def test_a_cluster_of_nobody_that_is_named_is_empty(table, entities):
    tree = cluster_tree(table, entities.filter(pl.col("row") < 4))
    assert [(one.size, one.events, one.typical) for one in tree.clusters[1:]] == [(0, 0, [])] * 2


def test_the_tree_is_walked_from_the_top_by_the_order_of_splits(table, entities):
    table.split(0, torch.arange(4) < 1, step=30)
    table.split(1, torch.arange(3) < 1, step=40)
    tree = cluster_tree(table, entities)
    assert tree.children == {None: [0], 0: [1, 3], 1: [2, 4]}
    assert [(one.cluster, depth) for one, depth in tree.walk()] == [(0, 0), (1, 1), (2, 2), (4, 2), (3, 1)]


def test_a_first_cluster_that_began_anew_hangs_below_its_child(table, entities):
    table.move(table.members(0), torch.ones(4, dtype=torch.int64))
    table.repair(torch.Generator().manual_seed(0), step=50)
    tree = cluster_tree(table, entities)
    assert [(one.parent, one.born) for one in tree.clusters] == [(1, 50), (None, 10), (1, 20)]
    assert [(one.cluster, depth) for one, depth in tree.walk()] == [(1, 0), (2, 1), (0, 1)]


def test_who_moved_most_comes_first_and_all_moves_are_counted(table, entities):
    for to in (1, 2, 0):
        table.move(torch.tensor([3]), torch.tensor([to]))
    for to in (1, 2, 1, 2, 0):  # without an event: it follows the others
        table.move(torch.tensor([2]), torch.tensor([to]))
    table.move(torch.tensor([5, 8, 9]), torch.tensor([0, 0, 0]))  # 9 is nobody
    tree = cluster_tree(table, entities, moved=2)
    assert [(row["id"], row["moves"], row["cluster"]) for row in tree.moved] == [
        ("pen3", 3, 0),
        ("ink5", 1, 0),
    ]
    assert tree.moves == [
        {"moves": 0, "entities": 5},
        {"moves": 1, "entities": 2},
        {"moves": 3, "entities": 1},
    ]


def test_distinctive_traits_are_neither_those_of_all_nor_rare_ones():
    of_0 = ["common"] * 6 + ["own"] * 3 + ["rare"]
    of_1 = ["common"] * 6 + ["other"] * 4
    has = pl.DataFrame({"cluster": [0] * 11 + [1] * 10, "trait": [*of_0, None, *of_1]})
    found = distinctive(has, most=3).to_dicts()
    assert [(row["cluster"], row["trait"]) for row in found] == [
        (0, "own"), (0, "rare"), (0, "common"), (1, "other"), (1, "common"),
    ]  # fmt: skip
    assert (found[0]["share"], found[0]["lift"]) == pytest.approx((0.3, 2.0))
    assert found[2]["lift"] == pytest.approx(1.0)


def test_traits_go_to_their_clusters_and_name_those_without_titles(table, entities):
    has = pl.DataFrame([placed(table, entities["row"]), pl.Series("trait", KINDS)])
    tree = cluster_tree(table, entities.drop("title"), distinctive(has))
    assert [one.traits[0]["trait"] for one in tree.clusters] == ["pen", "ink", "cup"]
    assert tree.clusters[2].traits == [{"trait": "cup", "share": 1.0, "lift": 4.5}]
    assert tree.clusters[2].names == ["cup"]
