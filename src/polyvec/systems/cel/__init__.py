"""CEL: Clustered Embedding Learning (WWW 2023)."""

from polyvec.systems.cel.config import PRESETS, CELConfig, deep, paper
from polyvec.systems.cel.fit import fit
from polyvec.systems.cel.model import CEL

__all__ = ["CEL", "PRESETS", "CELConfig", "deep", "fit", "paper"]
