"""A fitted DUPN: represents users by what they did, and answers its tasks.

On disk::

    weights.safetensors     the network
    fields/KIND/NAME.parquet   item ids, categories, words, actions … with a row in the tables
    tasks/NAME.parquet      texts of a task's classes or entities
    items.parquet           training events of every item
    config.json             DUPNConfig and TrainingOptions, resolved; what tasks have learned of numbers
    optimizers.safetensors  what the optimizers remember, for updates; not of a transferred task
    training.jsonl, tensorboard/   what the run said
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from polyvec.embeddings import COLD, EMPTY, WARM
from polyvec.errors import UsageError
from polyvec.ids import Vocabulary
from polyvec.systems.clusters import clustered_items
from polyvec.systems.dupn.config import HEADED, DUPNConfig, Task
from polyvec.systems.dupn.features import Encoder, Fields, ItemRows
from polyvec.systems.dupn.network import DUPNNetwork
from polyvec.systems.dupn.objective import represent
from polyvec.systems.dupn.rivals import Network, make_network
from polyvec.systems.dupn.samples import Known, samples_at
from polyvec.systems.folder import load_weights, read_model_manifest, save_weights
from polyvec.systems.sizes import Sizes
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.artifact import Manifest
    from polyvec.data.dataset import Dataset, TimeKind
    from polyvec.data.split import Windows
    from polyvec.embeddings import Score
    from polyvec.systems.clusters import Clusters, Side

SYSTEM = "dupn"
ITEMS_AT_ONCE = 65_536

Tasks = dict[str, tuple[Task, Known]]


@dataclass(frozen=True)
class DUPN:
    """A fitted model.

    Attributes
    ----------
    config, options
        What it is and how it was trained.
    network
        The weights.
    fields
        What has a row in its tables.
    tasks
        By name, with what each learned from its samples.
    trained_items
        ``item_id`` and ``events``: training events of every item that had any.
    trained_until
        No event at or after this time was trained on.
    time_kind
        ``timestamp`` or ``order``.
    manifest
        Of the folder it was read from; None before it is saved.
    """

    config: DUPNConfig
    options: TrainingOptions
    network: Network
    fields: Fields
    tasks: Tasks
    trained_items: pl.DataFrame
    trained_until: int
    time_kind: TimeKind
    manifest: Manifest | None = None
    _looked_up: list[Any] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def new(
        cls,
        config: DUPNConfig,
        options: TrainingOptions,
        fields: Fields,
        tasks: Tasks,
        trained_items: pl.DataFrame,
        trained_until: int,
        time_kind: TimeKind,
    ) -> DUPN:
        """An untrained model; its weights follow from ``options.seed``."""
        torch.manual_seed(options.seed)
        network = make_network(config, fields.shape(has_times=time_kind == "timestamp"), tasks)
        return cls(config, options, network, fields, tasks, trained_items, trained_until, time_kind)

    @property
    def system(self) -> str:
        """``dupn``."""
        return SYSTEM

    @property
    def score(self) -> Score:
        """``max_cosine``: a task of kind ``next`` compares rep with items by the cosine."""
        return "max_cosine"

    @property
    def num_vectors(self) -> int:
        """1; none of a model that says nothing of users alone."""
        return int(self.width > 0)

    @property
    def width(self) -> int:
        """R, numbers of rep."""
        return self.network.encoder.width if isinstance(self.network, DUPNNetwork) else 0

    @property
    def representing(self) -> DUPNNetwork:
        """The network, one with vectors of users.

        Raises
        ------
        UsageError
            If the model has none.
        """
        if isinstance(self.network, DUPNNetwork):
            return self.network
        raise UsageError(
            f"model={self.config.model} has no vectors of users: it reads them together with what is asked",
            expected="dupn, cnn_max or dssm",
            mend="what its answers are worth is in its card.md",
        )

    @property
    def history_days(self) -> None:
        """Everything before the moment, of which the latest ``max_length`` events are read."""
        return None

    @property
    def read_action(self) -> None:
        """Histories are of all that users did, not of purchases alone."""
        return None

    def check_heads(self, what: str) -> None:
        """Refuse a model whose tasks are not answered by heads on one representation.

        Raises
        ------
        UsageError
            If it is one; ``what`` cannot be done to it.
        """
        if self.config.model not in HEADED:
            raise UsageError(
                f"model={self.config.model} cannot be {what}: its tasks have no heads on one representation",
                expected=" or ".join(HEADED),
                mend="fit a model with the tasks that are wanted",
            )

    @property
    def next_task(self) -> str | None:
        """The task whose item vectors lie in the space of rep; None without one.

        Of the kind ``next``; two towers (``dssm``) compare items with rep in those of kind ``item``, too.
        """
        kinds = ("next", "item") if self.config.model == "dssm" else ("next",)
        found = [name for kind in kinds for name, (task, _) in self.tasks.items() if task.kind == kind]
        return found[0] if found else None

    @property
    def clustered(self) -> dict[Side, Clusters]:
        """The table of the item ids, if it is clustered."""
        return clustered_items(self.network.item_table, self.fields.items["item_id"], self.trained_items)

    @property
    def meta(self) -> dict[str, Any]:
        """Manifest entries."""
        return {
            "system": SYSTEM,
            "variant": self.config.variant,
            "tasks": {name: task.kind for name, (task, _) in self.tasks.items()},
            "actions": {name: task.action for name, (task, _) in self.tasks.items()},
            "trained_until": self.trained_until,
            "time_kind": self.time_kind,
            "parameters": sum(weights.numel() for weights in self.network.parameters()),
            "bytes": self.sizes.total,
            "item_table_bytes": self.sizes.item_table,
            "C": self.num_vectors,
            "D": self.width,
        }

    @property
    def sizes(self) -> Sizes:
        """Bytes of the weights."""
        return Sizes.of(self.network, self.network.item_table)

    @torch.no_grad()
    def encode_items(self, item_table: pl.DataFrame) -> npt.NDArray[np.float32]:
        """Vectors of the items of any catalogue with an ``item_id`` column. ``→ float32 [N, R]``.

        As :attr:`next_task` compares them with users; zeros without one.

        Raises
        ------
        UsageError
            If the model has no vectors of users to compare them with.
        """
        network = self.representing.eval()
        if self.next_task is None:
            return np.zeros((len(item_table), self.width), np.float32)
        device = next(network.parameters()).device
        blocks = [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(item_table), ITEMS_AT_ONCE):
            items = ItemRows.of(item_table[start : start + ITEMS_AT_ONCE], self.fields).all(device)
            encoded = network.encoder.items.encoding(network.encoder.items(items))
            blocks.append(network.head(self.next_task).items(encoded).float().cpu().numpy())
        return np.concatenate(blocks)

    def item_states(self, item_table: pl.DataFrame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """State (index into ``STATES``) and training events of every item of a catalogue, ``[N]`` each."""
        trained = Vocabulary(self.trained_items["item_id"], "item_id").rows(item_table["item_id"])
        events = np.append(self.trained_items["events"].to_numpy(), 0)[trained]
        known = ItemRows.of(item_table, self.fields).is_known
        state = np.where(events > 0, WARM, np.where(known, COLD, EMPTY))
        return state.astype(np.uint8), events.astype(np.int64)

    def encode_users(self, dataset: Dataset, windows: Windows) -> npt.NDArray[np.float32]:
        """Represent users by all that they did before a moment, as if nobody searched: ``[W, 1, R]``.

        Raises
        ------
        UsageError
            If the model has no vectors of users.
        """
        samples = samples_at(windows, self.config.max_length)
        rep = represent(self.representing, samples, self.encoder_of(dataset), asks=False)
        return rep.astype(np.float32)[:, None]

    def encoder_of(self, dataset: Dataset) -> Encoder:
        """What turns samples of a Dataset into batches; of the one that was asked for last it is kept."""
        if not self._looked_up or self._looked_up[0] is not dataset:
            self._looked_up[:] = [dataset, Encoder.of(dataset, self.fields)]
        encoder: Encoder = self._looked_up[1]
        return encoder

    def save_into(self, stage: Path) -> None:
        """Write the model's files into a staging folder."""
        save_weights(self.network, stage)
        self.fields.save(stage / "fields")
        self.trained_items.write_parquet(stage / "items.parquet")
        (stage / "tasks").mkdir()
        for name, (_, known) in self.tasks.items():
            if known.names is not None:
                known.names.save(stage / "tasks" / f"{name}.parquet")
        config = {
            SYSTEM: asdict(self.config),
            "training": asdict(self.options),
            "fields": self.fields.names,
            "known": {
                name: {
                    "names": None if known.names is None else known.names.name,
                    "edges": known.edges,
                    "spreads": known.spreads,
                }
                for name, (_, known) in self.tasks.items()
            },
        }
        (stage / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")

    @classmethod
    def open(cls, path: Path | str) -> DUPN:
        """Read a Model folder.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged, or holds a model of another system.
        """
        path = Path(path)
        manifest = read_model_manifest(path, SYSTEM)
        written = json.loads((path / "config.json").read_text("utf-8"))
        config = DUPNConfig(**written[SYSTEM])
        tasks: Tasks = {}
        for name, task in (config.tasks or {}).items():
            known = written["known"][name]
            names = known["names"] and Vocabulary.load(path / "tasks" / f"{name}.parquet", known["names"])
            spreads = {one: (mean, deviation) for one, (mean, deviation) in known["spreads"].items()}
            tasks[name] = (task, Known(names, tuple(known["edges"]), spreads))
        model = cls.new(
            config,
            TrainingOptions(**written["training"]),
            Fields.load(path / "fields", written["fields"]),
            tasks,
            pl.read_parquet(path / "items.parquet"),
            manifest.meta["trained_until"],
            manifest.meta["time_kind"],
        )
        load_weights(model.network, path)
        model.network.eval()
        return replace(model, manifest=manifest)
