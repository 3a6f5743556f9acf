"""Plots of the report as SVG text, ready to stand inside an HTML page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

ACCENT, QUIET, POSSIBLE, INK = "#2f5fd0", "#b9c2cf", "#3a9a6b", "#28323f"
LINES = (ACCENT, "#d9822b", POSSIBLE, "#a4508b", "#7a6a53", "#3aa0b5", "#c0392b", "#666f7a")
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "svg.hashsalt": "polyvec",  # the same data give the same page
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#8a95a3",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def bars(
    title: str, rows: Sequence[tuple[str, float, float | None, float | None]], marked: Mapping[str, str]
) -> str:
    """Draw horizontal bars with intervals.

    Parameters
    ----------
    title
        Above the bars.
    rows
        Name, value and the ends of its interval (None where unknown), from top to bottom.
    marked
        Colour of the bars that stand out, by name.
    """
    figure, axes = _figure(title, height=0.75 + 0.3 * len(rows))
    names, values = [row[0] for row in rows], [row[1] for row in rows]
    axes.barh(names, values, color=[marked.get(name, QUIET) for name in names], height=0.68)
    for place, (_, value, low, high) in enumerate(rows):
        end = value if high is None else high
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=INK, linewidth=1.2)
        axes.annotate(
            f"{value:.3f}", (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8.5
        )
    axes.set_xlim(0, max([*values, *[high for *_, high in rows if high], 1e-9]) * 1.2)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    return _svg(figure)


def lines(
    title: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    ticks: Sequence[str] = (),
) -> str:
    """Draw one line per series (x and y values); a legend where there are several.

    Parameters
    ----------
    title
        Above the lines.
    series
        x and y values by name; NaN leaves a gap.
    x_label
        Below the x axis.
    ticks
        Names of x = 0, 1, …; numbers without them.
    """
    figure, axes = _figure(title, height=2.5)
    for number, (name, (x, y)) in enumerate(series.items()):
        marker = "o" if len(x) < 25 else None
        axes.plot(x, y, label=name, color=_color(number), linewidth=1.5, marker=marker, markersize=3)
    if ticks:
        axes.set_xticks(range(len(ticks)), ticks)
    _finish(axes, x_label)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def curves(title: str, series: Mapping[str, Sequence[tuple[int, float, float, float]]], x_label: str) -> str:
    """Draw one line with intervals per series over a doubling axis, points of the same x side by side.

    Parameters
    ----------
    title
        Above the plot.
    series
        x, value and the ends of its interval, x ascending, by name.
    x_label
        Below the axis.
    """
    figure, axes = _figure(title, height=2.6 + 0.17 * len(series))
    for number, (name, points) in enumerate(series.items()):
        aside = 2 ** (0.06 * (number - (len(series) - 1) / 2))
        x, y = [one[0] * aside for one in points], [one[1] for one in points]
        axes.vlines(
            x, [one[2] for one in points], [one[3] for one in points], color=_color(number), alpha=0.6
        )
        axes.plot(x, y, label=name, color=_color(number), linewidth=1.5, marker="o", markersize=3.5)
    places = sorted({x for points in series.values() for x, *_ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [str(place) for place in places])
    axes.minorticks_off()
    _finish(axes, x_label)
    figure.legend(loc="outside lower left", frameon=False, fontsize=8)
    return _svg(figure)


def heat(title: str, values: Mapping[str, Mapping[str, float]]) -> str:
    """Draw a square of numbers, each on a ground the darker the larger it is; what is 0 is left white.

    Parameters
    ----------
    title
        Above the square.
    values
        Numbers by row and column, of the same names.
    """
    rows, columns = list(values), list(next(iter(values.values())))
    figure, axes = _figure(title, height=1.1 + 0.36 * len(rows))
    numbers = [[values[row][column] for column in columns] for row in rows]
    most = max(max(line) for line in numbers) or 1.0
    shown = [[number or float("nan") for number in line] for line in numbers]
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=1.4 * most, aspect="auto")
    for place, line in enumerate(numbers):
        for other, number in enumerate(line):
            axes.text(other, place, f"{number:.3f}" if number else "–", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _svg(figure)


def training_curves(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Draw every figure that a training run recorded: one plot each, lists and dictionaries as several lines.

    Parameters
    ----------
    records
        Lines of ``training.jsonl``: ``event``, ``step`` and figures.
    """
    plots: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for record in records:
        for title, name, value in _figures(record):
            x, y = plots.setdefault(title, {}).setdefault(name, ([], []))
            x.append(float(record["step"]))
            y.append(value)
    order = sorted(plots, key=lambda title: (_importance(title), title))
    return [lines(title, plots[title], "step") for title in order if len(plots[title]) <= len(LINES)]


NOT_PLOTTED = ("event", "step", "epoch", "time", "seconds")
FIRST_PLOTS = ("loss", "validation", "wins", "cosine", "rank")


def _figures(record: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Plot, line and value of every number of a record."""
    if not isinstance(record.get("step"), int | float):
        return []
    found: list[tuple[str, str, float]] = []
    for key, value in record.items():
        if key in NOT_PLOTTED:
            continue
        title = f"{key.replace('_', ' ')} (each {record.get('event', 'step')})"
        found += [(title, name, float(number)) for name, number in _numbers(value)]
    return found


def _numbers(value: object) -> list[tuple[str, float]]:
    if isinstance(value, dict):
        return [(str(name), one) for name, one in value.items() if _is_number(one)]
    if isinstance(value, list):
        return [(f"vector {place}", one) for place, one in enumerate(value) if _is_number(one)]
    return [("", value)] if isinstance(value, int | float) and _is_number(value) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _importance(title: str) -> int:
    return next((place for place, word in enumerate(FIRST_PLOTS) if word in title), len(FIRST_PLOTS))


def _color(number: int) -> str:
    return LINES[number % len(LINES)]


def _finish(axes: Axes, x_label: str) -> None:
    """Label and grid of a plot of lines."""
    axes.set_xlabel(x_label)
    axes.grid(axis="y", color="#e4e8ee", linewidth=0.8)
    axes.set_axisbelow(True)


def _figure(title: str, height: float) -> tuple[Figure, Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, height), layout="constrained")
        axes = figure.subplots()
        figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    return figure, axes


def point(x: int, figures: Mapping[str, Any]) -> tuple[int, float, float, float]:
    """A point of :func:`curves`, of what :func:`polyvec.evaluation.runs.over_runs` gives.

    Examples
    --------
    >>> point(4, {"mean": 0.5, "half_width": 0.25}), point(8, {"mean": 0.5})
    ((4, 0.5, 0.25, 0.75), (8, 0.5, 0.5, 0.5))
    """
    half = figures.get("half_width", 0.0)
    return x, figures["mean"], figures["mean"] - half, figures["mean"] + half


def on_white(picture: str) -> str:
    """Give a picture a ground of its own, for a page that may be dark around it."""
    return picture.replace("<svg ", '<svg style="background: white" ', 1)


def _svg(figure: Figure) -> str:
    """Return the picture without the XML prologue, as wide as its place on the page."""
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
