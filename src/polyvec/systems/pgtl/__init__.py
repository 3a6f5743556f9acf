"""PGTL: item representations of a small market, guided by a large one (Li et al., IAAI 2022)."""

from polyvec.systems.pgtl.config import PRESETS, PGTLConfig, default, paper
from polyvec.systems.pgtl.fit import fit, plan
from polyvec.systems.pgtl.model import PGTL

__all__ = ["PGTL", "PRESETS", "PGTLConfig", "default", "fit", "paper", "plan"]
