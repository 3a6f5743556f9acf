"""CEL: Clustered Embedding Learning (WWW 2023)."""

from polyvec.systems.cel.config import PRESETS, CELConfig, LiteConfig, deep, default, paper
from polyvec.systems.cel.fit import fit, plan, settled
from polyvec.systems.cel.lite_fit import fit as fit_stream
from polyvec.systems.cel.lite_fit import update
from polyvec.systems.cel.lite_model import LiteModel
from polyvec.systems.cel.lite_plan import plan as plan_stream
from polyvec.systems.cel.model import CEL

__all__ = [
    "CEL",
    "PRESETS",
    "CELConfig",
    "LiteConfig",
    "LiteModel",
    "deep",
    "default",
    "fit",
    "fit_stream",
    "paper",
    "plan",
    "plan_stream",
    "settled",
    "update",
]
