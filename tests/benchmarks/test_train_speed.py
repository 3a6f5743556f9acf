from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train_speed.py"


@pytest.fixture(scope="module")
def benchmark(load_script: Callable[[str, Path], ModuleType]) -> ModuleType:
    return load_script("train_speed", SCRIPT)


def test_ndcg_counts_one_relevant_item_by_its_rank(benchmark: ModuleType) -> None:
    ranked = np.array([[5, 6, 7], [5, 6, 7], [5, -1, -1]])
    expected = (1 + 1 / math.log2(4) + 0) / 3
    assert benchmark.ndcg(ranked, np.array([5, 7, 9])) == pytest.approx(expected)


def test_tokens_are_the_latest_events_without_those_held_out(benchmark: ModuleType) -> None:
    offsets = np.array([0, 1, 5, 105])  # histories of 1, 4 and 100 events
    assert benchmark.tokens_per_epoch(offsets, 50) == 0 + 2 + 50


def test_the_two_systems_take_turns_at_going_first(benchmark: ModuleType) -> None:
    order = benchmark._order(2, ["polyvec_float32"])
    assert order == [
        (0, "polyvec"),
        (0, "rectools"),
        (0, "polyvec_float32"),
        (1, "rectools"),
        (1, "polyvec"),
    ]


def test_the_stand_in_has_the_shape_of_the_data_it_stands_for(benchmark: ModuleType) -> None:
    events = benchmark.make_events(benchmark.DATA["beauty"], users=2000)
    lengths = events.group_by("user_id").len()["len"]
    assert len(lengths) == 2000
    assert lengths.min() == 5
    assert 7 < lengths.mean() < 11  # type: ignore[operator]  # Beauty: 8.9
    assert events["item_id"].max() < 12_101  # type: ignore[operator]
    assert events.select("user_id", "position").is_unique().all()


def test_ratios_are_paired_and_their_median_is_told(benchmark: ModuleType) -> None:
    def run(speed: float, seconds: float, rss: float) -> dict[str, object]:
        figures = {"tokens_per_s": speed, "fit_seconds": seconds, "rss_mb": rss}
        return figures | {"ndcg10": 0.1, "ndcg10_validation": 0.2, "precision": "p", "allocator": "a"}

    ours = [run(60, 1, 100), run(100, 2, 100), run(80, 2, 300)]
    peer = [run(10, 8, 400), run(10, 8, 400), run(20, 8, 400)]
    results = {"ml1m": {"polyvec": ours, "rectools": peer, "polyvec_float32": [run(30, 1, 1)]}}
    setting = {"threads": 2}
    figures = benchmark.ratios(ours, peer, "tokens_per_s")
    assert figures == [6, 10, 4]
    benchmark.PACKAGES = ("polyvec",)
    summary = benchmark.summarise(results, setting)
    assert summary["ratio_ml1m"] == 6
    assert summary["ratio_ml1m_whole_fit"] == 4
    assert summary["ratio_ml1m_float32"] == 3
    assert summary["rss_ratio_ml1m"] == 0.25
    assert summary["tokens_per_s"]["ml1m"] == {"polyvec": 80, "rectools": 10, "polyvec_float32": 30}
    assert summary["threads"] == 2
