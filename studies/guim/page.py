"""Make README.md and its plots from results.json.

    python studies/guim/page.py studies/guim

Every number and every verdict on the page comes from results.json, and times.json, by the rules written here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from collect import CHANGES, LIST, MIXTURE, PAPER_1, PAPER_4, PAPER_8, PRESET_1, PRESET_4, PRESET_8, REFERENCE
from sets import SETS

from polyvec.evaluation.markdown import NOTHING, cell, study_page, table
from polyvec.evaluation.plots import curves, on_white, point
from polyvec.evaluation.runs import by_seed, paired_by_seed, side_of_zero

TASKS = ("CMP-L recall@100 all", "CMP-S recall@100 all", "CMP-N recall@100 all")
NUMBERS = (1, 2, 3, 4, 8, 16, 32)
KINDS = ("GUIM", "GUIM-MH", "GUI-EDI")
LEAST_FOR_A_LINE = 3  # numbers of vectors
FITS = 0.9  # R² of what is called a line
DEAD = 0.1  # of an equal share of the targets: less, and a vector is dead

Results = dict[str, Any]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    results = json.loads((folder / "results.json").read_text("utf-8"))
    times = folder / "times.json"
    if times.exists():
        results["times"] = json.loads(times.read_text("utf-8"))
    for name, models in results["sets"].items():
        _plot(folder / f"{name}.svg", name, models)
    (folder / "README.md").write_text(page(results), "utf-8")


def page(results: Results) -> str:
    """The whole page."""
    sections = [
        _table_2(results),
        _figures(results),
        _by_history(results),
        _epochs(results),
        _part(results, "ablations", "## One change at a time (C = 4)"),
        _part(results, "paper", "## The recipe as published"),
        _equal_bytes(results),
        _part(results, "balance", "## Targets shared out evenly, or softly (C = 4, α = 10)"),
        _diagnostics(results),
    ]
    return study_page(Path(__file__).parent, verdicts(results), sections)


# --- verdicts ----------------------------------------------------------------------------------------------


def verdicts(results: Results) -> list[str]:
    """One plain sentence per claim of the paper, over all sets that were run."""
    claims = (
        (MIXTURE, REFERENCE, "a user of 4 vectors beats a user of one (paper: +5.68 %)"),
        ("GUIM C=8", REFERENCE, "a user of 8 vectors beats a user of one"),
        (PRESET_4, PRESET_1, "with the preset's α of 10, 4 vectors beat one"),
        (PRESET_8, PRESET_1, "with the preset's α of 10, 8 vectors beat one"),
        (PRESET_8, PRESET_4, "with the preset's α of 10, 8 vectors beat 4"),
        (PRESET_4, MIXTURE, "4 vectors with the preset's α of 10 beat 4 with the paper's 20"),
        ("GUIM C=4, α=10, balance 1", PRESET_4, "4 vectors that share the targets evenly beat 4 that do not"),
        (PAPER_4, PAPER_1, "in the recipe as published, 4 vectors beat one"),
        (PAPER_8, PAPER_4, "in the recipe as published, 8 vectors beat 4"),
        (PRESET_4, PAPER_4, "4 vectors of the default preset beat 4 of the recipe as published"),
        ("GUIM C=8", MIXTURE, "8 vectors beat 4 (paper: recall nearly log-linear in C)"),
        ("GUI-EDI C=2", REFERENCE, "one vector twice as wide beats it (paper: GUI-EDI rises first)"),
        ("GUI-EDI C=4", "GUI-EDI C=2", "one four times as wide beats that (paper: it falls again)"),
        (MIXTURE, "GUI-EDI C=4", "4 vectors of width d beat one of width 4 d (Table 2)"),
        (MIXTURE, "GUIM-MH C=4", "4 CLS tokens beat 4 heads (Figures 2, 3)"),
        ("GUIM C=8", "GUIM-MH C=8", "8 CLS tokens beat 8 heads"),
        ("GUIM C=4, D=32", "SASRec D=128", "4 vectors of width 32 beat SASRec's one of width 128"),
        (
            "GUIM C=4, D=32, α=10",
            "SASRec D=128",
            "4 vectors of width 32 with the preset's α of 10 beat SASRec's one of width 128",
        ),
        (MIXTURE, "SASRec D=512", "4 vectors of width 128 beat SASRec's one of width 512"),
    )
    found = [_claim(results, *claim) for claim in claims]
    return [
        *found,
        _profiles(results),
        _lines(results),
        _heads(results),
        _dead(results),
        _costs(results),
    ]


def _claim(results: Results, model: str, against: str, words: str) -> str:
    found = [one for one in results["differences"] if (one["model"], one["against"]) == (model, against)]
    parts = [
        f"{one['set']} {_verdict(one)} ({one['relative']:+.1%}; {one['difference']:+.4f} "
        f"[{one['low']:+.4f}, {one['high']:+.4f}], seeds: {len(one['seeds'])}{_when(one)})"
        for one in found
    ]
    held = [one for one in found if _verdict(one).startswith("yes")]
    once = sum(len(one["by_seed"]) == 1 for one in held)
    some = f", on {once} of them with one seed" if once else ""
    return _summed(words, f"holds on {len(held)} of {len(found)} sets{some}", parts)


def _summed(words: str, summary: str, parts: list[str], why: str = "") -> str:
    """A claim, where it holds, and what was found there; or why nothing was."""
    if not parts:
        return f"**{words}**: not measured yet{why}."
    return f"**{words}**: {summary}. " + "; ".join(parts) + "."


def _when(one: Results) -> str:
    return ", earlier" if one.get("earlier") else ""


def _verdict(one: Results) -> str:
    """Say yes or no where the users' interval and every seed agree, else undecided."""
    of = " of one seed" if len(one["by_seed"]) == 1 else ""
    if one["low"] > 0 and min(one["by_seed"]) > 0:
        return f"yes{of}"
    if one["high"] < 0 and max(one["by_seed"]) < 0:
        return f"no{of}, the opposite"
    return "undecided"


