"""The source of the package as the rules see it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sources(repository: Path) -> dict[str, ast.Module]:
    """Return the parsed source of every module, by its path below ``src/polyvec``."""
    package = repository / "src" / "polyvec"
    return {
        file.relative_to(package).as_posix(): ast.parse(file.read_text("utf-8"))
        for file in sorted(package.rglob("*.py"))
    }
