"""``polyvec synth``: make a synthetic shop whose truth is known."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from polyvec.data.synthetic.world import ShopPlan
    from polyvec.evaluation.rankers import Ranker

MEDIUM = {"users": 100_000, "items": 50_000, "events": 10_000_000}
SCORED_EVENTS = 2_000_000  # larger shops are not scored: it would take their purchases into memory
SCORED_USERS = 2_000
TARGET_DAYS = 30
TOP = 100


@click.command("synth")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option(
    "--size",
    type=click.Choice(["small", "medium"]),
    default="small",
    show_default=True,
    help="Starting point of the numbers: small for a demo, medium for 10 million events.",
)
@click.option("--users", type=int, help="Users.  [small: 4,000, medium: 100,000]")
@click.option("--items", type=int, help="Items.  [small: 8,000, medium: 50,000]")
@click.option(
    "--events", type=int, help="Expected events of all actions.  [small: 600,000, medium: 10,000,000]"
)
@click.option("--days", type=int, help="Days from 2024-01-01 on.  [400]")
@click.option("--interests", type=int, help="Topics that users may be interested in.  [24]")
@click.option("--countries", type=int, help="Countries with different tastes.  [3]")
@click.option("--seed", type=int, help="Seed of everything.  [7]")
@click.option("--overwrite", is_flag=True, help="Replace a shop that stands at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(out: Path, size: str, overwrite: bool, as_json: bool, **numbers: int | None) -> None:
    """Make a synthetic shop whose truth is known.

    Writes events.parquet, items.parquet and users.parquet, the tables that one would bring, and truth/
    with the interests, tastes and seasons behind them. The same arguments give the same tables.

    \b
    polyvec synth --out shop
    polyvec synth --out shop --users 1000 --items 2000 --events 50000 --days 200 --seed 1
    polyvec synth --out big --size medium
    polyvec prepare shop/events.parquet --items shop/items.parquet --out shop.dataset
    """  # noqa: D301
    from polyvec.data.synthetic.world import ShopPlan

    given = {name: value for name, value in numbers.items() if value is not None}
    plan = ShopPlan(**((MEDIUM if size == "medium" else {}) | given))
    actions = _generate(plan, out, overwrite)
    summary = {"path": str(out), **asdict(plan), "events": sum(actions.values()), "actions": actions}
    summary |= _planted(out)
    summary["recall"] = _recall(out, plan) if summary["events"] <= SCORED_EVENTS else None
    if as_json:
        click.echo(json.dumps(summary))
    else:
        _show(summary)


def _generate(plan: ShopPlan, out: Path, overwrite: bool) -> dict[str, int]:
    """Write the shop with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    from polyvec.data.synthetic.shop import write_shop

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("users", total=plan.users)
        return write_shop(
            plan, out, overwrite=overwrite, progress=lambda done: progress.update(task, completed=done)
        )


def _planted(out: Path) -> dict[str, Any]:
    """Count what was planted."""
    import numpy as np

    from polyvec.data.synthetic.truth import KINDS_OF_USERS, Truth
    from polyvec.data.synthetic.world import MAX_INTERESTS

    truth = Truth.open(out)
    planted, world = truth.planted, truth.world
    kinds = np.bincount(planted.kind_U, minlength=len(KINDS_OF_USERS)).tolist()
    interests = np.bincount(planted.num_interests, minlength=MAX_INTERESTS + 1).tolist()
    return {
        "kinds_of_users": dict(zip(KINDS_OF_USERS, kinds, strict=True)),
        "users_by_interests": {str(count): users for count, users in enumerate(interests)},
        "parents": int((planted.child_sex_U >= 0).sum()),
        "categories": len(world.categories),
        "items_sold_from_day_1": int((world.launch_day_N == 0).sum()),
        "items_sold_later": int(((world.launch_day_N > 0) & (world.launch_day_N < world.days)).sum()),
        "items_never_sold": int((world.launch_day_N >= world.days).sum()),
    }


def _recall(out: Path, plan: ShopPlan) -> dict[str, float] | None:
    """Mean recall@100 over the last 30 days of counting and of the truth; None if nothing can be scored."""
    import numpy as np

    from polyvec.data.dataset import days
    from polyvec.data.item_sets import ItemSets
    from polyvec.data.split import cut
    from polyvec.data.synthetic.oracle import Oracle, shop_dataset
    from polyvec.data.synthetic.shop import START
    from polyvec.evaluation.baselines import PersonalFrequency, Popularity
    from polyvec.evaluation.metrics import recall

    dataset = shop_dataset(out)
    cutoff = START * 1_000_000 + days(max(0, plan.days - TARGET_DAYS))
    windows = cut(dataset, cutoff, None, TARGET_DAYS)
    scored = windows.with_history().with_targets()[:SCORED_USERS]
    if not len(scored):
        return None
    targets = ItemSets.of_events(dataset, scored.target_start, scored.target_end)
    popularity = Popularity(dataset, windows)
    rankers: dict[str, Ranker] = {
        "popularity": popularity,
        "bought_before": PersonalFrequency(dataset, windows, popularity),
        "oracle": Oracle(out, dataset, cutoff, TARGET_DAYS),
    }
    ranked = {name: ranker.rank(scored.user_rows, TOP) for name, ranker in rankers.items()}
    return {name: float(np.mean(recall(rows, targets, TOP))) for name, rows in ranked.items()}


def _show(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"synthetic shop {summary['path']}", show_header=False)
    for name, value in _lines(summary):
        table.add_row(name, value)
    Console().print(table)


def _lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of the printed table."""

    def listed(name: str) -> str:
        return ", ".join(f"{key} {count:,}" for key, count in summary[name].items())

    items = (
        f"{summary['items']:,} in {summary['categories']} categories of {summary['interests']} topics; "
        f"{summary['items_sold_later']:,} sold later, {summary['items_never_sold']:,} never"
    )
    lines = [
        ("users", f"{summary['users']:,}: {listed('kinds_of_users')}; {summary['parents']:,} with a child"),
        ("users by interests", listed("users_by_interests")),
        ("items", items),
        ("events", f"{summary['events']:,}: {listed('actions')}"),
        ("days, countries, seed", f"{summary['days']}, {summary['countries']}, {summary['seed']}"),
    ]
    if summary["recall"] is not None:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in summary["recall"].items())
        lines.append((f"recall@{TOP}, last {TARGET_DAYS} days", scores))
    return lines
