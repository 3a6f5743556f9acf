"""Make README.md and its plots from results.json.

    python studies/guim/page.py studies/guim

Every number and every verdict on the page comes from results.json by the rules written here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sets import SETS

from polyvec.evaluation.markdown import NOTHING, cell, study_page, table
from polyvec.evaluation.plots import curves, on_white, point

LIST = "CMP-L recall@100 all"
TASKS = ("CMP-L recall@100 all", "CMP-S recall@100 all", "CMP-N recall@100 all")
NUMBERS = (1, 2, 3, 4, 8, 16, 32)
KINDS = ("GUIM", "GUIM-MH", "GUI-EDI")
TARGET = 0.05  # recall@100 (CMP-L) of C = 4 over C = 1

Results = dict[str, Any]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    results = json.loads((folder / "results.json").read_text("utf-8"))
    for name, models in results["sets"].items():
        _plot(folder / f"{name}.svg", name, models)
    (folder / "README.md").write_text(page(results), "utf-8")


def page(results: Results) -> str:
    """The whole page."""
    sections = [
        _table_2(results),
        _figures(results),
        _epochs(results),
        _part(results, "ablations", "## One change at a time (C = 4)", "GUIM C=4"),
        _part(results, "paper", "## The recipe as published", "GUIM C=4"),
        _equal_bytes(results),
        _diagnostics(results),
    ]
    return study_page(Path(__file__).parent, verdicts(results), sections)


# --- verdicts ----------------------------------------------------------------------------------------------


def verdicts(results: Results) -> list[str]:
    """One plain sentence per claim of the paper, over all sets that were run."""
    return [
        _claim(results, "GUIM C=4", "GUIM C=1", "a user of 4 vectors beats a user of one (paper: +5.68 %)"),
        _claim(results, "GUIM C=8", "GUIM C=1", "a user of 8 vectors beats a user of one"),
        _claim(results, "GUIM C=8", "GUIM C=4", "8 vectors beat 4 (paper: recall nearly log-linear in C)"),
        _claim(results, "GUIM C=4", "GUI-EDI C=4", "4 vectors of width d beat one of width 4 d (Table 2)"),
        _claim(results, "GUIM C=4", "GUIM-MH C=4", "4 CLS tokens beat 4 heads (Figures 2, 3)"),
        _claim(
            results, "GUIM C=4, D=32", "SASRec D=128", "4 vectors of width 32 beat SASRec's one of width 128"
        ),
        _claim(results, "GUIM C=4", "SASRec D=512", "4 vectors of width 128 beat SASRec's one of width 512"),
    ]


def _claim(results: Results, model: str, against: str, words: str) -> str:
    found = [one for one in results["differences"] if (one["model"], one["against"]) == (model, against)]
    found = [one for one in found if one["seeds"]]
    if not found:
        return f"**{words}**: not measured yet."
    parts = [
        f"{one['set']} {_verdict(one)} ({one['relative']:+.1%}; {one['difference']:+.4f} "
        f"[{one['low']:+.4f}, {one['high']:+.4f}], seeds: {len(one['seeds'])})"
        for one in found
    ]
    holds = sum(_verdict(one) == "yes" for one in found)
    return f"**{words}**: holds on {holds} of {len(found)} sets. " + "; ".join(parts) + "."


def _verdict(one: Results) -> str:
    """Say yes or no where the users' interval and every seed agree, else undecided."""
    if one["low"] > 0 and min(one["by_seed"]) > 0:
        return "yes"
    if one["high"] < 0 and max(one["by_seed"]) < 0:
        return "no, the opposite"
    return "undecided"


# --- tables ------------------------------------------------------------------------------------------------


def _table_2(results: Results) -> str:
    sections = ["## GUIM and GUI-EDI (Table 2)"]
    for name, models in results["sets"].items():
        rows = [
            [
                model,
                *[_cell(models[model], "measures", task) for task in TASKS],
                *_profile_cells(models[model]),
            ]
            for c in (1, 2, 3, 4)
            for model in (f"GUIM C={c}", f"GUI-EDI C={c}")
            if model in models
        ]
        labels = [f"{label} accuracy" for label in SETS[name].labels]
        header = ["", *[task.removesuffix(" all") for task in TASKS], *labels]
        sections.append(f"{name} ({SETS[name].source}):\n\n" + table(header, rows))
    return "\n\n".join(sections)


