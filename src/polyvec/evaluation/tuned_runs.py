"""Methods that are tuned alike: seed 0 chooses a setting on validation, and every seed is trained with it.

Every run is a line of a JSON Lines file: a study can be stopped and started again, and run in parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.evaluation.runs import add_run, read_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

Job = tuple[str, str, int, int]
"""Set, method, number of the setting, seed."""
Figures = dict[str, Any]
"""What a run found; ``validation`` chooses, more is better."""


class TunedRuns:
    """Runs that a file has.

    Parameters
    ----------
    file
        One run a line; it need not be there.
    settings_of
        How many settings a method is tried with on a set, and the method that is tried with them: itself, or
        another one whose choice it takes.

    Attributes
    ----------
    runs
        Figures of the runs that are there.
    """

    def __init__(self, file: Path, settings_of: Callable[[str, str], tuple[int, str]]) -> None:
        self.file, self.settings_of = file, settings_of
        self.runs: dict[Job, Figures] = _read(file)

    def add(self, job: Job, figures: Figures) -> None:
        """Add a run."""
        name, method, number, seed = job
        about = {"set": name, "method": method, "setting": number, "seed": seed}
        add_run(self.file, about | {"figures": figures})
        self.runs = _read(self.file)

    def best(self, name: str, method: str) -> int | None:
        """Number of the setting with the best validation by seed 0; None before all have been tried."""
        jobs = self._tries(name, method)
        if not all(job in self.runs for job in jobs):
            return None
        return int(np.argmax([self.runs[job]["validation"] for job in jobs]))

    def by_seed(self, name: str, method: str) -> tuple[int | None, dict[int, Figures]]:
        """The setting that was chosen, and the runs with it."""
        number = self.best(name, method)
        jobs = [job for job in sorted(self.runs) if job[:3] == (name, method, number)]
        return number, {job[3]: self.runs[job] for job in jobs}

    def train(self, both: Iterable[tuple[str, str]], seeds: int, run: Callable[[list[Job]], None]) -> None:
        """Run what is missing of sets and methods: all settings by seed 0, then the chosen ones by all."""
        both = list(dict.fromkeys(both))
        self._run([job for one in both for job in self._tries(*one)], run)
        chosen = {one: self.best(*one) for one in both}
        self._run(
            [
                (*one, number, seed)
                for seed in range(seeds)
                for one, number in chosen.items()
                if number is not None
            ],
            run,
        )

    def _tries(self, name: str, method: str) -> list[Job]:
        count, tried = self.settings_of(name, method)
        return [(name, tried, number, 0) for number in range(count)]

    def _run(self, jobs: list[Job], run: Callable[[list[Job]], None]) -> None:
        run([job for job in dict.fromkeys(jobs) if job not in self.runs])


def _read(file: Path) -> dict[Job, Figures]:
    lines = read_runs(file)
    return {(line["set"], line["method"], line["setting"], line["seed"]): line["figures"] for line in lines}
