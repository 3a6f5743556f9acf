"""Make README.md of results.json.

    python studies/pgtl/page.py studies/pgtl

Every number and every verdict on the page comes from results.json by the rules written here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from polyvec.evaluation.markdown import NOTHING, cell, study_page, table
from polyvec.evaluation.plots import curves, on_white, point
from polyvec.evaluation.runs import by_seed, lies_within, over_runs, paired_by_seed, side_of_zero
from polyvec.systems.pgtl.fit import transfer_pays

Results = dict[str, Any]
ALONE, OURS, SHUFFLED = "target alone", "PGTL", "PGTL, relations shuffled"
RIVALS = ("fine-tune", "FShare, adversarial", "FShare, MMD", "SShare")
ABLATED = ("PGTL, no specific embedding", "PGTL, no prior feature", "PGTL, no alignment")
COUNTED = ("items taken together, target", "items taken together, both markets")
PARTS = ("0", "1–5", "over 5")
SHARES = (5, 10, 25, 50)  # % of the target's users, of the curves
PLANTED = "planted"
TARGET = 0.055  # RelaImpr, mean over all pairs of markets


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    results = json.loads((folder / "results.json").read_text("utf-8"))
    for name, targets in results["sets"].items():
        for small, methods in targets.items():
            series = by_size(methods)
            if series:
                text = curves(f"{name}: AUC in {small}", series, "% of the target's users")
                (folder / picture(name, small)).write_text(on_white(text), "utf-8")
    (folder / "README.md").write_text(page(results), "utf-8")


def page(results: Results) -> str:
    """The whole page."""
    sets = results["sets"]
    sections = [
        _market(name, small, methods) for name, targets in sets.items() for small, methods in targets.items()
    ]
    return study_page(Path(__file__).parent, verdicts(sets), sections)


# --- verdicts ----------------------------------------------------------------------------------------------


def verdicts(sets: Results) -> list[str]:
    """One line per claim whose methods have been run."""
    lines = []
    both = {
        f"{name}, {small}": methods
        for name, targets in sets.items()
        for small, methods in targets.items()
        if OURS in methods and ALONE in methods
    }
    for name, methods in both.items():
        lines.append(_better(f"{name}: PGTL beats the target alone", methods, OURS, ALONE))
        cold = [(methods[one], methods[one]["by_events"].get("0")) for one in (OURS, ALONE)]
        if all(figure for _, figure in cold):
            lines.append(_compared(f"{name}: items without events in the target profit", *cold))
        rivals = [one for one in RIVALS if one in methods]
        if name.startswith(PLANTED):
            lines += [_better(f"{name}: and {rival}", methods, OURS, rival) for rival in rivals]
        elif rivals:
            best = max(rivals, key=lambda one: methods[one]["auc"]["mean"])
            lines.append(_better(f"{name}: and the best of its rivals, {best}", methods, OURS, best))
        lines += [_better(f"{name}: and {one}", methods, OURS, one) for one in ABLATED if one in methods]
        for share in SHARES:
            ours, alone = (f"{one}, {share}% of the target" for one in (OURS, ALONE))
            if ours in methods and alone in methods:
                words = f"{name}: with {share} % of the target's users PGTL beats the target alone"
                lines.append(_better(words, methods, ours, alone))
        counted = [one for one in COUNTED if one in methods]
        if counted:
            lines.append(
                _above_counting(name, methods, max(counted, key=lambda one: methods[one]["auc"]["mean"]))
            )
        if all("validation" in methods[one] for one in (OURS, ALONE)):
            lines.append(_guarded(name, methods))
    found = [relative(methods, OURS) for name, methods in both.items() if not name.startswith(PLANTED)]
    real = [one for one in found if one is not None]
    if real:
        mean = over_runs(real)
        half = f" ± {mean['half_width']:.1%}" if "half_width" in mean else ""
        lines.append(
            f"**RelaImpr of at least {TARGET:+.1%} on average over the real pairs of markets**: "
            f"{lies_within(mean, least=TARGET)} ({mean['mean']:+.1%}{half}, {len(real)} pairs; it is "
            "not known where the target alone is no better than chance)."
        )
    planted = both.get("planted, small", {})
    gates = planted.get(OURS, {})
    if "gate_agreeing" in gates:
        both_gates = [(gates, gates[key]) for key in ("gate_agreeing", "gate_opposed")]
        words = "the gate is wider open for the categories in which the markets agree"
        lines.append(_compared(words, *both_gates))
    if SHUFFLED in planted:
        lines += _shuffled(planted)
    told = [
        (value, f"{name}, {method}")
        for name, methods in both.items()
        for method, one in methods.items()
        for value in one.get("told_apart", {}).get("values", [])
    ]
    if told:
        (least, lowest), (most, highest) = min(told), max(told)
        lines.append(
            "**the adversarial part stays stable: the discriminator tells 50 to 90 % of the samples**: "
            f"{'yes' if least >= 0.5 and most <= 0.9 else 'no'}. Of all runs {least:.3f} ({lowest}) to "
            f"{most:.3f} ({highest})."
        )
    return lines


def relative(methods: Results, one: str) -> float | None:
    """RelaImpr against the target alone, of the mean AUCs; None where that is no better than chance."""
    alone = methods[ALONE]["auc"]["mean"] - 0.5
    return float((methods[one]["auc"]["mean"] - 0.5) / alone - 1) if alone > 0 else None


def _told_relative(methods: Results, one: str) -> str:
    found = relative(methods, one) if ALONE in methods else None
    return NOTHING if found is None else f"{found:+.1%}"


def _shuffled(planted: Results) -> list[str]:
    """What a prior that tells nothing does."""
    lines = [
        _better("shuffled relations are worse than true ones", planted, OURS, SHUFFLED),
        _better("and better than the target alone, which they should not be", planted, SHUFFLED, ALONE),
    ]
    if all("gate" in planted[name] for name in (OURS, SHUFFLED)):
        both = [(planted[name], planted[name]["gate"]) for name in (OURS, SHUFFLED)]
        lines.append(_compared("with true relations the gate is wider open than with shuffled ones", *both))
    return lines


def _guarded(name: str, methods: Results) -> str:
    """Whether the guard keeps a large market that misleads from doing harm."""
    ours, alone = (by_seed(methods[one]["seeds"], methods[one]["auc"]) for one in (OURS, ALONE))
    reached, own = (by_seed(methods[one]["seeds"], methods[one]["validation"]) for one in (OURS, ALONE))
    shared = ours.keys() & alone.keys()
    kept = {seed: ours[seed] for seed in shared if transfer_pays(reached[seed], own[seed])}
    gained = paired_by_seed({seed: alone[seed] for seed in shared} | kept, alone, digits=4)
    return (
        f"**{name}: with the guard PGTL is not significantly worse than the target alone**: "
        f"{_no_worse(gained)}. By validation it is kept in {len(kept)} of {len(gained['values'])} seeds; "
        f"difference {cell(gained)}."
    )


def _no_worse(difference: Results) -> str:
    """No if the interval lies below 0, else yes; of one seed nothing is said."""
    if len(difference["values"]) < 2:
        return "undecided"
    return "no" if side_of_zero(difference) == "no" else "yes"


def _better(words: str, methods: Results, one: str, other: str) -> str:
    """Verdict on the difference of two AUCs of all test pairs."""
    return _compared(words, (methods[one], methods[one]["auc"]), (methods[other], methods[other]["auc"]))


def _above_counting(name: str, methods: Results, counted: str) -> str:
    """Verdict against what is counted, which has no seeds but where every seed has another log."""
    words = f"{name}: and counting {counted}"
    if name.startswith(PLANTED):
        return _better(words, methods, OURS, counted)
    ours, theirs = methods[OURS]["auc"], methods[counted]["auc"]["mean"]
    holds = side_of_zero(over_runs([value - theirs for value in ours["values"]]))
    return f"**{words}**: {holds}. {cell(ours)} against {theirs:.4f}."


def _compared(words: str, one: tuple[Results, Results], other: tuple[Results, Results]) -> str:
    """Verdict on the difference of two figures, each with its method, paired by seed."""
    ours, theirs = (by_seed(method["seeds"], figure) for method, figure in (one, other))
    if not ours.keys() & theirs.keys():
        return f"**{words}**: not measured yet."
    found = paired_by_seed(ours, theirs, digits=4)
    return (
        f"**{words}**: {side_of_zero(found)}. {cell(one[1])} against {cell(other[1])}; difference "
        f"{cell(found)} (seeds: {len(found['values'])})."
    )


def by_size(methods: Results) -> dict[str, list[tuple[int, float, float, float]]]:
    """AUC by the share of the target's users, in percent, of methods that were asked at several."""
    series = {}
    for method in (ALONE, OURS, "fine-tune"):
        shares = {share: f"{method}, {share}% of the target" for share in SHARES} | {100: method}
        points = [point(share, methods[one]["auc"]) for share, one in shares.items() if one in methods]
        if len(points) > 1:
            series[method] = points
    return series


