"""What several test files need: injected faults, real data if there is any, a small set of embeddings."""

from __future__ import annotations

import builtins
import errno
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from polyvec.cli.main import main
from polyvec.embeddings import Embeddings

hypothesis.settings.register_profile("polyvec", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("polyvec")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def run() -> Callable[..., int]:
    """Return a function that does what typing these arguments does, and returns the exit code."""

    def typed(*arguments: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        return int(caught.value.code or 0)

    return typed


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def load_script() -> Callable[[str, Path], ModuleType]:
    """Return a function that imports a file that is in no package, under a name."""

    def load(name: str, file: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of public data sets, where there is one; the test is skipped where there is none."""
    folder = Path(os.environ.get("POLYVEC_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data here: set POLYVEC_DATA to a folder of data sets")
    return folder


@pytest.fixture
def small_embeddings() -> Embeddings:
    """Five users of three vectors, seven items, width eight; text ids for users, integers for items."""
    random = np.random.default_rng(0)
    return Embeddings.from_arrays(
        ["007", "7", "ann", "Ωmega", ""],
        random.normal(size=(5, 3, 8)).astype(np.float32),
        [10, 2**40, -3, 4, 5, 6, 7],
        random.normal(size=(7, 8)).astype(np.float32),
        provenance={"system": "test"},
    )


# ------------------------------------------------------------------------------------------------------
# Faults. Every file operation below a folder is counted: opening (for reading, too), making, renaming and
# removing through the interpreter's audit events; fsync, Python's writes and native writers by replacing
# them. A chosen one then fails.


class Crash(BaseException):
    """The process dies here: no clean-up of the code under test has any effect any more."""


AUDITED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
NATIVE_WRITERS: list[tuple[Any, str]] = [
    (pl.DataFrame, "write_parquet"),
    (pl.DataFrame, "write_ipc"),
    (pl.DataFrame, "write_csv"),
    (pl.LazyFrame, "sink_parquet"),
    (pq, "write_table"),
    (pq.ParquetWriter, "write_table"),
]


class _Counter:
    """Counts the operations below ``folder``; that numbered ``fail_at`` fails and, if ``dead``, all later."""

    def __init__(self, folder: Path, fail_at: int | None = None, *, dead: bool = False) -> None:
        self.folder, self.fail_at, self.dead = str(folder), fail_at, dead
        self.names: list[str] = []

    def concerns(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        text = os.fsdecode(path)
        return not Path(text).is_absolute() or text.startswith(self.folder)

    def count(self, name: str) -> None:
        if self.next_fails(name):
            self.fail(name)

    def next_fails(self, name: str) -> bool:
        self.names.append(name)
        number = len(self.names)
        return number == self.fail_at or (self.dead and self.fail_at is not None and number > self.fail_at)

    def fail(self, name: str) -> None:
        if self.dead:
            raise Crash(name)
        raise OSError(errno.EIO, f"injected fault: {name}")


_counter: _Counter | None = None


def _on_audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _counter is not None and event in AUDITED and _counter.concerns(arguments[0]):
        _counter.count(f"{event} {os.fsdecode(arguments[0])}")


sys.addaudithook(_on_audit)  # cannot be taken away again, so it does nothing unless a counter is set


def _counted_write(stream: Any, counter: _Counter) -> Callable[[Any], int]:
    real = stream.write

    def write(data: Any) -> int:
        if not counter.next_fails("write"):
            return int(real(data))
        real(data[: len(data) // 2])  # a torn write
        stream.flush()
        counter.fail("write")
        raise AssertionError("unreachable")

    return write


def _counting_open(counter: _Counter, real: Callable[..., Any]) -> Callable[..., Any]:
    def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        stream = real(file, mode, *rest, **options)
        if set(mode) & set("wax+") and counter.concerns(file) and hasattr(stream, "write"):
            stream.write = _counted_write(stream, counter)
        return stream

    return opened


def _counting_native(counter: _Counter, real: Callable[..., Any], name: str) -> Callable[..., Any]:
    def native(*arguments: Any, **options: Any) -> Any:
        if not counter.next_fails(name):
            return real(*arguments, **options)
        with suppress(OSError, Crash):
            real(*arguments, **options)
        for path in [a for a in arguments if isinstance(a, str | Path)]:
            _truncate_to_half(Path(path))
        counter.fail(name)
        raise AssertionError("unreachable")

    return native


def _truncate_to_half(path: Path) -> None:
    global _counter
    counter, _counter = _counter, None
    if path.is_file():
        os.truncate(path, path.stat().st_size // 2)
    _counter = counter


@contextmanager
def _counting(counter: _Counter) -> Iterator[None]:
    global _counter
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        counter.count("fsync")
        real_fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(builtins, "open", _counting_open(counter, builtins.open))
        patch.setattr(io, "open", _counting_open(counter, io.open))
        for owner, name in NATIVE_WRITERS:
            patch.setattr(owner, name, _counting_native(counter, getattr(owner, name), name))
        _counter = counter
        try:
            yield
        finally:
            _counter = None


Faults = Callable[..., Iterator[tuple[Path, str]]]


@pytest.fixture
def fail_at_operation(tmp_path: Path) -> Faults:
    """Return a generator that runs ``write(folder)`` with a fault at its first, second, … file operation.

    ``setup(folder)``, if given, makes the state before. Operations are counted in a run without faults;
    then, for each of them, a fresh folder gets the set-up, and the writer is run twice: once the operation
    raises OSError and the writer may clean up, once the process "dies" there: a BaseException, after which
    every further operation fails, too. After each the folder and the fault's name are yielded, for the test
    to look at what is left and to try again::

        for folder, fault in fail_at_operation(write, setup):
            assert state(folder) in ("absent", "old", "new"), fault
            write(folder)

    Python's writes and native writers are torn in the middle.
    """

    def run(
        write: Callable[[Path], object], setup: Callable[[Path], object] | None = None
    ) -> Iterator[tuple[Path, str]]:
        total = len(_attempt(tmp_path / "dry", write, setup, None, dead=False))
        if total < 3:
            raise AssertionError(
                f"only {total} file operations were seen: the harness does not see the writer"
            )
        for dead in (False, True):
            for number in range(1, total + 1):
                folder = tmp_path / f"{'crash' if dead else 'error'}-{number}"
                names = _attempt(folder, write, setup, number, dead=dead)
                fault = names[number - 1] if len(names) >= number else "nothing"
                yield folder, f"{'crash' if dead else 'error'} at operation {number} of {total}: {fault}"

    return run


def _attempt(
    folder: Path,
    write: Callable[[Path], object],
    setup: Callable[[Path], object] | None,
    fail_at: int | None,
    *,
    dead: bool,
) -> list[str]:
    folder.mkdir()
    if setup is not None:
        setup(folder)
    counter = _Counter(folder, fail_at, dead=dead)
    with _counting(counter):
        if fail_at is None:
            write(folder)
        else:
            with suppress(OSError, Crash):
                write(folder)
    return counter.names
