"""``fit`` and ``plan`` of CEL-Lite, and what ``update`` shares with them: one pass, and what it said."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from polyvec.cli.run_options import STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from polyvec.cli.fit import Options
    from polyvec.cli.plan import Options as PlanOptions
    from polyvec.cli.run_options import RunOptions
    from polyvec.data.dataset import Dataset
    from polyvec.systems.cel import LiteConfig
    from polyvec.systems.cel.lite_model import LiteModel

SIZES = {
    "interactions": "interactions",
    "users": "users",
    "items": "items",
    "model_bytes": "bytes of the model as it is kept",
    "peak_bytes": "bytes in training, at most",
    "learner_bytes": "  rows, ring, users and items",
    "stream_bytes": "  the stream",
    "process_bytes": "  libraries and data",
}
NOT_OF_A_STREAM = ("preset", "held_back", "validation", "refit", "resume", "budget")


def fit_stream(dataset: Path, out: Path, options: Options) -> None:
    """Begin to learn a stream, as the options of ``fit`` say.

    Raises
    ------
    UsageError
        If an option was given that a single pass has no use for.
    """
    from polyvec.systems.cel import fit_stream as fit

    config = _config(options)
    if options["show_config"]:
        click.echo(json.dumps({STREAM: asdict(config)}, indent=1))
        return
    data, until = _until(dataset, options)
    with progress() as on_batch:
        model = fit(data, out, config, until=until, overwrite=options["overwrite"], on_batch=on_batch)
    say(out, model, as_json=options["as_json"])


def plan_stream(dataset: Path, options: PlanOptions) -> None:
    """Tell what :func:`fit_stream` will take.

    Raises
    ------
    UsageError
        As :func:`fit_stream`.
    """
    from polyvec.cli.plan import print_sizes
    from polyvec.systems.cel import plan_stream as plan

    config = _config(options)
    data, until = _until(dataset, options)
    found = plan(data, config, until=until)
    told = {
        "interactions": found.interactions,
        "users": found.users,
        "items": found.items,
        "model_bytes": found.model,
        "learner_bytes": found.learner,
        "stream_bytes": found.stream,
        "process_bytes": found.process,
        "peak_bytes": found.peak,
    }
    if options["as_json"]:
        click.echo(json.dumps({"system": STREAM, **told}))
        return
    print_sizes(SIZES, told)


def _config(options: RunOptions) -> LiteConfig:
    from polyvec.cli.configuration import configure
    from polyvec.systems.cel import LiteConfig

    _refuse_others()
    tables = configure({STREAM: LiteConfig()}, options["config_file"], options["settings"])
    config: LiteConfig = tables[STREAM]
    return config


def _until(path: Path, options: RunOptions) -> tuple[Dataset, int | None]:
    from polyvec.data.dataset import Dataset, parse_time

    dataset = Dataset.open(path)
    return dataset, None if options["until"] is None else parse_time(options["until"], dataset)


def _refuse_others() -> None:
    from click.core import ParameterSource

    from polyvec.errors import UsageError

    context = click.get_current_context()
    for name in NOT_OF_A_STREAM:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                f"cel-lite has no --{name.replace('_', '-')}",
                expected="one pass in order of time; every interaction is foretold before it is learned",
            )


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr; yield what moves it."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("learning", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def say(path: Path, model: LiteModel, *, as_json: bool) -> None:
    """Tell what the latest call learned, and how far it was foretold wrongly."""
    call = model.calls[-1]
    if as_json:
        click.echo(json.dumps({"path": str(path), **model.meta}))
        return
    click.echo(
        f"{path}: cel-lite, {call['interactions']:,} interactions from {call['from']} to {call['to']} "
        f"({call['left_out']:,} left out), {call['new_users']:,} new users, {call['new_items']:,} new items; "
        f"in all {len(model.users):,} users in {model.learner.users.clusters:,} rows, "
        f"{len(model.items):,} items in {model.learner.items.clusters:,}"
    )
    _print_errors(call["errors"])


def _print_errors(errors: dict[str, dict[str, float | None]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", box=None, title="squared error before learning", title_justify="left")
    for name in errors["all"]:
        table.add_column(name, justify="right")
    for part, figures in errors.items():
        table.add_row(part, *map(_cell, figures.values()))
    Console().print(table)


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
