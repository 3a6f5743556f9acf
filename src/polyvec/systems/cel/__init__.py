"""CEL: Clustered Embedding Learning (WWW 2023)."""

from polyvec.systems.cel.config import PRESETS, CELConfig, paper
from polyvec.systems.cel.fit import fit, plan
from polyvec.systems.cel.model import CEL

__all__ = ["CEL", "PRESETS", "CELConfig", "fit", "paper", "plan"]
