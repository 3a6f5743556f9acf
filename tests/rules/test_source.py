"""What the source of the package may not contain, and what it must."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "torch.save"}
NOT_INSTALLED = {*sys.stdlib_module_names, "_typeshed", "polyvec"}
Sources = dict[str, ast.Module]


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the top-level names of all modules that are imported absolutely."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield public classes, functions and methods; what is defined inside a function is not public."""
    todo: list[ast.stmt] = list(tree.body)
    for node in todo:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_"):
                continue
            yield node
        if isinstance(node, ast.ClassDef):
            todo.extend(node.body)


def test_nothing_is_read_or_written_as_code(sources: Sources) -> None:
    for name, tree in sources.items():
        assert not UNSAFE_MODULES & set(imported(tree)), name
        for function, call in calls(tree):
            assert function not in UNSAFE_CALLS, f"{name}:{call.lineno} calls {function}"
            for keyword in call.keywords:
                unsafe = keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
                assert not unsafe, f"{name}:{call.lineno} allows pickles"


def test_only_the_command_line_prints(sources: Sources) -> None:
    for name, tree in sources.items():
        printing = [call.lineno for function, call in calls(tree) if function == "print"]
        assert not printing or name.startswith("cli/"), f"{name} prints in lines {printing}"


def test_checks_do_not_vanish_under_optimisation(sources: Sources) -> None:
    for name, tree in sources.items():
        asserts = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        assert not asserts, f"{name} has assert in lines {asserts}"


def test_no_error_is_swallowed_unnamed(sources: Sources) -> None:
    for name, tree in sources.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = "everything" if node.type is None else ast.unparse(node.type)
                assert caught not in ("everything", "Exception"), f"{name}:{node.lineno} catches {caught}"


def test_every_public_name_is_documented(sources: Sources) -> None:
    for name, tree in sources.items():
        assert ast.get_docstring(tree), f"{name} has no docstring"
        for node in public(tree):
            assert ast.get_docstring(node), f"{name}:{node.lineno} {node.name} has no docstring"


def test_whatever_is_imported_is_a_declared_dependency(sources: Sources, repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    entries = project["dependencies"] + extras["als"] + extras["word2vec"]  # what a method imports
    declared = {normal(re.split(r"[\[><=~! ;]", entry)[0]) for entry in entries}
    distributions = packages_distributions()
    for name, tree in sources.items():
        for module in set(imported(tree)) - NOT_INSTALLED:
            provided_by = {normal(distribution) for distribution in distributions.get(module, [module])}
            assert provided_by & declared, f"{name} imports {module}, which is not declared"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_no_work_is_left_behind_in_comments(repository: Path, word: str) -> None:
    for file in sorted((repository / "src").rglob("*.py")):
        assert not re.search(rf"\b{word}\b", file.read_text("utf-8")), file
