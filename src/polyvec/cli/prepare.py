"""``polyvec prepare``: check an event log and write a Dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyvec.errors import UsageError

if TYPE_CHECKING:
    from polyvec.data.dataset import Dataset
    from polyvec.data.options import PrepareOptions

NOTES_SHOWN = 20
QUANTILE_NAMES = ("mean", "std", "min", "q25", "q50", "q75", "q99", "max")


@click.command("prepare")
@click.argument("events", nargs=-1, required=True)
@click.option(
    "--items",
    multiple=True,
    metavar="FILE",
    help="Catalogue: item_id and title, category, brand, shop, price … Repeatable.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Dataset folder to make.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="ROLE=COLUMN",
    help="Which column of EVENTS is user_id, item_id, timestamp, action, scenario, label, rating, price, "
    "quantity, query. Repeatable; the others are guessed; ROLE= for none.",
)
@click.option(
    "--item-column",
    "item_columns",
    multiple=True,
    metavar="ROLE=COLUMN",
    help="The same for the catalogue: item_id, title, category, brand, shop, price. Its other columns stay.",
)
@click.option(
    "--purchase",
    "purchases",
    multiple=True,
    metavar="ACTION",
    help="Action that means a purchase, besides 'purchase'. Repeatable.",
)
@click.option("--keep", multiple=True, metavar="COLUMN", help="Keep a further column of EVENTS. Repeatable.")
@click.option(
    "--order", metavar="COLUMN", help="Column with the order of a user's events, where no times are."
)
@click.option(
    "--time-unit", type=click.Choice(["s", "ms", "us", "ns"]), help="Unit of integer times.  [plausible one]"
)
@click.option("--time-format", metavar="PATTERN", help="strftime pattern of text times.  [ISO 8601]")
@click.option(
    "--time-zone",
    metavar="NAME",
    help="Time zone by whose clock days begin and end, such as Asia/Shanghai; dates without a zone are its "
    "already.  [UTC]",
)
@click.option("--delimiter", metavar="CHARACTER", help="Between fields of all CSV files.  [guessed]")
@click.option("--encoding", default="utf-8", show_default=True, help="Of CSV files.")
@click.option(
    "--returns",
    type=click.Choice(["mark", "drop", "keep"]),
    default="mark",
    show_default=True,
    help="Events with a negative quantity: get the action 'return', are quarantined, or have no rule.",
)
@click.option(
    "--max-history",
    type=int,
    metavar="N",
    help="Keep only the latest N events of each user: to serve with, not to measure on.",
)
@click.option("--keep-duplicates", is_flag=True, help="Keep events that are equal in all kept columns.")
@click.option("--overwrite", is_flag=True, help="Replace a Dataset that stands at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the profile as one JSON object.")
def command(
    events: tuple[str, ...], items: tuple[str, ...], out: Path, as_json: bool, **options: Any
) -> None:
    """Check EVENTS (CSV, Parquet or Arrow files, or quoted globs) and write a Dataset folder.

    Bad rows are set aside with their reasons in quarantine.parquet in that folder, so that
    read = kept + duplicates + quarantined. The profile of the data is printed and saved as profile.json.

    \b
    polyvec prepare events.parquet --items items.parquet --out shop.dataset
    polyvec prepare 'logs/*.csv.gz' --out shop.dataset --column user_id=CustomerID --column timestamp=When
    polyvec prepare ratings.parquet --out ratings.dataset --order position
    polyvec prepare clicks.csv --out shop.dataset --purchase buy --purchase order
    polyvec prepare events.csv --out shop.dataset --keep store --returns drop
    """  # noqa: D301
    from polyvec.data.dataset import read_profile
    from polyvec.data.options import PrepareOptions

    options["columns"] = _mapping("--column", options["columns"])
    options["item_columns"] = _mapping("--item-column", options["item_columns"])
    _run(list(events), list(items), out, PrepareOptions(**options))
    profile = read_profile(out)
    if as_json:
        click.echo(json.dumps({"path": str(out), **profile}))
    else:
        _show(out, profile)


def _mapping(option: str, pairs: tuple[str, ...]) -> dict[str, str]:
    """Columns by role, from what was typed as ROLE=COLUMN."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        role, equals, column = pair.partition("=")
        if not equals or not role:
            raise UsageError(
                f"{option} '{pair}' cannot be used",
                expected="ROLE=COLUMN, for example user_id=CustomerID",
            )
        if role in mapping:
            raise UsageError(f"{option} {role}=… is given twice", expected="one column for each role")
        mapping[role] = column
    return mapping


def _run(events: list[str], items: list[str], out: Path, options: PrepareOptions) -> Dataset:
    """Prepare with a counter of rows on stderr."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from polyvec.data.prepare import prepare

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows read"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rows", total=None)
        return prepare(
            events,
            out,
            items=items or None,
            options=options,
            on_progress=lambda rows: progress.update(task, completed=rows),
        )


def _show(out: Path, profile: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for note in profile["notes"][:NOTES_SHOWN]:
        click.echo(f"note: {note}", err=True)
    console = Console()
    facts = Table(title=str(out), show_header=False, title_justify="left")
    for name, value in _facts(profile):
        facts.add_row(Text(name), Text(value))  # not as markup: names may hold [brackets]
    console.print(facts)
    console.print(_quantiles(profile["events_per_user"]))
    for kind, label in [("items", "title"), ("users", "suspect")]:
        console.print(_top(profile, kind, label))


def _facts(profile: dict[str, Any]) -> list[tuple[str, str]]:
    rows = profile["rows"]
    facts = [
        ("users", f"{profile['users']:,}"),
        ("items", f"{profile['items']:,} ({profile['items_with_events']:,} with events)"),
        ("events", f"{profile['events']:,}"),
        (
            "time" if profile["time_kind"] == "timestamp" else "order",
            f"{profile['first']} … {profile['last']}",
        ),
        ("rows read", f"{rows['read']:,}"),
        ("= kept", f"{rows['kept']:,}"),
        ("+ duplicates", f"{rows['duplicates']:,}"),
        ("+ quarantined", f"{rows['quarantined']:,}"),
    ]
    if rows["cut"]:
        facts.append(("+ cut by --max-history", f"{rows['cut']:,} of {profile['users_cut']:,} users"))
    facts += [(f"   {reason}", f"{count:,}") for reason, count in profile["quarantined_by_reason"].items()]
    for name in ("items_without_title", "items_without_category", "events_not_in_catalogue"):
        if profile[name] is not None:
            facts.append((name.replace("_", " "), f"{profile[name]:.1%}"))
    return facts + [(name, _counts(profile[name])) for name in ("actions", "scenarios") if profile[name]]


def _counts(values: dict[str, int]) -> str:
    shown = [f"{name or '(empty)'} {count:,}" for name, count in list(values.items())[:5]]
    return ", ".join(shown) + (f" and {len(values) - 5} more" if len(values) > 5 else "")


def _quantiles(events_per_user: dict[str, float]) -> Any:
    from rich.table import Table

    table = Table(title="events per user", title_justify="left")
    for name in QUANTILE_NAMES:
        table.add_column(name, justify="right")
    table.add_row(*(f"{events_per_user[name]:,.5g}" for name in QUANTILE_NAMES))
    return table


def _top(profile: dict[str, Any], kind: str, label: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"top {kind}", title_justify="left", show_header=False)
    for entry in profile[f"top_{kind}"][:5]:
        shown = {True: "bot?", False: "", None: ""}.get(entry[label], entry[label])
        table.add_row(Text(str(entry[f"{kind[:-1]}_id"])), Text(f"{entry['events']:,}"), Text(str(shown)))
    return table
