"""A fitted GUIM: weights, vocabularies and configuration; encodes any user and any item.

On disk::

    weights.safetensors    the network
    fields/*.parquet       which ids, categories and words have a row
    items.parquet          item_id and training events of every item that was trained on
    config.json            GUIMConfig and TrainingOptions, resolved
    optimizers.safetensors what the optimizers remember, for updates
    card.md                what it was made from and chosen by
    training.jsonl, tensorboard/   what the run said
    refit/                 what the second run said, if there was one
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from polyvec.artifact import Manifest
from polyvec.data.batches import BatchShape, assemble, groups_of_like_length
from polyvec.data.fields import FieldVocabulary
from polyvec.embeddings import COLD, EMPTY, WARM
from polyvec.ids import Vocabulary
from polyvec.layers.item_encoder import FieldTensors
from polyvec.layers.tables import kept
from polyvec.systems.clusters import clustered_items
from polyvec.systems.folder import load_weights, read_model_manifest, save_weights
from polyvec.systems.guim.config import GUIMConfig
from polyvec.systems.guim.network import GUIMNetwork, Histories, tensors
from polyvec.systems.sizes import Sizes
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset, TimeKind
    from polyvec.data.fields import ItemFields
    from polyvec.data.split import Windows
    from polyvec.embeddings import Score
    from polyvec.systems.clusters import Clusters, Side

SYSTEM = "guim"
ITEMS_AT_ONCE = 65_536


@dataclass(frozen=True)
class GUIM:
    """A fitted GUIM model.

    Attributes
    ----------
    config, options
        What it is and how it was trained.
    network
        The weights.
    fields
        Turns a catalogue into numbers.
    trained_items
        ``item_id`` and ``events``: items of the training windows and their training events.
    trained_until
        No event at or after this time was trained on.
    time_kind
        ``timestamp`` or ``order``.
    manifest
        Of the folder it was read from; None before it is saved.
    """

    config: GUIMConfig
    options: TrainingOptions
    network: GUIMNetwork
    fields: FieldVocabulary
    trained_items: pl.DataFrame
    trained_until: int
    time_kind: TimeKind
    manifest: Manifest | None = None
    _looked_up: list[Any] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def new(
        cls,
        config: GUIMConfig,
        options: TrainingOptions,
        fields: FieldVocabulary,
        trained_items: pl.DataFrame,
        trained_until: int,
        time_kind: TimeKind,
    ) -> GUIM:
        """An untrained model; its weights follow from ``options.seed``."""
        torch.manual_seed(options.seed)
        network = GUIMNetwork(config, len(fields.popular), len(fields.categories), len(fields.words))
        return cls(config, options, network, fields, trained_items, trained_until, time_kind)

    @property
    def system(self) -> str:
        """``guim``."""
        return SYSTEM

    @property
    def score(self) -> Score:
        """``max_cosine`` (eq. 3)."""
        return "max_cosine"

    @property
    def num_vectors(self) -> int:
        """C."""
        return self.config.vectors_per_user

    @property
    def width(self) -> int:
        """D."""
        return self.config.width

    @property
    def history_days(self) -> float:
        """D_1."""
        return self.config.history_days

    @property
    def clustered(self) -> dict[Side, Clusters]:
        """The table of the item ids, if it is clustered."""
        return clustered_items(self.network.f_i.ids, self.fields.popular, self.trained_items)

    @property
    def meta(self) -> dict[str, Any]:
        """Manifest entries."""
        weights = sum(parameter.numel() for parameter in self.network.parameters())
        return {
            "system": SYSTEM,
            "variant": self.config.variant,
            "trained_until": self.trained_until,
            "time_kind": self.time_kind,
            "parameters": weights,
            "bytes": self.sizes.total,
            "item_table_bytes": self.sizes.item_table,
            "budget": self.config.budget,
            "C": self.config.vectors_per_user,
            "D": self.config.width,
        }

    @property
    def sizes(self) -> Sizes:
        """Bytes of the weights."""
        return Sizes.of(self.network, self.network.f_i.ids)

    def sizes_with(self, config: GUIMConfig) -> Sizes:
        """Bytes that a finished model of the same items would have with another configuration.

        Its tensors have shapes, but no memory.
        """
        with torch.device("meta"):
            model = GUIM.new(
                config, self.options, self.fields, self.trained_items, self.trained_until, self.time_kind
            )
            model.finish()
        return model.sizes

    def finish(self) -> None:
        """Bring the weights into the form that they are kept in."""
        self.network.f_i.ids = kept(self.network.f_i.ids, self.config.item_table)

    def save_into(self, stage: Path) -> None:
        """Write the model's files into a staging folder."""
        save_weights(self.network, stage)
        self.fields.save(stage / "fields")
        self.trained_items.write_parquet(stage / "items.parquet")
        config = {"guim": asdict(self.config), "training": asdict(self.options)}
        (stage / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")

    @classmethod
    def open(cls, path: Path | str) -> GUIM:
        """Read a Model folder.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged, or holds a model of another system.
        """
        path = Path(path)
        manifest = read_model_manifest(path, SYSTEM)
        config = json.loads((path / "config.json").read_text("utf-8"))
        model = cls.new(
            GUIMConfig(**config["guim"]),
            TrainingOptions(**config["training"]),
            FieldVocabulary.load(path / "fields"),
            pl.read_parquet(path / "items.parquet"),
            manifest.meta["trained_until"],
            manifest.meta["time_kind"],
        )
        model.finish()
        load_weights(model.network, path)
        model.network.eval()
        return replace(model, manifest=manifest)

    @torch.no_grad()
    def encode_items(self, item_table: pl.DataFrame) -> npt.NDArray[np.float32]:
        """Vectors of the items of any catalogue with an ``item_id`` column. ``→ float32 [N, D]``."""
        self.network.eval()
        fields = self.fields.encode(item_table)
        blocks = [np.zeros((0, self.config.width), np.float32)]
        for start in range(0, len(fields), ITEMS_AT_ONCE):
            rows = np.arange(start, min(start + ITEMS_AT_ONCE, len(fields)))
            block = self.network.encode_items(FieldTensors.of(fields.take(rows), self._device))
            blocks.append(block.float().cpu().numpy())
        return np.concatenate(blocks)

    def item_states(self, item_table: pl.DataFrame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """State (index into ``STATES``) and training events of every item of a catalogue, ``[N]`` each."""
        trained = Vocabulary(self.trained_items["item_id"], "item_id").rows(item_table["item_id"])
        events = np.append(self.trained_items["events"].to_numpy(), 0)[trained]
        known = self.fields.encode(item_table).is_known
        state = np.where(events > 0, WARM, np.where(known, COLD, EMPTY))
        return state.astype(np.uint8), events.astype(np.int64)

    @torch.no_grad()
    def encode_users(self, dataset: Dataset, windows: Windows) -> npt.NDArray[np.float32]:
        """Vectors of the users of some windows, from their histories alone. ``→ float32 [W, C, D]``.

        An empty history gives the learned prior. Items unknown to the model are encoded from their fields.
        """
        self.network.eval()
        fields = self._fields_of(dataset.item_table)
        lengths = np.minimum(windows.history_end - windows.history_start, self.config.max_length)
        vectors = np.empty((len(windows), self.config.vectors_per_user, self.config.width), np.float32)
        for samples in groups_of_like_length(lengths + self.config.num_vectors):
            batch = assemble(dataset, windows[samples], BatchShape(self.config.max_length))
            items_MD = self.network.encode_items(FieldTensors.of(fields.take(batch.distinct_M), self._device))
            users_BCD = self._read_users(items_MD, batch.items_BL, batch.ages_BL, batch.lengths_B)
            vectors[samples] = users_BCD.float().cpu().numpy()
        return vectors

    def _fields_of(self, item_table: pl.DataFrame) -> ItemFields:
        """Fields of a catalogue; of the one that was asked for last they are kept."""
        if not self._looked_up or self._looked_up[0] is not item_table:
            self._looked_up[:] = [item_table, self.fields.encode(item_table)]
        fields: ItemFields = self._looked_up[1]
        return fields

    def _read_users(
        self,
        items_MD: torch.Tensor,
        items_BL: npt.NDArray[np.int64],
        ages_BL: npt.NDArray[np.int64],
        lengths_B: npt.NDArray[np.int64],
    ) -> torch.Tensor:
        if self.config.matching_weight:
            histories = self._histories(items_BL, ages_BL, lengths_B, None)
            return self.network.encode_histories(items_MD, histories)[0]
        return self._next_after(items_MD, items_BL, ages_BL, lengths_B)

    def _next_after(
        self,
        items_MD: torch.Tensor,
        items_BL: npt.NDArray[np.int64],
        ages_BL: npt.NDArray[np.int64],
        lengths_B: npt.NDArray[np.int64],
    ) -> torch.Tensor:
        """Append a MASK of age 0 to every history and read o there (BERT4Rec); ``[B, 1, D]``."""
        rows, ages_step = np.arange(len(lengths_B)), self.time_kind == "order"
        masked_BL = np.zeros((len(lengths_B), items_BL.shape[1] + 1), dtype=bool)
        masked_BL[rows, lengths_B] = True
        items_BL = np.pad(items_BL, ((0, 0), (0, 1)))
        ages_BL = np.pad(np.minimum(ages_BL + ages_step, 364), ((0, 0), (0, 1)))
        ages_BL[rows, lengths_B] = 0
        histories = self._histories(items_BL, ages_BL, lengths_B + 1, masked_BL)
        return self.network.encode_histories(items_MD, histories)[1][:, None]

    def _histories(
        self,
        items_BL: npt.NDArray[np.int64],
        ages_BL: npt.NDArray[np.int64],
        lengths_B: npt.NDArray[np.int64],
        masked_BL: npt.NDArray[np.bool_] | None,
    ) -> Histories:
        return Histories(
            tensors(items_BL, self._device),
            tensors(ages_BL, self._device),
            tensors(lengths_B, self._device),
            None if masked_BL is None else tensors(masked_BL, self._device),
        )

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device
