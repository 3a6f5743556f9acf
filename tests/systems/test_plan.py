"""What was planned is what a run then takes: the model and the optimizer to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file

from polyvec.data.dataset import Dataset
from polyvec.systems import cel, guim, sasrec
from polyvec.systems.guim import GUIMConfig
from polyvec.systems.plan import Plan
from polyvec.training import checkpoint, loop
from polyvec.training.options import TrainingOptions
from polyvec.training.rehearsal import num_bytes


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes of what the latest checkpoint held, by file; counters of steps left out."""
    found: dict[str, int] = {}

    def save(folder: Path, *more: Any) -> None:
        checkpoint.save_checkpoint(folder, *more)
        for file in folder.glob("checkpoint-*/*.safetensors"):
            tensors = load_file(file).items()
            found[file.stem] = num_bytes(value for name, value in tensors if not name.endswith(".step"))

    monkeypatch.setattr(loop, "save_checkpoint", save)
    return found


def check(
    system: ModuleType, data: Dataset, out: Path, saved: dict[str, int], *asked: Any, **how: Any
) -> None:
    plan = system.plan(data, *asked, **how)
    model = system.fit(data, out, *asked, **how)
    if plan.model.total == plan.training.network:  # codes of int8 are no parameters
        assert plan.parameters == model.manifest.meta["parameters"]
    assert plan.model.total == num_bytes(load_file(out / "weights.safetensors").values())
    assert plan.model.total == model.manifest.meta["bytes"]
    assert plan.training.network == saved["network"]
    assert plan.training.optimizer == saved["optimizers"]
    assert plan.training.clusters == saved.get("hooks", 0)
    steps = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    assert plan.steps_per_epoch == steps[-1]["step"]
    assert plan.training.batch > 0


SHARED = [
    {},
    {"item_table": "int8"},
    {"item_table": "clustered", "item_rows": 9},
    {"item_table": "quotient_remainder", "item_rows": 12},
]


@pytest.mark.parametrize("changes", [*SHARED, {"negatives": "sampled"}, {"masked_weight": 0.0}])
def test_guim(
    shop: Dataset,
    tiny: Callable[..., GUIMConfig],
    short: Callable[..., TrainingOptions],
    checkpoints: dict[str, int],
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    check(guim, shop, tmp_path / "m", checkpoints, tiny(**changes), short())


@pytest.mark.parametrize("changes", SHARED)
def test_sasrec(
    shop: Dataset,
    short: Callable[..., TrainingOptions],
    checkpoints: dict[str, int],
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    config = sasrec.SASRecConfig(width=16, num_layers=1, num_heads=2, max_length=8, **changes)
    check(sasrec, shop, tmp_path / "m", checkpoints, config, short())


def test_without_options_a_system_is_trained_as_its_preset_says(shop: Dataset) -> None:
    def told(found: Plan) -> Plan:
        return replace(found, process=0)  # measured

    assert told(guim.plan(shop)) == told(guim.plan(shop, *guim.default()))
    assert told(guim.plan(shop)) != told(guim.plan(shop, guim.default()[0], TrainingOptions()))
    assert told(sasrec.plan(shop)) == told(sasrec.plan(shop, *sasrec.default()))


def test_the_model_that_is_kept_after_a_second_run_on_everything(
    make_shop: Callable[..., Dataset],
    short: Callable[..., TrainingOptions],
    checkpoints: dict[str, int],
    tmp_path: Path,
) -> None:
    rows = [(f"u{user}", f"i{user + step}", step) for user in range(20) for step in range(4)]
    data = Dataset.from_rows(rows, time_kind="order")  # i22 is seen by the second run alone
    config = sasrec.SASRecConfig(width=16, num_layers=1, num_heads=2, max_length=8)
    first = sasrec.plan(data, config, short())
    assert sasrec.plan(data, config, short(), refit=True).parameters == first.parameters + 16
    model = sasrec.fit(data, tmp_path / "m", config, short(), refit=True)
    assert model.meta["parameters"] == first.parameters + 16


@pytest.mark.parametrize("changes", [{}, {"interaction": "mlp", "user_table": "clustered"}])
def test_cel(
    short: Callable[..., TrainingOptions],
    checkpoints: dict[str, int],
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    events = [(f"u{n % 17}", f"i{n % 23}", n) for n in range(200)]
    data = Dataset.from_rows(events, time_kind="order")
    config = cel.CELConfig(width=8, target="click", nonnegative=False, steps_per_epoch=12, **changes)
    check(cel, data, tmp_path / "m", checkpoints, config, short(learning_rate=1e-4))


def test_a_budget_decides_the_model_that_is_written_and_its_manifest_and_card_tell(
    shop: Dataset, short: Callable[..., TrainingOptions], tmp_path: Path
) -> None:
    sizes = {"width": 16, "num_layers": 1, "num_heads": 2, "max_length": 8}
    full = sasrec.plan(shop, sasrec.SASRecConfig(**sizes), short()).model
    budget = full.total - full.item_table // 2
    model = sasrec.fit(shop, tmp_path / "m", sasrec.SASRecConfig(budget=budget, **sizes), short())
    assert model.config.item_table == "int8"
    assert num_bytes(load_file(tmp_path / "m" / "weights.safetensors").values()) <= budget
    assert model.meta["budget"] == budget
    assert f"(budget {budget:,})" in (tmp_path / "m" / "card.md").read_text()


def test_the_card_of_guim_tells_its_bytes_and_budget(
    shop: Dataset,
    tiny: Callable[..., GUIMConfig],
    short: Callable[..., TrainingOptions],
    tmp_path: Path,
) -> None:
    model = guim.fit(shop, tmp_path / "m", tiny(budget=10**6), short())
    assert model.config.item_table == "popular"
    assert f"{model.meta['bytes']:,} bytes" in (tmp_path / "m" / "card.md").read_text()
    assert "(budget 1,000,000)" in (tmp_path / "m" / "card.md").read_text()
