"""A fitted CEL: rows, who shares them, and an interaction; knows the users and items it was trained on.

On disk::

    weights.safetensors    rows, assignments and the interaction
    users.parquet, items.parquet   ids and training events, in row order
    config.json            CELConfig and TrainingOptions, resolved
    training.jsonl, tensorboard/   what the run said
    refit/                 what the second run said, if there was one
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from polyvec.data.item_sets import expand_ranges
from polyvec.embeddings import EMPTY, WARM
from polyvec.ids import Vocabulary
from polyvec.systems.cel.config import CELConfig
from polyvec.systems.cel.din import make_network
from polyvec.systems.folder import load_weights, read_model_manifest, save_weights
from polyvec.systems.sizes import Sizes
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.artifact import Manifest
    from polyvec.data.dataset import Dataset, TimeKind
    from polyvec.data.split import Windows
    from polyvec.embeddings import Score
    from polyvec.systems.cel.network import CELNetwork
    from polyvec.systems.clusters import Clusters, Side

SYSTEM = "cel"


@dataclass(frozen=True)
class CEL:
    """A fitted CEL model.

    Users are looked up by their ids, not encoded from events. Users and items that were not trained on have
    the mean vector of those that were.

    DIN scores a user, a history and an item together: no two vectors have that score. Its items' vectors are
    their rows less the mean of all that were trained on, its users' the means of these over the latest
    events; their cosine says how like a history an item is, which is not the prediction.

    Attributes
    ----------
    config, options
        What it is and how it was trained.
    network
        The weights.
    trained_users, trained_items
        ``user_id`` or ``item_id``, and ``events`` that were trained on.
    trained_until
        No event at or after this time was trained on.
    time_kind
        ``timestamp`` or ``order``.
    manifest
        Of the folder it was read from; None before it is saved.
    """

    config: CELConfig
    options: TrainingOptions
    network: CELNetwork
    trained_users: pl.DataFrame
    trained_items: pl.DataFrame
    trained_until: int
    time_kind: TimeKind
    manifest: Manifest | None = None

    @property
    def system(self) -> str:
        """``cel``."""
        return SYSTEM

    @property
    def score(self) -> Score:
        """``max_dot``; ``max_cosine`` for DIN."""
        return "max_cosine" if self._is_deep else "max_dot"

    @property
    def num_vectors(self) -> int:
        """One vector per user."""
        return 1

    @property
    def width(self) -> int:
        """F, features that the interaction compares."""
        return self._user_features.shape[1]

    @property
    def history_days(self) -> None:
        """Users are looked up: all their past counts."""
        return None

    @property
    def clustered(self) -> dict[Side, Clusters]:
        """Tables of the sides that are clustered, and their entities."""
        sides: dict[Side, Clusters] = {}
        if self.config.user_table == "clustered":
            sides["users"] = self.network.users, self.trained_users.with_row_index("row")
        if self.config.item_table == "clustered":
            sides["items"] = self.network.items, self.trained_items.with_row_index("row")
        return sides

    @property
    def meta(self) -> dict[str, Any]:
        """Manifest entries."""
        tables = {"users": self.network.users, "items": self.network.items}
        return {
            "system": SYSTEM,
            "trained_until": self.trained_until,
            "time_kind": self.time_kind,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "budget": self.config.budget,
            "bytes": Sizes.of(self.network, self.network.items).total,
            "C": 1,
            "D": self.width,
            "clusters": {name: table.num_clusters for name, table in tables.items()},
            "table_bytes": self.network.table_bytes(),
        }

    def save_into(self, stage: Path) -> None:
        """Write the model's files into a staging folder."""
        save_weights(self.network, stage)
        self.trained_users.write_parquet(stage / "users.parquet")
        self.trained_items.write_parquet(stage / "items.parquet")
        config = {SYSTEM: asdict(self.config), "training": asdict(self.options)}
        (stage / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")

    @classmethod
    def open(cls, path: Path | str) -> CEL:
        """Read a Model folder.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged, or holds a model of another system.
        """
        path = Path(path)
        manifest = read_model_manifest(path, SYSTEM)
        text = json.loads((path / "config.json").read_text("utf-8"))
        users, items = (pl.read_parquet(path / f"{name}.parquet") for name in ("users", "items"))
        config = CELConfig(**text[SYSTEM])
        network = make_network(config, len(users), len(items))
        load_weights(network, path)
        told = manifest.meta["trained_until"], manifest.meta["time_kind"]
        return cls(config, TrainingOptions(**text["training"]), network, users, items, *told, manifest)

    def item_states(self, item_table: pl.DataFrame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """State (index into ``STATES``) and training events of every item of a catalogue, ``[N]`` each."""
        rows = self._items.rows(item_table["item_id"])
        events = np.append(self.trained_items["events"].to_numpy(), 0)[rows]
        return np.where(events > 0, WARM, EMPTY).astype(np.uint8), events.astype(np.int64)

    def encode_items(self, item_table: pl.DataFrame) -> npt.NDArray[np.float32]:
        """Vectors of the items of a catalogue. ``→ [N, F]``."""
        return self._item_features[self._items.rows(item_table["item_id"])]

    def encode_users(self, dataset: Dataset, windows: Windows) -> npt.NDArray[np.float32]:
        """Vectors of the users of W windows, by their ids; DIN's by their events. ``→ [W, 1, F]``."""
        if self._is_deep:
            return self._mean_of_past(dataset, windows)[:, None]
        return self._user_features[self._users.rows(dataset.users.take(windows.user_rows))][:, None]

    @property
    def _is_deep(self) -> bool:
        return self.config.interaction == "din"

    def _mean_of_past(self, dataset: Dataset, windows: Windows) -> npt.NDArray[np.float32]:
        """Mean vector of the latest known items of every window, or of all training events. ``→ [W, F]``."""
        latest = np.maximum(windows.history_start, windows.history_end - self.config.max_length)
        owners, events = expand_ranges(latest, windows.history_end)
        rows = self._items.rows(dataset.items.series)[dataset.item_rows[events]]
        trained_N = self.trained_items["events"].to_numpy()
        known = np.append(trained_N > 0, False)[rows]
        owners, rows = owners[known], rows[known]
        sums_WF = np.zeros((len(windows), self.width), np.float32)
        np.add.at(sums_WF, owners, self._item_features[rows])
        counts_W = np.bincount(owners, minlength=len(windows))[:, None]
        usual_F = np.average(self._item_features[:-1], axis=0, weights=trained_N)
        return np.where(counts_W > 0, sums_WF / np.maximum(counts_W, 1), usual_F).astype(np.float32)

    @cached_property
    def _users(self) -> Vocabulary:
        return Vocabulary(self.trained_users["user_id"], "user_id")

    @cached_property
    def _items(self) -> Vocabulary:
        return Vocabulary(self.trained_items["item_id"], "item_id")

    @property
    def _user_features(self) -> npt.NDArray[np.float32]:
        """Of every user, and of one that is not known: ``[U + 1, F]``."""
        return self._served[0]

    @property
    def _item_features(self) -> npt.NDArray[np.float32]:
        """Of every item, and of one that is not known: ``[N + 1, F]``."""
        return self._served[1]

    @cached_property
    def _served(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        events = (
            torch.from_numpy(one["events"].to_numpy().copy())
            for one in (self.trained_users, self.trained_items)
        )
        users, items = self.network.served(*events)
        return users.numpy(), (items - items[-1] if self._is_deep else items).numpy()
