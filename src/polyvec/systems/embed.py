"""Encode every user and item of a Dataset with a fitted model and write Embeddings, part by part."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from polyvec.artifact import claim, write_whole, writing
from polyvec.data.dataset import PURCHASE
from polyvec.data.split import Windows, check_moment, check_time_kind, cut, leave_last_out
from polyvec.embeddings import COLD, EMPTY, PART_ROWS, WARM, Embeddings, describe, part_name, write_part
from polyvec.errors import UsageError
from polyvec.systems.folder import alone

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import polars as pl

    from polyvec.artifact import Manifest
    from polyvec.data.dataset import Dataset, TimeKind
    from polyvec.data.market import Role
    from polyvec.embeddings import Score

NumberType = Literal["float32", "float16"]
FROM_THE_MODEL = (
    "variant",
    "parameters",
    "bytes",
    "item_table_bytes",
    "table_bytes",
    "budget",
    "training_seconds",
    "chosen_until",
    "trained_held_back",
    "held_back_of",
)
"""Entries of a Model's manifest that its Embeddings tell, too, where it has them."""


class Encoder(Protocol):
    """A fitted model that encodes users from their histories and items from their fields."""

    @property
    def system(self) -> str:
        """Its system's name."""
        ...

    @property
    def score(self) -> Score:
        """How its users and items are to be compared."""
        ...

    @property
    def num_vectors(self) -> int:
        """C, vectors per user."""
        ...

    @property
    def width(self) -> int:
        """D."""
        ...

    @property
    def history_days(self) -> float | None:
        """Days of history that users are encoded from; None means everything before the moment."""
        ...

    @property
    def trained_until(self) -> int:
        """No event at or after this time was trained on."""
        ...

    @property
    def time_kind(self) -> TimeKind:
        """``timestamp`` or ``order``."""
        ...

    @property
    def manifest(self) -> Manifest | None:
        """Of its folder; None before it is saved."""
        ...

    def encode_users(self, dataset: Dataset, windows: Windows) -> npt.NDArray[np.float32]:
        """Vectors of the users of W windows, ``[W, C, D]``."""
        ...

    def encode_items(self, item_table: pl.DataFrame) -> npt.NDArray[np.float32]:
        """Vectors of the items of a catalogue, ``[N, D]``."""
        ...

    def item_states(self, item_table: pl.DataFrame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """State and training events of every item of a catalogue, ``[N]`` each."""
        ...


@runtime_checkable
class ReadsTheLog(Protocol):
    """A model whose items change with the log."""

    def at(self, dataset: Dataset, until: int | None, role: Role) -> Encoder:
        """Bind it to what happened before a moment; items are encoded as those of one of its markets."""
        ...


@runtime_checkable
class ReadsOtherActions(Protocol):
    """A model whose histories are not of purchases."""

    @property
    def read_action(self) -> str | None:
        """Action of the events that they are of; None for all of them."""
        ...


class Encodes(Encoder, Protocol):
    """An encoder that can say how well its vectors do."""

    @property
    def agreement(self) -> float:
        """R² of what vectors say and what the model says."""
        ...


@runtime_checkable
class HasScenarios(Protocol):
    """A ranker, which writes vectors of one scenario at a time."""

    @property
    def system(self) -> str:
        """Its system's name."""
        ...

    @property
    def time_kind(self) -> TimeKind:
        """``timestamp`` or ``order``."""
        ...

    def in_scenario(self, dataset: Dataset, scenario: str | None, stop: int) -> Encodes:
        """Bind it to a scenario, and to what happened before a moment or a place from the end."""
        ...


def embed(
    model: Encoder | HasScenarios,
    dataset: Dataset,
    out: Path | str,
    *,
    until: int | None = None,
    held_back: int = 0,
    number_type: NumberType = "float32",
    market: Role = "target",
    scenario: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_part: Callable[[int, int], None] | None = None,
) -> Embeddings:
    """Write the Embeddings of all users and items of a Dataset, at a moment.

    Users are encoded from their purchases (or other events: :class:`ReadsOtherActions`) in the
    ``history_days`` before ``until``; users without any get the learned prior. At most 65,536 users or items
    are in memory at once.

    The provenance tells what making them cost: ``parameters`` and ``training_seconds`` of the model,
    ``encode_seconds`` for all parts and, of these, ``encode_users_seconds`` (None where an interrupted call
    had encoded some of them).

    Parameters
    ----------
    model
        The fitted model.
    dataset
        Histories and catalogue; need not be what the model was trained on.
    out
        Folder to write, whole or absent.
    until
        For timestamps: no event at or after it is read. None reads everything.
    held_back
        For ordered data: last events of every user that are not read.
    number_type
        ``float32`` or ``float16``.
    market
        Of a model of two markets: as items of which one they are encoded; else only ``target``.
    scenario
        Of a ranker of many scenarios: which one's vectors to write; else None.
    resume
        Keep the parts that an interrupted call of the same request has written.
    overwrite
        Replace existing Embeddings.
    on_part
        Called with rows done and rows in total after every part.

    Raises
    ------
    UsageError
        If the model was trained on timestamps and the data has an order, or the other way round, or the data
        has no such moment: see :func:`polyvec.data.split.check_moment`.
    ArtifactError
        If ``out`` exists, or the call to resume was another one.
    """
    check_time_kind(model.time_kind, dataset)
    check_moment(dataset, until, held_back, needs_past=False)
    told: dict[str, Any] = {}
    if isinstance(model, HasScenarios):
        stop = dataset.time_span[1] + 1 if until is None else until
        model = model.in_scenario(dataset, scenario, -held_back if dataset.time_kind == "order" else stop)
        told = {"scenario": scenario, "agreement": model.agreement}
    elif scenario is not None:
        raise UsageError(f"a model of system '{model.system}' has no scenarios", mend="leave out --scenario")
    if isinstance(model, ReadsTheLog):
        model = model.at(dataset, until, market)
    elif market != "target":
        raise UsageError(
            f"a model of system '{model.system}' knows no two markets", mend="leave out --market"
        )
    out = Path(out)
    until = dataset.time_span[1] + 1 if until is None else until
    action = model.read_action if isinstance(model, ReadsOtherActions) else PURCHASE
    log = dataset if action is None else dataset.only_action(action)
    provenance = _provenance(model, dataset, until, held_back) | told
    if isinstance(model, ReadsTheLog):
        provenance["market"] = market
    parents = {role: m for role, m in [("model", model.manifest), ("dataset", dataset.manifest)] if m}
    meta = describe(model.num_vectors, model.width, model.score, provenance)
    out.parent.mkdir(parents=True, exist_ok=True)
    made = writing(out, "embeddings", meta=meta, parents=parents, overwrite=overwrite, resume=True)
    with alone(out), made as stage:
        claim(stage, meta | {"number_type": number_type}, resume=resume)
        windows = _histories(log, model.history_days, until, held_back)
        seconds = _encode(stage, model, log, windows, number_type, on_part or _say_nothing)
        provenance.update(seconds)  # only now: what is claimed must be the same for the same request
    return Embeddings.open(out)


def _say_nothing(_done: int, _total: int) -> None:
    pass


def _encode(
    stage: Path,
    model: Encoder,
    dataset: Dataset,
    windows: Windows,
    number_type: NumberType,
    report: Callable[[int, int], None],
) -> dict[str, float | None]:
    """Write the parts that are not there yet; tell how long it took, if none was."""
    kept, total = any(stage.glob("*/part-*.parquet")), len(windows) + dataset.num_items
    begun = time.perf_counter()
    for part, rows in _parts(len(windows)):
        if not (stage / "users" / part).exists():
            _write_users(stage / "users" / part, model, dataset, windows[rows], number_type)
        report(rows.stop, total)
    users_done = time.perf_counter()
    for part, rows in _parts(dataset.num_items):
        if not (stage / "items" / part).exists():
            _write_items(stage / "items" / part, model, dataset.item_table[rows], number_type)
        report(len(windows) + rows.stop, total)
    ends = {"encode_seconds": time.perf_counter(), "encode_users_seconds": users_done}
    return {name: None if kept else round(end - begun, 6) for name, end in ends.items()}


def _provenance(model: Encoder, dataset: Dataset, until: int, held_back: int) -> dict[str, Any]:
    told = model.manifest.meta if model.manifest else {}
    return {
        "system": model.system,
        **{key: told[key] for key in FROM_THE_MODEL if key in told},
        "model": model.manifest.fingerprint if model.manifest else None,
        "dataset": dataset.manifest.fingerprint if dataset.manifest else None,
        "time_kind": dataset.time_kind,
        "events_until": until,
        "held_back": held_back,
        "trained_until": model.trained_until,
        "history_days": model.history_days,
        "habits": told.get("habits", {}),
    }


def _histories(dataset: Dataset, history_days: float | None, until: int, held_back: int) -> Windows:
    if dataset.time_kind == "timestamp":
        return cut(dataset, until, history_days, target_days=0)
    return leave_last_out(dataset, held_back, targets=0)


def _parts(rows: int) -> list[tuple[str, slice]]:
    starts = range(0, max(rows, 1), PART_ROWS)
    return [(part_name(n), slice(start, min(start + PART_ROWS, rows))) for n, start in enumerate(starts)]


def _write_users(
    file: Path, model: Encoder, dataset: Dataset, windows: Windows, number_type: NumberType
) -> None:
    vectors = model.encode_users(dataset, windows)
    events = windows.history_end - windows.history_start
    is_trained = _had_events_before(dataset, windows, model.trained_until)
    state = np.where(events == 0, EMPTY, np.where(is_trained, WARM, COLD)).astype(np.uint8)
    _write(file, dataset.users.take(windows.user_rows), vectors, events, state, number_type)


def _had_events_before(dataset: Dataset, windows: Windows, time: int) -> npt.NDArray[np.bool_]:
    """Whether a user's first event lies before the end of training."""
    starts = dataset.user_offsets[windows.user_rows]
    has_any = dataset.user_offsets[windows.user_rows + 1] > starts
    first = np.minimum(starts, max(dataset.num_events - 1, 0))
    return has_any & (dataset.times[first] < time) if dataset.num_events else has_any


def _write_items(file: Path, model: Encoder, item_table: pl.DataFrame, number_type: NumberType) -> None:
    state, events = model.item_states(item_table)
    _write(file, item_table["item_id"], model.encode_items(item_table), events, state, number_type)


def _write(
    file: Path,
    ids: pl.Series,
    vectors: npt.NDArray[np.float32],
    events: npt.NDArray[np.int64],
    state: npt.NDArray[np.uint8],
    number_type: NumberType,
) -> None:
    """Write a part under another name first, so that a resumed call never takes a torn one for whole."""
    whole = vectors.astype(number_type)
    write_whole(file, lambda unfinished: write_part(unfinished, ids, whole, events, state))
