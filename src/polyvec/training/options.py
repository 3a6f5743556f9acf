"""What a training run needs, apart from what a model is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainingOptions:
    """One training run.

    Attributes
    ----------
    epochs
        Passes over the samples, at most.
    batch_size
        Samples per step.
    learning_rate
        Peak of Adam's step size, for all weights.
    warmup
        Share of all steps in which the learning rate rises from 0; it then falls linearly to ``final_rate``
        of its peak.
    final_rate
        Where the decay of the learning rate ends, as a share of the peak.
    weight_decay
        Decoupled weight decay of matrices (not of tables, biases and norms).
    clip
        Largest norm of all gradients together; 0 sets no limit.
    patience
        Validations without improvement before training stops; 0 never stops early.
    validate_every
        Epochs between validations.
    seed
        Root of all randomness.
    precision
        ``bfloat16`` autocast, ``float32``, or ``auto``: bfloat16 where the processor multiplies faster in it.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    checkpoint_every
        Steps between checkpoints.
    """

    epochs: Annotated[int, Field(gt=0)] = 20
    batch_size: Annotated[int, Field(gt=0)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(ge=0)] = 1.0
    patience: Annotated[int, Field(ge=0)] = 3
    validate_every: Annotated[int, Field(gt=0)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    checkpoint_every: Annotated[int, Field(gt=0)] = 500
