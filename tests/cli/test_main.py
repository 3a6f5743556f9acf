from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

import click
import pytest

from polyvec.cli import main as main_module
from polyvec.cli.main import VERBS, cli, main
from polyvec.errors import ArtifactError, DataError, PolyvecError, TrainingError, UsageError

HEAVY = [
    "torch",
    "polars",
    "numpy",
    "pyarrow",
    "pandas",
    "sklearn",
    "faiss",
    "matplotlib",
    "tensorboard",
    "rich",
]


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


@pytest.fixture
def verb_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return a function that makes the verb ``verify`` do something else."""

    def replace(action: Callable[[], object]) -> None:
        @click.command()
        def command() -> object:
            return action()

        module = type("module", (), {"command": command})
        monkeypatch.setattr(main_module.importlib, "import_module", lambda name: module)

    return replace


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def action() -> NoReturn:
        raise error

    return action


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_verb_in_the_order_of_the_straight_path(
    capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert run([flag]) == 0
    text = capsys.readouterr().out
    places = [text.index(f"  {verb} ") for verb in VERBS]
    assert places == sorted(places)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from polyvec.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n"
        f"    print([m for m in {HEAVY} if m in sys.modules], end.code, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "prepare" in done.stdout
    assert done.stderr.strip() == "[] 0"


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "polyvec", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("polyvec, version ")


def test_without_a_verb_the_help_is_shown_and_the_exit_code_is_of_wrong_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([]) == 2
    assert "polyvec prepare" in capsys.readouterr().err


def test_an_unknown_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verfy", "x"]) == UsageError.exit_code
    assert capsys.readouterr().err == "error: there is no verb 'verfy'\n  expected: did you mean 'verify'?\n"


def test_an_unknown_option_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--colour"]) == 2
    assert "No such option" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [PolyvecError, UsageError, DataError, ArtifactError, TrainingError])
def test_an_error_becomes_its_exit_code_and_its_text_on_stderr(
    capsys: pytest.CaptureFixture[str],
    verb_that: Callable[[Callable[[], object]], None],
    kind: type[PolyvecError],
) -> None:
    verb_that(raising(kind("no items", mend="add some")))
    assert run(["verify"]) == kind.exit_code
    captured = capsys.readouterr()
    assert captured.err == "error: no items\n  mend: add some\n"
    assert captured.out == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_ends_with_130(
    capsys: pytest.CaptureFixture[str],
    verb_that: Callable[[Callable[[], object]], None],
    error: BaseException,
) -> None:
    verb_that(raising(error))
    assert run(["verify"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_an_interrupt_of_a_verb_that_can_be_resumed_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", stopped)
    assert run(["fit", "guim", "a.dataset", "--out", "a.model"]) == 130
    assert "the same command with --resume goes on" in capsys.readouterr().err


def test_a_full_disk_is_an_error_and_no_traceback(
    capsys: pytest.CaptureFixture[str], verb_that: Callable[[Callable[[], object]], None]
) -> None:
    verb_that(raising(OSError(28, "No space left on device", "/mnt/shop")))
    assert run(["verify"]) == 1
    assert capsys.readouterr().err == "error: No space left on device\n  where: /mnt/shop\n"


def test_an_error_of_ours_is_not_hidden(verb_that: Callable[[Callable[[], object]], None]) -> None:
    verb_that(raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        main(["verify"])


def test_a_number_that_a_verb_returns_is_its_exit_code(
    verb_that: Callable[[Callable[[], object]], None],
) -> None:
    verb_that(lambda: 7)
    assert run(["verify"]) == 7
    verb_that(lambda: "text")
    assert run(["verify"]) == 0


def test_a_reader_that_has_gone_ends_the_command_silently() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "polyvec", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
