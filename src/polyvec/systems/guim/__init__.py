"""GUIM: general user and item embedding with mixture of representation (Yang et al. 2022).

Read in this order: ``config`` (the paper's symbols), ``network`` (figure 1), ``objective`` (section 3.3),
``windows`` (section 4.1), ``fit``, ``model`` (the fitted model).
"""

from polyvec.systems.guim.config import PRESETS, GUIMConfig, default, paper
from polyvec.systems.guim.fit import fit, plan, settled
from polyvec.systems.guim.model import GUIM
from polyvec.systems.guim.update import update

__all__ = ["GUIM", "PRESETS", "GUIMConfig", "default", "fit", "paper", "plan", "settled", "update"]
