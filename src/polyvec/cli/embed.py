"""``polyvec embed``: encode users and items with a Model and write Embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from polyvec.cli.tables import told_vectors

if TYPE_CHECKING:
    from typing import Unpack

    from polyvec.data.market import Role
    from polyvec.embeddings import Embeddings
    from polyvec.systems.embed import NumberType

FOLLOWS = 0.5  # R² of vectors' products and a ranker's scores; below it little of the ranker is left


class Options(TypedDict):
    """Options of the verb, as click hands them over."""

    until: str | None
    held_back: int
    number_type: NumberType
    market: Role
    scenario: str | None
    resume: bool
    overwrite: bool
    as_json: bool


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Embeddings folder to write.")
@click.option("--until", help="Read nothing at or after this date, e.g. 2011-11-01.")
@click.option(
    "--held-back",
    type=click.IntRange(min=0),
    default=0,
    help="Ordered data: leave out the last events of every user.",
)
@click.option(
    "--dtype",
    "number_type",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Numbers of the vectors.",
)
@click.option(
    "--market",
    type=click.Choice(["target", "source"]),
    default="target",
    show_default=True,
    help="Of a model of two markets (pgtl): as items of which one they are encoded.",
)
@click.option("--scenario", help="Of a ranker of many scenarios (saml): which one's vectors to write.")
@click.option("--resume", is_flag=True, help="Keep what an interrupted call of the same command has written.")
@click.option("--overwrite", is_flag=True, help="Replace existing Embeddings.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(model: Path, dataset: Path, out: Path, **options: Unpack[Options]) -> None:
    """Encode all users and items of a Dataset with a Model and write Embeddings.

    \b
    polyvec embed shop.model shop.dataset --out shop.emb
    polyvec embed shop.model shop.dataset --out november.emb --until 2011-11-01 --dtype float16
    """  # noqa: D301
    from rich.console import Console
    from rich.progress import Progress

    from polyvec.data.dataset import Dataset, parse_time
    from polyvec.systems.embed import embed
    from polyvec.systems.open import open_model

    data = Dataset.open(dataset)
    fitted = open_model(model)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("encoding", total=None)
        embeddings = embed(
            fitted,
            data,
            out,
            until=None if options["until"] is None else parse_time(options["until"], data),
            held_back=options["held_back"],
            number_type=options["number_type"],
            market=options["market"],
            scenario=options["scenario"],
            resume=options["resume"],
            overwrite=options["overwrite"],
            on_part=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _say(out, embeddings, as_json=options["as_json"])


def _say(out: Path, embeddings: Embeddings, *, as_json: bool) -> None:
    summary = {
        "path": str(out),
        "users": len(embeddings.users),
        "items": len(embeddings.items),
        "C": embeddings.num_vectors,
        "D": embeddings.width,
    }
    agreement = embeddings.provenance.get("agreement")
    if as_json:
        click.echo(json.dumps(summary | ({} if agreement is None else {"agreement": agreement})))
    else:
        click.echo(told_vectors(out, embeddings))
        if agreement is not None:
            click.echo(f"their products follow what the ranker says with R² = {agreement:.3f}")
            if agreement < FOLLOWS:
                click.echo(
                    "note: they hardly follow it: search with them is not what it would answer", err=True
                )
