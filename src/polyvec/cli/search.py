"""``polyvec search``: the items nearest to an item."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("embeddings", type=click.Path(path_type=Path))
@click.option("--item", "item", required=True, help="Raw id of the item.")
@click.option("-k", default=10, show_default=True, help="Items wanted.")
@click.option("--dataset", type=click.Path(path_type=Path), help="Dataset whose catalogue names the items.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(embeddings: Path, item: str, k: int, dataset: Path | None, as_json: bool) -> None:
    """Find the items nearest to an item of EMBEDDINGS.

    \b
    polyvec search shop.emb --item 22423
    polyvec search shop.emb --item 22423 -k 20 --dataset shop.dataset --json
    """  # noqa: D301
    from polyvec.cli.recommend import show, with_titles
    from polyvec.data.dataset import Dataset
    from polyvec.embeddings import Embeddings
    from polyvec.retrieval.ranking import search

    catalogue = None if dataset is None else Dataset.open(dataset).item_table
    vectors = Embeddings.open(embeddings)
    item_id = vectors.items.ids.parse(item)
    ranking = search(vectors, item_id, k)
    answers = with_titles(ranking.table(), catalogue).drop("query_item_id", "state", "vector")
    if as_json:
        click.echo(json.dumps({"item_id": item_id, "state": ranking.states[0], "items": answers.to_dicts()}))
    else:
        show(f"items nearest to {item} ({ranking.states[0]})", answers)
