"""The models of the study, by the question that they answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from polyvec.systems import guim, sasrec
from polyvec.systems.guim import GUIMConfig
from polyvec.systems.sasrec import SASRecConfig
from polyvec.training.options import TrainingOptions

WIDTH = 128  # d of the paper
ALPHA = 20.0  # of the paper; the default preset has had 10 since it was better on validation


@dataclass(frozen=True)
class Recipe:
    """One model.

    Attributes
    ----------
    part
        The question it answers: ``--parts`` of the study.
    config, options
        The model; without ``by_validation`` the number of epochs is the data set's.
    by_validation
        The number of epochs is chosen on the window before the test's, and a second model trained on
        everything before the test.
    profiles
        Whether profiles are predicted from its vectors.
    """

    part: str
    config: GUIMConfig | SASRecConfig
    options: TrainingOptions
    by_validation: bool = False
    profiles: bool = False


def recipes() -> dict[str, Recipe]:
    """All models by name; what most depends on comes first."""
    return {**_table_2(), **_figures(), **_bytes(), **_ablations(), **_preset(), **_paper(), **_balanced()}


def _guim(part: str, *, profiles: bool = False, batch_size: int | None = None, **changes: Any) -> Recipe:
    """Make a recipe of the default one with the paper's α: changes are those of its configuration."""
    config, options = guim.default()
    changes = {"alpha": ALPHA} | changes
    if batch_size is not None:
        options = replace(options, batch_size=batch_size)
    return Recipe(part, replace(config, **changes), options, profiles=profiles)


def _table_2() -> dict[str, Recipe]:
    """Table 2: C vectors of width d, or one vector of width C·d."""
    found = {f"GUIM C={c}": _guim("table2", num_vectors=c, profiles=True) for c in (1, 4, 2, 3)}
    for c in (4, 2, 3):
        found[f"GUI-EDI C={c}"] = _guim("table2", num_vectors=1, width=c * WIDTH, profiles=True)
    return found


def _figures() -> dict[str, Recipe]:
    """Figures 2 and 3: C to 32, CLS tokens or heads."""
    found = {f"GUIM C={c}": _guim("figures", num_vectors=c, profiles=True) for c in (8, 16, 32)}
    for c in (4, 8, 1, 2, 16, 32):
        found[f"GUIM-MH C={c}"] = _guim("figures", num_vectors=1, user_heads=c, profiles=True)
    return found


def _bytes() -> dict[str, Recipe]:
    """A set of vectors beside the strong single-vector baseline: 128 and 512 numbers per user."""
    config, options = sasrec.default()
    found = {
        f"SASRec D={width}": Recipe("bytes", replace(config, width=width), options, by_validation=True)
        for width in (128, 512)
    }
    for name, alpha in {"GUIM C=4, D=32": ALPHA, "GUIM C=4, D=32, α=10": 10.0}.items():
        found[name] = _guim("bytes", num_vectors=4, width=32, alpha=alpha)
    return found


def _ablations() -> dict[str, Recipe]:
    """One change at a time to GUIM with C = 4."""
    changes: dict[str, dict[str, Any]] = {
        "free CLS tokens": {"competing": False},
        "matching alone": {"masked_weight": 0.0},
        "masked items weigh 1": {"masked_weight": 1.0},
        "α=5": {"alpha": 5.0},
        "α=10": {"alpha": 10.0},
        "α=40": {"alpha": 40.0},
        "masking 0.3": {"masking": 0.3},
        "masking 0.5": {"masking": 0.5},
        "K=31": {"negatives": "sampled", "num_negatives": 31},
        "K=127": {"negatives": "sampled", "num_negatives": 127},
        "shared negatives": {"negatives": "shared"},
        "batch 32": {"batch_size": 32},
        "batch 256": {"batch_size": 256},
        "attention score": {"mixture": "attention"},
        "soft max": {"mixture": "soft_max"},
        "BERT's start": {"start": "bert"},
        "pairs weigh alike": {"weighting": "pairs"},
        "one cut-off": {"num_cutoffs": 1},
    }
    found = {f"GUIM C=4, {name}": _guim("ablations", num_vectors=4, **each) for name, each in changes.items()}
    masked = _guim("ablations", num_vectors=1, matching_weight=0.0)
    return found | {"GUIM C=1, masked items alone": masked}


def _preset() -> dict[str, Recipe]:
    """The default preset as it is: α = 10; with C = 4 it is one of the ablations."""
    return {f"GUIM C={c}, α=10": _guim("preset", num_vectors=c, alpha=10.0) for c in (1, 8)}


def _balanced() -> dict[str, Recipe]:
    """What may keep vectors from dying."""
    changes: dict[str, dict[str, Any]] = {
        "balance 1": {"balance": 1.0, "sharpness": 100.0},
        "balance 0.3": {"balance": 0.3, "sharpness": 100.0},
        "soft max": {"mixture": "soft_max"},
    }
    return {
        f"GUIM C=4, α=10, {name}": _guim("balance", num_vectors=4, alpha=10.0, **each)
        for name, each in changes.items()
    }


def _paper() -> dict[str, Recipe]:
    """The recipe as published, trained until it is best on validation; and once with log-q correction."""
    found = {}
    for c in (1, 4, 8):
        config, options = guim.paper(c)
        found[f"GUIM C={c}, paper's recipe"] = Recipe("paper", config, options, by_validation=True)
    config, options = guim.paper(4)
    corrected = Recipe("paper", replace(config, log_q=1.0), options, by_validation=True)
    return found | {"GUIM C=4, paper's recipe, log q": corrected}
