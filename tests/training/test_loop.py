from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polyvec.errors import TrainingError, UsageError
from polyvec.layers.tables import PopularTable
from polyvec.training.checkpoint import Progress, save_checkpoint
from polyvec.training.journal import JOURNAL
from polyvec.training.loop import Meter, Trainer, as_numbers, choose_device, told_size
from polyvec.training.options import TrainingOptions

Make = Callable[..., Trainer]
STEPS = 21  # three epochs of seven
OPTIONS = {"epochs": 3, "checkpoint_every": 2, "learning_rate": 0.1, "precision": "float32"}


class Killed(BaseException):
    """The process dies here."""


def options(**changes: Any) -> TrainingOptions:
    return TrainingOptions(**(OPTIONS | changes))


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def records(trainer: Trainer, event: str) -> list[dict[str, Any]]:
    lines = (trainer.workspace / JOURNAL).read_text("utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


def falling() -> Callable[[], float]:
    """Validations 3, 2, 1 …: the first is the best."""
    values = iter(range(3, -100, -1))
    return lambda: float(next(values))


def acting_at(trainer: Trainer, step: int, action: Callable[[], object]) -> Trainer:
    """Do something in the middle of a step, counted from 1."""
    real, calls = trainer.loss_of, [0]

    def loss_of(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        calls[0] += 1
        if calls[0] == step:
            action()
        return real(batch)

    trainer.loss_of = loss_of
    return trainer


def die() -> None:
    raise Killed


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of checkpoints; that they are flushed is tested with the artefacts."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


# --- learning


def test_the_loss_falls_and_progress_is_told(make_trainer: Make) -> None:
    trainer = make_trainer(options=options(epochs=10))
    progress = trainer.run()
    assert progress == Progress(step=70, finished=True, precision="float32")
    losses = [record["loss"] for record in records(trainer, "epoch")]
    assert len(losses) == 10
    assert losses[-1] < losses[0] / 2


def test_a_run_says_first_how_large_its_network_is(
    make_trainer: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    network = nn.Sequential(PopularTable(9, 4), nn.Linear(4, 2))
    assert told_size(network) == "50 weights in 200 bytes, 160 of them in embedding tables"
    trainer = make_trainer(options=options(epochs=1))
    trainer.run()
    assert told_size(trainer.network) in capfd.readouterr().err


def test_a_run_is_a_pure_function_of_its_options(make_trainer: Make) -> None:
    runs = [make_trainer(name) for name in ("one", "two")]
    runs[0].run()
    torch.rand(17)
    runs[1].run()
    assert equal(weights(runs[0]), weights(runs[1]))
    other = make_trainer("three", options=options(seed=1))
    other.run()
    assert not equal(weights(runs[0]), weights(other))


def test_every_epoch_reports_means_speed_memory_and_waiting(make_trainer: Make) -> None:
    trainer = make_trainer(validate=falling())
    trainer.run()
    first, *_ = records(trainer, "epoch")
    assert (first["epoch"], first["step"], first["validation"]) == (0, 7, 3)
    assert first["wins"] == [0.25, 0.75]
    assert first["tokens_per_s"] > 0
    assert 0 <= first["data_wait"] <= 1
    assert first["peak_rss_mb"] > 10
    assert {"loss", "gradient_norm", "seconds"} <= first.keys()


def test_the_loss_of_every_twentieth_step_is_recorded(make_trainer: Make) -> None:
    trainer = make_trainer(options=options(epochs=6))
    trainer.run()
    assert [(record["step"], record["epoch"]) for record in records(trainer, "step")] == [(20, 2), (40, 5)]


def test_the_learning_rate_follows_the_schedule(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, rates = make_trainer(options=options(warmup=0.2, final_rate=0.0)), []
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: rates.append([group["lr"] for group in self.param_groups])
    )
    trainer.run()
    assert len(rates) == STEPS
    assert all(len(set(groups)) == 1 for groups in rates)
    peak = max(rates)
    assert rates[0][0] < peak[0]
    assert peak[0] == pytest.approx(0.1, rel=0.1)
    assert all(a > b for a, b in pairwise(rates[rates.index(peak) :]))


# --- validation


def test_without_validation_the_last_weights_are_kept(make_trainer: Make) -> None:
    trainer, seen = make_trainer(), []
    real = trainer.loss_of
    trainer.loss_of = lambda batch: (seen.append(weights(trainer)), real(batch))[1]
    progress = trainer.run()
    assert (progress.best, progress.best_epoch) == (None, -1)
    assert not equal(seen[-1], weights(trainer))


@pytest.mark.parametrize("best_epoch", [0, 1, 2])
def test_the_weights_of_the_best_epoch_are_kept(make_trainer: Make, best_epoch: int) -> None:
    values = iter([float(epoch == best_epoch) for epoch in range(3)])
    seen: list[dict[str, Tensor]] = []
    trainer = make_trainer()

    def validate() -> float:
        assert not trainer.network.training
        seen.append(weights(trainer))
        return next(values)

    trainer.validate = validate
    progress = trainer.run()
    assert (progress.best, progress.best_epoch) == (1.0, best_epoch)
    assert equal(weights(trainer), seen[best_epoch])


@pytest.mark.parametrize(("patience", "epochs"), [(0, 9), (1, 2), (3, 4)])
def test_training_stops_after_so_many_validations_without_improvement(
    make_trainer: Make, patience: int, epochs: int
) -> None:
    trainer = make_trainer(validate=falling(), options=options(epochs=9, patience=patience))
    progress = trainer.run()
    assert progress.step == 7 * epochs
    assert progress.stale == epochs - 1
    assert progress.best_epoch == 0


def test_a_validation_that_is_no_number_stops_the_run(make_trainer: Make) -> None:
    with pytest.raises(TrainingError, match="no number after epoch 1"):
        make_trainer(validate=lambda: float("nan")).run()


def test_of_several_figures_each_is_recorded_and_the_mean_of_those_that_are_numbers_counts(
    make_trainer: Make,
) -> None:
    values = iter([{"a": 1.0, "b": 3.0}, {"a": float("nan"), "b": 4.0}, {"a": 0.0, "b": 1.0}])
    trainer = make_trainer(validate=lambda: next(values))
    progress = trainer.run()
    assert (progress.best, progress.best_epoch) == (4.0, 1)
    first, *_ = records(trainer, "epoch")
    assert (first["validation"], first["validated"]) == (2.0, {"a": 1.0, "b": 3.0})


def test_an_improvement_starts_the_patience_anew(make_trainer: Make) -> None:
    values = iter([1, 0, 2, 1, 1, 5.0])
    trainer = make_trainer(validate=lambda: next(values), options=options(epochs=9, patience=2))
    assert trainer.run().step == 7 * 5


def test_validations_may_be_rarer_than_epochs_but_the_last_is_never_left_out(make_trainer: Make) -> None:
    trainer = make_trainer(validate=falling(), options=options(epochs=5, validate_every=2, patience=0))
    trainer.run()
    validated = [record["epoch"] for record in records(trainer, "epoch") if "validation" in record]
    assert validated == [1, 3, 4]


# --- what goes wrong


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_with_step_and_likely_cause(
    make_trainer: Make, broken: float
) -> None:
    trainer = make_trainer()
    real, calls = trainer.loss_of, iter(range(100))
    trainer.loss_of = lambda batch: (real(batch)[0] * (broken if next(calls) == 8 else 1), {})
    with pytest.raises(TrainingError) as caught:
        trainer.run()
    assert caught.value.what == "the loss is not finite at step 9: the gradients exploded in it"
    assert str(caught.value.mend).startswith("lower learning_rate (it was 0.0")
    assert all(tensor.isfinite().all() for tensor in weights(trainer).values())


def test_weights_that_broke_earlier_are_named(make_trainer: Make) -> None:
    trainer = make_trainer()
    acting_at(trainer, 4, lambda: trainer.network.linear.bias.data.fill_(torch.nan))
    with pytest.raises(TrainingError, match=r"at step 4: the weights linear\.bias were not finite before it"):
        trainer.run()


# --- kill and resume


@pytest.fixture(scope="module")
def uninterrupted(trainer_in: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    trainer = trainer_in(folder, validate=falling(), options=options(patience=0))
    trainer.run()
    return weights(trainer)


@pytest.mark.parametrize("step", [1, 2, 7, 8, 13, 14, 15, 20, 21])
@pytest.mark.parametrize("checkpoint_every", [2, 7])
def test_killed_in_any_step_and_resumed_a_run_ends_with_the_same_bits(
    make_trainer: Make, uninterrupted: dict[str, Tensor], step: int, checkpoint_every: int
) -> None:
    changed = {"options": options(checkpoint_every=checkpoint_every, patience=0)}
    with pytest.raises(Killed):
        acting_at(make_trainer(validate=falling(), **changed), step, die).run()
    validations_done = (step - 1) // 7
    rest = iter([3.0, 2.0, 1.0][validations_done:])
    resumed = make_trainer(validate=lambda: next(rest), **changed)
    progress = resumed.run()
    assert (progress.step, progress.best, progress.best_epoch) == (STEPS, 3.0, 0)
    assert [record["validation"] for record in records(resumed, "epoch")] == [3, 2, 1]
    assert [record["step"] for record in records(resumed, "step")] == [20]
    assert equal(weights(resumed), uninterrupted)


def test_a_resumed_run_keeps_the_precision_that_it_began_with(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter(["bfloat16", "float32"])
    monkeypatch.setattr("polyvec.training.loop.choose_precision", lambda wanted, device: next(found))
    changed = {"options": options(precision="auto", patience=0)}
    with pytest.raises(Killed):
        acting_at(make_trainer(**changed), 8, die).run()
    assert make_trainer(**changed).run().precision == "bfloat16"
    assert next(found) == "float32", "it was not asked again"


@pytest.mark.parametrize("moment", ["validation", "saving"])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_killed_between_the_last_step_of_an_epoch_and_its_checkpoint_it_validates_again(
    make_trainer: Make,
    uninterrupted: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
    moment: str,
) -> None:
    """With a checkpoint due at that very step, too: an epoch's end is never passed over."""
    changed = {"options": options(checkpoint_every=7, patience=0)}
    values = falling()

    def validate() -> float:
        value = values()
        if value == 3 - epoch:
            if moment == "validation":
                raise Killed
            monkeypatch.setattr("polyvec.training.loop.save_checkpoint", lambda *_: die())
        return value

    with pytest.raises(Killed):
        make_trainer(validate=validate, **changed).run()
    monkeypatch.setattr("polyvec.training.loop.save_checkpoint", save_checkpoint)
    rest = iter([3.0, 2.0, 1.0][epoch:])
    resumed = make_trainer(validate=lambda: next(rest), **changed)
    progress = resumed.run()
    assert (progress.step, progress.best, progress.best_epoch) == (STEPS, 3.0, 0)
    assert [record["validation"] for record in records(resumed, "epoch")] == [3, 2, 1]
    assert equal(weights(resumed), uninterrupted)


def test_the_time_of_an_interrupted_run_is_added_to_that_of_the_rest(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that ticks whenever it is asked: every step takes some."""
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr("polyvec.training.loop.time", clock)
    whole = make_trainer("whole").run().seconds
    with pytest.raises(KeyboardInterrupt):
        acting_at(make_trainer("parts"), 10, interrupt).run()
    ticks = itertools.count(10**6)  # between the two nothing is counted
    parts = make_trainer("parts").run().seconds
    assert whole > 3 * STEPS
    assert parts == pytest.approx(whole, abs=5)
    assert make_trainer("parts").run().seconds == parts  # it has ended: there is nothing to add


@pytest.mark.parametrize("step", [1, 6, 7, 8, 20, 21])
def test_an_interrupt_leaves_a_checkpoint_of_the_step_it_came_in(
    make_trainer: Make, uninterrupted: dict[str, Tensor], step: int
) -> None:
    changed = {"options": options(checkpoint_every=100, patience=0)}
    values = falling()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        acting_at(make_trainer(validate=values, **changed), step, interrupt).run()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    resumed = make_trainer(validate=values, **changed)
    (checkpoint,) = resumed.workspace.glob("checkpoint-*")
    assert checkpoint.name == f"checkpoint-{step:09d}"
    steps_again: list[int] = []
    acting_at(resumed, STEPS - step + 1, lambda: steps_again.append(1))
    progress = resumed.run()
    assert steps_again == []
    assert (progress.step, progress.best, progress.best_epoch) == (STEPS, 3.0, 0)
    assert equal(weights(resumed), uninterrupted)


def test_a_termination_is_an_interrupt(make_trainer: Make) -> None:
    trainer = acting_at(make_trainer(), 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert [path.name for path in trainer.workspace.glob("check*")] == ["checkpoint-000000003"]


def test_a_run_beside_the_main_thread_leaves_signals_alone(make_trainer: Make) -> None:
    trainer, results = make_trainer(), []
    thread = threading.Thread(target=lambda: results.append(trainer.run()))
    thread.start()
    thread.join()
    assert results[0].finished


def test_a_finished_run_that_is_resumed_trains_no_more(make_trainer: Make) -> None:
    make_trainer(validate=falling()).run()
    again = acting_at(make_trainer(validate=die), 1, die)
    first = weights(again)
    progress = again.run()
    assert progress.finished
    assert not equal(first, weights(again))


def test_early_stopping_is_remembered(make_trainer: Make) -> None:
    """Interrupted in its third epoch with one of two chances used, it has one left."""
    values = falling()
    changed = {"validate": values, "options": options(epochs=9, patience=2)}
    with pytest.raises(KeyboardInterrupt):
        acting_at(make_trainer(**changed), 16, interrupt).run()
    assert make_trainer(**changed).run().step == 21


# --- small parts


def test_the_meter_counts_tokens_time_and_means() -> None:
    meter = Meter()

    def slow() -> Iterator[int]:
        yield from range(2)

    assert list(meter.waiting(slow())) == [0, 1]
    meter.add(10, {"loss": torch.tensor(1.0), "wins": torch.tensor([0.0, 1.0])})
    meter.add(20, {"loss": torch.tensor(4.0), "wins": torch.tensor([1.0, 1.0])})
    summary = meter.summary()
    assert summary["loss"] == 2.5
    assert summary["wins"] == [0.5, 1]
    assert summary["tokens_per_s"] > 0
    assert 0 <= summary["data_wait"] <= 1


def test_a_device_is_taken_by_name_or_found() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    missing = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(UsageError, match=f"device={missing}: torch .* finds none here"):
        choose_device(missing)


def test_figures_become_numbers_and_lists() -> None:
    figures = {"a": torch.tensor(1.5), "b": torch.tensor([1, 2])}
    assert as_numbers(figures) == {"a": 1.5, "b": [1, 2]}


def test_nothing_but_what_a_resumed_run_needs_is_left_behind(make_trainer: Make) -> None:
    trainer = make_trainer(validate=falling())
    trainer.run()
    names = sorted(path.name for path in Path(trainer.workspace).iterdir())
    best = ["best.safetensors", "best_optimizers.safetensors"]
    assert names == [*best, "checkpoint-000000021", "tensorboard", "training.jsonl"]


# --- hooks and optimizers of a system


class Recorder:
    """Notes what is called when, and doubles the gradients."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.calls: list[tuple[str, Any]] = []

    def begin(self, step: int) -> None:
        self.before = weights(self.trainer)
        self.calls.append(("begin", step))

    def before_update(self, batch: Any) -> None:
        assert equal(self.before, weights(self.trainer))
        self.calls.append(("before", len(batch.slots_M)))

    def after_update(self, step: int) -> None:
        assert not equal(self.before, weights(self.trainer))
        self.calls.append(("after", step))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def test_hooks_are_called_around_the_update_of_every_step(make_trainer: Make) -> None:
    trainer = make_trainer(options=options(epochs=1))
    recorder = trainer.hooks = Recorder(trainer)
    trainer.run()
    assert [name for name, _ in recorder.calls] == ["begin", "before", "after"] * 7
    assert [step for name, step in recorder.calls if name == "begin"] == list(range(7))


def test_optimizers_of_a_system_keep_their_own_rates_relative_to_each_other(make_trainer: Make) -> None:
    trainer = make_trainer(options=options(epochs=1, warmup=0.5, final_rate=0.0))
    table, *others = trainer.network.parameters()
    optimizers = [torch.optim.SGD([table], lr=1.0), torch.optim.SGD(others, lr=0.25)]
    trainer.optimizers = list(optimizers)
    trainer.run()
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    assert 0 < rates[0] < 1
    assert rates[1] == pytest.approx(rates[0] / 4)
