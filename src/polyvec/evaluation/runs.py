"""Several runs of one method: one for each seed that it was trained with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from filelock import FileLock
from scipy.stats import t

from polyvec.artifact import write_whole
from polyvec.evaluation.metrics import LEVEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

Run = TypeVar("Run")


def runs_of(one: Run | Sequence[Run]) -> Sequence[Run]:
    """Runs of a method, given as a list or tuple; anything else is one run by itself."""
    return one if isinstance(one, list | tuple) else (one,)


def means_of_runs(values_S: Sequence[float] | npt.NDArray[np.float64], runs: int) -> list[float]:
    """Mean of the values of every run, where R runs take turns: value s is of run s mod R.

    Fewer values than runs leave the last runs out.
    """
    return [float(np.mean(values_S[run::runs])) for run in range(min(runs, len(values_S)))]


def spread(per_run: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the mean over runs, by Student's t; None for a single run."""
    if len(per_run) < 2:
        return None
    quantile = t.ppf((1 + LEVEL) / 2, len(per_run) - 1)
    return float(quantile * np.std(per_run, ddof=1) / np.sqrt(len(per_run)))


def over_runs(per_run: Sequence[float], digits: int = 5) -> dict[str, Any]:
    """``mean``, ``half_width`` of its 95 % interval (not for a single run), and ``values``, rounded."""
    found: dict[str, Any] = {"mean": round(float(np.mean(per_run)), digits)}
    half_width = spread(per_run)
    if half_width is not None:
        found["half_width"] = round(half_width, digits)
    return found | {"values": [round(float(value), digits) for value in per_run]}


def verdict(by_run: Sequence[bool]) -> str:
    """Whether a claim holds: ``yes`` in every run, ``no`` in none, else ``undecided``."""
    if all(by_run):
        return "yes"
    return "undecided" if any(by_run) else "no"


def side_of_zero(difference: Mapping[str, Any]) -> str:
    """``yes`` or ``no`` where the interval of a difference lies above or below 0, else ``undecided``.

    Examples
    --------
    >>> side_of_zero({"mean": 0.2, "half_width": 0.1}), side_of_zero({"mean": 0.2})
    ('yes', 'undecided')
    """
    return lies_within(difference, least=0)


def lies_within(found: Mapping[str, Any], least: float = -np.inf, most: float = np.inf) -> str:
    """``yes`` where the interval of a figure lies between two limits, ``no`` where it lies outside.

    ``undecided`` where it holds a limit, or where there is none: a single run has no interval.

    Examples
    --------
    >>> gained = {"mean": 0.2, "half_width": 0.1}
    >>> lies_within(gained, least=0.05), lies_within(gained, least=0.15), lies_within(gained, most=0.05)
    ('yes', 'undecided', 'no')
    """
    half_width = found.get("half_width", np.inf)
    low, high = found["mean"] - half_width, found["mean"] + half_width
    if least < low and high < most:
        return "yes"
    return "no" if high < least or most < low else "undecided"


def by_seed(seeds: Sequence[int], figure: Mapping[str, Any]) -> dict[int, float]:
    """The ``values`` of :func:`over_runs` by the seeds that they are of."""
    return dict(zip(seeds, figure["values"], strict=True))


def paired_by_seed(ours: Mapping[int, float], theirs: Mapping[int, float], digits: int = 5) -> dict[str, Any]:
    """:func:`over_runs` of the differences ``ours − theirs`` of the seeds that both have; one at least."""
    return over_runs([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())], digits)


def side_by_side(
    work: Callable[..., Run], jobs: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[tuple[tuple[Any, ...], Run]]:
    """Call ``work(*job)`` for every job, several at once, each in a process; yield jobs and what they found.

    They come in the order in which they end, and are told on stderr. If one fails, those that wait are not
    begun, those at work still end and are yielded, and then its exception is raised: nothing found is lost.
    """
    waiting = iter(jobs)
    failures: list[BaseException] = []
    running: dict[Future[Run], tuple[Any, ...]] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        ended = 0
        while True:
            if not failures:
                for job in islice(waiting, workers - len(running)):
                    running[pool.submit(work, *job)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, failure = running.pop(future), future.exception()
                about = ", ".join(map(str, job))
                ended += 1
                if failure is not None:
                    failures.append(failure)
                    sys.stderr.write(f"{about}: failed; finished runs are kept\n")
                    continue
                yield job, future.result()
                sys.stderr.write(f"{ended} of {len(jobs)}: {about}\n")
    if failures:
        raise failures[0]


def run_study(
    command: str,
    out: Path | None,
    train: Callable[[Path, Path], None],
    collect: Callable[[Path], Mapping[str, Any]],
    name: str = "results.json",
) -> dict[str, Any]:
    """Train what a study lacks, and write figures of all that it has, of one that is stopped, too.

    Parameters
    ----------
    command
        What makes the results.
    out
        Folder of the study; None keeps nothing.
    train
        Called with that folder, and with one for the moment.
    collect
        Figures of the runs in the folder.
    name
        File of the figures.
    """
    with TemporaryDirectory() as scratch:
        out = out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        try:
            train(out, Path(scratch))
        finally:
            results = {"command": command, **collect(out)}
            write_run(out / name, results)
    return results


def read_runs(file: Path) -> list[dict[str, Any]]:
    """Lines of a JSON Lines file; none of one that is not there, nor one that was cut off."""
    whole = file.read_text("utf-8").split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in whole]


def add_run(file: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a JSON Lines file, in place of one that was cut off: numbers with five digits.

    Several processes may add to one file.
    """
    with FileLock(file.with_name(f"{file.name}.lock")):
        if file.exists():
            os.truncate(file, file.read_bytes().rfind(b"\n") + 1)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(_rounded(line), ensure_ascii=False) + "\n")


def _rounded(figures: Any) -> Any:
    """The same with five digits after the point; what is no number becomes null."""
    if isinstance(figures, Mapping):
        return {key: _rounded(value) for key, value in figures.items()}
    if isinstance(figures, list):
        return [_rounded(value) for value in figures]
    if isinstance(figures, float | np.floating):
        return round(float(figures), 5) if np.isfinite(figures) else None
    return figures


def write_run(file: Path, figures: dict[str, Any]) -> None:
    """Write figures as JSON, whole or not at all: a study that was stopped knows what is done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=1, default=float, ensure_ascii=False) + "\n"
    write_whole(file, lambda unfinished: unfinished.write_text(text, "utf-8"))
