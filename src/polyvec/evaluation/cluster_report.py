"""The clusters of a model to look at: one self-contained HTML page, and the same as JSON.

On disk::

    clusters.html   readable by a person, no other file or network needed
    clusters.json   every cluster, those that the page leaves out, too
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from polyvec.artifact import writing
from polyvec.evaluation.pages import page_environment
from polyvec.layers.tables.lineage import MOST_MOVES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from polyvec.artifact import Manifest
    from polyvec.evaluation.cluster_tree import Cluster, ClusterTree

KIND = "clusters"
PAGE = "clusters.html"
TEMPLATE = "clusters.html.jinja"
SHOWN = 200
TRAITS = {"items": "Categories", "users": "What its users have"}


@dataclass(frozen=True)
class Node:
    """A cluster on the page.

    Attributes
    ----------
    told
        The cluster.
    depth
        Clusters that it hangs below.
    closes
        How many clusters of the page end after it: itself, unless others hang below it, and those that it is
        the last one below.
    branch
        Entities in it and in all that split from it.
    share
        Its size over that of the largest one.
    """

    told: Cluster
    depth: int
    closes: int
    branch: int
    share: float


def write_clusters(
    path: Path,
    trees: Mapping[str, ClusterTree],
    about: Mapping[str, str],
    parents: Mapping[str, Manifest],
    *,
    show: int = SHOWN,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the folder ``path``, whole or not at all.

    Parameters
    ----------
    path
        The folder.
    trees
        A tree for ``users``, ``items`` or both.
    about
        ``system``, ``model`` and ``dataset``: what is looked at, for the page.
    parents
        Manifests of what it was made from.
    show
        Clusters of each tree on the page, those of most training events; all of them are in the JSON.
    overwrite
        Replace an existing folder.

    Returns
    -------
    dict
        The content of ``clusters.json``.

    Raises
    ------
    ArtifactError
        If ``path`` is in the way.
    """
    content = {**about, "sides": {side: asdict(tree) for side, tree in trees.items()}}
    meta = {"clusters": {side: len(tree.clusters) for side, tree in trees.items()}}
    with writing(path, KIND, meta=meta, parents=parents, overwrite=overwrite) as stage:
        (stage / PAGE).write_text(render(trees, about, show), "utf-8")
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (stage / "clusters.json").write_text(text, "utf-8")
    return content


def render(trees: Mapping[str, ClusterTree], about: Mapping[str, str], show: int = SHOWN) -> str:
    """Make the page."""
    sides = {side: _side(side, tree, show) for side, tree in trees.items()}
    return page_environment().get_template(TEMPLATE).render(about, sides=sides, most_moves=MOST_MOVES)


def nodes(tree: ClusterTree, show: int) -> list[Node]:
    """Clusters of most training events, as a tree written out from top to bottom.

    What split from a cluster that is not shown hangs below the nearest one that is.
    """
    ranked = sorted(tree.clusters, key=lambda one: (-one.events, -one.size, one.cluster))
    shown = {one.cluster for one in ranked[:show]}
    branches, largest = _branches(tree), max(one.size for one in tree.clusters)
    below: dict[int | None, int] = {None: 0}  # depth of what hangs below a cluster
    places = []
    for one, _ in tree.walk():
        depth = below[one.parent]
        below[one.cluster] = depth + (one.cluster in shown)
        if one.cluster in shown:
            places.append((one, depth))
    following = [depth for _, depth in places[1:]] + [0]
    return [
        Node(one, depth, depth - after + 1, branches[one.cluster], one.size / max(largest, 1))
        for (one, depth), after in zip(places, following, strict=True)
    ]


def _branches(tree: ClusterTree) -> dict[int, int]:
    """Entities of every cluster and of all that split from it."""
    branches = {one.cluster: one.size for one in tree.clusters}
    for one, _ in reversed(tree.walk()):
        if one.parent is not None:
            branches[one.parent] += branches[one.cluster]
    return branches


def _side(side: str, tree: ClusterTree, show: int) -> dict[str, Any]:
    """What the page tells of one tree."""
    shown = nodes(tree, show)
    return {
        "nodes": shown,
        "tree": tree,
        "left_out": len(tree.clusters) - len(shown),
        "left_out_entities": tree.num_entities - sum(node.told.size for node in shown),
        "unmoved": sum(row["entities"] for row in tree.moves if row["moves"] == 0),
        "traits": TRAITS[side],
    }
