"""The front door: what ``import polyvec`` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import polyvec


def test_public_names_are_listed_once_and_without_underscores() -> None:  # ruff keeps them sorted
    assert len(polyvec.__all__) == len(set(polyvec.__all__)) > 0
    assert not [name for name in polyvec.__all__ if name.startswith("_") and name != "__version__"]


def test_every_public_name_can_be_imported_and_explains_itself() -> None:
    for name in polyvec.__all__:
        value = getattr(polyvec, name)
        if callable(value):
            assert value.__doc__, f"polyvec.{name} has no docstring"


def test_public_names_are_listed_by_dir() -> None:
    assert set(polyvec.__all__) <= set(dir(polyvec))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        polyvec.no_such_name  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ["torch", "polars", "numpy", "pyarrow", "sklearn", "faiss", "matplotlib", "pydantic"]
    code = f"import sys, polyvec; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
