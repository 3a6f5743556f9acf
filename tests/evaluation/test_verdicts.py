"""Plain words for plain tables."""

import polars as pl
import pytest

from polyvec.evaluation.verdicts import verdicts


def row(ranker, part, value, spread=0.01, difference=None):
    ends = [None] * 3 if difference is None else [difference, difference - 0.02, difference + 0.02]
    names = ("difference", "difference_low", "difference_high")
    return {
        "cutoff": "2011-11-01", "task": "CMP-L", "ranker": ranker, "part": part, "metric": "recall@100",
        "value": value, "low": value - spread, "high": value + spread,
    } | dict(zip(names, ends, strict=True))  # fmt: skip


def judge(*rows):
    return verdicts(pl.DataFrame(rows), ["mine"], "counter", "oracle")


@pytest.mark.parametrize(
    ("difference", "tone", "words"),
    [
        (
            0.1,
            "better",
            "better than counter: recall@100 0.500 against 0.400 (difference +0.100, 95 % interval",
        ),
        (
            -0.1,
            "worse",
            "worse than counter: recall@100 0.300 against 0.400 (difference −0.100, 95 % interval",
        ),
        (0.01, "even", "not significantly different from counter: recall@100 0.410 against 0.400"),
    ],
)
def test_the_paired_interval_decides(difference, tone, words):
    (verdict,) = judge(
        row("counter", "all", 0.4), row("mine", "all", 0.4 + difference, difference=difference)
    )
    assert verdict.tone == tone
    assert verdict.text.startswith(words)
    assert (verdict.task, verdict.cutoff, verdict.ranker) == ("CMP-L", "2011-11-01", "mine")


def test_the_oracle_gives_a_share_of_the_possible():
    rows = [row("counter", "all", 0.4), row("oracle", "all", 0.8), row("mine", "all", 0.5, difference=0.1)]
    assert judge(*rows)[0].text.endswith("; 62% of what is possible")


@pytest.mark.parametrize(("value", "tone"), [(0.3, "better"), (0.21, "even"), (0.1, "worse")])
def test_new_items_are_held_against_the_best_popularity(value, tone):
    rows = [row("popularity", "new", 0.1), row("popularity of 7 days", "new", 0.2), row("mine", "new", value)]
    (verdict,) = judge(*rows)
    assert verdict.tone == tone
    assert "popularity of 7 days, the best popularity baseline there" in verdict.text


def test_nothing_measured_is_not_judged():
    empty = row("mine", "all", 0.5) | {"value": None, "low": None, "high": None}
    assert judge(empty | {"difference": 0.0, "difference_low": 0.0, "difference_high": 0.0}) == []
