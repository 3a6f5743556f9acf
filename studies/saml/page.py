"""Make README.md of results.json.

    python studies/saml/page.py studies/saml

Every number and every verdict on the page comes from results.json by the rules written here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from methods import METHODS, RIVALS
from sets import SETS

from polyvec.evaluation.markdown import NOTHING, cell, study_page, table
from polyvec.evaluation.plots import heat, on_white
from polyvec.evaluation.runs import over_runs, side_of_zero, verdict

Results = dict[str, Any]
OURS, MIXED, EACH, SHARED = "SAML", "mixed", "one each", "shared bottom"
SMALLEST = "b2"  # of what is planted
GROUPS = (("a1", "a2"), ("b1", "b2"))
BEST_PUBLISHED = 0.8133  # AUC of all rows together, MovieLens 1M
COLUMNS = ("auc", "auc by samples", "gauc", "log_loss", "together")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    results = json.loads((folder / "results.json").read_text("utf-8"))
    for name, methods in results["sets"].items():
        shares = means(methods.get(OURS, {}).get("shares", {}))
        if shares:
            text = heat(f"{name}: whom a scenario (row) asks", shares)
            (folder / picture(name)).write_text(on_white(text), "utf-8")
    (folder / "README.md").write_text(page(results), "utf-8")


def page(results: Results) -> str:
    """The whole page."""
    sets = results["sets"]
    sections = [part for name, methods in sets.items() for part in (_figures(name, methods), _apart(methods))]
    return study_page(Path(__file__).parent, verdicts(sets), sections)


def verdicts(sets: Results) -> list[str]:
    """One line per claim whose methods have been run."""
    lines = []
    for name, methods in sets.items():
        if OURS not in methods:
            continue
        for other, words in ((EACH, "one model for each scenario"), (MIXED, "the mixed network")):
            lines.append(_better(f"{name}: SAML beats {words}", methods, other))
        rivals = [one for one in RIVALS if one in methods]
        if rivals:
            ahead = {
                one: over_runs(_differences(methods[OURS], methods[one], _auc))["mean"] for one in rivals
            }
            best = min(rivals, key=lambda one: ahead[one])
            lines.append(_better(f"{name}: and the best of its rivals, {best}", methods, best))
        lines.append(_better(f"{name}: and itself as published", methods, "SAML as published"))
        lines.append(_better(f"{name}: the mutual unit helps", methods, "SAML, no mutual unit"))
        lines.append(
            _better(f"{name}: sharing a part of the branches helps", methods, "SAML, branches apart")
        )
        if "SAML, tables of scenarios" in methods:
            lines.append(_tables(name, methods))
        if SETS[name].is_planted:
            lines += _planted(name, methods)
        if name == "movielens, random rows":
            found = methods[OURS]["together"]
            above = over_runs([value - BEST_PUBLISHED for value in found["values"]], digits=5)
            lines.append(
                f"**{name}: AUC of all rows above {BEST_PUBLISHED}, the best published**: "
                f"{side_of_zero(above)}. {cell(found)}."
            )
    return [line for line in lines if line]


def _better(words: str, methods: Results, other: str) -> str:
    """Verdict on the difference of two mean AUCs, seed by seed."""
    if other not in methods:
        return ""
    return _compared(words, methods[OURS], methods[other], _auc)


def _auc(method: Results) -> Results:
    return dict(method["auc"])


def _compared(words: str, mine: Results, theirs: Results, of: Any) -> str:
    """Verdict on the difference of two measures, seed by seed."""
    found = over_runs(_differences(mine, theirs, of), digits=4)
    values = [
        [value for value, _ in _paired(mine, theirs, of)],
        [value for _, value in _paired(mine, theirs, of)],
    ]
    one, other = (cell(over_runs(some, digits=4)) for some in values)
    return (
        f"**{words}**: {side_of_zero(found)}. {one} against {other}; difference {cell(found)} "
        f"(seeds: {len(values[0])})."
    )


def _paired(mine: Results, theirs: Results, of: Any) -> list[tuple[float, float]]:
    """A measure of both, of the seeds that both have."""
    return [
        (
            of(mine)["values"][mine["seeds"].index(seed)],
            of(theirs)["values"][theirs["seeds"].index(seed)],
        )
        for seed in sorted(set(mine["seeds"]) & set(theirs["seeds"]))
    ]


def _differences(mine: Results, theirs: Results, of: Any) -> list[float]:
    """What the first is ahead of the second, seed by seed."""
    return [one - other for one, other in _paired(mine, theirs, of)]


def _tables(name: str, methods: Results) -> str:
    """Scenarios' own tables against global ones of as many numbers."""
    own, wider = methods["SAML, tables of scenarios"], methods.get("SAML, wider tables")
    if wider is None:
        return ""
    return _compared(
        f"{name}: tables of scenarios beat global ones of as many numbers", own, wider, lambda one: one["auc"]
    )


