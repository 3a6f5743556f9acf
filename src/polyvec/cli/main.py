"""The command ``polyvec``: the one place where errors become exit codes.

A verb lives in ``polyvec/cli/VERB.py`` (``import`` in ``import_.py``) as a click command called ``command``;
it is imported only when asked for, so that ``polyvec --help`` loads nothing heavy.
"""

from __future__ import annotations

import importlib
import keyword
import sys

import click

from polyvec.errors import PolyvecError, UsageError, nearest_name

VERBS = {
    "prepare": "Check an event log and write a Dataset.",
    "synth": "Make a synthetic shop whose truth is known.",
    "plan": "Tell what a run of fit will take: bytes of model, optimizer and batch.",
    "fit": "Train a system on a Dataset and write a Model.",
    "update": "Let a Model learn what came next.",
    "rollback": "Put an earlier version of an updated Model in its place.",
    "extend": "Let a ranker of many scenarios learn a new one.",
    "transfer": "Let a Model learn a task that it was not trained on (dupn).",
    "score": "Score offers of items to users with a ranker (saml).",
    "split": "Write the part of a Model that serves candidates (dupn).",
    "embed": "Encode users and items with a Model and write Embeddings.",
    "import": "Take vectors made elsewhere and write Embeddings.",
    "search": "Find the items nearest to an item.",
    "recommend": "Find the best items of users.",
    "export": "Write Embeddings as npy, Parquet or submission files.",
    "evaluate": "Ask Embeddings the downstream tasks and write a Report.",
    "bench": "Ask every task of many Embeddings, beside the simple methods.",
    "clusters": "Look at the clusters of a Model.",
    "explain": "Say what an item's vector was made of (pgtl).",
    "verify": "Check every byte of a polyvec folder against its manifest.",
}
INTERRUPTED = 130


def module_of(verb: str) -> str:
    """Module of a verb; one that is a word of Python's own has an underscore after it."""
    return f"polyvec.cli.{verb}_" if keyword.iskeyword(verb) else f"polyvec.cli.{verb}"


class LazyGroup(click.Group):
    """A click group that imports a verb when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of the straight path."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command of a verb."""
        if cmd_name not in VERBS:
            raise UsageError(f"there is no verb '{cmd_name}'", expected=nearest_name(cmd_name, VERBS))
        command: click.Command = importlib.import_module(module_of(cmd_name)).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs, in the order of the straight path"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="polyvec")
def cli() -> None:
    """Learn general user and item embeddings from a shop's event log, once.

    \b
    polyvec prepare events.parquet --items items.parquet --out shop.dataset
    polyvec fit guim shop.dataset --out shop.model
    polyvec embed shop.model shop.dataset --out shop.emb
    polyvec recommend shop.emb --user 17850
    """  # noqa: D301


def _how_to_go_on(arguments: list[str]) -> str:
    """Say that an interrupted call can be resumed, of the verbs that can."""
    verb = next((word for word in arguments if word in VERBS), None)
    if verb is None:
        return ""
    from polyvec.cli.run_options import STREAM

    command: click.Command = importlib.import_module(module_of(verb)).command
    can_resume = STREAM not in arguments and any(one.name == "resume" for one in command.params)
    return ": the same command with --resume goes on from where it was" if can_resume else ""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with 0, the error's own code, 2 for wrong usage or 130 when interrupted.

    If the reader of the output has gone, as with ``| head``, click ends silently with 1.
    """
    try:
        code = cli.main(args=arguments, prog_name="polyvec", standalone_mode=False)
    except PolyvecError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted" + _how_to_go_on(arguments or sys.argv[1:]), err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:  # a full disk, a folder that may not be written
        click.echo(f"error: {PolyvecError(error.strerror or str(error), file=error.filename)}", err=True)
        sys.exit(PolyvecError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
