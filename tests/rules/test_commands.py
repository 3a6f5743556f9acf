"""The command line: every verb exists, explains itself with examples that work, and stands in the README."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from polyvec.cli.main import VERBS, module_of


def command_of(verb: str) -> click.Command:
    command = importlib.import_module(module_of(verb)).command
    assert isinstance(command, click.Command)
    return command


def examples(text: str) -> list[list[str]]:
    """Split every line that starts with ``polyvec VERB`` into words; a backslash continues a line."""
    joined = re.sub(r"\\\s*\n\s*", " ", text)
    lines = re.findall(r"^\s*(?:\$ )?(?:\S*/bin/)?(polyvec [a-z][^|>&;\n]*)", joined, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def code_blocks(page: str) -> str:
    """Return the fenced code of a Markdown page; its prose may begin a line with the product's name."""
    return "\n".join(re.findall(r"^```[^\n]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL))


def check_example(words: list[str]) -> None:
    """Fail if the verb or an option of an example does not exist."""
    assert words[1] in VERBS, f"{shlex.join(words)}: there is no verb {words[1]}"
    parameters = command_of(words[1]).params
    known = {name for each in parameters for name in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
    used = {word.split("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
    assert used <= known, f"{shlex.join(words)}: unknown {used - known}"


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_explains_itself_with_an_example_that_works(verb: str) -> None:
    command = command_of(verb)
    text = command.help or ""
    own = [words for words in examples(text) if words[1] == verb]
    assert own, f"polyvec {verb} --help has no example"
    for words in examples(text):
        check_example(words)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_explained(verb: str) -> None:
    for parameter in command_of(verb).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"polyvec {verb} {parameter.opts[0]} has no help"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_can_answer_programs_in_json(verb: str) -> None:
    assert any("--json" in parameter.opts for parameter in command_of(verb).params)


def test_every_module_of_a_verb_is_a_verb(repository: Path) -> None:
    modules = {file.stem for file in (repository / "src" / "polyvec" / "cli").glob("*.py")}
    commands = {
        name
        for name in modules - {"__init__", "main"}
        if hasattr(importlib.import_module(f"polyvec.cli.{name}"), "command")
    }
    assert {f"polyvec.cli.{name}" for name in commands} == {module_of(verb) for verb in VERBS}


@pytest.mark.parametrize("name", ["README.md", "docs", "CONTRIBUTING.md"])
def test_commands_in_the_documentation_exist(repository: Path, name: str) -> None:
    path = repository / name
    pages = sorted(path.rglob("*.md")) if path.is_dir() else [path]
    if not pages or not pages[0].exists():
        pytest.skip(f"there is no {name} yet")
    for page in pages:
        for words in examples(code_blocks(page.read_text("utf-8"))):
            check_example(words)


def test_every_verb_stands_in_the_readme(repository: Path) -> None:
    readme = repository / "README.md"
    if not readme.exists():
        pytest.skip("there is no README.md yet")
    text = readme.read_text("utf-8")
    missing = [verb for verb in VERBS if not re.search(rf"(polyvec |`){verb}\b", text)]
    assert not missing
