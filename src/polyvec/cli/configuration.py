"""From ``--config run.toml`` and ``--set key=value`` to configuration objects; every mistake is named."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from polyvec.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _typeshed import DataclassInstance

Changes = dict[str, dict[str, Any]]


def configure(
    defaults: Mapping[str, DataclassInstance],
    config_file: str | None,
    settings: Sequence[str],
    *,
    shows: bool = True,
) -> dict[str, Any]:
    """Apply a file's tables, then single settings, to default objects.

    Parameters
    ----------
    defaults
        Objects by the name of their table in the file (``guim``, ``training``).
    config_file
        A TOML file with one table per object. Its values must have the setting's own type.
    settings
        ``key=value`` texts; a key belongs to the object that has a field of this name.
    shows
        Whether the verb has ``--show-config``; an error names every setting otherwise.

    Raises
    ------
    UsageError
        Naming every unknown key and every bad value at once; or if the file cannot be read.
    """
    changes: Changes = {table: {} for table in defaults}
    problems = [] if config_file is None else _apply_file(config_file, defaults, changes)
    for setting in settings:
        problems += _apply_setting(setting, defaults, changes)
    configured = {}
    for table, default in defaults.items():
        try:
            configured[table] = type(default)(**(asdict(default) | changes[table]))
        except ValidationError as error:
            problems += [_describe(table, problem) for problem in error.errors()]
    if problems:
        every = [name for default in defaults.values() for name in _names(default)]
        told = "pass --show-config alone to see every setting" if shows else f"settings: {', '.join(every)}"
        raise UsageError("\n".join(problems), mend=told)
    return configured


def _apply_file(config_file: str, defaults: Mapping[str, DataclassInstance], changes: Changes) -> list[str]:
    problems = []
    for table, values in _read(config_file).items():
        if table not in defaults or not isinstance(values, dict):
            meant = nearest_name(f"[{table}]", [f"[{name}]" for name in defaults])
            problems.append(f"{config_file}: '{table}' is not a table of a configuration; {meant}")
            continue
        names = _names(defaults[table])
        problems += [_unknown(config_file, key, names) for key in values if key not in names]
        known = {key: value for key, value in values.items() if key in names}
        mistyped = _mistyped(table, defaults[table], known)
        problems += mistyped.values()
        changes[table] |= {key: value for key, value in known.items() if key not in mistyped}
    return problems


def _read(config_file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(config_file).read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{config_file} does not exist", file=config_file, expected="a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{config_file} is not TOML: {error}", file=config_file) from None


def _mistyped(table: str, default: DataclassInstance, values: dict[str, Any]) -> dict[str, str]:
    """Problem of every value that is not of its setting's own type: ``"8"`` and ``true`` are no integers."""
    text = json.dumps(asdict(default) | values, default=str)
    try:
        TypeAdapter(type(default)).validate_json(text, strict=True)
    except ValidationError as error:
        problems = [problem for problem in error.errors() if problem["loc"]]
        return {str(problem["loc"][0]): _describe(table, problem) for problem in problems}
    return {}


def _apply_setting(setting: str, defaults: Mapping[str, DataclassInstance], changes: Changes) -> list[str]:
    key, equals, text = setting.partition("=")
    if not equals:
        return [f"--set {setting} has no value; expected --set key=value"]
    for table, default in defaults.items():
        if key in _names(default):
            is_list = isinstance(getattr(default, key), tuple)
            changes[table][key] = _listed(text) if is_list else text
            return []
    return [_unknown("--set", key, [name for default in defaults.values() for name in _names(default)])]


def _listed(text: str) -> tuple[str, ...]:
    """Values with commas between them; none of an empty text."""
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def _unknown(place: str, key: str, known: Sequence[str]) -> str:
    return f"{place}: there is no setting '{key}'; {nearest_name(key, known)}"


def _names(default: DataclassInstance) -> list[str]:
    return [field.name for field in fields(default)]


def _describe(table: str, problem: Any) -> str:
    place = ".".join(str(part) for part in [table, *problem["loc"]])
    text = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {text}, got {problem['input']!r}" if problem["loc"] else f"{place}: {text}"
