"""DUPN: one representation of a user's behaviour for many tasks (Ni et al., KDD 2018)."""

from polyvec.systems.dupn.config import PRESETS, DUPNConfig, Task, default, paper
from polyvec.systems.dupn.fit import fit, plan
from polyvec.systems.dupn.model import DUPN
from polyvec.systems.dupn.transfer import transfer
from polyvec.systems.dupn.update import update

__all__ = ["DUPN", "PRESETS", "DUPNConfig", "Task", "default", "fit", "paper", "plan", "transfer", "update"]
