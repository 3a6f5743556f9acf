"""When clusters split and reassign: pure functions of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """Whether something is due."""

    def __call__(self, step: int) -> bool:
        """Whether it is due at a step, counted from 0."""
        ...


@dataclass(frozen=True)
class Every:
    """At 0 and every ``interval`` steps after it."""

    interval: int

    def __call__(self, step: int) -> bool:
        """Whether it is due."""
        return step % self.interval == 0


@dataclass(frozen=True)
class AfterEvery:
    """At the end of every ``interval`` steps."""

    interval: int

    def __call__(self, step: int) -> bool:
        """Whether it is due."""
        return (step + 1) % self.interval == 0


@dataclass(frozen=True)
class AfterPrimes:
    """At the end of the 1st, 2nd, 3rd, 5th, 7th, 11th … ``interval`` steps, as in the authors' code.

    Assignments settle; looking again becomes rarer.
    """

    interval: int

    def __call__(self, step: int) -> bool:
        """Whether it is due."""
        number, rest = divmod(step + 1, self.interval)
        return rest == 0 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


@dataclass(frozen=True)
class AfterGrowing:
    """At the end of ``first`` steps, of ``factor`` times as many, and so on: O(log steps) times in all."""

    first: int
    factor: float

    def __call__(self, step: int) -> bool:
        """Whether it is due."""
        due = float(self.first)
        while round(due) < step + 1:
            due *= self.factor
        return round(due) == step + 1
