"""What a run says while it trains: JSON lines, TensorBoard and a progress bar with the time left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter

if TYPE_CHECKING:
    from pathlib import Path

JOURNAL = "training.jsonl"
TENSORBOARD = "tensorboard"


class Journal:
    """Records of one run.

    Parameters
    ----------
    folder
        Where ``training.jsonl`` and ``tensorboard/`` go.
    total_steps
        Steps of the whole run, for the progress bar.
    step
        Steps already done: later records of an interrupted run are taken back.
    name
        What the progress bar calls the run.
    """

    def __init__(self, folder: Path, total_steps: int, step: int, name: str = "training") -> None:
        self._file = folder / JOURNAL
        self._keep_until(step)
        self._board = SummaryWriter(str(folder / TENSORBOARD), purge_step=step)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(name, total=total_steps, completed=step, figures="")
        self._bar.start()

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self, step: int) -> None:
        """Move the progress bar."""
        self._bar.update(self._task, completed=step)

    def record(self, event: str, step: int, figures: dict[str, Any]) -> None:
        """Write one record everywhere; figures are numbers, lists of numbers or dictionaries of numbers."""
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": event, "step": step, **figures}) + "\n")
        for name, value in _scalars(figures):
            self._board.add_scalar(f"{event}/{name}", value, step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in _scalars(figures) if name in _SHOWN)
        self._bar.update(self._task, figures=shown)

    def close(self) -> None:
        """Flush and close everything."""
        self._bar.stop()
        self._board.close()

    def _keep_until(self, step: int) -> None:
        if self._file.exists():
            lines = self._file.read_text("utf-8").splitlines()
            kept = [line for line in lines if _is_record_until(line, step)]
            shorter = self._file.with_suffix(".kept")
            shorter.write_text("".join(line + "\n" for line in kept), "utf-8")
            shorter.replace(self._file)


_SHOWN = {"loss", "tokens_per_s", "validation"}


def _is_record_until(line: str, step: int) -> bool:
    try:
        return int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError):  # a line cut off by an interruption
        return False


def _scalars(figures: dict[str, Any]) -> list[tuple[str, float]]:
    scalars = []
    for name, value in figures.items():
        if isinstance(value, int | float):
            scalars.append((name, float(value)))
        elif isinstance(value, list):
            scalars += [(f"{name}/{index}", float(entry)) for index, entry in enumerate(value)]
    return scalars
