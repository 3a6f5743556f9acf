"""The methods of the study, and the settings that each is tried with."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

from polyvec.systems.saml import default, paper

SETTINGS = [
    {"learning_rate": rate, "dropout": dropout} for rate, dropout in product((1e-3, 3e-3), (0.1, 0.3))
]
"""Of every tuned method on every set, chosen by seed 0 on validation."""


@dataclass(frozen=True)
class Variant:
    """One method.

    Attributes
    ----------
    changes
        To the preset.
    preset
        Its name.
    tuned_as
        The method whose chosen setting it takes; none for one that is tuned itself.
    separate
        Whether a model is trained for each scenario.
    shuffled
        Whether users' scenarios are shuffled.
    widened
        Whether the global tables are as wide as those of all scenarios together: k_g + S k_l.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    preset: str = "default"
    tuned_as: str = ""
    separate: bool = False
    shuffled: bool = False
    widened: bool = False


def _ablation(*, shuffled: bool = False, widened: bool = False, **changes: Any) -> Variant:
    return Variant(changes, tuned_as="SAML", shuffled=shuffled, widened=widened)


RIVALS = {
    "shared bottom": "shared_bottom", "MMoE": "mmoe", "PLE": "ple", "STAR": "star", "PEPNet": "pepnet",
    "HMoE": "hmoe",
}  # fmt: skip
METHODS = {
    "SAML": Variant(),
    "mixed": Variant({"method": "mixed"}),
    "one each": Variant({"method": "mixed"}, separate=True),
    **{words: Variant({"method": name}) for words, name in RIVALS.items()},
    "SAML as published": Variant(preset="paper"),
    "SAML, scenarios shuffled": _ablation(shuffled=True),
    "mixed, scenarios shuffled": Variant({"method": "mixed"}, tuned_as="mixed", shuffled=True),
    "SAML, no mutual unit": _ablation(mutual="none"),
    "SAML, tables of scenarios": _ablation(embeddings="both"),
    "SAML, wider tables": _ablation(widened=True),
    "mixed, wider tables": Variant({"method": "mixed"}, tuned_as="mixed", widened=True),
    "SAML, branches apart": _ablation(independence=1.0),
    "SAML, auxiliary loss of weight 1": _ablation(auxiliary_weight=1.0),
    "SAML, no auxiliary loss": _ablation(auxiliary_weight=0.0),
    "SAML, no auxiliary network": _ablation(auxiliary=False),
    "SAML, mutual on all levels": _ablation(mutual="all"),
    "SAML, gate open": _ablation(gate="open"),
    "SAML, equal shares": _ablation(shares="uniform"),
    "SAML, sharp shares": _ablation(shares="softmax", temperature=0.1),
    "SAML, others trained, too": _ablation(detach_others=False),
    "SAML, tables and attention of scenarios, own values": _ablation(embeddings="both", values="specific"),
    "SAML, tables of scenarios, one attention": _ablation(embeddings="both", attention="global"),
}
PRESETS = {"default": default, "paper": paper}
