"""Open a Model whose system is not known beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvec.artifact import read_manifest
from polyvec.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from polyvec.systems.embed import Encoder, HasScenarios


def open_model(path: Path) -> Encoder | HasScenarios:
    """Read a Model folder of any system that encodes users and items.

    Raises
    ------
    ArtifactError
        If the folder is missing, damaged, or holds a model of a system that is not known.
    """
    system = read_manifest(path, "model").meta.get("system")
    if system == "guim":
        from polyvec.systems.guim import GUIM

        return GUIM.open(path)
    if system == "sasrec":
        from polyvec.systems.sasrec import SASRec

        return SASRec.open(path)
    if system == "cel":
        from polyvec.systems.cel import CEL

        return CEL.open(path)
    if system == "cel-lite":
        from polyvec.systems.cel import LiteModel

        return LiteModel.open(path)
    if system == "pgtl":
        from polyvec.systems.pgtl import PGTL

        return PGTL.open(path)
    if system == "dupn":
        from polyvec.systems.dupn import DUPN

        return DUPN.open(path)
    if system == "saml":
        from polyvec.systems.saml import SAML

        return SAML.open(path)
    raise ArtifactError(
        f"{path} holds a model of system '{system}'",
        file=path,
        expected="'guim', 'sasrec', 'cel', 'cel-lite', 'pgtl', 'dupn' or 'saml'",
    )
