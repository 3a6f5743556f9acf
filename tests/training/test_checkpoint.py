from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from polyvec.training.checkpoint import (
    Progress,
    keep_optimizers,
    load_checkpoint,
    mark_best,
    save_checkpoint,
)
from polyvec.training.loop import Trainer
from polyvec.training.optimizers import make_optimizers

Faults = Callable[..., Iterator[tuple[Path, str]]]
Made = tuple[Trainer, list[Optimizer]]


def steps(made: Made, number: int, first: int = 0) -> None:
    trainer, optimizers = made
    batches = list(trainer.plan.epoch(0))
    for step in range(first, first + number):
        trainer._step(batches[step], step, optimizers)


def state(made: Made) -> dict[str, Tensor]:
    trainer, optimizers = made
    moments = {
        f"{number}.{index}.{name}": torch.as_tensor(value)
        for number, optimizer in enumerate(optimizers)
        for index, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }
    return {**trainer.network.state_dict(), **moments}


@pytest.fixture
def make(make_trainer: Callable[..., Trainer]) -> Callable[[], Made]:
    def fresh() -> Made:
        trainer = make_trainer()
        return trainer, make_optimizers(trainer.network, trainer.options)

    return fresh


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same(one: Made, other: Made) -> bool:
    return equal(state(one), state(other))


def test_a_checkpoint_brings_back_weights_moments_and_progress_bit_for_bit(
    tmp_path: Path, make: Callable[[], Made]
) -> None:
    trained = make()
    steps(trained, 3)
    progress = Progress(step=3, best=0.1 + 0.2, best_epoch=0, stale=2, finished=False, seconds=1.5)
    save_checkpoint(tmp_path, trained[0].network, trained[1], progress)
    restored = make()
    loaded = load_checkpoint(tmp_path, restored[0].network, restored[1])
    assert loaded == progress
    assert loaded.seconds == 1.5
    assert same(trained, restored)
    steps(trained, 3, first=3)
    steps(restored, 3, first=3)
    assert same(trained, restored)


def test_before_the_first_step_there_is_no_moment_to_save(tmp_path: Path, make: Callable[[], Made]) -> None:
    trained, restored = make(), make()
    save_checkpoint(tmp_path, trained[0].network, trained[1], Progress())
    assert load_checkpoint(tmp_path, restored[0].network, restored[1]) == Progress()
    assert same(trained, restored)


def test_without_a_checkpoint_a_run_starts_afresh(tmp_path: Path, make: Callable[[], Made]) -> None:
    made, twin = make(), make()
    assert load_checkpoint(tmp_path, made[0].network, made[1]) == Progress()
    assert same(made, twin)


def test_only_the_newest_checkpoint_stays(tmp_path: Path, make: Callable[[], Made]) -> None:
    made = make()
    for step in (9, 10, 1000):
        save_checkpoint(tmp_path, made[0].network, made[1], Progress(step=step))
        assert [path.name for path in tmp_path.glob("*check*")] == [f"checkpoint-{step:09d}"]


def test_an_update_goes_on_with_what_the_optimizer_knew_of_the_best_weights(
    tmp_path: Path, make: Callable[[], Made]
) -> None:
    made, run, kept = make(), tmp_path / "a", tmp_path / "b"
    run.mkdir()
    kept.mkdir()
    save_checkpoint(run, made[0].network, made[1], Progress(step=1))
    mark_best(run)
    best = (run / "checkpoint-000000001" / "optimizers.safetensors").read_bytes()
    steps(made, 2)
    save_checkpoint(run, made[0].network, made[1], Progress(step=3))
    keep_optimizers(run, kept)
    assert (kept / "optimizers.safetensors").read_bytes() == best
    mark_best(run)
    keep_optimizers(run, kept)
    assert (kept / "optimizers.safetensors").read_bytes() != best


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
@pytest.mark.parametrize("file", ["network.safetensors", "optimizers.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_for_an_older_whole_one(
    tmp_path: Path, make: Callable[[], Made], file: str, damage: str
) -> None:
    made = make()
    save_checkpoint(tmp_path, made[0].network, made[1], Progress(step=1))
    expected = {name: tensor.clone() for name, tensor in state(made).items()}
    (tmp_path / "checkpoint-000000001").rename(tmp_path / "kept")
    steps(made, 1)
    save_checkpoint(tmp_path, made[0].network, made[1], Progress(step=2))
    (tmp_path / "kept").rename(tmp_path / "checkpoint-000000001")
    path = tmp_path / "checkpoint-000000002" / file
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-3])
    if damage == "remove":
        path.unlink()
    restored = make()
    assert load_checkpoint(tmp_path, restored[0].network, restored[1]).step == 1
    assert equal(state(restored), expected)


def test_after_the_first_there_is_always_a_whole_checkpoint(
    fail_at_operation: Faults, make: Callable[[], Made]
) -> None:
    made = make()

    def save(folder: Path, step: int) -> None:
        save_checkpoint(folder, made[0].network, made[1], Progress(step=step))

    for folder, fault in fail_at_operation(lambda folder: save(folder, 2), lambda folder: save(folder, 1)):
        restored = make()
        progress = load_checkpoint(folder, restored[0].network, restored[1])
        assert progress.step in (1, 2), fault
        assert same(made, restored), fault
        save(folder, 3)
        assert load_checkpoint(folder, restored[0].network, restored[1]).step == 3, fault
        assert [p.name for p in folder.glob("checkpoint-*")] == ["checkpoint-000000003"], fault
