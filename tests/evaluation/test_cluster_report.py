"""The page of the clusters: whole, self-contained, safe whatever the titles hold, and not too long."""

from __future__ import annotations

import json
import random
import re
from html.parser import HTMLParser

import pytest

from polyvec.artifact import verify
from polyvec.errors import ArtifactError
from polyvec.evaluation.cluster_report import nodes, render, write_clusters
from polyvec.evaluation.cluster_tree import Cluster, ClusterTree

ABOUT = {"system": "cel", "model": "a.model", "dataset": "a.dataset"}


def cluster(number: int, parent: int | None, events: int = 10, title: str | None = None) -> Cluster:
    typical = [{"id": f"i{number}", "title": title, "events": events, "moves": 1}]
    traits = [{"trait": "<u>kind</u>", "share": 0.5, "lift": 2.0}]
    return Cluster(number, parent, None if parent is None else 10 * number, 2, 1, events, typical, traits)


def tree_of(clusters: list[Cluster]) -> ClusterTree:
    moved = [{"id": "i<1>", "title": "<script>x</script>", "events": 3, "moves": 255, "cluster": 0}]
    return ClusterTree(clusters, moved, [{"moves": 0, "entities": 2 * len(clusters)}])


def random_tree(size: int) -> ClusterTree:
    source = random.Random(0)
    chain = [None if n == 0 else n - 1 if n < size // 3 else source.randrange(n) for n in range(size)]
    return tree_of([cluster(n, parent, source.randrange(100)) for n, parent in enumerate(chain)])


class Outline(HTMLParser):
    """Collects what is open at the end, addresses, and how deep clusters lie in each other."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str | None] = []
        self.depths: list[int] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag == "details" and (dict(attributes).get("class") or "").startswith("node"):
            self.depths.append(self.open.count("details"))
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    return parsed


def test_the_page_is_whole_needs_nothing_else_and_no_title_breaks_it():
    tree = tree_of([cluster(0, None, title="</details><b>bold</b>"), cluster(1, 0, title='it\'s "quoted"')])
    page = render({"items": tree, "users": tree}, ABOUT)
    parsed = outline(page)
    assert parsed.open == []
    assert all(address and address.startswith("#") for address in parsed.addresses)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))
    assert "script" not in parsed.tags
    assert "u" not in parsed.tags
    assert "&lt;/details&gt;&lt;b&gt;bold" in page
    assert "255 or more" in page


def test_clusters_lie_in_each_other_as_they_split():
    tree = tree_of([cluster(0, None), cluster(1, 0), cluster(2, 1), cluster(3, 0)])
    assert outline(render({"items": tree}, ABOUT)).depths == [0, 1, 2, 1]
    found = nodes(tree, show=10)
    assert [(node.told.cluster, node.branch) for node in found] == [(0, 8), (1, 4), (2, 2), (3, 2)]


def test_of_thousands_the_largest_are_shown_below_the_nearest_that_is_and_the_rest_is_counted():
    tree = random_tree(3000)
    page = render({"items": tree}, ABOUT, show=200)
    parsed = outline(page)
    assert parsed.open == []
    assert len(parsed.depths) == 200
    assert "2,800 more, with 5,600 items, are in clusters.json" in page
    assert len(page) < 1_000_000
    shown = {node.told.cluster for node in nodes(tree, 200)}
    least = min(tree.clusters[number].events for number in shown)
    assert all(one.cluster in shown for one in tree.clusters if one.events > least)
    for node in nodes(tree, 200):
        depth, above = 0, node.told.parent
        while above is not None:
            depth, above = depth + (above in shown), tree.clusters[above].parent
        assert node.depth == depth


def test_a_long_chain_of_splits_is_no_deeper_than_browsers_allow():
    tree = tree_of([cluster(n, n - 1 if n else None) for n in range(2000)])
    parsed = outline(render({"users": tree}, ABOUT, show=400))
    assert max(parsed.depths) == 399
    assert parsed.open == []


def test_the_folder_is_whole_and_tells_every_cluster(tmp_path):
    trees = {"items": random_tree(30)}
    content = write_clusters(tmp_path / "c", trees, ABOUT, {}, show=5)
    verify(tmp_path / "c")
    told = json.loads((tmp_path / "c" / "clusters.json").read_text("utf-8"))
    assert told == content
    assert len(told["sides"]["items"]["clusters"]) == 30
    assert told["sides"]["items"]["clusters"][7]["parent"] == 6
    with pytest.raises(ArtifactError, match="exists already"):
        write_clusters(tmp_path / "c", trees, ABOUT, {})
    write_clusters(tmp_path / "c", trees, ABOUT, {}, overwrite=True)
