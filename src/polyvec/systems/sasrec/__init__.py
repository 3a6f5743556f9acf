"""SASRec: the strong baseline of one vector per user (Kang and McAuley 2018), with a full softmax.

Read in this order: ``config``, ``network``, ``objective``, ``fit``, ``model`` (the fitted model).
"""

from polyvec.systems.sasrec.config import PRESETS, SASRecConfig, default
from polyvec.systems.sasrec.fit import fit, plan, settled
from polyvec.systems.sasrec.model import SASRec

__all__ = ["PRESETS", "SASRec", "SASRecConfig", "default", "fit", "plan", "settled"]
