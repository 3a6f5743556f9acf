"""``polyvec rollback``: put an earlier version of an updated Model in its place."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("rollback")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--to", type=int, help="Number of the version.  [the one it was updated from]")
@click.option("--list", "lists", is_flag=True, help="Change nothing; say which versions are kept.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(model: Path, *, to: int | None, lists: bool, as_json: bool) -> None:
    """Put an earlier version of an updated Model in its place, the same to the bit.

    What stood there is kept, too: the way forward is the same command with --to.

    \b
    polyvec rollback shop.model --list
    polyvec rollback shop.model
    polyvec rollback shop.model --to 3
    """  # noqa: D301
    from polyvec.artifact import read_manifest
    from polyvec.systems.versions import rollback, version_of, versions

    manifest = read_manifest(model, "model") if lists else rollback(model, to)
    current, kept = version_of(model), versions(model)
    if as_json:
        click.echo(json.dumps({"path": str(model), "version": current, "kept": list(kept)}))
        return
    click.echo(f"{model}: version {current}, trained until {_moment(manifest.meta)}")
    if lists:
        for number, place in kept.items():
            meta = read_manifest(place, "model").meta
            click.echo(f"{place}: version {number}, trained until {_moment(meta)}")


def _moment(meta: dict[str, object]) -> str:
    from polyvec.data.dataset import format_time

    return format_time(int(str(meta["trained_until"])), "timestamp")
