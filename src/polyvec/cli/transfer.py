"""``polyvec transfer``: let a model learn a task that it was not trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from typing import Any


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--task", "name", required=True, help="The new task, a table [dupn.tasks.NAME] of the file.")
@click.option("--config", "config_file", required=True, help="TOML file that declares it.")
@click.option(
    "--how",
    type=click.Choice(["ft", "rt", "rs", "ra"]),
    default="ft",
    show_default=True,
    help="Fine-tune encoder and head; keep the encoder and train the head; for comparison, train a new model "
    "on the task alone, or on all tasks.",
)
@click.option("--encoder-rate", type=float, default=1.0, help="ft: learning rate of the encoder, in parts.")
@click.option("--share", type=float, default=1.0, help="Of the task's training samples, drawn at random.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Model folder to write.")
@click.option("--until", help="Read nothing at or after this date, e.g. 2011-10-01.")
@click.option(
    "--held-back",
    type=click.IntRange(min=0),
    default=0,
    help="Ordered data: leave out the last events of every user.",
)
@click.option("--no-validation", is_flag=True, help="Train all epochs, on everything.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting of training; repeatable."
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run of the same command.")
@click.option("--overwrite", is_flag=True, help="Replace an existing Model.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    model: Path,
    dataset: Path,
    name: str,
    config_file: str,
    *,
    out: Path,
    until: str | None,
    held_back: int,
    no_validation: bool,
    settings: tuple[str, ...],
    as_json: bool,
    **how: Any,
) -> None:
    """Let a model (dupn) learn a task that it was not trained on, and write a new Model.

    The file holds the task as `fit` takes it; settings of training are the model's own but for --set.

    \b
    polyvec transfer shop.dupn shop.dataset --config shops.toml --task shop --out larger.dupn
    polyvec transfer shop.dupn shop.dataset --config shops.toml --task shop --how rt --out head.dupn
    """  # noqa: D301
    from polyvec.cli.configuration import configure
    from polyvec.data.dataset import Dataset, parse_time
    from polyvec.errors import UsageError, nearest_name
    from polyvec.systems.dupn import DUPN, DUPNConfig, transfer
    from polyvec.systems.folder import told_best

    base, data = DUPN.open(model), Dataset.open(dataset)
    told = configure({"dupn": DUPNConfig(), "training": base.options}, config_file, (), shows=False)
    configured = told | configure({"training": told["training"]}, None, settings, shows=False)
    tasks = configured["dupn"].tasks or {}
    if replace(configured["dupn"], tasks=None) != DUPNConfig():
        raise UsageError(
            "only the task and settings of training can be told: the network is the model's",
            expected="[dupn.tasks.NAME] and [training]",
            mend="leave the other settings of [dupn] out, or fit a model with them",
        )
    if name not in tasks:
        raise UsageError(
            f"{config_file} declares no task '{name}'", file=config_file, expected=nearest_name(name, tasks)
        )
    found = transfer(
        base,
        data,
        name,
        tasks[name],
        out,
        options=configured["training"],
        until=None if until is None else parse_time(until, data),
        held_back=held_back,
        validation="none" if no_validation else "window",
        **how,
    )
    meta = found.manifest.meta if found.manifest else {}
    if as_json:
        click.echo(json.dumps({"path": str(out), **meta}))
        return
    worth = meta["validated"].get(name, {})
    said = "".join(f", {measure} {value:.4f} on validation" for measure, value in worth.items())
    click.echo(f"{out}: dupn, task {name} ({how['how']}){said}; {told_best(meta)}")
