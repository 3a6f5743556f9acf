"""The one visible training loop.

A step is a pure function of the weights, the optimizer's state and (seed, step): the order of samples, masks
and dropout follow from them. A run that was killed and resumed ends with the same bits, on the same machine
with as many threads.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from polyvec.errors import TrainingError, UsageError
from polyvec.layers.tables import tensors_in_tables
from polyvec.training.checkpoint import (
    HasState,
    Progress,
    copies,
    load_checkpoint,
    mark_best,
    save_checkpoint,
)
from polyvec.training.journal import Journal
from polyvec.training.optimizers import clip_gradients, learning_rate_factor, make_optimizers
from polyvec.training.precision import autocast, choose_precision
from polyvec.training.rehearsal import num_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from polyvec.training.options import TrainingOptions
    from polyvec.training.precision import Chosen

BEST = "best.safetensors"
RECORD_EVERY = 20  # steps between records of the loss
SEED_STRIDE = 1_000_003  # keeps the seeds of neighbouring runs apart


class HasTokens(Protocol):
    """A batch."""

    @property
    def num_tokens(self) -> int:
        """Events that were computed on, padding not counted."""


class Plan(Protocol):
    """Batches whose order is a pure function of (seed, epoch)."""

    def __len__(self) -> int:
        """Batches per epoch."""

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Any]:
        """Batches of an epoch from number ``skip`` on."""

    def widest(self) -> Any:
        """A batch that takes as much room as any of the first epoch."""


class Hooks(HasState, Protocol):
    """What a system does between the parts of a step."""

    def begin(self, step: int) -> None:
        """Called first."""

    def before_update(self, batch: Any) -> None:
        """Called when the gradients are there, before they are clipped."""

    def after_update(self, step: int) -> None:
        """Called when the weights have changed."""


@dataclass
class Trainer:
    """One run.

    Attributes
    ----------
    network
        What is trained, in place.
    loss_of
        Loss and figures to report of a batch.
    plan
        The batches.
    validate
        Returns a figure to maximise, or several by name, whose mean is maximised and each of which is
        recorded; None trains all epochs and keeps the last weights.
    options
        Learning rate, epochs, seed …
    workspace
        Folder for checkpoints, the journal and the best weights; whatever a resumed run needs lies there.
    stop_after
        Epochs to train of those that the learning rate is planned for; 0 trains all.
    name
        What the progress bar calls the run.
    optimizers
        Whose learning rates are peaks; None stands for those of
        :func:`polyvec.training.optimizers.make_optimizers`.
    hooks
        What happens between the parts of a step, if anything does.
    """

    network: nn.Module
    loss_of: Callable[[Any], tuple[Tensor, dict[str, Tensor]]]
    plan: Plan
    validate: Callable[[], float | dict[str, float]] | None
    options: TrainingOptions
    workspace: Path
    stop_after: int = 0
    name: str = "training"
    optimizers: list[Optimizer] | None = None
    hooks: Hooks | None = None
    _begun: float = field(default=0.0, init=False, repr=False)
    _precision: Chosen | None = field(default=None, init=False, repr=False)

    def run(self) -> Progress:
        """Train to the end, from the latest checkpoint in the workspace if there is one.

        Returns
        -------
        Progress
            Steps done, the time they took and the best validation. The network holds the best weights.

        Raises
        ------
        TrainingError
            If the loss or the gradients are not finite.
        KeyboardInterrupt
            After an interrupt or a termination signal, once a checkpoint is written.
        """
        optimizers = self.optimizers or make_optimizers(self.network, self.options)
        progress = load_checkpoint(self.workspace, self.network, optimizers, self.hooks)
        self._begun = time.perf_counter() - progress.seconds
        progress.precision = self._precision = progress.precision or self._choose_precision()
        journal = Journal(self.workspace, self._epochs * len(self.plan), progress.step, self.name)
        journal.say(f"{self.name}: {told_size(self.network)}, {self._precision}")
        try:
            with _interruptions() as interrupted:
                while not progress.finished:
                    self._epoch(progress, optimizers, journal, interrupted)
        finally:
            journal.close()
        if (self.workspace / BEST).exists():
            self.network.load_state_dict(load_file(self.workspace / BEST))
        return progress

    @property
    def _epochs(self) -> int:
        return self.stop_after or self.options.epochs

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _choose_precision(self) -> Chosen:
        return choose_precision(self.options.precision, self._device)

    def _epoch(
        self, progress: Progress, optimizers: list[Optimizer], journal: Journal, interrupted: threading.Event
    ) -> None:
        epoch, skip = divmod(progress.step, len(self.plan))
        meter = Meter()
        for batch in meter.waiting(self.plan.epoch(epoch, skip)):
            figures = self._step(batch, progress.step, optimizers)
            progress.step += 1
            meter.add(batch.num_tokens, figures)
            journal.advance(progress.step)
            if progress.step % RECORD_EVERY == 0:
                journal.record("step", progress.step, {"epoch": epoch, **as_numbers(figures)})
            if progress.step % len(self.plan) == 0:
                self._end_epoch(epoch, progress, journal, meter)
            progress.seconds = time.perf_counter() - self._begun
            self._keep(progress, optimizers, interrupted)

    def _keep(self, progress: Progress, optimizers: list[Optimizer], interrupted: threading.Event) -> None:
        """Save a checkpoint where one is due: never between an epoch's last step and its validation."""
        ends_epoch = progress.step % len(self.plan) == 0
        is_due = progress.step % self.options.checkpoint_every == 0
        if ends_epoch or is_due or interrupted.is_set():
            save_checkpoint(self.workspace, self.network, optimizers, progress, self.hooks)
        if ends_epoch and progress.step == (progress.best_epoch + 1) * len(self.plan):
            mark_best(self.workspace)
        if interrupted.is_set():
            raise KeyboardInterrupt

    def make_gradients(self, batch: HasTokens, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """First half of a step: loss of a batch and figures to report; the gradients are in the network."""
        torch.manual_seed(self.options.seed * SEED_STRIDE + step)
        self.network.train()
        if self.hooks:
            self.hooks.begin(step)
        with autocast(self._precision or self._choose_precision(), self._device):
            loss, figures = self.loss_of(batch)
        loss.backward()
        if self.hooks:
            self.hooks.before_update(batch)
        return loss, figures

    def _step(self, batch: HasTokens, step: int, optimizers: list[Optimizer]) -> dict[str, Tensor]:
        factor = learning_rate_factor(step, self.options.epochs * len(self.plan), self.options)
        loss, figures = self.make_gradients(batch, step)
        norm = clip_gradients(self.network, self.options.clip)
        if not (loss.isfinite() and norm.isfinite()):
            raise self._not_finite(step, factor)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.hooks:
            self.hooks.after_update(step)
        return figures | {"loss": loss.detach(), "gradient_norm": norm}

    def _end_epoch(self, epoch: int, progress: Progress, journal: Journal, meter: Meter) -> None:
        figures = {"epoch": epoch, **meter.summary()}
        is_last = epoch + 1 == self._epochs
        if self.validate is not None and ((epoch + 1) % self.options.validate_every == 0 or is_last):
            self.network.eval()
            found = self.validate()
            if isinstance(found, dict):
                figures["validated"] = found
            value = mean_of_numbers(found.values()) if isinstance(found, dict) else found
            if math.isnan(value):
                raise TrainingError(
                    f"validation gave no number after epoch {epoch + 1}",
                    expected="something to tell right from wrong by: samples with different answers",
                    mend="validate on more, or pass --validation none",
                )
            figures["validation"] = value
            progress.stale += 1
            if progress.best is None or value > progress.best:
                progress.best, progress.best_epoch, progress.stale = value, epoch, 0
                save_file(copies(self.network.state_dict()), self.workspace / BEST)
        progress.finished = is_last or 0 < self.options.patience <= progress.stale
        journal.record("epoch", progress.step, figures)

    def _not_finite(self, step: int, factor: float) -> TrainingError:
        broken = [name for name, p in self.network.named_parameters() if not torch.isfinite(p).all()]
        cause = (
            f"the weights {broken[0]} were not finite before it" if broken else "the gradients exploded in it"
        )
        return TrainingError(
            f"the loss is not finite at step {step + 1}: {cause}",
            expected="a finite loss and finite gradients",
            mend=f"lower learning_rate (it was {self.options.learning_rate * factor:.2g}), "
            "raise warmup, lower clip, or train in float32",
        )


def mean_of_numbers(values: Iterable[float]) -> float:
    """Mean of what is a number; NaN if nothing is.

    Examples
    --------
    >>> mean_of_numbers([1.0, float("nan"), 2.0])
    1.5
    """
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


class Meter:
    """Sums over an epoch: figures, tokens and the time spent waiting for batches."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._waited = 0.0
        self._tokens = 0
        self._steps = 0
        self._sums: dict[str, Tensor] = {}

    def waiting(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Pass batches on and count the time it took to get them."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def add(self, tokens: int, figures: dict[str, Tensor]) -> None:
        """Count one step."""
        self._tokens += tokens
        self._steps += 1
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value

    def summary(self) -> dict[str, Any]:
        """Means over the steps, tokens per second, and the share of time spent waiting for data."""
        seconds = time.perf_counter() - self._start
        means = as_numbers({name: total / max(self._steps, 1) for name, total in self._sums.items()})
        speed = {"tokens_per_s": round(self._tokens / seconds), "data_wait": round(self._waited / seconds, 4)}
        return {**means, **speed, "seconds": round(seconds, 3), "peak_rss_mb": peak_rss() // 2**20}


def told_size(network: nn.Module) -> str:
    """Say how large a network is."""
    weights = sum(weight.numel() for weight in network.parameters())
    total, in_tables = num_bytes(network.state_dict().values()), num_bytes(tensors_in_tables(network))
    return f"{weights:,} weights in {total:,} bytes, {in_tables:,} of them in embedding tables"


def choose_device(name: str) -> torch.device:
    """Device of a name; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    UsageError
        If this machine, or this build of torch, has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(one for one, is_there in there.items() if is_there)
    if not there[name]:
        raise UsageError(
            f"device={name}: torch {torch.__version__} finds none here",
            expected=", ".join(one for one, is_there in there.items() if is_there),
            mend="--set device=auto takes what there is; for a GPU install torch's build for it",
        )
    return torch.device(name)


def as_numbers(figures: dict[str, Tensor]) -> dict[str, Any]:
    """Tensors to numbers and lists of numbers."""
    return {name: value.tolist() for name, value in figures.items()}


def peak_rss() -> int:
    """Most bytes of memory that this process has had so far."""
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """Turn Ctrl-C and termination into a flag that is looked at between steps."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda *_: flag.set()) for number in signals]
    try:
        yield flag
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)
