"""``polyvec fit``: train a system on a Dataset and write a Model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Unpack

    from _typeshed import DataclassInstance

SYSTEMS = ("guim", "sasrec", "cel", "cel-lite")


class Options(TypedDict):
    """Options of the verb, as click hands them over."""

    preset: str
    until: str | None
    held_back: int
    validation: str | None
    refit: bool
    config_file: str | None
    settings: tuple[str, ...]
    show_config: bool
    resume: bool
    overwrite: bool
    as_json: bool


@click.command()
@click.argument("system", type=click.Choice(SYSTEMS))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Model folder to write.")
@click.option(
    "--preset",
    type=click.Choice(["default", "paper", "deep"]),
    default="default",
    show_default=True,
    help="Our best recipe, the paper's, or (cel) a deep interest network.",
)
@click.option("--until", help="Read nothing at or after this date, e.g. 2011-10-01.")
@click.option(
    "--held-back",
    type=click.IntRange(min=0),
    default=0,
    help="Ordered data: leave out the last events of every user.",
)
@click.option(
    "--validation",
    type=click.Choice(["users", "window", "none"]),
    help="Choose the best epoch on held-out users (guim), on the latest window of all users, or train all "
    "epochs.  [guim: users; others: window]",
)
@click.option(
    "--refit",
    is_flag=True,
    help="Then train again on everything, for the epochs that validation found best.",
)
@click.option("--config", "config_file", help="TOML file with tables [SYSTEM] and [training].")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting; repeatable.")
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
    polyvec fit cel ratings.dataset --out ratings.model --set item_clusters=100
    polyvec fit cel-lite january.dataset --out ratings.model --set batch=64
    """  # noqa: D301
    from polyvec.cli.configuration import configure
    from polyvec.data.dataset import Dataset, parse_time
    from polyvec.errors import UsageError

    if system == "cel-lite":
        from polyvec.cli.streams import fit_stream

        fit_stream(dataset, out, options)
        return
    presets, fit, validations = _system(system)
    if options["preset"] not in presets:
        raise UsageError(f"{system} has no preset '{options['preset']}'", expected=", ".join(presets))
    validation = options["validation"] or validations[0]
    if validation not in validations:
        raise UsageError(f"{system} has no validation '{validation}'", expected=", ".join(validations))
    model_config, training = presets[options["preset"]]()
    defaults: dict[str, DataclassInstance] = {system: model_config, "training": training}
    configured = configure(defaults, options["config_file"], options["settings"])
    if options["show_config"]:
        click.echo(json.dumps({table: asdict(values) for table, values in configured.items()}, indent=1))
        return
    data = Dataset.open(dataset)
    model = fit(
        data,
        out,
        configured[system],
        configured["training"],
        until=None if options["until"] is None else parse_time(options["until"], data),
        held_back=options["held_back"],
        validation=validation,
        refit=options["refit"],
        resume=options["resume"],
        overwrite=options["overwrite"],
    )
    _say(out, model.manifest.meta if model.manifest else {}, as_json=options["as_json"])


def _system(name: str) -> tuple[Mapping[str, Callable[[], Any]], Callable[..., Any], tuple[str, ...]]:
    """Presets and ``fit`` of a system, and its validations, the default first."""
    if name == "guim":
        from polyvec.systems import guim

        return guim.PRESETS, guim.fit, ("users", "window", "none")
    if name == "sasrec":
        from polyvec.systems import sasrec

        return sasrec.PRESETS, sasrec.fit, ("window", "none")
    from polyvec.systems import cel

    return cel.PRESETS, cel.fit, ("window", "none")


def _say(out: Path, meta: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"path": str(out), **meta}))
        return
    click.echo(
        f"{out}: {meta['system']}, {meta['C']} vector{'s' * (meta['C'] != 1)} of {meta['D']} per user, "
        f"{meta['parameters']:,} weights, {meta['steps']:,} steps; "
        f"best on validation: {meta['validation']}"
    )
