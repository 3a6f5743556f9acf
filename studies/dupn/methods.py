"""The methods of the study, and the settings that each is tried with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from sets import SETS

from polyvec.systems.dupn import Task
from polyvec.systems.dupn.config import ANSWERS
from polyvec.systems.dupn.transfer import How

SETTINGS = [
    {"learning_rate": rate, "dropout": dropout} for rate, dropout in ((2e-3, 0.1), (5e-3, 0.1), (5e-3, 0.3))
]
"""Of every tuned method on every set, chosen by seed 0 on validation."""
RATES = [{"learning_rate": rate, "dropout": 0.1} for rate in (5e-3, 1e-2, 3e-2)]
"""As many, of logistic regression, which has nothing to drop out."""
HEAD_RATES = [{"learning_rate": rate, "dropout": 0.1} for rate in (5e-3, 2e-2, 6e-2)]
"""As many, of a head on a frozen encoder: what was never trained says all in small numbers."""
ALL, UNCERTAINTY, BY_HAND = "all", "uncertainty weights", "weights by hand"
SHARES, TUNED_SHARE = (5, 20, 100), 20
"""Of the labels of the task that is held out, in per cent; the one that the setting is chosen with."""


@dataclass(frozen=True)
class Variant:
    """One method.

    Attributes
    ----------
    changes
        To the set's configuration.
    settings
        That it is tried with.
    tuned_as
        The method whose chosen setting it takes; empty for one that is tuned itself.
    task
        The one that is trained alone; empty for all.
    how
        The way of transfer to the task that is held out; empty for what is trained on tasks.
    share
        Of its labels, in per cent.
    encoder_rate
        Learning rate of the encoder, in parts of the head's.
    blank
        Whether what is transferred was never trained.
    weighted
        Whether losses are added with the weights of the set.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    settings: list[dict[str, float]] = field(default_factory=lambda: SETTINGS)
    tuned_as: str = ""
    task: str = ""
    how: How | None = None
    share: int = 100
    encoder_rate: float = 1.0
    blank: bool = False
    weighted: bool = False


RIVALS = {
    "wide": Variant({"model": "wide"}, RATES),
    "wide & deep": Variant({"model": "wide_deep"}),
    "DSSM": Variant({"model": "dssm"}),
    "CNN-max": Variant({"model": "cnn_max"}),
    "word2vec items": Variant({"item_vectors": "word2vec"}),
}
TRANSFERS: dict[str, dict[str, Any]] = {
    "rt": {"how": "rt", "settings": HEAD_RATES},
    "ft": {"how": "ft"},
    "ft, encoder slow": {"how": "ft", "encoder_rate": 0.1},
    "rs": {"how": "rs"},
    "random frozen": {"how": "rt", "settings": HEAD_RATES, "blank": True},
}
VARIANTS = {
    ALL: Variant(),
    "nobp": Variant({"properties": "none"}),
    "bplstm": Variant({"properties": "gates"}, tuned_as=ALL),
    "bpatt": Variant({"properties": "attention"}, tuned_as=ALL),
    "mean pooling": Variant({"pooling": "mean"}),
    UNCERTAINTY: Variant({"loss_weights": "uncertainty"}),
    BY_HAND: Variant(weighted=True),
    **RIVALS,
}


def alone(task: str) -> str:
    """Name of the method that is a model of one task."""
    return f"{task} alone"


def transferred(how: str, share: int) -> str:
    """Name of the method that learns the task that is held out from a share of its labels."""
    return f"{how}, {share} %"


def methods_of(name: str) -> dict[str, Variant]:
    """Methods of a set that can answer a task of it."""
    one = SETS[name]
    found = VARIANTS | {alone(task): Variant(task=task) for task in one.tasks}
    for how, share in product(TRANSFERS if one.held_out else (), SHARES):
        tuned_as = "" if share == TUNED_SHARE else transferred(how, TUNED_SHARE)
        found[transferred(how, share)] = Variant(share=share, tuned_as=tuned_as, **TRANSFERS[how])
    return {method: variant for method, variant in found.items() if tasks_of(name, variant)}


def tasks_of(name: str, variant: Variant) -> dict[str, Task]:
    """What a method is trained on and asked."""
    if variant.how:
        return SETS[name].held_out
    tasks, weights = SETS[name].tasks, SETS[name].weights
    if variant.weighted:
        return {task: replace(one, weight=weights.get(task, 1.0)) for task, one in tasks.items() if weights}
    if variant.task:
        return {variant.task: tasks[variant.task]}
    kinds = ANSWERS[variant.changes.get("model", "dupn")]
    return {task: one for task, one in tasks.items() if one.kind in kinds}
