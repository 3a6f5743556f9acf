"""A CEL-Lite that has learned a stream so far: serves users and items, and can go on learning.

On disk::

    state.safetensors      rows, Adagrad's memory, who is where, the ring of latest interactions, the means
    state.json             counters and the state of the random numbers
    users.parquet, items.parquet   ids and interactions learned, in the learner's order
    config.json            LiteConfig
    stream.jsonl           a line for each call: what was learned, and how far it was foretold wrongly
    card.md                the last of them for people
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from polyvec.embeddings import EMPTY, WARM
from polyvec.ids import Vocabulary
from polyvec.systems.cel.config import LiteConfig
from polyvec.systems.cel.lite import CELLite
from polyvec.systems.folder import read_model_manifest

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.artifact import Manifest
    from polyvec.data.dataset import Dataset, TimeKind
    from polyvec.data.split import Windows
    from polyvec.embeddings import Score
    from polyvec.systems.cel.lite import Side

SYSTEM = "cel-lite"
CALLS = "stream.jsonl"


@dataclass(frozen=True)
class LiteModel:
    """CEL-Lite with the ids of the users and items that it has met.

    Users and items are looked up by their ids. Who has not been met has the row of the largest cluster and
    lies at the mean.

    Attributes
    ----------
    learner
        Clusters and who is where; changes when it learns.
    users, items
        Ids in the learner's order: by first appearance in the stream.
    trained_until
        No event at or after this time was learned, and none before it will be.
    calls
        What each call learned, the latest last (JSON values).
    training_seconds
        Of all calls.
    manifest
        Of the folder it was read from; None before it is saved.
    """

    learner: CELLite
    users: Vocabulary
    items: Vocabulary
    trained_until: int
    calls: list[dict[str, Any]] = field(default_factory=list)
    training_seconds: float = 0.0
    manifest: Manifest | None = None

    @property
    def system(self) -> str:
        """``cel-lite``."""
        return SYSTEM

    @property
    def score(self) -> Score:
        """``max_dot``."""
        return "max_dot"

    @property
    def num_vectors(self) -> int:
        """One vector per user."""
        return 1

    @property
    def width(self) -> int:
        """D: two more than the rows where these learn what means leave over."""
        return self.learner.width

    @property
    def history_days(self) -> None:
        """Users are looked up: all their past counts."""
        return None

    @property
    def time_kind(self) -> TimeKind:
        """``timestamp``: a stream has no other order that all users share."""
        return "timestamp"

    @property
    def meta(self) -> dict[str, Any]:
        """Manifest entries."""
        sides = {"users": self.learner.users, "items": self.learner.items}
        return {
            "system": SYSTEM,
            "trained_until": self.trained_until,
            "time_kind": self.time_kind,
            "parameters": self._parameters,
            "bytes": sum(array.nbytes for array in self.learner.state()[0].values()),
            "C": 1,
            "D": self.width,
            "clusters": {name: side.clusters for name, side in sides.items()},
            "interactions": self.learner.costs.interactions,
            "calls": len(self.calls),
            "latest_call": self.calls[-1] if self.calls else {},
            "training_seconds": round(self.training_seconds, 3),
        }

    @property
    def _parameters(self) -> int:
        """Numbers of the rows in use; with the means, one for each entity and μ."""
        rows = sum(side.clusters for _, _, side in self._sides)
        met = 1 + len(self.users) + len(self.items)
        return rows * self.learner.config.width + met * self.learner.config.residual

    def save_into(self, stage: Path) -> None:
        """Write the model's files into a staging folder."""
        arrays, numbers = self.learner.state()
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, _state(stage))
        (stage / "state.json").write_text(json.dumps(numbers, indent=1) + "\n", "utf-8")
        for name, ids, side in self._sides:
            frame = pl.DataFrame({ids.name: ids.series, "events": side.events[: len(ids)]})
            frame.write_parquet(stage / f"{name}.parquet")
        config = {SYSTEM: asdict(self.learner.config)}
        (stage / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
        (stage / CALLS).write_text("".join(json.dumps(call) + "\n" for call in self.calls), "utf-8")
        (stage / "card.md").write_text(self._card(), "utf-8")

    @classmethod
    def open(cls, path: Path | str) -> LiteModel:
        """Read a Model folder.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged, or holds a model of another system.
        """
        path = Path(path)
        manifest = read_model_manifest(path, SYSTEM)
        arrays = load_file(_state(path))
        numbers = json.loads((path / "state.json").read_text("utf-8"))
        told = json.loads((path / "config.json").read_text("utf-8"))[SYSTEM]
        told.pop("refresh", None)  # of models made before November 2026
        config = LiteConfig(**told)
        lines = (path / CALLS).read_text("utf-8").splitlines()
        return cls(
            CELLite.restored(config, arrays, numbers),
            Vocabulary.load(path / "users.parquet", "user_id"),
            Vocabulary.load(path / "items.parquet", "item_id"),
            manifest.meta["trained_until"],
            [json.loads(line) for line in lines],
            manifest.meta["training_seconds"],
            manifest,
        )

    def item_states(self, item_table: pl.DataFrame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """State (index into ``STATES``) and interactions learned of every item, ``[N]`` each."""
        rows = self.items.rows(item_table["item_id"])
        events = np.append(self.learner.items.events[: len(self.items)], 0)[rows].astype(np.int64)
        return np.where(events > 0, WARM, EMPTY).astype(np.uint8), events

    def encode_items(self, item_table: pl.DataFrame) -> npt.NDArray[np.float32]:
        """Vectors of the items of a catalogue. ``→ [N, D]``."""
        return self.learner.vectors(1, self.items.rows(item_table["item_id"]))

    def encode_users(self, dataset: Dataset, windows: Windows) -> npt.NDArray[np.float32]:
        """Vectors of the users of W windows, by their ids. ``→ [W, 1, D]``."""
        rows = self.users.rows(dataset.users.take(windows.user_rows))
        return self.learner.vectors(0, rows)[:, None]

    @property
    def _sides(self) -> tuple[tuple[str, Vocabulary, Side], ...]:
        return ("users", self.users, self.learner.users), ("items", self.items, self.learner.items)

    def _card(self) -> str:
        """Say in Markdown what was learned and how far it was foretold wrongly."""
        sizes = ", ".join(f"{len(ids):,} {name} in {side.clusters:,} rows" for name, ids, side in self._sides)
        lines = ["# CEL-Lite model", "", f"{sizes}; joined by the dot product of {self.width} numbers.", ""]
        lines += [f"* {self.learner.costs.interactions:,} interactions in {len(self.calls)} calls"]
        for part, figures in (self.calls[-1]["errors"] if self.calls else {}).items():
            told = ", ".join(f"{name} {value:.6g}" for name, value in figures.items() if value is not None)
            lines.append(f"* squared error before learning, latest call, {part}: {told}")
        lines += ["* users and items that were not met have the row of the largest cluster", ""]
        return "\n".join(lines)


def _state(folder: Path) -> Path:
    return folder / "state.safetensors"
