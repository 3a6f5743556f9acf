"""Make README.md of results.json.

python studies/item_tables/page.py studies/item_tables
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from polyvec.evaluation.markdown import NOTHING, cell, study_page, table
from polyvec.evaluation.plots import curves, on_white, point
from polyvec.evaluation.runs import by_seed, lies_within, paired_by_seed, side_of_zero

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
NARROW = 0.02
"""Half of an interval, in parts of the full table's recall: of a wider one "not significant" says nothing."""


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
        change = _less(clustered[best], full, LIST)
        words = "no significant loss" if not loss else f"at most {loss:.0%} lost"
        line = f"**{name}, {share} of the bytes, {words}**: {_verdict(change, full, loss)}. "
        line += f"{best} {_relative(change, full)} (seeds: {len(change['values'])})"
        rivals = {one: figures for one, figures in here.items() if one not in CLUSTERED}
        if rivals:
            rival = max(rivals, key=lambda one: _mean(rivals[one]))
            line += f"; best of the others: {rival} {_relative(_less(rivals[rival], full, LIST), full)}"
        lines.append(line + ".")
    return lines + _rare(name, tables)


def _rare(name: str, tables: Results) -> list[str]:
    """Which clusters find items of few events that a full table does not."""
    full = tables.get("full", {})
    told = {
        table: side_of_zero(_less(figures, full, RARE))
        for table, figures in tables.items()
        if table.split()[0] in CLUSTERED and all(RARE in one.get("measures", {}) for one in (figures, full))
    }
    if not told:
        return []
    parts = [
        f"{word}: {', '.join(table for table, found in told.items() if found == found_as)}"
        for found_as, word in (("yes", "better"), ("no", "worse"), ("undecided", "undecided"))
        if found_as in told.values()
    ]
    holds = "yes" if "yes" in told.values() else "no" if set(told.values()) == {"no"} else "undecided"
    words = f"{name}, clusters find items of 1–5 events better than the full table"
    return [f"**{words}**: {holds}. {'; '.join(parts)}."]


def _less(figures: Results, full: Results, measure: str) -> Results:
    """What a table has more of a measure than the full one, over the seeds that both have."""
    ours, theirs = (by_seed(one["seeds"], one["measures"][measure]) for one in (figures, full))
    return paired_by_seed(ours, theirs)


def _relative(change: Results, full: Results) -> str:
    """A difference in percent of the full table's mean, with its interval."""
    half = f" ± {change['half_width'] / _mean(full):.1%}" if "half_width" in change else ""
    return f"{change['mean'] / _mean(full):+.1%}{half}"


def _at(tables: Results, share: str) -> Results:
    """Tables of a share of the bytes that could be made, by kind."""
    return {
        name.split()[0]: figures
        for name, figures in tables.items()
        if name.endswith(f" {share}") and "measures" in figures
    }


def _mean(figures: Results) -> float:
    return float(figures["measures"][LIST]["mean"])


def _verdict(change: Results, full: Results, loss: float) -> str:
    """Whether at most so much is lost; without an allowance, whether no loss is seen by a narrow interval."""
    if loss:
        return lies_within(change, least=-loss * _mean(full))
    if side_of_zero(change) == "no":
        return "no"
    return "yes" if change.get("half_width", np.inf) <= NARROW * _mean(full) else "undecided"


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