def _profiles(results: Results) -> str:
    """Accuracy of C = 4 over C = 1, paired by seed."""
    words = "profiles are told better from 4 vectors than from one (paper: +1 to +6 %)"
    parts, holds = [], 0
    for name, models in results["sets"].items():
        one, four = (models.get(model, {"profiles": {}}) for model in (REFERENCE, MIXTURE))
        for key in [key for key in four["profiles"] if key.endswith(" accuracy") and key in one["profiles"]]:
            before, after = (by_seed(each["seeds"], each["profiles"][key]) for each in (one, four))
            shared = sorted(before.keys() & after.keys())
            found = paired_by_seed(after, before)
            holds += side_of_zero(found) == "yes"
            relative = found["mean"] / np.mean([before[seed] for seed in shared])
            half = f" ± {found['half_width']:.3f}" if "half_width" in found else ""
            parts.append(
                f"{name}, {key.removesuffix(' accuracy')} {side_of_zero(found)} "
                f"({relative:+.1%}; {found['mean']:+.3f}{half}, seeds: {len(shared)})"
            )
    return _summed(words, f"holds for {holds} of {len(parts)} labels", parts)


def _lines(results: Results) -> str:
    """Straight lines through recall over log2 C."""
    words = "recall grows nearly log-linearly with C (a straight line over doublings, R² of 0.9)"
    parts, holds = [], 0
    for name, models in results["sets"].items():
        line = _line(_points("GUIM", models))
        if line is None:
            continue
        slope, fit, told = line
        is_line = slope > 0 and fit >= FITS
        holds += is_line
        parts.append(f"{name} {'yes' if is_line else 'no'} ({told})")
    return _summed(words, f"holds on {holds} of {len(parts)} sets", parts)


def _heads(results: Results) -> str:
    """Slope of the heads' line beside that of the CLS tokens', over the same C."""
    words = "more heads gain less than more CLS tokens (paper: they saturate)"
    parts, holds = [], 0
    for name, models in results["sets"].items():
        heads = _points("GUIM-MH", models)
        shared = {c for c, *_ in heads}
        lines = [_line([one for one in _points("GUIM", models) if one[0] in shared]), _line(heads)]
        if lines[0] is None or lines[1] is None:
            continue
        is_flatter = lines[1][0] < lines[0][0]
        holds += is_flatter
        parts.append(f"{name} {'yes' if is_flatter else 'no'} (tokens {lines[0][2]}; heads {lines[1][2]})")
    why = f": no set has {LEAST_FOR_A_LINE} numbers of heads"
    return _summed(words, f"holds on {holds} of {len(parts)} sets", parts, why)


def _dead(results: Results) -> str:
    """Models one of whose vectors wins hardly any target."""
    words = "no vector is dead (each wins a tenth of an equal share of the targets, at least)"
    dead, asked = [], 0
    for name, models in results["sets"].items():
        for model, one in models.items():
            wins = one.get("diagnostics", {}).get("wins", [])
            if len(wins) > 1:
                asked += 1
                if min(wins) * len(wins) < DEAD:
                    dead.append(f"{name}, {model} ({min(wins):.3f} of {1 / len(wins):.2f})")
    if not asked:
        return f"**{words}**: not measured yet."
    return (
        f"**{words}**: of {asked - len(dead)} of {asked} models. Not of: " + "; ".join(dead or ["none"]) + "."
    )


