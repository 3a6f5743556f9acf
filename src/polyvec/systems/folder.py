"""Model folders: what all systems share in writing and reading them."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock, Timeout
from rich.console import Console
from safetensors.torch import load_file, save_file

from polyvec.artifact import Manifest, claim, read_manifest, refuse_existing, writing
from polyvec.errors import ArtifactError, UsageError
from polyvec.training.checkpoint import copies, keep_optimizers
from polyvec.training.journal import JOURNAL, TENSORBOARD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from polyvec.data.dataset import Dataset
    from polyvec.training.checkpoint import Progress

WEIGHTS = "weights.safetensors"
REFIT = "refit"
"""Folder of the second run, trained on everything, in the workspace and in the Model."""


class Saved(Protocol):
    """A model that writes its own files."""

    @property
    def manifest(self) -> Manifest | None:
        """Of the folder that it was read from; None before it is saved."""
        ...

    def save_into(self, stage: Path) -> None:
        """Write the model's files into a staging folder."""
        ...


def check_refit(validation: str, *, refit: bool) -> None:
    """Refuse to train again without a validation that says for how long.

    Raises
    ------
    UsageError
        If there is none.
    """
    if refit and validation == "none":
        raise UsageError(
            "refit has no validation to follow",
            expected="the best number of epochs, found on validation",
            mend="leave refit out, or validate (--validation window)",
        )


def save_weights(network: nn.Module, stage: Path) -> None:
    """Write the weights of a network into a staging folder."""
    save_file(copies(network.state_dict()), stage / WEIGHTS)


def load_weights(network: nn.Module, path: Path) -> None:
    """Give a network the weights of a Model folder.

    Raises
    ------
    ArtifactError
        If they are of a network of another form, as an earlier version of polyvec may have made it.
    """
    try:
        network.load_state_dict(load_file(path / WEIGHTS))
    except RuntimeError as error:
        raise ArtifactError(
            "the weights are of another network than the configuration makes",
            file=path / WEIGHTS,
            expected=str(error).partition("\n\t")[2].split("\n")[0] or None,
            mend="fit it again: another version of polyvec wrote it",
        ) from None


