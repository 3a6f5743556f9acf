"""Make README.md of results.json.

    python studies/cel/page.py studies/cel

Every number and every verdict on the page comes from results.json by the rules written here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polyvec.evaluation.markdown import NOTHING, cell, table
from polyvec.evaluation.runs import over_runs

Results = dict[str, Any]
SPLIT, STREAM = "movielens_100k", "movielens_100k, one pass"
FULL = ("full NMF, decay 1", "full NMF, decay 3", "full NMF, decay 5", "full NMF, decay 10")
LIMITS = ("random split, no reassignment", "modulo hash, 50 items")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    results = json.loads((folder / "results.json").read_text("utf-8"))
    (folder / "README.md").write_text(page(results), "utf-8")


def page(results: Results) -> str:
    """The whole page."""
    sections = [
        (Path(__file__).parent / "about.md").read_text("utf-8").rstrip(),
        "## Verdicts\n\n" + "\n".join(f"- {line}" for line in verdicts(results)),
        _errors(results[SPLIT]),
        _popularity(results[SPLIT]),
        _streams(results.get(STREAM, {})),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


# --- verdicts ----------------------------------------------------------------------------------------------


def verdicts(results: Results) -> list[str]:
    """One line per claim whose methods have been run."""
    split, stream = results[SPLIT], results.get(STREAM, {})
    full = best_full(split)
    lines = [
        _difference(
            split, ("CEL", "step 2000"), (full, "best"), -0.02,
            "50 rows for 1,682 items beat full tables, stopped where the test is best, by 0.02",
        ),
        *[
            _difference(split, (one, "best"), ("CEL", "step 2000"), 0.12, f"{one}: worse than CEL by 0.12")
            for one in LIMITS
        ],
        *[
            _difference(
                split, (one, "step 2000"), ("CEL", "step 2000"), (-0.02, 0.02),
                f"{one}: within 0.02 of CEL, so that either of both steps is enough",
            )
            for one in ("CEL, no reassignment", "random split, reassignment")
        ],
        _difference(
            split, ("CEL, gradients not averaged", "last"), ("CEL", "last"), 0.05,
            "without averaging of gradients the error at the end is worse by 0.05",
        ),
        _cold(split, full),
        _difference(
            split, ("CEL, K = 5", "chosen"), ("CEL", "chosen"), 0.01,
            "too few clusters under-fit: K = 5 is worse than K = 50 by 0.01",
        ),
        _difference(
            split, ("CEL, K = 200", "chosen"), ("CEL", "chosen"), 0.0,
            "a number of clusters is best: K = 200 is worse than K = 50",
        ),
        _difference(
            split, ("CEL, then personal at 1600", "chosen"), ("CEL, no damping", "chosen"), -0.003,
            "vectors of their own around the clusters, late, improve by 0.003",
        ),
        _difference(
            split, ("CEL, then personal at 1600", "last"), ("CEL, then personal at 1600", "chosen"), 0.0,
            "and over-fit when they are trained on",
        ),
        _difference(
            split, ("CEL, users and items, K = 50", "step 2000"), (full, "best"), 0.0,
            "50 rows for users and 50 for items beat full tables",
            is_less=True,
        ),
        _difference(
            split, ("CEL, NeuNMF", "chosen"), ("full NeuNMF", "chosen"), 0.0,
            "with a neural interaction (NeuNMF), too, clusters beat full tables",
            is_less=True,
        ),
        _difference(
            stream, ("CEL-Lite", "last half"), ("full tables", "last half"), 0.0,
            "CEL-Lite in one pass beats full tables",
            is_less=True,
        ),
        _difference(
            stream, ("CEL-Lite", "last half"), ("running means", "last half"), 0.0,
            "and the running means of users and items",
            is_less=True,
        ),
        _difference(
            stream, ("CEL-Lite", "cold item"), ("full tables", "cold item"), 0.0,
            "for items of fewer than ten earlier ratings, too",
            is_less=True,
        ),
    ]  # fmt: skip
    return [line for line in lines if line]


def best_full(split: Results) -> str:
    """Full table of least error, each at the step that is best on the test."""
    return min((name for name in FULL if name in split), key=lambda name: split[name]["best"]["mean"])


Limit = float | tuple[float, float]


def _difference(
    methods: Results,
    one: tuple[str, str],
    other: tuple[str, str],
    limit: Limit,
    words: str,
    *,
    is_less: bool = False,
) -> str:
    """Verdict on the difference of two errors, seed by seed: at most, at least, or between limits."""
    if one[0] not in methods or other[0] not in methods:
        return ""
    (name, key), (against, other_key) = one, other
    by_seed = np.subtract(methods[name][key]["values"], methods[against][other_key]["values"])
    holds = _test(limit, is_less=is_less)
    values = ", ".join(
        f"{method} {cell(methods[method][figure])}" for method, figure in ((name, key), (against, other_key))
    )
    found = over_runs(by_seed, digits=4)
    return (
        f"**{words}**: {_verdict([holds(value) for value in by_seed])}. {values}; difference {cell(found)}."
    )


def _test(limit: Limit, *, is_less: bool) -> Callable[[float], bool]:
    if isinstance(limit, tuple):
        return lambda value: limit[0] <= value <= limit[1]
    if limit < 0 or is_less:
        return lambda value: value <= limit
    return lambda value: value >= limit


def _verdict(by_seed: Sequence[bool]) -> str:
    if all(by_seed):
        return "yes"
    return "undecided" if any(by_seed) else "no"


def _cold(split: Results, full: str) -> str:
    """Items of few ratings, all seeds together."""
    rare, popular = "1–4", "100 and more"
    errors = {
        name: {part: split[name]["by_popularity"][part]["error"] for part in (rare, popular)}
        for name in ("CEL", full)
    }
    ratio = errors["CEL"][rare] / errors[full][rare]
    cost = errors["CEL"][popular] - errors[full][popular]
    count = split["CEL"]["by_popularity"][rare]["ratings"]
    verdict = _verdict([ratio <= 0.8 and cost <= 0.01])
    return (
        "**items of 1–4 training ratings have at most 0.8 times the full table's error, and those of 100 and "
        f"more lose at most 0.01**: {verdict}. {errors['CEL'][rare]:.3f} against {errors[full][rare]:.3f} "
        f"({count} ratings of all seeds; {ratio:.2f} times), {errors['CEL'][popular]:.3f} against "
        f"{errors[full][popular]:.3f}."
    )


# --- tables ------------------------------------------------------------------------------------------------


def _errors(split: Results) -> str:
    keys = ("step 800", "step 2000", "chosen", "best", "last")
    rows = [
        [name, *[cell(figures.get(key)) for key in keys], f"{figures['bytes_items']['mean']:,.0f}"]
        for name, figures in split.items()
    ]
    return "## Errors\n\n" + table(["", *keys, "bytes of items"], rows)


def _popularity(split: Results) -> str:
    parts = list(split["CEL"]["by_popularity"])
    ratings = [f"{split['CEL']['by_popularity'][part]['ratings']:,}" for part in parts]
    rows = [["ratings in the test, all seeds", *ratings]]
    for name in ("CEL", "CEL, then personal at 1600", best_full(split), "modulo hash, 50 items"):
        if name in split:
            errors = [split[name]["by_popularity"][part]["error"] for part in parts]
            rows.append([name, *[NOTHING if error is None else f"{error:.3f}" for error in errors]])
    return (
        "## By training ratings of the item\n\nAt the step chosen on validation, all seeds together.\n\n"
        + table(["", *parts], rows)
    )


def _streams(stream: Results) -> str:
    if not stream:
        return ""
    keys = ("last half", "warm", "cold item")
    rows = [
        [
            name,
            *[cell(figures[key]) for key in keys],
            f"{figures['rows']['mean']:,.0f}",
            f"{figures['evaluations']['mean']:.0f}",
        ]
        for name, figures in stream.items()
    ]
    words = (
        "## One pass over the stream\n\nEvery rating, in order of time, is foretold and then learned, once. "
        "The step size of each method is the one of least error on the first half; `warm`: user and item had "
        "ten ratings before; `cold item`: the item had fewer."
    )
    return f"{words}\n\n" + table(["", *keys, "rows", "scores per interaction"], rows)


if __name__ == "__main__":
    main()