def picture(name: str, small: str) -> str:
    """File of a target's curves."""
    return f"{name}_{small}.svg"


def _market(name: str, small: str, methods: Results) -> str:
    first = next(iter(methods.values()))
    coverage = first["coverage"]
    words = (
        f"## {name}: {small}\n\n{'In the log of the first seed ' if name == PLANTED else ''}"
        f"{coverage['items']:,} items of the target were sold in the time that is learned from: "
        f"{coverage['strong']:,} in the source, too, {coverage['weak']:,} have others of their category "
        f"there. {coverage['pairs']['source']:,} pairs of the source and {coverage['pairs']['target']:,} of "
        f"the target to learn from, {first['pairs']:,} in the test. AUC by training events of the current "
        "item, gate and discriminator at the chosen epoch."
    )
    parts = [part for part in PARTS if part in first["by_events"]]
    rows = [
        [
            method,
            str(len(one["seeds"])),
            cell(one["auc"]),
            _told_relative(methods, method),
            *[cell(one["by_events"].get(part), 3) for part in parts],
            cell(one.get("recall@50"), 3),
            cell(one.get("gate"), 2),
            cell(one.get("told_apart"), 2),
            cell(one.get("training_seconds"), 0),
        ]
        for method, one in methods.items()
    ]
    header = [
        "",
        "seeds",
        "AUC",
        "RelaImpr",
        *[f"{part} events" for part in parts],
        "recall@50",
        "gate",
        "told apart",
        "s",
    ]
    curve = f"![AUC by size of the target]({picture(name, small)})\n\n" if by_size(methods) else ""
    return f"{words}\n\n{curve}" + table(header, rows)


if __name__ == "__main__":
    main()
