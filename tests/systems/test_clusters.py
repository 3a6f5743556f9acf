"""From a fitted model and a Dataset to trees with names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl
import pytest
import torch

from polyvec.data.dataset import Dataset
from polyvec.errors import DataError, UsageError
from polyvec.layers.tables import ClusteredTable
from polyvec.systems.clusters import Clusters, Side, cluster_trees


@dataclass
class Fitted:
    """What a system must tell to be looked at."""

    clustered: Mapping[Side, Clusters]
    trained_until: int = 100


@pytest.fixture
def dataset() -> Dataset:
    """Ann and Bob have pens, Cem and Dan cups; Dan a pen, after the training, too."""
    events = [
        ("ann", 1, 0),
        ("ann", 2, 1),
        ("ann", 1, 2),
        ("bob", 2, 0),
        ("cem", 3, 0),
        ("dan", 3, 5),
        ("dan", 1, 100),
    ]
    catalogue = {
        "item_id": [1, 2, 3, 4],
        "title": ["red pen", None, "cup", "mug"],
        "category": ["pen", "pen", "cup", None],
    }
    return Dataset.from_rows(events, pl.DataFrame(catalogue))  # fmt: skip


def two_clusters(rows: int, leaving: list[int]) -> ClusteredTable:
    table = ClusteredTable(rows, 2, 3)
    table.split(0, torch.isin(torch.arange(rows), torch.tensor(leaving)), step=1)
    return table


@pytest.fixture
def users() -> Clusters:
    """The rows of the table are not those of the Dataset, nor all known to it."""
    frame = pl.DataFrame(
        {"row": [4, 3, 1, 0], "user_id": ["ann", "cem", "dan", "eve"], "events": [3, 1, 2, 1]}
    )
    return two_clusters(5, [3, 1]), frame


@pytest.fixture
def items() -> Clusters:
    frame = pl.DataFrame({"row": [0, 1, 2, 3, 4], "item_id": [1, 2, 3, 4, 99], "events": [2, 3, 2, 0, 5]})
    return two_clusters(5, [2, 3]), frame


def test_items_have_the_titles_and_categories_of_the_catalogue(dataset, items):
    tree = cluster_trees(Fitted({"items": items}), dataset)["items"]
    assert [(row["id"], row["title"]) for row in tree.clusters[0].typical] == [
        (99, None), (2, None), (1, "red pen"),
    ]  # fmt: skip
    assert [one.traits[0]["trait"] for one in tree.clusters] == ["pen", "cup"]
    assert tree.clusters[1].names == ["cup", "mug"]


def test_clusters_of_users_tell_what_their_users_had_while_the_model_was_trained(dataset, users):
    tree = cluster_trees(Fitted({"users": users}), dataset)["users"]
    assert [one.size for one in tree.clusters] == [2, 2]
    assert {row["trait"]: row["share"] for row in tree.clusters[0].traits} == {"red pen": 0.5, "2": 0.5}
    assert [(row["trait"], row["lift"]) for row in tree.clusters[1].traits] == [("cup", 2.0)]
    assert tree.clusters[1].names == ["cup"]


def test_a_catalogue_of_ids_alone_is_enough(dataset, users, items):
    bare = replace(dataset, item_table=dataset.item_table.select("item_id"))
    trees = cluster_trees(Fitted({"users": users, "items": items}), bare)
    assert trees["items"].clusters[1].names == ["3", "4"]
    assert trees["users"].clusters[1].names == ["3"]


@pytest.mark.parametrize("model", [object(), Fitted({})], ids=["a system without clusters", "full tables"])
def test_a_model_without_clusters_is_refused_with_the_setting_to_use(dataset, model):
    with pytest.raises(UsageError, match="no clusters") as caught:
        cluster_trees(model, dataset)
    assert "--set item_table=clustered" in str(caught.value)


def test_a_dataset_of_others_is_refused(dataset, users, items):
    others = Dataset.from_rows([("zoe", 7, 0)])
    with pytest.raises(DataError, match="none of the model's user_ids"):
        cluster_trees(Fitted({"users": users}), others)
    with pytest.raises(DataError, match="none of the model's item_ids"):
        cluster_trees(Fitted({"items": items}), others)
