"""``polyvec score``: what a ranker says of offers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from polyvec.data.dataset import Dataset
    from polyvec.systems.saml import SAML
    from polyvec.systems.saml.score import Scored


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Parquet file to write.")
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    help="CSV or Parquet file of user_id, item_id, scenario to score.  [the log's own offers]",
)
@click.option("--since", help="Of the log's offers those from this date on.  [where training ended]")
@click.option("--until", help="Read nothing at or after this date, e.g. 2011-10-01.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="HTML page to write of the log's offers: measures, whether chances are true, who resembles whom.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    model: Path,
    dataset: Path,
    out: Path,
    pairs: Path | None,
    since: str | None,
    until: str | None,
    report: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score offers of items to users in scenarios with a ranker (saml).

    Without --pairs the offers of the log that the model was not trained on, and how well they are told apart:
    AUC, GAUC (by user) and log-loss by scenario, and α, how much each scenario's branch asks each other one.

    \b
    polyvec fit saml shop.dataset --out shop.saml --until 2025-06-01
    polyvec score shop.saml shop.dataset --out scores.parquet --report scores.html
    polyvec score shop.saml shop.dataset --pairs candidates.csv --out scores.parquet
    """  # noqa: D301
    from polyvec.artifact import refuse_file, write_whole
    from polyvec.data.dataset import Dataset
    from polyvec.errors import UsageError
    from polyvec.systems.saml import SAML

    if report is not None and pairs is not None:
        raise UsageError("--report is of the log's own offers", mend="leave it out beside --pairs")
    for file in (out, report):
        if file is not None:
            refuse_file(file, overwrite=overwrite)
            file.parent.mkdir(parents=True, exist_ok=True)
    ranker = SAML.open(model)
    found = _scored(ranker, Dataset.open(dataset), pairs, since, until)
    write_whole(out, found.table.write_parquet)
    if found.known:
        click.echo(
            f"note: {found.known:,} of {len(found.table):,} offers are of the time that the model has "
            "learned from: how well they are told apart is no test",
            err=True,
        )
    if report is not None:
        from polyvec.evaluation.scores_report import render_scores

        about = {"model": str(model), "dataset": str(dataset), "method": ranker.config.method}
        about |= {"parameters": ranker.meta["parameters"]}
        page = render_scores(found.table, found.by_scenario, found.shares, about)
        write_whole(report, lambda unfinished: unfinished.write_text(page, "utf-8"))
    if as_json:
        told: dict[str, object] = {"path": str(out), "rows": len(found.table), "known": found.known}
        if report is not None:
            told["report"] = str(report)
        measured = {
            name: {key: None if math.isnan(value) else value for key, value in values.items()}
            for name, values in found.by_scenario.items()
        }
        click.echo(json.dumps(told | {"by_scenario": measured, "shares": found.shares}))
    else:
        _say(out, found)
        if report is not None:
            click.echo(str(report))


def _scored(
    model: SAML, dataset: Dataset, pairs: Path | None, since: str | None, until: str | None
) -> Scored:
    from polyvec.data.dataset import parse_time, require_timestamps
    from polyvec.data.split import check_moment
    from polyvec.errors import UsageError
    from polyvec.systems.saml.score import score_log, score_pairs

    begin, end = (None if text is None else parse_time(text, dataset) for text in (since, until))
    check_moment(dataset, end, 0, needs_past=False)
    if begin is not None:
        require_timestamps(dataset, "--since")
    if pairs is None:
        return score_log(model, dataset, begin, end)
    if since is not None:
        raise UsageError("--since is for the log's own offers", mend="leave it out beside --pairs")
    return score_pairs(model, dataset, pairs, end)


def _say(out: Path, found: Scored) -> None:
    """Print measures by scenario, and α."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    click.echo(f"{out}: {len(found.table):,} scores")
    tables = [("", found.by_scenario), ("α: how much a scenario (row) asks each other one", found.shares)]
    for title, rows in tables:
        if not rows:
            continue
        names = list(next(iter(rows.values())))
        table = Table(title=title or None, title_justify="left", box=None)
        for name in ("scenario", *names):
            table.add_column(Text(name), justify="left" if name == "scenario" else "right")
        for scenario, values in rows.items():
            cells = [f"{value:,}" if name == "samples" else f"{value:.4f}" for name, value in values.items()]
            table.add_row(Text(scenario), *cells)
        Console().print(table)
