"""SAML: one ranking model for many scenarios (Chen et al., ICDMW 2020)."""

from polyvec.systems.saml.config import PRESETS, SAMLConfig, default, paper
from polyvec.systems.saml.extend import extend
from polyvec.systems.saml.fit import fit, plan
from polyvec.systems.saml.model import SAML

__all__ = ["PRESETS", "SAML", "SAMLConfig", "default", "extend", "fit", "paper", "plan"]
