"""A model is the same bits however often it is trained, on several threads, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from polyvec.systems import dupn
from polyvec.systems.dupn import Task


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("model", ["dupn", "wide_deep"])
def test_training_twice_gives_the_same_bits(dataset, options, last_week, tmp_path, model):
    config, _ = dupn.default()
    dataset = dataset.keep(np.arange(dataset.num_events) < dataset.user_offsets[25])
    tasks = {"click": Task("item"), "price": Task("class", column="price")}
    if model == "dupn":
        tasks["next"] = Task("next")
    config = replace(config, tasks=tasks, model=model, max_length=20, width=64, deep=(64, 32))
    short = replace(options, epochs=1, batch_size=512)
    first, again = (
        dupn.fit(
            dataset, tmp_path / name, config, short, until=last_week, validation="none"
        ).network.state_dict()
        for name in "ab"
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
