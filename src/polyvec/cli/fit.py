"""``polyvec fit``: train a system on a Dataset and write a Model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from polyvec.cli.run_options import STREAM, SYSTEMS, RunOptions, resolve, run_options, told_choice

if TYPE_CHECKING:
    from typing import Any, Unpack


class Options(RunOptions):
    """Options of the verb, as click hands them over."""

    show_config: bool
    resume: bool
    overwrite: bool
    as_json: bool


@click.command()
@click.argument("system", type=click.Choice((*SYSTEMS, STREAM)))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Model folder to write.")
@run_options
@click.option("--show-config", is_flag=True, help="Print the resolved configuration and stop.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run of the same command.")
@click.option("--overwrite", is_flag=True, help="Replace an existing Model.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(system: str, dataset: Path, out: Path, **options: Unpack[Options]) -> None:
    """Train a system on a Dataset and write a Model.

    \b
    polyvec fit guim shop.dataset --out shop.model
    polyvec fit guim shop.dataset --out shop.model --validation window --refit
    polyvec fit guim shop.dataset --out shop.model --until 2011-10-01 --set num_vectors=8 --set epochs=10
    polyvec fit guim shop.dataset --out shop.model --preset paper --resume
    polyvec fit guim shop.dataset --out shop.model --budget 200MB
    polyvec fit cel ratings.dataset --out ratings.model --set item_clusters=100
    polyvec fit cel-lite january.dataset --out ratings.model --set batch=64
    """  # noqa: D301
    from polyvec.data.dataset import Dataset

    if system == STREAM:
        from polyvec.cli.streams import fit_stream

        fit_stream(dataset, out, options)
        return
    run = resolve(system, options)
    if options["show_config"]:
        click.echo(json.dumps({table: asdict(values) for table, values in run.configured.items()}, indent=1))
        return
    data = Dataset.open(dataset)
    config, training, moment = run.config, run.configured["training"], run.moment(data, options)
    if options["budget"] and run.chooses_tables:
        config = run.system.settled(data, config, training, **moment)
        click.echo(told_choice(config), err=True)
    again = {"resume": options["resume"], "overwrite": options["overwrite"]}
    model = run.system.fit(data, out, config, training, **moment, **again)
    _say(out, model.manifest.meta if model.manifest else {}, as_json=options["as_json"])


def _say(out: Path, meta: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"path": str(out), **meta}))
        return
    from polyvec.systems.folder import told_best

    click.echo(
        f"{out}: {meta['system']}, {_makes(meta)}, "
        f"{meta['parameters']:,} weights in {meta['bytes']:,} bytes, {meta['steps']:,} steps; "
        f"{told_best(meta)}"
    )
    if meta["system"] == "pgtl":
        from polyvec.systems.pgtl.card import told_transfer

        click.echo("\n".join(f"* {line}" for line in told_transfer(meta)))


def _makes(meta: dict[str, Any]) -> str:
    """What a model makes: vectors of users, or scores."""
    if "C" not in meta:
        return f"scores in {len(meta['scenarios'])} scenario{'s' * (len(meta['scenarios']) != 1)}"
    return f"{meta['C']} vector{'s' * (meta['C'] != 1)} of {meta['D']} per user"
