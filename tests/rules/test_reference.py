"""The reference pages say what the code says: nothing is hidden, nothing is stale."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from polyvec.cli.configuration import configure
from polyvec.cli.run_options import SYSTEMS

SCRIPT = Path(__file__).parents[2] / "docs" / "make_reference.py"


@pytest.fixture(scope="module")
def reference(load_script: Callable[[str, Path], ModuleType]) -> ModuleType:
    return load_script("make_reference", SCRIPT)


def test_the_reference_pages_are_what_the_code_says_today(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SCRIPT, tmp_path], check=True, env={**os.environ, "COLUMNS": "80"})
    for name in ("cli.md", "settings.md"):
        committed = (SCRIPT.parent / name).read_text("utf-8")
        assert (tmp_path / name).read_text("utf-8") == committed, "run: python docs/make_reference.py"


def test_settings_explained_together_stand_in_one_row_and_none_may_be_missing(reference: ModuleType) -> None:
    @dataclass
    class Told:
        """Something.

        Attributes
        ----------
        a, b
            Two ``things`` of
            :class:`x.Y`, a | b.
        c
            One.
        """

        a: int = 1
        b: bool = True
        c: tuple[int, ...] = ()

    @dataclass
    class Untold(Told):
        d: float = 0.5

    assert list(reference.documented(Told)) == [
        (["a", "b"], "Two `things` of `x.Y`, a \\| b."),
        (["c"], "One."),
    ]
    Untold.__doc__ = Told.__doc__
    with pytest.raises(LookupError, match="Untold does not explain d"):
        list(reference.documented(Untold))


@pytest.mark.parametrize("system", SYSTEMS)
def test_values_are_written_as_set_takes_them(reference: ModuleType, system: str) -> None:
    for make in importlib.import_module(f"polyvec.systems.{system}").PRESETS.values():
        config, training = make()
        made = {system: config, "training": training}
        told = {
            field.name: getattr(one, field.name) for one in made.values() for field in dataclasses.fields(one)
        }
        settings = [f"{name}={reference.written(value)}" for name, value in told.items() if value is not None]
        assert configure(made, None, settings) == made


@pytest.mark.parametrize(
    ("value", "text"), [((), "*(empty)*"), ("", "*(empty)*"), (None, "*(none)*"), (0, "0")]
)
def test_what_would_not_be_seen_is_named(reference: ModuleType, value: object, text: str) -> None:
    assert reference._shown(value) == text
