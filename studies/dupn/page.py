"""Make README.md and its pictures of results.json and replay.json.

    python studies/dupn/page.py studies/dupn

Every number and every verdict on the page comes from these files by the rules written here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from methods import ALL, BY_HAND, RIVALS, SHARES, TRANSFERS, UNCERTAINTY, VARIANTS, alone, transferred
from replay import SETS as REPLAYS
from sets import SETS

from polyvec.evaluation.markdown import NOTHING, cell, study_page, table
from polyvec.evaluation.plots import curves, heat, lines, on_white, point
from polyvec.evaluation.runs import over_runs, side_of_zero

Results = dict[str, Any]
PROPERTY_VARIANTS = ("bplstm", "bpatt")
WAYS = ("rt", "ft", "ft, encoder slow")
"""Of transfer, one of which is taken where a claim is of the best of them: by validation."""
ABOVE_MAJORITY = 0.05
TOLERATED = 0.001  # of AUC, accuracy or recall that "at least equal" lets pass
CHANCE = {"auc": 0.5}
BEHIND, COST = 0.003, 0.25  # what updating may lose against training anew, and cost in parts of it


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    results = json.loads((folder / "results.json").read_text("utf-8"))
    for name, methods in results["sets"].items():
        for file, picture in pictures(name, methods):
            (folder / file).write_text(on_white(picture), "utf-8")
    replayed = json.loads((folder / "replay.json").read_text("utf-8"))["sets"]
    for name, figures in replayed.items():
        for file, picture in pictures_of_days(name, figures):
            (folder / file).write_text(on_white(picture), "utf-8")
    (folder / "README.md").write_text(page(results, replayed), "utf-8")


def page(results: Results, replayed: Results) -> str:
    """The whole page."""
    sets = results["sets"]
    sections = [section(name, methods) for name, methods in sets.items()]
    sections += [days(name, figures) for name, figures in replayed.items()]
    told = verdicts(sets) + [line for name, one in replayed.items() for line in verdicts_of_days(name, one)]
    return study_page(Path(__file__).parent, told, sections)


def verdicts(sets: Results) -> list[str]:
    """One line per claim whose methods have been run."""
    found = []
    for name, methods in sets.items():
        if ALL in methods:
            found += [*_parts(name, methods), *_together(name, methods), *_classes(name, methods)]
            found += [*_rivals(name, methods), *_looks(name, methods)]
        found += _transfer(name, methods)
    return found


def _parts(name: str, methods: Results) -> Iterator[str]:
    """What properties and attention are worth, task by task."""
    for other, words in (
        ("nobp", "properties of events help (all against nobp)"),
        ("mean pooling", "attention beats mean pooling"),
    ):
        if other in methods:
            for task in SETS[name].tasks:
                yield _claim(f"{name}, {task}: {words}", methods[ALL], methods[other], task)
    for other in PROPERTY_VARIANTS:
        if other in methods and "nobp" in methods:
            gains = [
                over_runs(differences(methods[other], methods["nobp"], task))["mean"]
                for task in SETS[name].tasks
            ]
            ahead = sum(gain > 0 for gain in gains)
            yield (
                f"**{name}: {other} beats nobp on most tasks**: {'yes' if 2 * ahead > len(gains) else 'no'}. "
                f"On {ahead} of {len(gains)}; on average {sum(gains) / len(gains):+.4f}."
            )


def _together(name: str, methods: Results) -> Iterator[str]:
    """All tasks at once against each one alone."""
    chosen = weighted(methods)
    there = [task for task in SETS[name].tasks if alone(task) in methods]
    for task in there:
        mine, theirs = methods[chosen], methods[alone(task)]
        found = over_runs([one + TOLERATED for one in differences(mine, theirs, task)])
        yield _told(
            f"{name}, {task}: all tasks at once ({chosen}) are at least as good as this one alone",
            side_of_zero(found),
            mine,
            theirs,
            task,
        )
    if there:
        counts = {task: methods[chosen]["tasks"][task]["samples"] for task in there}
        sparsest = [task for task in there if counts[task] == min(counts.values())]
        if len(sparsest) == 1:  # of tasks that all have as many as are drawn at most none is
            (least,) = sparsest
            yield _claim(
                f"{name}, {least}: and better on the sparsest", methods[chosen], methods[alone(least)], least
            )
        ahead = [task for task in there if _faster(methods, chosen, task)]
        yield (
            f"**{name}: on some task fewer of its samples are passed over until it is 99 % as far above "
            f"chance as at its best alone (validation, seed 0)**: {'yes' if ahead else 'no'}. "
            f"{', '.join(ahead) or 'none'}."
        )


def weighted(methods: Results) -> str:
    """Equal weights of the losses, learned ones or those of the set: which have the best validation."""
    there = [one for one in (ALL, UNCERTAINTY, BY_HAND) if one in methods]
    return max(there, key=lambda one: methods[one]["validation"]["values"][0])


def _faster(methods: Results, chosen: str, task: str) -> bool:
    """Whether together fewer samples of the task lead to what is almost the best of it alone."""
    by_itself, together = (methods[one]["tasks"][task]["curve"] for one in (alone(task), chosen))
    chance = CHANCE.get(next(iter(methods[chosen]["tasks"][task]["test"])), 0.0)
    goal = chance + 0.99 * (max(value for _, value in by_itself) - chance)
    first = _reached(by_itself, chance, goal), _reached(together, chance, goal)
    return first[1] is not None and (first[0] is None or first[1] < first[0])


def _reached(curve: list[list[float]], chance: float, goal: float) -> float | None:
    """Samples seen when a curve first comes to its goal, on straight lines between validations."""
    before = [0.0, chance]
    for seen, value in curve:
        if value >= goal:
            return before[0] + (seen - before[0]) * (goal - before[1]) / (value - before[1])
        before = [seen, value]
    return None


def _classes(name: str, methods: Results) -> Iterator[str]:
    """Accuracy where there are classes, beside naming always the most frequent one."""
    for task, figures in methods[ALL]["tasks"].items():
        if "majority" in figures and "accuracy" in figures["test"]:
            pairs = zip(figures["test"]["accuracy"]["values"], figures["majority"]["values"], strict=True)
            above = over_runs([mine - theirs - ABOVE_MAJORITY for mine, theirs in pairs])
            yield (
                f"**{name}, {task}: accuracy is {ABOVE_MAJORITY:.0%} above always naming the most frequent "
                f"class**: {side_of_zero(above)}. {cell(figures['test']['accuracy'])} against "
                f"{cell(figures['majority'])}."
            )


def _rivals(name: str, methods: Results) -> Iterator[str]:
    """The best of those that have been run, of each task."""
    for task in SETS[name].tasks:
        there = [one for one in RIVALS if task in methods.get(one, {}).get("tasks", {})]
        if there:
            best = max(there, key=lambda one: _mean(methods[one], task))
            words = f"{name}, {task}: DUPN beats the best of its rivals, {best}"
            yield _claim(words, methods[ALL], methods[best], task)


def _mean(method: Results, task: str) -> float:
    return float(first_of(method, task)["mean"])


def _looks(name: str, methods: Results) -> Iterator[str]:
    """Whether attention tells actions apart."""
    by_action = {
        action: sum(weight * count for weight, count in ages.values())
        / sum(count for _, count in ages.values())
        for action, ages in methods[ALL]["attention"].items()
    }
    if by_action:
        most, least = (by(by_action, key=lambda action: by_action[action]) for by in (max, min))
        told = ", ".join(f"{action} {weight:.2f}" for action, weight in by_action.items())
        yield (
            f"**{name}: attention tells actions apart (a ratio above 1.2)**: "
            f"{'yes' if by_action[most] > 1.2 * by_action[least] else 'no'}. "
            f"In parts of an equal share: {told}."
        )


def _transfer(name: str, methods: Results) -> Iterator[str]:
    """What the task that is held out learns from a model that was not trained on it."""
    for task in SETS[name].held_out:

        def claim(words: str, how: str, other: str, share: int, task: str = task) -> Iterator[str]:
            mine, theirs = (methods.get(transferred(one, share)) for one in (how, other))
            if mine and theirs:
                yield _claim(f"{name}, {task}, {share} % of the labels: {words}", mine, theirs, task)

        for share in SHARES:
            yield from claim(
                "a frozen encoder (RT) beats one that was never trained", "rt", "random frozen", share
            )
        full, few = max(SHARES), min(SHARES)
        tuned = _validated(methods, WAYS[1:], full)
        if tuned:
            yield from claim(f"fine-tuning ({tuned}) beats starting anew (RS)", tuned, "rs", full)
            yield from claim(f"and beats RT ({tuned})", tuned, "rt", full)
        best = _validated(methods, WAYS, few)
        if best:
            yield from claim(f"the better of RT and FT ({best}) beats starting anew (RS)", best, "rs", few)


def _validated(methods: Results, ways: tuple[str, ...], share: int) -> str:
    """The way of the best mean validation; empty if none has been run."""
    there = [way for way in ways if transferred(way, share) in methods]
    return max(there, key=lambda way: methods[transferred(way, share)]["validation"]["mean"], default="")


def first_of(method: Results, task: str) -> Results:
    """The measure that counts, of the test: AUC or recall@100."""
    return dict(next(iter(method["tasks"][task]["test"].values())))


def paired(mine: Results, theirs: Results, task: str) -> list[tuple[float, float]]:
    """The measure of both, of the seeds that both have."""
    return [
        (
            first_of(mine, task)["values"][mine["seeds"].index(seed)],
            first_of(theirs, task)["values"][theirs["seeds"].index(seed)],
        )
        for seed in sorted(set(mine["seeds"]) & set(theirs["seeds"]))
    ]


def differences(mine: Results, theirs: Results, task: str) -> list[float]:
    """What the first is ahead of the second, seed by seed."""
    return [one - other for one, other in paired(mine, theirs, task)]


def _claim(words: str, mine: Results, theirs: Results, task: str) -> str:
    """That the first is better."""
    found = side_of_zero(over_runs(differences(mine, theirs, task)))
    return _told(words, found, mine, theirs, task)


def _told(words: str, verdict: str, mine: Results, theirs: Results, task: str) -> str:
    pairs = paired(mine, theirs, task)
    one, other = (cell(over_runs([pair[place] for pair in pairs])) for place in (0, 1))
    found = cell(over_runs(differences(mine, theirs, task)))
    return f"**{words}**: {verdict}. {one} against {other}; difference {found} (seeds: {len(pairs)})."


def section(name: str, methods: Results) -> str:
    """All figures of one set."""
    parts = [
        f"## {name}\n\n{SETS[name].source}.",
        _figures(name, methods),
        _transfers(name, methods),
        _attention(methods),
        *(f"![{file.removesuffix('.svg')}]({file})" for file, _ in pictures(name, methods)),
    ]
    return "\n\n".join(filter(None, parts))


def _figures(name: str, methods: Results) -> str:
    """Test and validation of every method and task."""
    tasks, rows = list(SETS[name].tasks), []
    for method, one in methods.items():
        if method in VARIANTS:
            cells = [_measures(one["tasks"].get(task)) for task in tasks]
            rows.append([method, *_about(one), *cells, f"{one['parameters']:,}", cell(one["seconds"], 0)])
    by_itself = {task: methods[alone(task)] for task in tasks if alone(task) in methods}
    if by_itself:
        cells = [_measures(by_itself.get(task, {"tasks": {}})["tasks"].get(task)) for task in tasks]
        every = by_itself.values()
        weights, seconds = (
            sum(one["parameters"] for one in every),
            sum(one["seconds"]["mean"] for one in every),
        )
        rows.append(["one model each", NOTHING, NOTHING, NOTHING, *cells, f"{weights:,}", f"{seconds:.0f}"])
    if not rows:
        return ""
    told = next(iter(methods.values()))["tasks"] if ALL not in methods else methods[ALL]["tasks"]
    if all(task in told for task in tasks):
        rows.append(["most frequent class", *[NOTHING] * 3, *_majorities(told, tasks), NOTHING, NOTHING])
        rows.append([
            "samples, asked", *[NOTHING] * 3,
            *[f"{told[task]['samples']:,}, {told[task]['asked']:,}" for task in tasks], NOTHING, NOTHING,
        ])  # fmt: skip
    return table(["", "seeds", "validation", "epoch", *tasks, "weights", "s"], rows)


def _about(one: Results) -> list[str]:
    return [str(len(one["seeds"])), cell(one["validation"]), f"{one['epoch']['mean'] + 1:.1f}"]


def _measures(figures: Results | None) -> str:
    """Of the test, each by its name."""
    if figures is None:
        return NOTHING
    return ", ".join(f"{measure} {cell(found)}" for measure, found in figures["test"].items())


def _majorities(told: Results, tasks: list[str]) -> list[str]:
    return [
        f"accuracy {cell(told[task]['majority'])}" if "majority" in told[task] else NOTHING for task in tasks
    ]


def _transfers(name: str, methods: Results) -> str:
    """The task that is held out, by way and share of the labels."""
    for task in SETS[name].held_out:
        rows = [
            [
                how,
                *[
                    _measures(methods.get(transferred(how, share), {"tasks": {}})["tasks"].get(task))
                    for share in SHARES
                ],
            ]
            for how in TRANSFERS
            if any(transferred(how, share) in methods for share in SHARES)
        ]
        if rows:
            header = ["", *[f"{share} % of the labels" for share in SHARES]]
            return f"Held out, {task}:\n\n" + table(header, rows)
    return ""


def _attention(methods: Results) -> str:
    """Mean weights by age and action."""
    told = methods.get(ALL, {}).get("attention", {})
    ages = list(dict.fromkeys(age for found in told.values() for age in found))
    rows = [[age, *[_weight(found.get(age)) for found in told.values()]] for age in ages]
    if not rows:
        return ""
    words = "Attention of an event, in parts of an equal share of its history (and events):"
    return f"{words}\n\n{table(['age', *told], rows)}"


def _weight(figures: list[float] | None) -> str:
    """Mean weight, and of how many events."""
    return NOTHING if figures is None else f"{figures[0]:.2f} ({figures[1]:,})"


def pictures(name: str, methods: Results) -> Iterator[tuple[str, str]]:
    """Files and pictures of a set."""
    for task in SETS[name].tasks:
        series = {
            words: _line(methods[method]["tasks"][task]["curve"])
            for method, words in (
                (ALL, "all tasks at once"),
                (UNCERTAINTY, UNCERTAINTY),
                (BY_HAND, BY_HAND),
                (alone(task), "alone"),
            )
            if method in methods
        }
        if alone(task) in methods and len(series) > 1:
            title = f"{name}, {task}: validation (seed 0)"
            yield f"{name}_{task}.svg", lines(title, series, "samples of the task seen, thousands")
    for task in SETS[name].held_out:
        shown = {
            how: [
                point(share, first_of(methods[transferred(how, share)], task))
                for share in SHARES
                if transferred(how, share) in methods
            ]
            for how in TRANSFERS
        }
        if all(shown.values()):
            yield f"{name}_{task}.svg", curves(f"{name}, {task}: held out", shown, "labels, per cent")
    told = methods.get(ALL, {}).get("attention", {})
    if told:
        ages = list(dict.fromkeys(age for found in told.values() for age in found))
        values = {age: {action: told[action].get(age, [0.0])[0] for action in told} for age in ages}
        yield f"{name}_attention.svg", heat(f"{name}: attention by age and action", values)


def verdicts_of_days(name: str, figures: Results) -> Iterator[str]:
    """What a model is worth that is updated, period after period."""
    begin, seeds = f"{REPLAYS[name].source}, days go by", figures["seeds"]
    for task, told in figures["tasks"].items():
        gain, loss = told["updated − frozen"], told["updated − anew"]
        above = over_runs([value + BEHIND for value in loss["values"]])
        yield (
            f"**{begin}, {task}: updated beats frozen**: {side_of_zero(gain)}. {cell(told['updated'])} "
            f"against {cell(told['frozen'])}; difference {cell(gain)} "
            f"(seeds: {seeds}; ahead in {_ahead(gain)})."
        )
        yield (
            f"**{begin}, {task}: updated is at most {BEHIND} behind training anew**: {side_of_zero(above)}. "
            f"Difference {cell(loss)} (seeds: {seeds}; ahead in {_ahead(loss)})."
        )
    share = figures["share of steps"]
    yield (
        f"**{begin}: an update costs at most {COST:.0%} of training anew**: "
        f"{'yes' if share['mean'] <= COST else 'no'}. {share['mean']:.1%} of the steps."
    )


def _ahead(difference: Results) -> str:
    above, every = difference["ahead"]
    return f"{above} of {every} periods"


def days(name: str, figures: Results) -> str:
    """Figures of a log that is played day by day."""
    replay, chosen = REPLAYS[name], figures["chosen"]
    columns = ("frozen", "updated", "updated − frozen", "updated − anew")
    rows = [[task, *[cell(told[one]) for one in columns]] for task, told in figures["tasks"].items()]
    tried = [[way, *[f"{value:.4f}" for value in told.values()]] for way, told in chosen["tried"].items()]
    tried.append(["frozen", *[f"{value:.4f}" for value in chosen["frozen"].values()]])
    shown = pictures_of_days(name, figures)
    each = "each" if replay.anew_every == 1 else f"one in {replay.anew_every}"
    parts = [
        f"## Days go by: {replay.source}",
        f"{replay.periods - 1} periods of {replay.period} days from {replay.begin} on are foretold; seeds: "
        f"{figures['seeds']}; before {each} of them a model is trained anew, and compared there. Means over "
        "periods:",
        table(["", *columns], rows),
        f"Chosen on earlier periods, by the mean over tasks: {chosen['rate']:g} times the learning rate, "
        f"{chosen['passes']} passes, {chosen['rehearsal']:g} earlier samples rehearsed with each new one; "
        "tried (rate, passes, rehearsed):",
        table(["", *chosen["frozen"]], tried),
        *(f"![{file.removesuffix('.svg')}]({file})" for file, _ in shown),
    ]
    return "\n\n".join(parts)


def pictures_of_days(name: str, figures: Results) -> Iterator[tuple[str, str]]:
    """One of every task: what each way is worth, period by period."""
    for task, ways in figures["curves"].items():
        series = {way: ([at for at, _ in line], [value for _, value in line]) for way, line in ways.items()}
        yield f"days_{name}_{task}.svg", lines(f"{name}, {task}: days go by", series, "period")


def _line(curve: list[list[float]]) -> tuple[list[float], list[float]]:
    return [seen / 1000 for seen, _ in curve], [value for _, value in curve]


if __name__ == "__main__":
    main()
