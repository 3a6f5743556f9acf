"""Make README.md of results.json.

python studies/item_tables/page.py studies/item_tables
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from polyvec.evaluation.markdown import NOTHING, cell, study_page, table
from polyvec.evaluation.plots import curves, on_white, point
from polyvec.evaluation.runs import over_runs, side_of_zero

Results = dict[str, Any]
RARE = "recall@100 item 1–5"
MEASURES = {
    "recall@100": "recall@100 all",
    "NDCG@10": "ndcg@10 all",
    "recall@100, items of 1–5 events": RARE,
    "6–20": "recall@100 item 6–20",
    "over 20": "recall@100 item over 20",
}
LIST = "recall@100 all"
CLUSTERED = ("clustered", "clustered_residual")
TARGETS = {"1/50": 0.0, "1/200": 0.02}
"""Share of the full table's recall that clusters may lose at these bytes."""


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    results = json.loads((folder / "results.json").read_text("utf-8"))
    for name, tables in results["sets"].items():
        text = curves(f"{name}: recall@100", by_bytes(tables), "times smaller than the full table")
        (folder / picture(name)).write_text(on_white(text), "utf-8")
    (folder / "README.md").write_text(page(results), "utf-8")


def page(results: Results) -> str:
    """The whole page."""
    sets = results["sets"]
    told = [line for name, tables in sets.items() for line in verdicts(name, tables)]
    return study_page(Path(__file__).parent, told, [_set(name, tables) for name, tables in sets.items()])


def verdicts(name: str, tables: Results) -> list[str]:
    """Whether clusters lose no more than they may, and what the others lose at the same bytes."""
    lines = []
    for share, loss in TARGETS.items():
        full, here = tables.get("full"), _at(tables, share)
        clustered = {one: here[one] for one in CLUSTERED if one in here}
        if full is None or not clustered:
            continue
        best = max(clustered, key=lambda one: _mean(clustered[one]))
        change = _mean(clustered[best]) / _mean(full) - 1
        rivals = {one: _mean(figures) for one, figures in here.items() if one not in CLUSTERED}
        words = "no significant loss" if not loss else f"at most {loss:.0%} lost"
        kept = _less(clustered[best], full, LIST, 1 - loss)
        line = f"**{name}, {share} of the bytes, {words}**: {_verdict(kept, loss)} "
        line += f"(seeds: {len(kept['values'])}; {best} {change:+.1%}"
        if rivals:
            rival = max(rivals, key=lambda one: rivals[one])
            line += f"; best of the others: {rival} {rivals[rival] / _mean(full) - 1:+.1%}"
        lines.append(line + ").")
    return lines + _rare(name, tables)


def _rare(name: str, tables: Results) -> list[str]:
    """Whether clusters find items of few events that a full table does not."""
    found = {one: figures["measures"].get(RARE) for one, figures in tables.items() if "measures" in figures}
    clustered = {one: mine for one, mine in found.items() if one.split()[0] in CLUSTERED and mine}
    full = found.get("full")
    if not full or not clustered:
        return []
    best = max(clustered, key=lambda one: clustered[one]["mean"])
    holds = side_of_zero(_less(tables[best], tables["full"], RARE))
    return [
        f"**{name}, clusters find items of 1–5 events better than the full table**: {holds} "
        f"(recall@100 {cell(full)} of the full table, at best {cell(clustered[best])} of {best})."
    ]


def _less(figures: Results, full: Results, measure: str, share: float = 1) -> Results:
    """What a table has more than a share of the full one's measure, over the seeds that both have."""
    ours, theirs = (
        dict(zip(one["seeds"], one["measures"][measure]["values"], strict=True)) for one in (figures, full)
    )
    return over_runs([ours[seed] - share * theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])


def _at(tables: Results, share: str) -> Results:
    """Tables of a share of the bytes that could be made, by kind."""
    return {
        name.split()[0]: figures
        for name, figures in tables.items()
        if name.endswith(f" {share}") and "measures" in figures
    }


def _mean(figures: Results) -> float:
    return float(figures["measures"][LIST]["mean"])


def _verdict(kept: Results, loss: float) -> str:
    """Whether at most so much is lost; without an allowance, whether what is lost could be chance."""
    found = side_of_zero(kept)
    if loss or len(kept["values"]) == 1:
        return found
    return "no" if found == "no" else "yes"


def by_bytes(tables: Results) -> dict[str, list[tuple[int, float, float, float]]]:
    """Recall by how many times smaller a table was to be, of every kind, or is, with a row for each item."""
    series: dict[str, list[tuple[int, float, float, float]]] = {}
    for name, figures in tables.items():
        if "measures" in figures and "full" in tables:
            kind, _, share = name.partition(" 1/")
            times = int(share or round(tables["full"]["bytes"] / figures["bytes"]))
            series.setdefault(kind, []).append(point(times, figures["measures"][LIST]))
    return {name: sorted(points) for name, points in series.items()}


def picture(name: str) -> str:
    """File of a set's curves."""
    return f"{name.replace(', ', '_').replace(' ', '_').lower()}.svg"


def _set(name: str, tables: Results) -> str:
    full = tables.get("full")
    rows = []
    for kind, figures in tables.items():
        if "refused" in figures:
            rows.append([kind, NOTHING, NOTHING, NOTHING, *[NOTHING] * len(MEASURES)])
            continue
        times = f"{full['bytes'] / figures['bytes']:.0f}" if full else NOTHING
        cells = [cell(figures["measures"].get(key)) for key in MEASURES.values()]
        rows.append([kind, f"{figures['bytes']:,}", times, str(len(figures["seeds"])), *cells])
    header = ["table", "bytes", "times smaller", "seeds", *MEASURES]
    return f"## {name}\n\n![recall by bytes]({picture(name)})\n\n" + table(header, rows)


if __name__ == "__main__":
    main()