@contextmanager
def claim_workspace(
    out: Path, dataset: Dataset, settings: dict[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[Path]:
    """Claim the hidden folder beside ``out`` that a run is trained in, for these settings and data alone.

    Until the block ends, however it ends, no other process makes ``out``.

    Raises
    ------
    ArtifactError
        If ``out`` exists, the run to resume was another one, or another process is at work on ``out``.
    """
    refuse_existing(out, "model", overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    with alone(out):
        workspace = out.with_name(f".{out.name}.run")
        if not resume and any(workspace.glob("checkpoint-*")):
            Console(stderr=True).print(
                f"note: {out} begins afresh: what an interrupted run had learned is lost (--resume keeps it)",
                markup=False,
                soft_wrap=True,
            )
        data = dataset.manifest.fingerprint if dataset.manifest else dataset.num_events
        claim(workspace, settings | {"data": data}, resume=resume)
        yield workspace


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Let no other process make ``out`` until the block ends, however it ends.

    Raises
    ------
    ArtifactError
        If another process is at work on it.
    """
    out = out.resolve()  # whichever link leads to it
    lock = FileLock(out.with_name(f".{out.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ArtifactError(
            f"another process is making {out} right now",
            file=out,
            expected="one command at a time that makes it",
            mend="wait until it is done",
        ) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def run_name(workspace: Path) -> str:
    """What the progress bar calls the run of a workspace."""
    return "training again" if workspace.name == REFIT else "training"


def told_by(runs: Sequence[Progress], measure: str) -> dict[str, Any]:
    """Manifest entries on how a Model was trained.

    Parameters
    ----------
    runs
        The run, and with ``refit`` the second one, whose weights are kept: the first says what was best on
        validation, the last how many steps made the weights, and both took their time.
    measure
        What validation measures; with a minus before it where less is better, and the values are negative.
    """
    return {
        "validation": runs[0].best,
        "validation_measure": measure,
        "best_epoch": runs[0].best_epoch,
        "steps": runs[-1].step,
        "precision": runs[-1].precision,
        "training_seconds": round(sum(run.seconds for run in runs), 3),
    }


def told_reach(
    dataset: Dataset,
    until: int,
    held_back: int,
    before: dict[str, Any] | None = None,
    *,
    of_purchases: bool = False,
) -> dict[str, Any]:
    """Manifest entries on what was read at all, be it only to choose the best epoch: a test must lie beyond.

    Parameters
    ----------
    dataset
        What a system was fitted on.
    until, held_back
        As in the ``fit`` functions; one of them counts, the former with timestamps.
    before
        Manifest entries of a Model that this one goes on from: what that one read counts, too.
    of_purchases
        Whether purchases alone are read, and held back; else events of all actions.
    """
    before = before or {}
    if dataset.time_kind == "order":
        least = min(held_back, before.get("trained_held_back", held_back))
        return {"trained_held_back": least, "held_back_of": "purchases" if of_purchases else "events"}
    return {"chosen_until": max(until, before.get("chosen_until", until))}


def version_of(model: Saved) -> str:
    """Fingerprint of a saved model; nothing of one that was never saved."""
    return model.manifest.fingerprint if model.manifest else ""


def told_best(meta: dict[str, Any]) -> str:
    """Say what :func:`told_by` tells of validation.

    >>> told_best({"validation": -0.87, "validation_measure": "-error", "best_epoch": 3})
    'best on validation after epoch 4: error 0.8700'
    """
    value, measure = meta["validation"], meta["validation_measure"]
    if value is None:
        return "nothing was validated"
    if measure.startswith("-"):
        measure, value = measure[1:], -value
    return f"best on validation after epoch {meta['best_epoch'] + 1}: {measure} {value:.4f}"


def told_updates(meta: dict[str, Any]) -> list[str]:
    """Say in a model card what every update learned, and how far it was foretold before."""
    lines = []
    for told in meta.get("updates", []):
        worth = ", ".join(f"{name} {value:.4f}" for name, value in told["foretold"].items())
        lines.append(
            f"* version {told['version']}: updated by {told['from']} to {told['to']}"
            f" ({told['new_items']:,} new items)" + (f"; before it learned them, {worth}" if worth else "")
        )
    return lines


def told_budget(budget: int) -> str:
    """What a model card adds to the bytes of a model that was to fit into a budget."""
    return f" (budget {budget:,})" if budget else ""


def write_model(
    out: Path,
    model: Saved,
    dataset: Dataset,
    workspace: Path,
    meta: dict[str, Any],
    *,
    card: str,
    overwrite: bool,
    keeps_optimizers: bool = False,
    before: Manifest | None = None,
    first_run: Path | None = None,
) -> None:
    """Write a Model with what its run said, whole or not at all, and clear the workspace away.

    Parameters
    ----------
    out
        The Model folder.
    model
        What was fitted.
    dataset
        What it was fitted on: the Model's parent.
    workspace
        Where it was trained.
    meta
        Manifest entries.
    card
        The model card, Markdown.
    overwrite
        Replace an existing Model.
    keeps_optimizers
        Keep what the optimizers remember, in ``optimizers.safetensors``: an update goes on with it.
    before
        Of the Model that this one was updated from: its other parent.
    first_run
        Where in the workspace the run was made that the Model is of, or before ``refit``; the workspace
        itself without.
    """
    parents = {role: one for role, one in [("dataset", dataset.manifest), ("model", before)] if one}
    meta = meta | {"time_zone": dataset.time_zone}
    with writing(out, "model", meta=meta, parents=parents, overwrite=overwrite) as stage:
        model.save_into(stage)
        (stage / "card.md").write_text(card, "utf-8")
        for folder, run in ((".", first_run or workspace), (REFIT, workspace / REFIT)):
            if (run / JOURNAL).exists():
                (stage / folder).mkdir(exist_ok=True)
                shutil.copy(run / JOURNAL, stage / folder)
                shutil.copytree(run / TENSORBOARD, stage / folder / TENSORBOARD)
        if keeps_optimizers:
            keep_optimizers(workspace / REFIT if (workspace / REFIT).exists() else workspace, stage)
    shutil.rmtree(workspace)


def check_time_zone(learned: Manifest | None, dataset: Dataset) -> None:
    """Refuse later events by another clock: between both hours would be lost, or learned twice.

    Raises
    ------
    UsageError
        If the Dataset that the Model learned from had another time zone.
    """
    if learned is None or "time_zone" not in learned.meta:  # of a polyvec that did not write it
        return
    zone = learned.meta["time_zone"]
    if zone != dataset.time_zone:
        raise UsageError(
            f"the Model has learned by the clock of {zone or 'UTC'}, this Dataset is by that of "
            f"{dataset.time_zone or 'UTC'}",
            expected="the same clock",
            mend=f"prepare the data with{f' --time-zone {zone}' if zone else 'out --time-zone'}",
        )


def read_model_manifest(path: Path, system: str) -> Manifest:
    """Manifest of a Model of one system.

    Raises
    ------
    ArtifactError
        If the folder is missing, damaged, or holds a model of another system.
    """
    manifest = read_manifest(path, "model")
    if manifest.meta.get("system") != system:
        raise ArtifactError(
            f"{path} holds a model of system '{manifest.meta.get('system')}'",
            file=path,
            expected=f"'{system}'",
        )
    return manifest
