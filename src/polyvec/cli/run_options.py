"""Options that ``fit`` and ``plan`` share: which system is to be trained on what, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from polyvec.data.dataset import Dataset

SYSTEMS = ("guim", "dupn", "sasrec", "cel", "pgtl", "saml")
STREAM = "cel-lite"  # learns in one pass: most of these options are none of its
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
LIMITS = ("user_clusters", "item_clusters")  # that a budget keeps to: more than were named are never chosen
CHOSEN_BY_BUDGET = ("user_table", "user_clusters", "item_table", "item_clusters", "item_rows")


class Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic from click 8.4 on
    """A number of bytes: ``200MB``, ``1.5GB``, ``64MiB``, ``50_000_000``."""

    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a number and its unit; at least 1 byte."""
        found = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)\s*([a-zA-Z]*)", str(value).strip())
        unit = UNITS.get(found[2].upper()) if found else None
        size = int(float(found[1].replace("_", "")) * unit) if found and unit else 0
        if size < 1:
            self.fail(f"'{value}' is not a number of bytes such as 200MB, 1.5GB or 50_000_000", param, ctx)
        return size


OPTIONS = [
    click.option(
        "--preset",
        type=click.Choice(["default", "paper", "deep"]),
        default="default",
        show_default=True,
        help="Our best recipe, the paper's, or (cel) a deep interest network.",
    ),
    click.option("--until", help="Read nothing at or after this date, e.g. 2011-10-01."),
    click.option(
        "--held-back",
        type=click.IntRange(min=0),
        default=0,
        help="Ordered data: leave out the last events of every user.",
    ),
    click.option(
        "--validation",
        type=click.Choice(["users", "window", "none"]),
        help="Choose the best epoch on held-out users (guim), on the latest window of all users, or train "
        "all epochs.  [guim: users; others: window]",
    ),
    click.option(
        "--refit",
        is_flag=True,
        help="Then train again on everything, for the epochs that validation found best.",
    ),
    click.option("--config", "config_file", help="TOML file with tables [SYSTEM] and [training]."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="One setting; repeatable. Lists: KEY=A,B.",
    ),
    click.option(
        "--budget",
        type=Bytes(),
        help="Bytes that the model may be kept in, e.g. 200MB; tables are chosen to fit "
        "(guim, sasrec, cel), or a larger model refused (saml).",
    ),
]


class RunOptions(TypedDict):
    """The shared options, as click hands them over."""

    preset: str
    until: str | None
    held_back: int
    validation: str | None
    refit: bool
    config_file: str | None
    settings: tuple[str, ...]
    budget: int | None


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the shared options."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Run:
    """A run as it was asked for.

    Attributes
    ----------
    system
        Package of the system: its ``fit``, ``plan`` and, where tables can be chosen, ``settled``.
    validation
        How the best epoch is chosen.
    configured
        Configurations by the name of their table: the system's, and ``training``.
    """

    system: ModuleType
    validation: str
    configured: dict[str, Any]

    @property
    def config(self) -> Any:
        """The system's own configuration."""
        return next(iter(self.configured.values()))

    @property
    def chooses_tables(self) -> bool:
        """Whether a budget chooses tables; of other systems it only refuses what is too large."""
        return hasattr(self.system, "settled")

    def moment(self, dataset: Dataset, options: RunOptions) -> dict[str, Any]:
        """What part of a Dataset is learned from, as keyword arguments of ``fit`` and ``plan``."""
        from polyvec.data.dataset import parse_time

        return {
            "until": None if options["until"] is None else parse_time(options["until"], dataset),
            "held_back": options["held_back"],
            "validation": self.validation,
            "refit": options["refit"],
        }


def resolve(name: str, options: RunOptions) -> Run:
    """Resolve presets, files and settings.

    Raises
    ------
    UsageError
        If the system has no such preset, validation or setting.
    """
    from polyvec.cli.configuration import configure
    from polyvec.errors import UsageError

    system, validations = _system(name)
    if options["preset"] not in system.PRESETS:
        raise UsageError(f"{name} has no preset '{options['preset']}'", expected=", ".join(system.PRESETS))
    validation = options["validation"] or validations[0]
    if validation not in validations:
        raise UsageError(f"{name} has no validation '{validation}'", expected=", ".join(validations))
    config, training = system.PRESETS[options["preset"]]()
    configured = configure({name: config, "training": training}, options["config_file"], options["settings"])
    run = Run(system, validation, configured)
    if options["budget"] is not None:
        configured[name] = _with_budget(name, run, config, options)
    return run


def told_choice(config: Any) -> str:
    """Say which tables a budget has led to."""
    chosen = {key: getattr(config, key, None) for key in CHOSEN_BY_BUDGET}
    if chosen["user_table"] == "full":
        del chosen["user_clusters"]
    told = ", ".join(f"{key}={value}" for key, value in chosen.items() if value)
    return f"a budget of {config.budget:,} bytes: {told}"


def _with_budget(name: str, run: Run, preset: Any, options: RunOptions) -> Any:
    """Set the budget; refuse it beside what it chooses."""
    from polyvec.errors import UsageError

    config = run.config
    if not hasattr(config, "budget"):
        raise UsageError(
            f"{name} has no budget",
            expected="guim, sasrec, cel or saml",
            mend="set the rows of its tables: --show-config",
        )
    named = {setting.partition("=")[0] for setting in options["settings"]}
    for key in CHOSEN_BY_BUDGET if run.chooses_tables else ():
        if key in LIMITS:
            continue
        if key in named or getattr(config, key, None) != getattr(preset, key, None):
            raise UsageError(f"--budget chooses {key}", mend=f"leave out --budget, or the setting {key}")
    return replace(config, budget=options["budget"])


def _system(name: str) -> tuple[ModuleType, tuple[str, ...]]:
    """Package of a system, and its validations, the default first."""
    if name == "guim":
        from polyvec.systems import guim

        return guim, ("users", "window", "none")
    if name == "sasrec":
        from polyvec.systems import sasrec

        return sasrec, ("window", "none")
    if name == "pgtl":
        from polyvec.systems import pgtl

        return pgtl, ("window", "none")
    if name == "dupn":
        from polyvec.systems import dupn

        return dupn, ("window", "none")
    if name == "saml":
        from polyvec.systems import saml

        return saml, ("window", "none")
    from polyvec.systems import cel

    return cel, ("window", "none")
