"""``polyvec split``: the part of a model that serves candidates."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the item head.")
@click.option("--overwrite", is_flag=True, help="Replace an existing one.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(model: Path, dataset: Path, *, out: Path, overwrite: bool, as_json: bool) -> None:
    """Write the item head of a model (dupn): what is worked out of a catalogue once, for serving.

    The Model itself is the user tower, read once for a request; the head is asked for every candidate. Both
    carry the Model's version.

    \b
    polyvec split shop.dupn shop.dataset --out shop.head
    """  # noqa: D301
    from polyvec.data.dataset import Dataset
    from polyvec.systems.dupn import DUPN
    from polyvec.systems.dupn.serving import ItemHead

    tower = DUPN.open(model)
    head = ItemHead.of(tower, Dataset.open(dataset).item_table)
    head.save(out, tower.manifest, overwrite=overwrite)
    if as_json:
        told = {"path": str(out), "version": head.version, "items": len(head.items), "tasks": head.kinds}
        click.echo(json.dumps(told))
        return
    click.echo(f"{out}: item head of {len(head.items):,} items for {', '.join(head.kinds)}")