def _planted(name: str, methods: Results) -> list[str]:
    """What holds where the truth is known."""
    ours = methods[OURS]

    def small(one: Results) -> Results:
        return dict(one["by_scenario"][SMALLEST]["auc"])

    lines = [
        _compared(f"{name}: in the tiny country SAML beats {words}", ours, methods[other], small)
        for other, words in ((EACH, "a model of its own"), (MIXED, "the mixed network"))
        if other in methods
    ]
    if EACH in methods:
        gains = {
            country: figures["auc"]["mean"] - methods[EACH]["by_scenario"][country]["auc"]["mean"]
            for country, figures in ours["by_scenario"].items()
        }
        told = ", ".join(f"{country} {gain:+.3f}" for country, gain in gains.items())
        most = [
            max(by_country, key=lambda country: by_country[country]) == SMALLEST
            for by_country in _gains(ours, methods[EACH])
        ]
        lines.append(
            f"**{name}: the tiny country gains most over a model of its own**: {verdict(most)}. {told}."
        )
    shares = ours["shares"]
    inside = [shares[one][other]["values"] for pair in GROUPS for one, other in (pair, pair[::-1])]
    across = [shares[one][other]["values"] for one in GROUPS[0] for other in GROUPS[1]]
    across += [shares[other][one]["values"] for one in GROUPS[0] for other in GROUPS[1]]
    holds = verdict((np.min(inside, axis=0) > np.max(across, axis=0)).tolist())
    lines.append(
        f"**{name}: every branch asks that of its own group more than any other**: {holds}. α "
        f"{np.mean(inside):.3f} against {np.mean(across):.3f} (equal shares: {1 / 3:.3f})."
    )
    lines.append(_shuffled(name, methods))
    return lines


def _gains(mine: Results, theirs: Results) -> list[dict[str, float]]:
    """What each country's AUC is ahead, seed by seed."""
    by_country = {}
    for country in mine["by_scenario"]:

        def area(one: Results, country: str = country) -> Results:
            return dict(one["by_scenario"][country]["auc"])

        by_country[country] = _differences(mine, theirs, area)
    return [dict(zip(by_country, values, strict=True)) for values in zip(*by_country.values(), strict=True)]


def _shuffled(name: str, methods: Results) -> str:
    """Whether it is the scenarios that SAML owes what it is ahead of the mixed network."""
    pairs = [[methods.get(f"{one}{end}") for one in (OURS, MIXED)] for end in ("", ", scenarios shuffled")]
    if not all(one and other for one, other in pairs):
        return ""
    both = sorted(set.intersection(*(set(one["seeds"]) for pair in pairs for one in pair)))
    values = [
        [[one["auc"]["values"][one["seeds"].index(seed)] for seed in both] for one in pair] for pair in pairs
    ]
    ahead = [np.subtract(ours, mixed) for ours, mixed in values]
    lost = over_runs((ahead[0] - ahead[1]).tolist(), digits=4)
    return (
        f"**{name}: what SAML is ahead of the mixed network is lost with users' scenarios shuffled**: "
        f"{side_of_zero(lost)}. {cell(over_runs(ahead[0].tolist()))} ahead, shuffled "
        f"{cell(over_runs(ahead[1].tolist()))} (seeds: {len(both)})."
    )


def means(shares: Results) -> dict[str, dict[str, float]]:
    """Means of α over seeds."""
    return {
        name: {other: found["mean"] for other, found in others.items()} for name, others in shares.items()
    }


def picture(name: str) -> str:
    """File of a set's α."""
    return f"{name.replace(', ', '_').replace(' ', '_')}.svg"


def _figures(name: str, methods: Results) -> str:
    """All methods of one set."""
    scenarios = list(next(iter(methods.values()))["by_scenario"])
    samples = {
        scenario: next(iter(methods.values()))["by_scenario"][scenario]["samples"]["mean"]
        for scenario in scenarios
    }
    rows = [
        [
            method,
            str(len(one["seeds"])),
            _ahead(methods, method),
            *[cell(one.get(column)) for column in COLUMNS],
            *[cell(one["by_scenario"].get(scenario, {}).get("auc")) for scenario in scenarios],
            f"{one['parameters']:,}",
            cell(one["seconds"], 0),
        ]
        for method, one in methods.items()
        if method in METHODS
    ]
    header = [
        "",
        "seeds",
        "AUC, SAML less this",
        "mean AUC",
        "by samples",
        "GAUC",
        "log-loss",
        "AUC of all",
        *[f"AUC {scenario}" for scenario in scenarios],
        "weights",
        "s",
    ]
    told = ", ".join(f"{scenario} {count:,.0f}" for scenario, count in samples.items())
    drawn = f"\n\n![α of {name}]({picture(name)})" if means(methods.get(OURS, {}).get("shares", {})) else ""
    return f"## {name}\n\n{SETS[name].source}; in the test: {told}.\n\n" + table(header, rows) + drawn


def _ahead(methods: Results, method: str) -> str:
    """What SAML's mean AUC is ahead of a method's, of the seeds that both have."""
    if method == OURS or OURS not in methods:
        return NOTHING
    return cell(over_runs(_differences(methods[OURS], methods[method], _auc), digits=4))


def _apart(methods: Results) -> str:
    """AUC by how much was known of the user."""
    parts = ("0", "1–5", "over 5")
    chosen = [one for one in (OURS, MIXED, EACH, SHARED, "SAML as published") if one in methods]
    scenarios = list(methods[chosen[0]]["by_scenario"]) if chosen else []
    rows = []
    for scenario in scenarios:
        for part in parts:
            key = f"auc, history {part}"
            cells = [methods[one]["by_scenario"].get(scenario, {}).get(key) for one in chosen]
            if any(cells):
                rows.append([f"{scenario}, {part}", *[cell(one) if one else NOTHING for one in cells]])
    return "AUC by the events in the user's history:\n\n" + table(["", *chosen], rows) if rows else ""


if __name__ == "__main__":
    main()
