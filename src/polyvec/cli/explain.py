"""``polyvec explain``: why an item's vector is what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from polyvec.systems.pgtl.explain import Explanation

SHOWN = 10


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("items", nargs=-1)
@click.option("--until", help="Read nothing at or after this date, e.g. 2011-11-01.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: Path, dataset: Path, items: tuple[str, ...], *, until: str | None, as_json: bool) -> None:
    """Explain items of a model of two markets (pgtl): related items, and how much was taken from them.

    The gate says how much of what is known in the large market an item takes: 0 nothing, 1 all. Without
    ITEMS, it is shown by category.

    \b
    polyvec explain two.model two.dataset
    polyvec explain two.model two.dataset i0000042 i0000043
    """  # noqa: D301
    from polyvec.data.dataset import Dataset, parse_time
    from polyvec.systems.pgtl.explain import explain, gates_by_category
    from polyvec.systems.pgtl.model import PGTL

    data = Dataset.open(dataset)
    bound = PGTL.open(model).at(data, None if until is None else parse_time(until, data))
    if items:
        found = [explain(bound, data, item) for item in items]
        if as_json:
            click.echo(json.dumps({"items": [_as_json(one) for one in found]}, default=str))
        else:
            for one in found:
                _show(one)
        return
    gates = gates_by_category(bound, data)
    if as_json:
        click.echo(json.dumps({"categories": gates.to_dicts()}))
        return
    for category, count, gate in gates.iter_rows():
        click.echo(f"{gate:.3f}  {category} ({count:,} items)")


def _as_json(one: Explanation) -> dict[str, Any]:
    return {
        "item": one.item,
        "relation": one.relation,
        "gate": one.gate,
        "events": one.events,
        "related": one.related.to_dicts(),
    }


def _show(one: Explanation) -> None:
    click.echo(f"{_told(one.item)}: gate {one.gate:.3f}, events in training: {one.events['target']:,}")
    click.echo(f"  related in the large market: {one.relation}")
    for row in one.related.head(SHOWN).iter_rows(named=True):
        click.echo(f"    {row['source_events']:>8,} events  {_told(row)}")
    if len(one.related) > SHOWN:
        click.echo(f"    and {len(one.related) - SHOWN} more")


def _told(row: dict[str, Any]) -> str:
    parts = [str(row[name]) for name in ("item_id", "title", "category") if row.get(name) is not None]
    return ", ".join(parts)
