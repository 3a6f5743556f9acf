"""A fitted SASRec: weights, known items and configuration; encodes any user.

On disk::

    weights.safetensors    the network
    items.parquet          item_id and training events of every known item; row r has slot r + 1
    config.json            SASRecConfig and TrainingOptions, resolved
    training.jsonl, tensorboard/   what the run said
    refit/                 what the second run said, if there was one
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from polyvec.data.batches import BatchShape, assemble, groups_of_like_length
from polyvec.embeddings import EMPTY, WARM
from polyvec.ids import Vocabulary
from polyvec.layers.tables import clusters_of, kept
from polyvec.systems.folder import load_weights, read_model_manifest, save_weights
from polyvec.systems.sasrec.config import SASRecConfig
from polyvec.systems.sasrec.network import SASRecNetwork
from polyvec.systems.sizes import Sizes
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.artifact import Manifest
    from polyvec.data.dataset import Dataset, TimeKind
    from polyvec.data.split import Windows
    from polyvec.embeddings import Score
    from polyvec.systems.clusters import Clusters, Side

SYSTEM = "sasrec"


@dataclass(frozen=True)
class SASRec:
    """A fitted SASRec model.

    Attributes
    ----------
    config, options
        What it is and how it was trained.
    network
        The weights.
    trained_items
        ``item_id`` and ``events``, most events first.
    trained_until
        No event at or after this time was trained on.
    time_kind
        ``timestamp`` or ``order``.
    manifest
        Of the folder it was read from; None before it is saved.
    """

    config: SASRecConfig
    options: TrainingOptions
    network: SASRecNetwork
    trained_items: pl.DataFrame
    trained_until: int
    time_kind: TimeKind
    manifest: Manifest | None = None

    @classmethod
    def new(
        cls,
        config: SASRecConfig,
        options: TrainingOptions,
        trained_items: pl.DataFrame,
        trained_until: int,
        time_kind: TimeKind,
    ) -> SASRec:
        """An untrained model; its weights follow from ``options.seed``."""
        torch.manual_seed(options.seed)
        network = SASRecNetwork(config, min(len(trained_items), config.max_popular))
        return cls(config, options, network, trained_items, trained_until, time_kind)

    @property
    def system(self) -> str:
        """``sasrec``."""
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
        """D."""
        return self.config.width

    @property
    def history_days(self) -> float:
        """Days of history that users are encoded from."""
        return self.config.history_days

    @property
    def clustered(self) -> dict[Side, Clusters]:
        """The table of the items, if it is clustered."""
        table = clusters_of(self.network.items)
        known = self.trained_items.head(self.num_known)
        return {} if table is None else {"items": (table, known.with_row_index("row"))}

    @property
    def num_known(self) -> int:
        """Items with vectors of their own."""
        return min(len(self.trained_items), self.config.max_popular)

    @property
    def meta(self) -> dict[str, Any]:
        """Manifest entries."""
        return {
            "system": SYSTEM,
            "trained_until": self.trained_until,
            "time_kind": self.time_kind,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "bytes": self.sizes.total,
            "item_table_bytes": self.sizes.item_table,
            "budget": self.config.budget,
            "C": 1,
            "D": self.config.width,
        }

    @property
    def sizes(self) -> Sizes:
        """Bytes of the weights."""
        return Sizes.of(self.network, self.network.items)

    def sizes_with(self, config: SASRecConfig) -> Sizes:
        """Bytes that a finished model of the same items would have with another configuration.

        Its tensors have shapes, but no memory.
        """
        with torch.device("meta"):
            model = SASRec.new(config, self.options, self.trained_items, self.trained_until, self.time_kind)
            model.finish()
        return model.sizes

    def finish(self) -> None:
        """Bring the weights into the form that they are kept in."""
        self.network.items = kept(self.network.items, self.config.item_table)

    def save_into(self, stage: Path) -> None:
        """Write the model's files into a staging folder."""
        save_weights(self.network, stage)
        self.trained_items.write_parquet(stage / "items.parquet")
        config = {SYSTEM: asdict(self.config), "training": asdict(self.options)}
        (stage / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")

    @classmethod
    def open(cls, path: Path | str) -> SASRec:
        """Read a Model folder.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged, or holds a model of another system.
        """
        path = Path(path)
        manifest = read_model_manifest(path, SYSTEM)
        config = json.loads((path / "config.json").read_text("utf-8"))
        items = pl.read_parquet(path / "items.parquet")
        config[SYSTEM].setdefault("max_popular", max(len(items), 1))  # Models of before had them all
        model = cls.new(
            SASRecConfig(**config[SYSTEM]),
            TrainingOptions(**config["training"]),
            items,
            manifest.meta["trained_until"],
            manifest.meta["time_kind"],
        )
        model.finish()
        load_weights(model.network, path)
        model.network.eval()
        return replace(model, manifest=manifest)

    def slots(self, item_table: pl.DataFrame) -> npt.NDArray[np.int64]:
        """Slot of every item of a catalogue, 0 for those without a vector of their own; int64 ``[N]``."""
        rows = self._trained.rows(item_table["item_id"])
        return np.where(rows < self.num_known, rows + 1, 0)

    def item_states(self, item_table: pl.DataFrame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """State (index into ``STATES``) and training events of every item of a catalogue, ``[N]`` each."""
        rows = self._trained.rows(item_table["item_id"])
        events = np.append(self.trained_items["events"].to_numpy(), 0)[rows]
        return np.where(events > 0, WARM, EMPTY).astype(np.uint8), events.astype(np.int64)

    @torch.no_grad()
    def encode_items(self, item_table: pl.DataFrame) -> npt.NDArray[np.float32]:
        """Vectors of the items of a catalogue; all without one of their own share one. ``→ [N, D]``."""
        vectors: npt.NDArray[np.float32] = self.network.items.all().float().cpu().numpy()
        return vectors[self.slots(item_table)]

    @torch.no_grad()
    def encode_users(self, dataset: Dataset, windows: Windows) -> npt.NDArray[np.float32]:
        """Vectors of the users of W windows, from their histories alone. ``→ float32 [W, 1, D]``.

        An empty history gives what the start token foretells: the learned prior.
        """
        self.network.eval()
        device = self.network.start.device
        slots_N = self.slots(dataset.item_table)
        lengths = np.minimum(windows.history_end - windows.history_start, self.config.max_length)
        vectors = np.empty((len(windows), 1, self.config.width), np.float32)
        for samples in groups_of_like_length(lengths + 1):
            batch = assemble(dataset, windows[samples], BatchShape(self.config.max_length))
            slots_BL = torch.as_tensor(slots_N[batch.distinct_M][batch.items_BL], device=device)
            lengths_B = torch.as_tensor(batch.lengths_B, device=device)
            tokens_BTD = self.network(slots_BL, lengths_B)
            last_BD = tokens_BTD[torch.arange(len(lengths_B), device=device), lengths_B]
            vectors[samples, 0] = last_BD.float().cpu().numpy()
        return vectors

    @cached_property
    def _trained(self) -> Vocabulary:
        return Vocabulary(self.trained_items["item_id"], "item_id")
