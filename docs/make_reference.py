"""Make the pages that the code tells: cli.md, of ``--help`` of every verb, and settings.md, of all settings.

python docs/make_reference.py
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from polyvec.cli.main import VERBS, cli
from polyvec.cli.run_options import STREAM, SYSTEMS
from polyvec.evaluation.markdown import table
from polyvec.systems.cel import LiteConfig
from polyvec.systems.dupn.config import Task
from polyvec.training.options import TrainingOptions

WIDE: dict[str, Any] = {"terminal_width": 100, "max_content_width": 100}
MADE = "Made by `python docs/make_reference.py`."
CLI = f"""# The command line

What `polyvec VERB --help` says, verb by verb, in the order of the straight path. {MADE}
"""
SETTINGS = f"""# Settings

What `polyvec fit SYSTEM --set KEY=VALUE` takes, and the tables `[SYSTEM]` and `[training]` of a file given
with `--config`. `polyvec fit SYSTEM … --show-config` prints what a run would have. Values are those of the
`default` preset; other presets (`--preset`) are named where they differ. {MADE}
"""


def cli_page() -> str:
    """Text of cli.md."""
    context = click.Context(cli, info_name="polyvec", **cli.context_settings | WIDE)
    contents = "\n".join(f"- [{verb}](#polyvec-{verb}): {says}" for verb, says in VERBS.items())
    return "\n".join([CLI, contents, *(_verb(context, verb) for verb in VERBS)]) + "\n"


def _verb(above: click.Context, verb: str) -> str:
    command = cli.get_command(above, verb)
    if command is None:
        raise LookupError(verb)
    context = click.Context(command, above, verb, **WIDE)
    return f"\n## polyvec {verb}\n\n```text\n{command.get_help(context)}\n```"


def settings_page() -> str:
    """Text of settings.md."""
    presets = {
        name: {preset: make() for preset, make in import_module(f"polyvec.systems.{name}").PRESETS.items()}
        for name in SYSTEMS
    }
    sections = [f"## {name}\n\n{_settings(made)}" for name, made in presets.items()]
    others = [
        f"## training\n\n{_training(presets)}",
        f"## {STREAM}\n\n{_one(LiteConfig())}",
        f"## dupn.tasks.NAME\n\nIn a file alone; `kind` has no default.\n\n{_one(Task(kind='next'))}",
    ]
    return SETTINGS + "\n" + "\n\n".join(sections + others) + "\n"


def _one(config: Any) -> str:
    """Settings that have no presets."""
    rows = [
        [_named(names), _values({"default": config}, names), text] for names, text in documented(type(config))
    ]
    return _left(table(["setting", "value", "what it is"], rows))


def _settings(made: dict[str, tuple[Any, TrainingOptions]]) -> str:
    """Settings of a system."""
    configs = {preset: config for preset, (config, _) in made.items()}
    rows = [
        [_named(names), _values(configs, names), text] for names, text in documented(type(configs["default"]))
    ]
    return _left(table(["setting", "value", "what it is"], rows))


def _training(presets: dict[str, dict[str, tuple[Any, TrainingOptions]]]) -> str:
    """Settings of the run, as every system presets them."""
    rows = []
    for names, text in documented(TrainingOptions):
        of_systems = [
            _values({preset: options for preset, (_, options) in made.items()}, names)
            for made in presets.values()
        ]
        rows.append([_named(names), *of_systems, text])
    return _left(table(["setting", *presets, "what it is"], rows))


def _named(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _values(configs: dict[str, Any], names: list[str]) -> str:
    """Values of the default preset, and those of the others where they differ."""
    told = {preset: [_shown(getattr(config, name)) for name in names] for preset, config in configs.items()}
    others = [
        f"{preset}: {', '.join(values)}" for preset, values in told.items() if values != told["default"]
    ]
    return "; ".join([", ".join(told["default"]), *others])


def _left(text: str) -> str:
    """A table with all columns to the left: they hold words."""
    return text.replace("--:|", "---|")


def documented(config: type) -> Iterator[tuple[list[str], str]]:
    """Settings of a configuration in the order of its docstring, those explained together in one group.

    Raises
    ------
    LookupError
        If the docstring leaves one out.
    """
    told = inspect.getdoc(config).split("Attributes\n----------\n")[1]  # type: ignore[union-attr]
    found = re.findall(r"^(\w[\w, ]*)\n((?:    .*\n?|\n)+)", told, re.MULTILINE)
    groups = [(names.split(", "), _plain(text)) for names, text in found]
    missing = {field.name for field in fields(config)} - {name for names, _ in groups for name in names}
    if missing:
        raise LookupError(f"{config.__name__} does not explain {', '.join(sorted(missing))}")
    yield from groups


def _plain(text: str) -> str:
    """A docstring's paragraph as Markdown in one line."""
    text = re.sub(r":\w+:`([^`]*)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`").replace("|", "\\|")


def written(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(written, value)) if isinstance(value, list | tuple) else str(value)


def _shown(value: Any) -> str:
    """A value in a table, where nothing would be seen of an empty one."""
    return "*(none)*" if value is None or value == {} else written(value) or "*(empty)*"


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    (folder / "cli.md").write_text(cli_page(), "utf-8")
    (folder / "settings.md").write_text(settings_page(), "utf-8")
