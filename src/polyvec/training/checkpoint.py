"""Checkpoints: everything a run needs to go on bit for bit, without pickle.

A checkpoint is a folder ``checkpoint-STEP`` with ``network.safetensors``, ``optimizers.safetensors``, what
the loop's hooks remember in ``hooks.safetensors``, and the run's progress in its manifest. The new one is
whole before the old one goes.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from polyvec.artifact import link_or_copy, read_manifest, writing
from polyvec.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from polyvec.training.precision import Chosen

NETWORK = "network.safetensors"
OPTIMIZERS = "optimizers.safetensors"
BEST_OPTIMIZERS = "best_optimizers.safetensors"
HOOKS = "hooks.safetensors"


@dataclass
class Progress:
    """Where a run stands.

    Attributes
    ----------
    step
        Steps done.
    best
        Best validation so far; None before the first.
    best_epoch
        Epoch after which it was reached.
    stale
        Validations since then.
    finished
        Whether the run has ended.
    precision
        What it multiplies in, chosen at its start; a resumed run keeps to it. None before it was chosen.
    seconds
        Wall-clock time of the steps done and of their validations. What an interrupted run did after its
        latest checkpoint is done again, and counted once. Two runs that differ in it alone are equal.
    """

    step: int = 0
    best: float | None = None
    best_epoch: int = -1
    stale: int = 0
    finished: bool = False
    precision: Chosen | None = None
    seconds: float = field(default=0.0, compare=False)


class HasState(Protocol):
    """Something that remembers tensors: a module, or hooks of the training loop."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors by name."""

    def load_state_dict(self, state: dict[str, Any]) -> object:
        """Go on with them."""


def save_checkpoint(
    folder: Path,
    network: nn.Module,
    optimizers: list[Optimizer],
    progress: Progress,
    hooks: HasState | None = None,
) -> None:
    """Write the checkpoint of this step into ``folder``, then remove older ones."""
    path = folder / f"checkpoint-{progress.step:09d}"
    with writing(path, "checkpoint", meta=asdict(progress), overwrite=True) as stage:
        save_file(copies(network.state_dict()), stage / NETWORK)
        save_file(_flatten(optimizers), stage / OPTIMIZERS)
        if hooks is not None:
            save_file(copies(hooks.state_dict()), stage / HOOKS)
    for older in _checkpoints(folder):
        if older != path:
            shutil.rmtree(older)


def load_checkpoint(
    folder: Path, network: nn.Module, optimizers: list[Optimizer], hooks: HasState | None = None
) -> Progress:
    """Bring network and optimizers to the latest whole checkpoint in ``folder``; start afresh without one."""
    for path in reversed(_checkpoints(folder)):
        try:
            progress = Progress(**read_manifest(path, "checkpoint").meta)
        except ArtifactError:
            continue  # damaged: an older one may be whole
        network.load_state_dict(load_file(path / NETWORK))
        restore_optimizers(read_optimizers(path / OPTIMIZERS), optimizers)
        if hooks is not None:
            hooks.load_state_dict(load_file(path / HOOKS))
        return progress
    return Progress()


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, as safetensors wants them."""
    return {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"))


def _flatten(optimizers: list[Optimizer]) -> dict[str, Tensor]:
    flat = {}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                flat[f"{number}.{index}.{name}"] = (
                    torch.as_tensor(value, dtype=_counter_type(value)).cpu().contiguous()
                )
    return flat


def _counter_type(value: Any) -> torch.dtype | None:
    return torch.int64 if isinstance(value, int) else None


def read_optimizers(file: Path) -> list[dict[int, dict[str, Any]]]:
    """What optimizers remembered, of each by the number of the parameter."""
    states: dict[int, dict[int, dict[str, Any]]] = {}
    for key, tensor in load_file(file).items():
        number, index, name = key.split(".")
        is_counter = tensor.ndim == 0 and tensor.dtype == torch.int64
        state = states.setdefault(int(number), {}).setdefault(int(index), {})
        state[name] = int(tensor) if is_counter else tensor
    return [states.get(number, {}) for number in range(max(states, default=-1) + 1)]


def restore_optimizers(states: list[dict[int, dict[str, Any]]], optimizers: list[Optimizer]) -> None:
    """Let optimizers remember what :func:`read_optimizers` gave."""
    for number, optimizer in enumerate(optimizers):
        state = states[number] if number < len(states) else {}
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def mark_best(run: Path) -> None:
    """Remember what the optimizers of the latest checkpoint know: its weights are the best so far."""
    (run / BEST_OPTIMIZERS).unlink(missing_ok=True)
    link_or_copy(_checkpoints(run)[-1] / OPTIMIZERS, run / BEST_OPTIMIZERS)


def keep_optimizers(run: Path, stage: Path) -> None:
    """Copy what the optimizers of a run remember of the weights that are kept: the best, or the last."""
    best = [run / BEST_OPTIMIZERS] if (run / BEST_OPTIMIZERS).exists() else []
    for file in [*(path / OPTIMIZERS for path in _checkpoints(run)), *best][-1:]:
        shutil.copy(file, stage / OPTIMIZERS)