def _figures(results: Results) -> str:
    sections = ["## More vectors: CLS tokens and heads (Figures 2, 3)"]
    for name, models in results["sets"].items():
        rows = [
            [str(c), *[_cell(models.get(f"{kind} C={c}"), "measures", LIST) for kind in KINDS]]
            for c in NUMBERS
        ]
        rows = [row for row in rows if set(row[1:]) != {NOTHING}]
        if len(rows) > 1:
            sections.append(f"![{name}]({name}.svg)\n\n" + table([f"{name}: C", *KINDS], rows))
    return "\n\n".join(sections) if len(sections) > 1 else ""


def _epochs(results: Results) -> str:
    rows = []
    for name, models in results["sets"].items():
        for kind in ("GUIM", "GUI-EDI"):
            cells = [models.get(f"{kind} C={c}") for c in NUMBERS]
            if kind == "GUI-EDI":
                cells[0] = models.get("GUIM C=1")
            if sum(cell is not None for cell in cells) > 1:
                rows.append(
                    [f"{name}, {kind}", *[f"{one['epoch_seconds']:.0f}" if one else NOTHING for one in cells]]
                )
    header = ["seconds per epoch, C =", *map(str, NUMBERS)]
    return (
        "## Time per epoch\n\nOne thread, on a machine that did other things beside: compare with care.\n\n"
        + table(header, rows)
        if rows
        else ""
    )


def _part(results: Results, part: str, title: str, base: str) -> str:
    sections = [title]
    for name, models in results["sets"].items():
        chosen = [model for model, figures in models.items() if figures["part"] == part]
        rows = [
            [model, *[_cell(models[model], "measures", task) for task in TASKS]]
            for model in [base, *chosen]
            if model in models
        ]
        if chosen:
            header = [name, *[task.removesuffix(" all") for task in TASKS]]
            sections.append(table(header, rows))
    return "\n\n".join(sections) if len(sections) > 1 else ""


def _equal_bytes(results: Results) -> str:
    rows = []
    for name, models in results["sets"].items():
        for model in (
            "SASRec D=128",
            "GUIM C=1",
            "GUIM C=4, D=32",
            "SASRec D=512",
            "GUIM C=4",
            "GUI-EDI C=4",
        ):
            if model in models and any(figures["part"] == "bytes" for figures in models.values()):
                figures = models[model]
                rows.append([
                    f"{name}, {model}",
                    f"{4 * figures['C'] * figures['D']:,}",
                    f"{4 * figures['D']:,}",
                    *[_cell(figures, "measures", task) for task in TASKS],
                ])  # fmt: skip
    header = ["", "bytes per user", "bytes per item", *[task.removesuffix(" all") for task in TASKS]]
    return "## At equal bytes per user\n\n" + table(header, rows) if rows else ""


def _diagnostics(results: Results) -> str:
    rows = []
    for name, models in results["sets"].items():
        for model, figures in models.items():
            found = figures["diagnostics"]
            if "cosine" in found:
                wins = found["wins"]
                spread = f"{min(wins):.3f} – {max(wins):.3f}"
                rank = f"{found['effective_rank']:.2f} of {figures['C']}"
                rows.append([f"{name}, {model}", spread, f"{found['cosine']:.2f}", rank])
    header = ["last epoch, first seed", "share of targets won by a vector", "mean cosine", "effective rank"]
    return "## Dead or equal vectors?\n\n" + table(header, rows) if rows else ""


def _cell(figures: Results | None, kind: str, key: str) -> str:
    if figures is None or key not in figures[kind]:
        return NOTHING
    return cell(figures[kind][key])


def _profile_cells(figures: Results) -> list[str]:
    return [_cell(figures, "profiles", key) for key in figures["profiles"] if key.endswith(" accuracy")]


# --- plots -------------------------------------------------------------------------------------------------


def _plot(file: Path, name: str, models: Results) -> None:
    """Recall against C, logarithmic, with the intervals over seeds."""
    series = {kind: _points(kind, models) for kind in KINDS}
    text = curves(
        f"{name}: recall@100, CMP-L",
        {kind: points for kind, points in series.items() if points},
        "C, vectors per user",
    )
    file.write_text(on_white(text), "utf-8")


def _points(kind: str, models: Results) -> list[tuple[int, float, float, float]]:
    """C, mean, and the ends of its interval over seeds: the mean itself with one seed."""
    points = []
    for c in NUMBERS:
        if f"{kind} C={c}" in models:
            points.append(point(c, models[f"{kind} C={c}"]["measures"][LIST]))
    return points


if __name__ == "__main__":
    main()
