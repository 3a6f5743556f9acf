"""``polyvec update``: let a Model learn what came next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from typing import Any, Unpack

    from polyvec.data.dataset import Dataset

OF_A_STREAM = ("until", "skip_earlier", "as_json")


class Options(TypedDict):
    """Options of the verb, as click hands them over."""

    until: str | None
    skip_earlier: bool
    settings: tuple[str, ...]
    gate: bool
    resume: bool
    as_json: bool


@click.command("update")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--until", help="Read nothing at or after this date, e.g. 2011-10-01.")
@click.option(
    "--skip-earlier",
    is_flag=True,
    help="cel-lite: leave out events before the moment that the Model has learned until, instead of refusing "
    "them. Others read them as histories.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="One setting of training, or share (of the users, who judge), tolerance, decay, rehearsal; "
    "repeatable.",
)
@click.option(
    "--gate/--no-gate",
    default=True,
    help="Whether a Model that is worse than the one that serves is refused.  [it is]",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted update; or ask a refused one again.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(model: Path, dataset: Path, **options: Unpack[Options]) -> None:
    """Let a Model (dupn, guim, cel-lite) learn the events of a Dataset that came after those it knows.

    The Dataset has the new events and those before them, the histories; for cel-lite the new ones alone. What
    is new is foretold first, then learned in one pass. The Model is replaced once all is learned and, of dupn
    and guim, it is no worse than before; whatever interrupts the work leaves the old one whole. `rollback` is
    the way back.

    \b
    polyvec prepare log/*.parquet --items items.parquet --out today.dataset --overwrite
    polyvec update shop.model today.dataset
    polyvec update shop.model today.dataset --set learning_rate=1e-4 --resume --no-gate
    polyvec prepare february.csv --out february.dataset
    polyvec update ratings.model february.dataset
    polyvec update ratings.model all.dataset --skip-earlier
    """  # noqa: D301
    from polyvec.artifact import read_manifest
    from polyvec.cli.run_options import STREAM
    from polyvec.data.dataset import Dataset, parse_time

    system = str(read_manifest(model, "model").meta.get("system"))
    data = Dataset.open(dataset)
    until = None if options["until"] is None else parse_time(options["until"], data)
    if system == STREAM:
        _refuse(system, [name for name in options if name not in OF_A_STREAM])
        _update_stream(model, data, until, options)
        return
    _refuse(system, ["skip_earlier"])
    _update(system, model, data, until, options)


def _refuse(system: str, names: list[str]) -> None:
    """Refuse options that were given."""
    from polyvec.errors import UsageError

    context = click.get_current_context()
    for parameter in context.command.params:
        is_given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if parameter.name in names and is_given:
            raise UsageError(f"an update of {system} has no {parameter.opts[0]}")


def _update_stream(model: Path, data: Dataset, until: int | None, options: Options) -> None:
    from polyvec.cli.streams import progress, say
    from polyvec.systems.cel import update

    with progress() as on_batch:
        learned = update(model, data, until=until, skip_earlier=options["skip_earlier"], on_batch=on_batch)
    say(model, learned, as_json=options["as_json"])


def _update(system: str, path: Path, data: Dataset, until: int | None, options: Options) -> None:
    from polyvec.cli.configuration import configure
    from polyvec.errors import UsageError
    from polyvec.systems import dupn, guim
    from polyvec.systems.updating import UpdateOptions, one_pass

    systems: dict[str, tuple[Any, Any]] = {
        "dupn": (dupn.DUPN, dupn.update),
        "guim": (guim.GUIM, guim.update),
    }
    if system not in systems:
        raise UsageError(
            f"a Model of {system} cannot be updated",
            expected="one of dupn, guim or cel-lite",
            mend=f"fit it again with all data: polyvec fit {system}",
        )
    kind, update = systems[system]
    begun = one_pass(kind.open(path).options)
    how = configure({"training": begun, "update": UpdateOptions()}, None, options["settings"], shows=False)
    again = {"gate": options["gate"], "resume": options["resume"]}
    model = update(path, data, how["training"], how["update"], until=until, **again)
    told = model.manifest.meta["updates"][-1] if model.manifest else {}
    if options["as_json"]:
        click.echo(json.dumps({"path": str(path), "system": system, **told}))
        return
    _say(path, system, told)


def _say(path: Path, system: str, told: dict[str, Any]) -> None:
    """Tell what an update learned, how well it was foretold, and how both models compare."""
    from rich.console import Console
    from rich.table import Table

    rehearsed = sum(told.get("rehearsed", {}).values())
    again = f"{rehearsed:,} of earlier days again, " if rehearsed else ""
    click.echo(
        f"{path}: {system}, version {told['version']}, learned {told['from']} to {told['to']}: "
        f"{sum(told['samples'].values()):,} samples, {again}{told['new_items']:,} new items"
    )
    table = Table("", "foretold before", "held out: before", "after", "difference", box=None)
    for name in {**told["foretold"], **told["gate"]}:
        one = told["gate"].get(name)
        cells = ["–"] * 3
        if one is not None:
            span = "of one user" if one["low"] is None else f"{one['low']:+.4f} to {one['high']:+.4f}"
            cells = [f"{one['before']:.4f}", f"{one['after']:.4f}", span]
        foretold = told["foretold"].get(name)
        table.add_row(name, "–" if foretold is None else f"{foretold:.4f}", *cells)
    Console().print(table)
    if not told["gate"]:
        click.echo(
            "note: nobody was held out whom both models could be asked about: it was not judged", err=True
        )
