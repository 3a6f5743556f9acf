"""``polyvec update``: let a Model that learns a stream learn what came next."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("update")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--until", help="Read nothing at or after this date, e.g. 2011-10-01.")
@click.option(
    "--skip-earlier",
    is_flag=True,
    help="Leave out events before the moment that the Model has learned until, instead of refusing them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(model: Path, dataset: Path, *, until: str | None, skip_earlier: bool, as_json: bool) -> None:
    """Let a Model of cel-lite learn the events of a Dataset that came after those it knows.

    The Model is replaced once all is learned; whatever interrupts the work leaves the old one whole.

    \b
    polyvec prepare february.csv --out february.dataset
    polyvec update ratings.model february.dataset
    polyvec update ratings.model all.dataset --skip-earlier
    """  # noqa: D301
    from polyvec.cli.streams import progress, say
    from polyvec.data.dataset import Dataset, parse_time
    from polyvec.systems.cel import update

    data = Dataset.open(dataset)
    moment = None if until is None else parse_time(until, data)
    with progress() as on_batch:
        learned = update(model, data, until=moment, skip_earlier=skip_earlier, on_batch=on_batch)
    say(model, learned, as_json=as_json)
