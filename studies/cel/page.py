"""Make README.md and its plots from results.json, planted.json and chosen.json, where they are there.

    python studies/cel/page.py studies/cel

Every number and every verdict on the page comes from those files by the rules written here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from polyvec.evaluation.markdown import NOTHING, cell, study_page, table
from polyvec.evaluation.plots import curves, on_white, point
from polyvec.evaluation.runs import by_seed, lies_within, over_runs, paired_by_seed, verdict

Results = dict[str, Any]
SPLIT, STREAM, CLICKS = "movielens_100k", "movielens_100k, one pass", "movielens_100k, clicks"
PLANTED, KINDS = "planted", 6
FULL = ("full NMF, decay 1", "full NMF, decay 3", "full NMF, decay 5", "full NMF, decay 10")
NEARER = "nearer to the mean"
RARE, POPULAR = "1–4", "100 and more"
LIMITS = ("random split, no reassignment", "modulo hash, 50 items")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    results = _read(folder / "results.json")
    results[PLANTED] = _read(folder / "planted.json").get("runs", {})
    chosen = _read(folder / "chosen.json").get("sets", {})
    for name, points in (("clusters", _number(results[SPLIT])), ("planted", _number(results[PLANTED]))):
        if points:
            _plot(folder / f"{name}.svg", points)
    (folder / "README.md").write_text(page(results, chosen), "utf-8")


def _read(file: Path) -> Results:
    """What a study has written, or nothing."""
    found: Results = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found


def page(results: Results, chosen: Results) -> str:
    """The whole page; ``chosen`` holds the other sets of ratings, by name."""
    told = verdicts(results) + [line for name, methods in chosen.items() for line in elsewhere(name, methods)]
    sections = [
        _errors(results[SPLIT]),
        _clusters(results[SPLIT]),
        _popularity(results[SPLIT]),
        *[_chosen(name, methods) for name, methods in chosen.items()],
        _clicks(results.get(CLICKS, {})),
        _streams(results.get(STREAM, {})),
        _planted(results.get(PLANTED, {})),
    ]
    return study_page(Path(__file__).parent, told, sections)


# --- verdicts ----------------------------------------------------------------------------------------------


def verdicts(results: Results) -> list[str]:
    """One line per claim whose methods have been run."""
    split, stream, clicks = results[SPLIT], results.get(STREAM, {}), results.get(CLICKS, {})
    full = best_full(split)
    lines = [
        _at_most(split, "CEL", "step 2000", 0.89, "50 rows for 1,682 items err by at most 0.89 at step 2000"),
        _difference(
            split, ("CEL", "step 2000"), (full, "best"), -0.02,
            "50 rows for 1,682 items beat full tables, stopped where the test is best, by 0.02",
        ),
        *[
            _difference(split, (one, "best"), ("CEL", "step 2000"), 0.15, f"{one}: worse than CEL by 0.15")
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
            split, (f"CEL, {NEARER}", "chosen"), ("CEL", "chosen"), 0.0,
            f"served {NEARER} the fewer events they have, users and items err less",
            is_less=True,
        ),
        _difference(
            split, (f"CEL, {NEARER}", "chosen"), (f"full NMF, decay 5, {NEARER}", "chosen"), -0.02,
            "and by 0.02 less than full tables served so",
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
            stream, ("CEL-Lite, rows alone", "last half"), ("full tables, rows alone", "last half"), 0.0,
            "without means beside them, too",
            is_less=True,
        ),
        _difference(
            stream, ("CEL-Lite", "last half"), ("modulo hash", "last half"), 0.0,
            "CEL-Lite beats a hash of as many rows",
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
        *[
            _difference(
                clicks, ("DIN, clustered", key), ("DIN, full", key), 0.0,
                f"a deep model (DIN) with clusters of users and items has a higher {key} than with full ones",
            )
            for key in ("AUC", "AUC, cold items")
        ],
        _difference(
            clicks, ("DIN, clustered", "AUC"), ("DIN, hash", "AUC"), 0.0,
            "and a higher one than with hashes of as many rows",
        ),
        *_found(results.get(PLANTED, {})),
    ]  # fmt: skip
    return [line for line in lines if line]


def elsewhere(name: str, methods: Results) -> list[str]:
    """Verdicts on another set of ratings; every method has the settings that are best on validation."""
    if "full NMF" not in methods:
        return []
    ours = min(
        (one for one in methods if one.startswith("CEL") and not one.endswith(NEARER)),
        key=lambda one: methods[one]["validation"]["mean"],
    )
    lines = [
        _difference(
            methods, (ours, "test"), ("full NMF", "test"), 0.0, f"{name}: clusters beat full tables",
            is_less=True,
        ),
        _difference(
            methods, ("modulo hash", "test"), (ours, "test"), 0.0, f"{name}: hashes are worse than clusters"
        ),
        _difference(
            methods, (f"{ours}, {NEARER}", "test"), (ours, "test"), 0.0,
            f"{name}: served {NEARER} the fewer events they have, users and items of clusters err less",
            is_less=True,
        ),
        _difference(
            methods, (f"{ours}, {NEARER}", "test"), (f"full NMF, {NEARER}", "test"), 0.0,
            f"{name}: and less than full tables served so",
            is_less=True,
        ),
    ]  # fmt: skip
    for side in ("item", "user"):
        errors = [methods[one].get(f"by_{side}", {}).get(RARE) for one in (ours, "full NMF")]
        if all(one and one["error"] is not None for one in errors):
            mine, full = (one["error"] for one in errors)
            lines.append(
                f"**{name}: {side}s of {RARE} training ratings have a lower error than with full tables**: "
                f"{verdict([mine < full])}. {ours} {mine:.3f}, full NMF {full:.3f} "
                f"({errors[0]['ratings']:,} ratings of all seeds)."
            )
    return [line for line in lines if line]


def _found(planted: Results) -> list[str]:
    """Whether planted kinds are found, and whether their number is the best."""
    runs = {name: one for name, one in planted.items() if name.startswith("CEL, ")}
    if not runs:
        return []
    agreement = [value for one in runs.values() for value in one["adjusted_rand"]["values"]]
    good = sum(value >= 0.95 for value in agreement)
    lines = [
        "**planted clusters are found again (adjusted Rand index of 0.95 in at least 8 of 9 runs)**: "
        f"{verdict([good >= 8 / 9 * len(agreement)])}. {good} of {len(agreement)} runs, the least "
        f"{min(agreement):.3f}."
    ]
    errors = dict(_number(planted))
    if KINDS in errors:
        least, right = min(one["mean"] for one in errors.values()), errors[KINDS]["mean"]
        most = max(errors, key=lambda count: errors[count]["mean"])
        lines.append(
            "**their number is the best, within 0.002 of the least error, and too few are the worst**: "
            f"{verdict([right <= least + 0.002 and most == min(errors)])}. Error of the {KINDS} that were "
            f"planted {right:.4f}, least {least:.4f}, of {most} {errors[most]['mean']:.4f}."
        )
    return lines


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
    """Verdict on the difference of two errors, paired by seed: at most, at least, or between limits."""
    if one[0] not in methods or other[0] not in methods:
        return ""
    (name, key), (against, other_key) = one, other
    ours, theirs = (
        by_seed(methods[method]["seeds"], methods[method][figure])
        for method, figure in ((name, key), (against, other_key))
    )
    found = paired_by_seed(ours, theirs, digits=4)
    if isinstance(limit, tuple):
        holds = lies_within(found, *limit)
    elif limit < 0 or is_less:
        holds = lies_within(found, most=limit)
    else:
        holds = lies_within(found, least=limit)
    values = ", ".join(
        f"{method} {cell(methods[method][figure])}" for method, figure in ((name, key), (against, other_key))
    )
    return f"**{words}**: {holds}. {values}; difference {cell(found)}."


def _at_most(methods: Results, name: str, key: str, limit: float, words: str) -> str:
    """Verdict on a figure alone."""
    if name not in methods:
        return ""
    found = over_runs(methods[name][key]["values"], digits=4)
    return f"**{words}**: {lies_within(found, most=limit)}. {cell(found)}."


def _cold(split: Results, full: str) -> str:
    """Items of few ratings, all seeds together."""
    errors = {
        name: {part: split[name]["by_popularity"][part]["error"] for part in (RARE, POPULAR)}
        for name in ("CEL", full)
    }
    ratio = errors["CEL"][RARE] / errors[full][RARE]
    cost = errors["CEL"][POPULAR] - errors[full][POPULAR]
    count = split["CEL"]["by_popularity"][RARE]["ratings"]
    holds = verdict([ratio <= 0.8 and cost <= 0.01])
    return (
        "**items of 1–4 training ratings have at most 0.8 times the full table's error, and those of 100 and "
        f"more lose at most 0.01**: {holds}. {errors['CEL'][RARE]:.3f} against {errors[full][RARE]:.3f} "
        f"({count} ratings of all seeds; {ratio:.2f} times), {errors['CEL'][POPULAR]:.3f} against "
        f"{errors[full][POPULAR]:.3f}."
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
    full = best_full(split)
    shown = ("CEL", f"CEL, {NEARER}", "CEL, then personal at 1600", full, f"{full}, {NEARER}", *LIMITS[1:])
    for name in shown:
        if name in split:
            errors = [split[name]["by_popularity"][part]["error"] for part in parts]
            rows.append([name, *[NOTHING if error is None else f"{error:.3f}" for error in errors]])
    return (
        "## By training ratings of the item\n\nAt the step chosen on validation, all seeds together.\n\n"
        + table(["", *parts], rows)
    )


def _number(methods: Results) -> list[tuple[int, Results]]:
    """Number of clusters and error, ascending: of ``K = n`` and, where it is another's, ``CEL`` itself."""
    found = [
        (int(name.rpartition(" ")[2]), one.get("chosen", one.get("error")))
        for name, one in methods.items()
        if name.removeprefix("CEL, ").startswith("K = ")
    ]
    if found and "CEL" in methods:
        found.append((50, methods["CEL"]["chosen"]))
    return sorted(found, key=lambda one: one[0])


