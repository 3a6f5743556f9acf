"""From ``--config run.toml`` and ``--set key=value`` to configuration objects; every mistake is named."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from polyvec.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _typeshed import DataclassInstance


def configure(
    defaults: Mapping[str, DataclassInstance], config_file: str | None, settings: Sequence[str]
) -> dict[str, Any]:
    """Apply a file's tables, then single settings, to default objects.

    Parameters
    ----------
    defaults
        Objects by the name of their table in the file (``guim``, ``training``).
    config_file
        A TOML file with one table per object.
    settings
        ``key=value`` texts; a key belongs to the object that has a field of this name.

    Raises
    ------
    UsageError
        Naming every unknown key and every bad value at once.
    """
    changes: dict[str, dict[str, Any]] = {table: {} for table in defaults}
    if config_file is not None:
        _read_file(config_file, defaults, changes)
    for setting in settings:
        _read_setting(setting, defaults, changes)
    return {table: _replace(table, default, changes[table]) for table, default in defaults.items()}


def _read_file(
    config_file: str, defaults: Mapping[str, DataclassInstance], changes: dict[str, dict[str, Any]]
) -> None:
    try:
        tables = tomllib.loads(Path(config_file).read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{config_file} does not exist", file=config_file, expected="a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{config_file} is not TOML: {error}", file=config_file) from None
    for table, values in tables.items():
        if table not in defaults or not isinstance(values, dict):
            raise UsageError(
                f"'{table}' is not a table of a configuration",
                file=config_file,
                expected=nearest_name(f"[{table}]", [f"[{name}]" for name in defaults]),
            )
        for key, value in values.items():
            _check_key(key, _names(defaults[table]), config_file)
            changes[table][key] = value


def _read_setting(
    setting: str, defaults: Mapping[str, DataclassInstance], changes: dict[str, dict[str, Any]]
) -> None:
    key, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(f"--set {setting} has no value", expected="--set key=value")
    owners = [table for table, default in defaults.items() if key in _names(default)]
    if not owners:
        _check_key(key, [name for default in defaults.values() for name in _names(default)], "--set")
    changes[owners[0]][key] = text


def _check_key(key: str, known: Sequence[str], place: str) -> None:
    if key not in known:
        raise UsageError(f"there is no setting '{key}'", file=place, expected=nearest_name(key, known))


def _names(default: DataclassInstance) -> list[str]:
    return [field.name for field in fields(default)]


def _replace(table: str, default: DataclassInstance, changes: dict[str, Any]) -> Any:
    try:
        return type(default)(**(asdict(default) | changes))
    except ValidationError as error:
        raise UsageError(
            "\n".join(_describe(problem) for problem in error.errors()),
            expected=f"settings of [{table}] as above",
        ) from None


def _describe(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    text = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {text}, got {problem['input']!r}" if place else text
