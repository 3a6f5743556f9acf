"""A fitted SAML, or a ranker that it is compared with: scores offers of items to users in scenarios.

On disk::

    weights.safetensors    the network
    fields/FIELD.parquet   item ids, categories … with a row in the tables
    config.json            SAMLConfig and TrainingOptions, resolved; scenarios, fields, means of the numbers
    training.jsonl, tensorboard/   what the run said
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polyvec.systems.folder import load_weights, read_model_manifest, save_weights
from polyvec.systems.saml.config import SAMLConfig
from polyvec.systems.saml.features import Counted, Encoder, Fields
from polyvec.systems.saml.network import ITEM_ID
from polyvec.systems.saml.objective import predict
from polyvec.systems.saml.rivals import make_network
from polyvec.systems.saml.samples import Samples, taken_before
from polyvec.systems.saml.vectors import ScenarioVectors
from polyvec.systems.sizes import Sizes
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from polyvec.artifact import Manifest
    from polyvec.data.dataset import Dataset, TimeKind
    from polyvec.data.offers import Offers
    from polyvec.systems.saml.network import SAMLNetwork
    from polyvec.systems.saml.rivals import Rival

SYSTEM = "saml"


@dataclass(frozen=True)
class SAML:
    """A fitted model.

    Attributes
    ----------
    config, options
        What it is and how it was trained.
    network
        The weights.
    fields
        What has a row in its tables, and how numbers are normalised.
    scenarios
        Those that it has learned, in the order that numbers them.
    read_until
        No event at or after this time was looked at, not even in validation; with an order a place from the
        end of every user's history, see :func:`polyvec.data.offers.draw_offers`.
    time_kind
        ``timestamp`` or ``order``.
    trained_until
        No event at or after this time was looked at; with an order after the last position that was.
    calibration
        Scale and shift of the logits, fitted on validation; 1 and 0 without.
    manifest
        Of the folder it was read from; None before it is saved.
    """

    config: SAMLConfig
    options: TrainingOptions
    network: SAMLNetwork | Rival
    fields: Fields
    scenarios: list[str]
    read_until: int
    time_kind: TimeKind
    trained_until: int
    calibration: tuple[float, float] = (1.0, 0.0)
    manifest: Manifest | None = None

    @classmethod
    def new(
        cls,
        config: SAMLConfig,
        options: TrainingOptions,
        fields: Fields,
        scenarios: list[str],
        read_until: int,
        time_kind: TimeKind,
        trained_until: int,
    ) -> SAML:
        """An untrained model; its weights follow from ``options.seed``."""
        torch.manual_seed(options.seed)
        network = make_network(config, fields.shape(len(scenarios)))
        return cls(config, options, network, fields, scenarios, read_until, time_kind, trained_until)

    @property
    def system(self) -> str:
        """Its name."""
        return SYSTEM

    @property
    def meta(self) -> dict[str, Any]:
        """Manifest entries."""
        return {
            "system": SYSTEM,
            "variant": self.config.method,
            "scenarios": self.scenarios,
            "read_until": self.read_until,
            "time_kind": self.time_kind,
            "trained_until": self.trained_until,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "bytes": self.sizes.total,
        }

    @property
    def sizes(self) -> Sizes:
        """Bytes of the weights; the item table is the global one of item ids."""
        return Sizes.of(self.network, self.network.view.everyone.table(ITEM_ID))

    def score(
        self, dataset: Dataset, offers: Offers
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Calibrated logits of offers ``[P]``, after what each user had taken before; and α ``[P, S]``.

        α of methods without a mutual unit is ``[P, 0]``.
        """
        past, length = taken_before(dataset, self.config), self.config.max_length
        samples = Samples.of(offers, dataset, past, length)
        logits, shares = predict(self.network, samples, Encoder.of(dataset, self.fields))
        return self.calibrated(logits), shares

    def calibrated(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Logits whose sigmoid is a chance."""
        scale, shift = self.calibration
        return scale * logits + shift

    def in_scenario(self, dataset: Dataset, scenario: str | None, stop: int) -> ScenarioVectors:
        """What writes vectors of users and items in one scenario: see :meth:`ScenarioVectors.of`."""
        return ScenarioVectors.of(self, dataset, scenario, stop)

    def save_into(self, stage: Path) -> None:
        """Write the model's files into a staging folder."""
        save_weights(self.network, stage)
        self.fields.save(stage / "fields")
        config = {
            SYSTEM: asdict(self.config),
            "training": asdict(self.options),
            "scenarios": self.scenarios,
            "fields": {"items": list(self.fields.items), "context": list(self.fields.context)},
            "numbers": self.fields.numbers,
            "counted": None if self.fields.counted is None else asdict(self.fields.counted),
            "calibration": self.calibration,
        }
        (stage / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")

    @classmethod
    def open(cls, path: Path | str) -> SAML:
        """Read a Model folder.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged, or holds a model of another system.
        """
        path = Path(path)
        manifest = read_model_manifest(path, SYSTEM)
        config = json.loads((path / "config.json").read_text("utf-8"))
        counted = config["counted"]
        if counted is not None:
            windows, scenarios = tuple(counted["windows"]), tuple(counted["scenarios"])
            counted = Counted(scenarios, counted["action"], windows)
        fields = Fields.load(path / "fields", **config["fields"], numbers=config["numbers"], counted=counted)
        model = cls.new(
            SAMLConfig(**config[SYSTEM]),
            TrainingOptions(**config["training"]),
            fields,
            config["scenarios"],
            manifest.meta["read_until"],
            manifest.meta["time_kind"],
            manifest.meta["trained_until"],
        )
        load_weights(model.network, path)
        model.network.eval()
        return replace(model, calibration=tuple(config["calibration"]), manifest=manifest)