def _line(points: list[tuple[int, float, float, float]]) -> tuple[float, float, str] | None:
    """Slope per doubling, R², and both in words; None of fewer than three points."""
    if len(points) < LEAST_FOR_A_LINE:
        return None
    places, values = np.log2([c for c, *_ in points]), np.array([mean for _, mean, *_ in points])
    slope = float(np.polyfit(places, values, 1)[0])
    fit = float(np.corrcoef(places, values)[0, 1] ** 2)
    return slope, fit, f"{slope:+.4f} per doubling, R² {fit:.2f}, C = {', '.join(str(c) for c, *_ in points)}"


def _costs(results: Results) -> str:
    words = "an epoch of 4 vectors costs nearly what one of a single vector does, not of one 4 times as wide"
    if "times" not in results:
        return f"**{words}**: not measured yet."
    ratios = results["times"]["ratios"]
    ours, wide = ratios[MIXTURE], ratios["GUI-EDI C=4"]
    told = ", ".join(f"{model} {ratio:.2f}" for model, ratio in ratios.items() if model != REFERENCE)
    verdict = "yes" if ours - 1 < wide - ours else "no"
    return f"**{words}**: {verdict}. In times of {REFERENCE}'s on Online Retail: {told}."


# --- tables ------------------------------------------------------------------------------------------------


def _table_2(results: Results) -> str:
    sections = ["## GUIM and GUI-EDI (Table 2)"]
    for name, models in results["sets"].items():
        rows = [
            [
                f"{model} ({' or '.join(models[model]['precision'])})",
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


def _by_history(results: Results) -> str:
    """Who gains from four vectors."""
    rows = [
        [
            one["set"],
            f"{one['least']} – {one['most']}",
            f"{one['users']:,}",
            f"{one['relative']:+.1%}" if one["relative"] is not None else NOTHING,
            f"{one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]",
            str(len(one["seeds"])),
        ]
        for one in results["by_history"]
    ]
    about = (
        f"{MIXTURE} less {REFERENCE}, CMP-L recall@100, in thirds of the users by the number of distinct "
        "items known of them; 95 % bootstrap intervals over users."
    )
    header = ["", "items known", "users", "relative", "difference", "seeds"]
    return f"## Who gains from four vectors\n\n{about}\n\n" + table(header, rows) if rows else ""


def _epochs(results: Results) -> str:
    if "times" not in results:
        return ""
    times = results["times"]
    rows = [
        [
            kind,
            *[_ratio(times, REFERENCE if (kind, c) == ("GUI-EDI", 1) else f"{kind} C={c}") for c in NUMBERS],
        ]
        for kind in KINDS
    ]
    about = (
        "One epoch over the windows of one cut-off of Online Retail, one thread; models took turns, median "
        f"of {times['rounds']} rounds, in times of GUIM with C = 1 ({times['seconds'][REFERENCE]:.1f} s). "
        f"`{times['command']}`"
    )
    return f"## Time per epoch\n\n{about}\n\n" + table(["C =", *map(str, NUMBERS)], rows)


def _ratio(times: Results, model: str) -> str:
    return f"{times['ratios'][model]:.2f}" if model in times["ratios"] else NOTHING


def _part(results: Results, part: str, title: str) -> str:
    """Models of a part under the one that they change, and what each has more or less, paired by user."""
    sections, base = [title], CHANGES[part]
    for name, models in results["sets"].items():
        chosen = [model for model, figures in models.items() if figures["part"] == part]
        rows = [
            [
                model,
                *[_cell(models[model], "measures", task) for task in TASKS],
                _told_difference(results, name, model, base),
            ]
            for model in [base, *chosen]
            if model in models
        ]
        if chosen:
            header = [name, *[task.removesuffix(" all") for task in TASKS], f"CMP-L, less {base}"]
            sections.append(table(header, rows))
    return "\n\n".join(sections) if len(sections) > 1 else ""


def _told_difference(results: Results, name: str, model: str, base: str) -> str:
    for one in results["differences"]:
        if (one["set"], one["model"], one["against"]) == (name, model, base):
            return f"{one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
    return NOTHING


def _equal_bytes(results: Results) -> str:
    rows = []
    for name, models in results["sets"].items():
        for model in (
            "SASRec D=128",
            "GUIM C=1",
            PRESET_1,
            "GUIM C=4, D=32",
            "GUIM C=4, D=32, α=10",
            "SASRec D=512",
            "GUIM C=4",
            PRESET_4,
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
