"""``polyvec clusters``: look at the clusters of a Model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyvec.evaluation.cluster_tree import ClusterTree

PRINTED = 10


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--typical",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Users or items to name for each cluster.",
)
@click.option(
    "--show",
    type=click.IntRange(1, 400),
    default=200,
    show_default=True,
    help="Clusters on the page, those of most training events; the JSON has all.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing folder.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def command(
    model: Path, dataset: Path, out: Path, *, typical: int, show: int, overwrite: bool, as_json: bool
) -> None:
    """Write a page with the clusters of MODEL: which split from which, and who is in them.

    For each cluster of users, items or both: how many, those of most training events, and the categories (of
    items) or items (of users) that it has more often than others; and who moved most between clusters.
    DATASET gives the names.

    \b
    polyvec fit cel ratings.dataset --out ratings.model --set item_table=clustered
    polyvec clusters ratings.model ratings.dataset --out ratings.clusters
    """  # noqa: D301
    from polyvec.artifact import read_manifest, refuse_existing
    from polyvec.data.dataset import Dataset
    from polyvec.evaluation.cluster_report import KIND, PAGE, write_clusters
    from polyvec.systems.clusters import cluster_trees
    from polyvec.systems.open import open_model

    refuse_existing(out, KIND, overwrite=overwrite)
    fitted = open_model(model)
    trees = cluster_trees(fitted, Dataset.open(dataset), typical=typical)
    about = {"system": fitted.system, "model": str(model), "dataset": str(dataset)}
    parents = {"model": read_manifest(model, "model"), "dataset": read_manifest(dataset, "dataset")}
    content = write_clusters(out, trees, about, parents, show=show, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps(content | {"page": str(out / PAGE)}))
    else:
        _show(trees)
        click.echo(str(out / PAGE))


def _show(trees: Mapping[str, ClusterTree]) -> None:
    """Print the clusters of most training events."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for side, tree in trees.items():
        title = f"{len(tree.clusters):,} clusters of {tree.num_entities:,} {side}"
        columns = "cluster", "from", side, "events", "typical"
        table = Table(*columns, box=None, title=title, title_justify="left")
        ranked = sorted(tree.clusters, key=lambda one: -one.events)
        for one in ranked[:PRINTED]:
            names = " · ".join(one.names[:3])
            parent = "–" if one.parent is None else str(one.parent)
            table.add_row(str(one.cluster), parent, f"{one.size:,}", f"{one.events:,}", Text(names))
        Console().print(table)
