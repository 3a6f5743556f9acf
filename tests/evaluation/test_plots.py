"""Plots as SVG text."""

from xml.etree import ElementTree as ET

import pytest

from polyvec.evaluation.plots import bars, curves, heat, lines, training_curves


def texts(svg):
    return [
        "".join(element.itertext()).strip()
        for element in ET.fromstring(svg).iter()  # noqa: S314
        if element.tag.endswith("text")
    ]


def test_bars_name_their_values_and_skip_unknown_intervals():
    svg = bars("recall & more", [("a <b>", 0.5, 0.4, 0.6), ("plain", 0.25, None, None)], {"plain": "#ff0000"})
    assert {"recall & more", "a <b>", "plain", "0.500", "0.250"} <= set(texts(svg))
    assert "#ff0000" in svg


def test_bars_of_zero_are_drawn():
    assert "0.000" in texts(bars("none", [("a", 0.0, 0.0, 0.0)], {}))


def test_places_on_the_x_axis_may_have_names_and_values_may_be_missing():
    svg = lines("recall", {"one": ([0, 1, 2], [0.5, float("nan"), 0.25])}, "events", ["0", "1–5", "more"])
    assert {"0", "1–5", "more", "events"} <= set(texts(svg))


def test_the_same_data_give_the_same_picture():
    draw = [lines("loss", {"": ([1, 2], [3, 4])}, "step") for _ in range(2)]
    assert draw[0] == draw[1]


def test_curves_stand_at_their_numbers_of_vectors_on_a_doubling_axis():
    points = [(1, 0.1, 0.05, 0.15), (4, 0.2, 0.15, 0.25), (16, 0.3, 0.25, 0.35)]
    svg = curves("recall@100 over C", {"GUIM": points, "GUIM-MH": points[:2]}, "C")
    assert {"recall@100 over C", "C", "1", "4", "16", "GUIM", "GUIM-MH"} <= set(texts(svg))
    ticks = [
        float(element.attrib["x"])
        for element in ET.fromstring(svg).iter()  # noqa: S314
        if element.tag.endswith("text") and element.text in ("1", "4", "16")
    ]
    assert ticks[1] - ticks[0] == pytest.approx(ticks[2] - ticks[1], abs=0.01)
    assert svg == curves("recall@100 over C", {"GUIM": points, "GUIM-MH": points[:2]}, "C")


def test_a_dollar_sign_is_no_formula():
    assert "$5 and $6" in texts(bars("$5 and $6", [("a", 1.0, None, None)], {}))


def test_training_records_become_one_plot_per_figure_the_loss_first():
    records = [
        {"event": "step", "step": 10, "epoch": 0, "tokens_per_s": 5.0, "loss": 3.0},
        {"event": "step", "step": 20, "epoch": 0, "tokens_per_s": 6.0, "loss": 2.0},
        {
            "event": "epoch",
            "step": 20,
            "epoch": 0,
            "validation": {"recall@100": 0.2, "note": "text"},
            "wins": [0.3, 0.7],
        },
        {"event": "odd"},
    ]
    plots = training_curves(records)
    titles = [texts(plot) for plot in plots]
    assert "loss (each step)" in titles[0]
    assert "validation (each epoch)" in titles[1]
    assert {"wins (each epoch)", "vector 0", "vector 1"} <= set(titles[2])
    assert "tokens per s (each step)" in titles[3]
    assert len(plots) == 4


def test_a_square_of_numbers_shows_each_and_leaves_zeros_blank():
    picture = heat("alpha", {"de": {"de": 0.0, "fr": 1.0}, "fr": {"de": 0.25, "fr": 0.0}})
    assert picture.startswith("<svg")
    for text in ("alpha", ">1.000<", ">0.250<", ">de<", ">fr<"):
        assert text in picture
    assert ">0.000<" not in picture
