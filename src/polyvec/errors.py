"""One error shape for people: what is wrong, where, what was expected, how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PolyvecError(Exception):
    """An error that a person can act on; the command line prints it without a traceback.

    Parameters
    ----------
    what
        What is wrong, naming the offending value.
    file, column, row
        Where. ``row`` counts data rows from 1; a CSV header is not counted.
    expected
        The rule that was broken.
    mend
        What to do about it.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        file: object = None,
        column: str | None = None,
        row: int | None = None,
        expected: str | None = None,
        mend: str | None = None,
    ) -> None:
        self.what = what
        self.file = None if file is None else str(file)
        self.column = column
        self.row = row
        self.expected = expected
        self.mend = mend
        super().__init__(what)

    def __str__(self) -> str:
        places = [
            self.file,
            f"column {self.column}" if self.column is not None else None,
            f"row {self.row}" if self.row is not None else None,
        ]
        where = ", ".join(place for place in places if place)
        lines = [self.what]
        lines += [f"  {label}: {text}" for label, text in self._details(where) if text]
        return "\n".join(lines)

    def _details(self, where: str) -> list[tuple[str, str | None]]:
        return [("where", where), ("expected", self.expected), ("mend", self.mend)]


class UsageError(PolyvecError):
    """A command, option or configuration that cannot be used as given."""

    exit_code = 2


class DataError(PolyvecError):
    """An event log, catalogue or profile table that breaks a rule."""

    exit_code = 3


class ArtifactError(PolyvecError):
    """A folder of polyvec's that is missing, damaged, of another kind or in the way."""

    exit_code = 4


class TrainingError(PolyvecError):
    """A training run that cannot go on."""

    exit_code = 5


def nearest_name(name: str, names: Iterable[str]) -> str:
    """Say which known name was probably meant: ``"did you mean 'price'?"`` or the list of names.

    >>> nearest_name("pirce", ["price", "title"])
    "did you mean 'price'?"
    >>> nearest_name("x", ["price", "title"])
    'known: price, title'
    """
    known = list(names)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else "known: " + ", ".join(known)
