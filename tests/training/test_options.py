from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from pydantic import ValidationError

from polyvec.training.options import TrainingOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("warmup", 1.0),
        ("final_rate", 1.1),
        ("weight_decay", -0.1),
        ("clip", -0.1),
        ("patience", -1),
        ("validate_every", 0),
        ("seed", -1),
        ("precision", "half"),
        ("device", "tpu"),
        ("checkpoint_every", 0),
        ("epochs", 1.5),
        ("batchsize", 3),
    ],
)
def test_a_value_out_of_range_and_an_unknown_name_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        TrainingOptions(**{name: value})  # type: ignore[arg-type]


def test_options_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainingOptions().epochs = 3  # type: ignore[misc]
