from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from polyvec.data.dataset import Dataset
from polyvec.objectives.full_softmax import SMALL_CATALOGUE
from polyvec.systems.guim.config import PRESETS, GUIMConfig, default, paper
from polyvec.systems.guim.fit import fit
from polyvec.training.options import TrainingOptions

# --- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 130}, "width 130 is not a multiple of num_heads 4"),
        ({"user_heads": 4}, "user_heads needs num_vectors=1: GUIM-MH has one CLS token"),
        ({"masked_weight": 0, "matching_weight": 0}, "are both 0: nothing would be learned"),
        ({"masking": 0, "matching_weight": 0}, "are both 0: nothing would be learned"),
        ({"num_vectors": 0}, "num_vectors"),
        ({"masking": 1.0}, "masking"),
        ({"alpha": 0}, "alpha"),
        ({"log_q": 2}, "log_q"),
        ({"mixture": "mean"}, "mixture"),
        ({"num_vektors": 2}, "num_vektors"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GUIMConfig(**changes)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        GUIMConfig().width = 3  # type: ignore[misc]


# --- presets


def test_the_paper_preset_is_the_papers() -> None:
    config, options = paper()
    assert (config.num_layers, config.width, config.alpha, config.masking) == (3, 128, 20, 0.15)
    assert (config.id_width, config.category_width, config.word_width) == (128, 128, 32)
    assert (config.max_popular, config.max_words) == (200_000, 530_000)
    assert (config.negatives, config.num_negatives, options.batch_size) == ("sampled", 31, 32)
    assert (config.mixture, config.weighting, config.gelu, config.log_q) == ("max", "pairs", True, 0)
    assert (config.num_cutoffs, config.history_days, config.target_days) == (1, 365, 30)
    assert (config.masked_weight, config.matching_weight, config.start) == (1, 1, "bert")
    assert not config.competing
    assert paper(2)[0].num_vectors == 2


def test_the_default_preset_is_the_defaults() -> None:
    assert default()[0] == GUIMConfig()
    assert set(PRESETS) == {"default", "paper"}


@pytest.mark.parametrize(
    ("changes", "vectors"),
    [
        ({}, 4),
        ({"num_vectors": 1, "user_heads": 3}, 3),
        ({"matching_weight": 0}, 1),
        ({"matching_weight": 0, "num_vectors": 1, "user_heads": 3}, 1),
    ],
)
def test_users_have_one_vector_where_only_masked_items_are_learned(
    changes: dict[str, Any], vectors: int
) -> None:
    assert GUIMConfig(**changes).vectors_per_user == vectors


def test_auto_scores_all_items_of_a_small_catalogue_and_those_of_the_batch_of_a_large_one() -> None:
    config = GUIMConfig(negatives="auto")
    assert config.for_catalogue(SMALL_CATALOGUE).negatives == "catalogue"
    assert config.for_catalogue(SMALL_CATALOGUE + 1).negatives == "shared"
    for chosen in ("sampled", "shared", "catalogue"):
        assert GUIMConfig(negatives=chosen).for_catalogue(1).negatives == chosen  # type: ignore[arg-type]


# --- every option does something

SOFT = {"mixture": "soft_max"}
SAMPLED = {"negatives": "sampled"}
SHARED = {"negatives": "shared"}
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {  # option: (another value, what it needs to matter)
    "num_vectors": (3, {}),
    "width": (8, {}),
    "num_layers": (2, {}),
    "num_heads": (4, {}),
    "dropout": (0.3, {}),
    "id_width": (6, {}),
    "category_width": (6, {}),
    "word_width": (6, {}),
    "max_popular": (5, {}),
    "max_words": (3, {}),
    "item_table": ("int8", {}),
    "item_rows": (6, {"item_table": "hash", "item_rows": 4}),
    "gelu": (True, {}),
    "start": ("bert", {}),
    "competing": (False, {}),
    "user_heads": (2, {"num_vectors": 1}),
    "alpha": (20.0, {}),
    "mixture": ("attention", {}),
    "sharpness": (5.0, SOFT),
    "balance": (0.5, {}),
    "masking": (0.5, {}),
    "masked_weight": (0.5, {}),
    "matching_weight": (0.5, {}),
    "weighting": ("pairs", {}),
    "negatives": ("shared", {}),
    "num_negatives": (3, SAMPLED),
    "log_q": (1.0, SHARED),
    "history_days": (20.0, {}),
    "target_days": (10.0, {}),
    "num_cutoffs": (1, {}),
    "stride_days": (5.0, {}),
    "target_events": (3, {"order": True}),
    "habits": ((0.5, 0.25), {}),
    "max_length": (2, {}),
    "max_targets": (1, {}),
}
TRAINING_CHANGES: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.1,
    "warmup": 0.5,
    "final_rate": 1.0,
    "weight_decay": 5.0,
    "clip": 0.01,
    "seed": 1,
    "precision": "bfloat16",
}
ELSEWHERE = {"patience", "validate_every", "checkpoint_every", "device"}  # tested with the loop
Outcome = Callable[..., tuple[bytes, str]]


@pytest.fixture(scope="module")
def outcome(
    make_shop: Callable[..., Dataset],
    tiny: Callable[..., GUIMConfig],
    short: Callable[..., TrainingOptions],
    tmp_path_factory: pytest.TempPathFactory,
) -> Outcome:
    """Return a function that fits and gives what came out: the weights' bytes and the model's description."""
    known: dict[str, tuple[bytes, str]] = {}

    def run(config: dict[str, Any], training: dict[str, Any]) -> tuple[bytes, str]:
        key = repr((sorted(config.items()), sorted(training.items())))
        if key not in known:
            changes = dict(config)
            shop = make_shop(24, time_kind="order" if changes.pop("order", False) else "timestamp")
            out = tmp_path_factory.mktemp("outcome") / "m"
            model = fit(shop, out, tiny(**changes), short(**training), validation="none")
            assert model.manifest is not None
            known[key] = (
                (out / "weights.safetensors").read_bytes(),
                json.dumps(
                    {key: value for key, value in model.manifest.meta.items() if key != "training_seconds"}
                ),
            )
        return known[key]

    return run


def test_the_list_of_options_is_complete() -> None:
    assert {*CHANGES, "budget"} == {field.name for field in fields(GUIMConfig)}  # see test_budget
    assert set(TRAINING_CHANGES) | ELSEWHERE == {field.name for field in fields(TrainingOptions)}


@pytest.mark.parametrize("option", CHANGES)
def test_every_option_of_the_model_changes_what_comes_out(
    tiny: Callable[..., GUIMConfig], outcome: Outcome, option: str
) -> None:
    value, needed = CHANGES[option]
    assert asdict(tiny())[option] != value
    assert outcome(needed, {}) != outcome(needed | {option: value}, {})


@pytest.mark.parametrize("option", TRAINING_CHANGES)
def test_every_option_of_training_changes_what_comes_out(outcome: Outcome, option: str) -> None:
    assert outcome({}, {})[0] != outcome({}, {option: TRAINING_CHANGES[option]})[0]


def test_the_same_options_give_the_same_bytes(
    make_shop: Callable[..., Dataset],
    tiny: Callable[..., GUIMConfig],
    short: Callable[..., TrainingOptions],
    outcome: Outcome,
    tmp_path: Path,
) -> None:
    fit(make_shop(24), tmp_path / "again", tiny(), short(), validation="none")
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == outcome({}, {})[0]
