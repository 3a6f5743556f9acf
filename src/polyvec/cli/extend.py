"""``polyvec extend``: let a ranker of many scenarios learn a new one."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--scenario", required=True, help="The new one, a value of the data's column scenario.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Model folder to write.")
@click.option("--until", help="Read nothing at or after this date, e.g. 2011-10-01.")
@click.option(
    "--held-back",
    type=click.IntRange(min=0),
    default=0,
    help="Ordered data: leave out the last events of every user.",
)
@click.option("--branch-only", is_flag=True, help="Train the new branch, and leave all else as it is.")
@click.option("--no-validation", is_flag=True, help="Train all epochs, on everything.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run of the same command.")
@click.option("--overwrite", is_flag=True, help="Replace an existing Model.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    model: Path,
    dataset: Path,
    scenario: str,
    out: Path,
    *,
    until: str | None,
    held_back: int,
    branch_only: bool,
    no_validation: bool,
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Let a ranker of many scenarios (saml) learn a new one, and write a new Model.

    Its branch begins as that of the scenario whose branch foretells it best; it is trained while all else
    stays as it is, then together with the others.

    \b
    polyvec extend shop.saml shop.dataset --scenario PL --out larger.saml
    """  # noqa: D301
    from polyvec.data.dataset import Dataset, parse_time
    from polyvec.systems.folder import told_best
    from polyvec.systems.saml import SAML, extend

    data = Dataset.open(dataset)
    extended = extend(
        SAML.open(model),
        data,
        scenario,
        out,
        until=None if until is None else parse_time(until, data),
        held_back=held_back,
        validation="none" if no_validation else "window",
        branch_only=branch_only,
        resume=resume,
        overwrite=overwrite,
    )
    meta = extended.manifest.meta if extended.manifest else {}
    if as_json:
        click.echo(json.dumps({"path": str(out), **meta}))
        return
    click.echo(
        f"{out}: saml, scores in {len(meta['scenarios'])} scenarios; {scenario} began as "
        f"{meta['extended_from']}; {told_best(meta)}"
    )