def _plot(file: Path, points: list[tuple[int, Results]]) -> None:
    """Error against the number of clusters, with intervals over seeds."""
    series = [point(count, one) for count, one in points]
    text = curves("mean squared error", {"CEL": series}, "K, clusters of items")
    file.write_text(on_white(text), "utf-8")


def _clusters(split: Results) -> str:
    if not _number(split):
        return ""
    return "## How many clusters?\n\nAt the step chosen on validation.\n\n![error by K](clusters.svg)"


def _chosen(name: str, methods: Results) -> str:
    words = (
        f"## {name}\n\n`python studies/cel/chosen.py DATA --out studies/cel`: every method has the "
        "setting, and is asked at the step, of least validation error."
    )
    rows = [
        [
            f"{method} ({_setting(one['setting'])})",
            cell(one["test"]),
            cell(one["validation"]),
            f"{one['bytes_items']:,} + {one['bytes_users']:,}",
        ]
        for method, one in methods.items()
    ]
    sections = [words, table(["", "test", "validation", "bytes of items + users"], rows)]
    for side in ("item", "user"):
        parts = list(next(iter(methods.values()))[f"by_{side}"])
        counts = [f"{next(iter(methods.values()))[f'by_{side}'][part]['ratings']:,}" for part in parts]
        rows = [["ratings in the test, all seeds", *counts]]
        rows += [
            [method, *[_error(one[f"by_{side}"][part]) for part in parts]] for method, one in methods.items()
        ]
        sections.append(table([f"by training ratings of the {side}", *parts], rows))
    return "\n\n".join(sections)


def _setting(setting: Results) -> str:
    known = {"learning_rate": "η", "decay": "decay", "item_clusters": "K", "user_clusters": "K of users"}
    return ", ".join(f"{known[key]} {value:g}" for key, value in setting.items() if key in known)


def _error(figures: Results) -> str:
    return NOTHING if figures["error"] is None else f"{figures['error']:.3f}"


def _clicks(clicks: Results) -> str:
    if not clicks:
        return ""
    keys = ("AUC", "AUC, cold items", "AUC, warm items")
    rows = [
        [
            name,
            *[cell(one.get(key)) for key in keys],
            *[f"{one[key]['mean']:,.0f}" for key in ("bytes_items", "bytes_users")],
        ]
        for name, one in clicks.items()
    ]
    words = (
        "## A deep model over clicks\n\nA deep interest network foretells each user's last ten films among "
        "drawn ones (chosen on the ten before). Users and items have tables of one kind unless said "
        "otherwise, hashes as many rows as there are clusters; items are cold below 20 events."
    )
    return f"{words}\n\n" + table(["", *keys, "bytes of items", "of users"], rows)


def _planted(planted: Results) -> str:
    if not planted:
        return ""
    rows = [[name, cell(one["adjusted_rand"], 3), cell(one["error"])] for name, one in planted.items()]
    words = (
        "## Planted clusters\n\n`python studies/cel/planted.py`: items are of 6 kinds, each rating is a "
        "product of rows plus noise of variance 0.01; so many of all pairs are seen (10 % where K changes). "
        "Agreement of clusters with kinds, and mean squared error of pairs held out."
    )
    return f"{words}\n\n![error by K](planted.svg)\n\n" + table(["", "adjusted Rand", "error"], rows)


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
