from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from polyvec.artifact import Manifest, read_manifest, verify, writing
from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.split import Windows, cut
from polyvec.errors import ArtifactError, TrainingError, UsageError
from polyvec.systems.guim import GUIM, GUIMConfig, fit
from polyvec.systems.guim.fit import _training_counts
from polyvec.systems.guim.validation import REPEAT_WEIGHTS, TREND_WEIGHTS, Validator
from polyvec.training.loop import Trainer
from polyvec.training.options import TrainingOptions

DAY = MICROSECONDS_PER_DAY
UNTIL = 100 * DAY
Faults = Callable[..., Iterator[tuple[Path, str]]]
Config = Callable[..., GUIMConfig]
Options = Callable[..., TrainingOptions]
Bytes = Callable[[Path], bytes]


class Killed(BaseException):
    """The process dies here."""


def die(*_: object) -> None:
    raise Killed


class Steps:
    """Stand in for Trainer._step: count, and die before a given step."""

    def __init__(self, die_at: int | None = None) -> None:
        self.done, self._die_at, self._step = 0, die_at, Trainer._step

    def __get__(self, trainer: Trainer, _: type) -> Callable[..., Any]:
        return lambda *arguments: self._count(trainer, *arguments)

    def _count(self, trainer: Trainer, *arguments: Any) -> Any:
        if self.done == self._die_at:
            raise Killed
        self.done += 1
        return self._step(trainer, *arguments)


class SilentWriter:
    """TensorBoard's writer without its thread, which waits for ever if it dies in its place."""

    def __init__(self, folder: str, purge_step: int) -> None:
        Path(folder).mkdir(exist_ok=True)
        Path(folder, f"events-{purge_step}").touch()

    def close(self) -> None:
        """Nothing is open."""


def listed(manifest: Manifest | None) -> set[str]:
    """Files of a Model but TensorBoard's, of which every attempt has its own."""
    return {name for name in manifest.files if "tensorboard" not in name} if manifest else set()


@contextmanager
def killed_in(owner: type, method: str) -> Iterator[None]:
    """Die where the block calls the method."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, die)
        with pytest.raises(Killed):
            yield


# --- what a Model is


def test_a_model_folder_holds_weights_vocabularies_configuration_and_what_the_run_said(
    shop: Dataset, tiny: Config, short: Options, tmp_path: Path
) -> None:
    model = fit(shop, tmp_path / "m", tiny(), short(epochs=2))
    assert model.manifest == verify(tmp_path / "m", "model")
    names = {name.split("/")[0] for name in model.manifest.files}
    assert names == {
        "weights.safetensors",
        "fields",
        "items.parquet",
        "config.json",
        "card.md",
        "training.jsonl",
        "tensorboard",
        "optimizers.safetensors",
    }
    meta = model.manifest.meta
    assert (meta["system"], meta["C"], meta["D"], meta["time_kind"]) == ("guim", 2, 16, "timestamp")
    assert meta["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert meta["steps"] == 2 * (meta["steps"] // 2) > 0
    assert 0 <= meta["validation"] <= 1
    assert meta["best_epoch"] in (0, 1)
    assert meta["training_seconds"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    epochs = [
        record
        for record in map(json.loads, (tmp_path / "m" / "training.jsonl").read_text().splitlines())
        if record["event"] == "epoch"
    ]
    assert [record["epoch"] for record in epochs] == [0, 1]
    for record in epochs:  # pitfall 5 and speed
        assert sum(record["wins"]) == pytest.approx(1, abs=1e-5)
        assert 1 <= record["effective_rank"] <= 2.001
        assert -1 <= record["cosine"] <= 1
        assert {"masked_loss", "matching_loss", "tokens_per_s", "peak_rss_mb"} <= record.keys()


def test_what_is_opened_is_what_was_fitted(fitted: GUIM, shop: Dataset, tmp_path: Path) -> None:
    windows = cut(shop, UNTIL, 60, 0)
    meta = {**fitted.meta, "habits": {}}
    with writing(tmp_path / "copy", "model", meta=meta) as stage:
        fitted.save_into(stage)
    opened = GUIM.open(tmp_path / "copy")
    assert asdict(opened.config) == asdict(fitted.config)
    assert opened.options == fitted.options
    assert np.array_equal(opened.encode_users(shop, windows), fitted.encode_users(shop, windows))
    assert np.array_equal(opened.encode_items(shop.item_table), fitted.encode_items(shop.item_table))


def test_a_model_of_another_system_and_a_folder_of_another_kind_are_refused(
    fitted: GUIM, tmp_path: Path
) -> None:
    for name, kind, system in [("other", "model", "saml"), ("data", "dataset", "guim")]:
        with writing(tmp_path / name, kind, meta={"system": system}):
            pass
    with pytest.raises(ArtifactError, match="holds a model of system 'saml'"):
        GUIM.open(tmp_path / "other")
    with pytest.raises(ArtifactError, match="is a folder of kind 'dataset'"):
        GUIM.open(tmp_path / "data")


# --- nothing of the future


@pytest.mark.parametrize("validation", ["users", "window"])
def test_what_happens_at_or_after_the_moment_changes_no_weight(
    shop: Dataset, tiny: Config, short: Options, weights_of: Bytes, tmp_path: Path, validation: Any
) -> None:
    future = shop.times >= UNTIL
    assert future.sum() > 50
    rows = np.where(future, (shop.item_rows + 7) % shop.num_items, shop.item_rows).astype(np.int32)
    models = [
        fit(data, tmp_path / name, tiny(), short(), until=UNTIL, validation=validation)
        for name, data in [("real", shop), ("changed", replace(shop, item_rows=rows))]
    ]
    assert weights_of(tmp_path / "real") == weights_of(tmp_path / "changed")
    measured = ("habits", "training_seconds")
    metas = [{k: v for k, v in m.manifest.meta.items() if k not in measured} for m in models if m.manifest]
    assert metas[0] == metas[1]
    assert models[0].manifest.meta["habits"] == models[1].manifest.meta["habits"]  # type: ignore[union-attr]
    past = (shop.times < UNTIL) & (shop.times > UNTIL - 15 * DAY)
    rows = np.where(past, (shop.item_rows + 7) % shop.num_items, shop.item_rows).astype(np.int32)
    fit(replace(shop, item_rows=rows), tmp_path / "past", tiny(), short(), until=UNTIL, validation=validation)
    assert weights_of(tmp_path / "real") != weights_of(tmp_path / "past") or validation == "window"


def test_events_that_are_held_back_change_no_weight(
    make_shop: Callable[..., Dataset], tiny: Config, short: Options, weights_of: Bytes, tmp_path: Path
) -> None:
    shop = make_shop(30, time_kind="order")
    last = np.zeros(shop.num_events, dtype=bool)
    last[shop.user_offsets[1:] - 1] = True
    rows = np.where(last, (shop.item_rows + 7) % shop.num_items, shop.item_rows).astype(np.int32)
    config = tiny(target_events=3, num_cutoffs=2)
    for name, data in [("real", shop), ("changed", replace(shop, item_rows=rows))]:
        fit(data, tmp_path / name, config, short(), held_back=1)
    assert weights_of(tmp_path / "real") == weights_of(tmp_path / "changed")


def test_only_purchases_are_read(
    shop: Dataset, tiny: Config, short: Options, weights_of: Bytes, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    clicks = random.random(shop.num_events) < 0.3
    mixed = replace(
        shop, columns={"action": clicks.astype(np.int32)}, codes={"action": ["purchase", "click"]}
    )
    fit(mixed, tmp_path / "mixed", tiny(), short(), until=UNTIL)
    fit(mixed.only_action(), tmp_path / "pure", tiny(), short(), until=UNTIL)
    assert weights_of(tmp_path / "mixed") == weights_of(tmp_path / "pure")


def test_items_are_counted_once_per_event_of_any_training_window() -> None:
    data = Dataset.from_rows([("ann", item, n) for n, item in enumerate("aabcab")])
    zeros = np.zeros(2, dtype=np.int64)
    windows = Windows(zeros, np.array([0, 1]), np.array([2, 2]), np.array([2, 2]), np.array([3, 3]), zeros)
    assert _training_counts(data, windows).tolist() == [2, 1, 0]
    gap = Windows(zeros, np.array([0, 4]), np.array([1, 5]), np.array([1, 5]), np.array([1, 6]), zeros)
    assert _training_counts(data, gap).tolist() == [2, 1, 0]
    assert _training_counts(data, windows[:0]).tolist() == [0, 0, 0]


# --- validated on a later window, then trained on everything


def test_a_refit_is_the_training_without_validation_with_what_validation_chose(
    shop: Dataset, tiny: Config, short: Options, weights_of: Bytes, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"until": UNTIL}
    chosen = fit(shop, tmp_path / "window", tiny(), short(), validation="window", **arguments)
    refitted = fit(shop, tmp_path / "refit", tiny(), short(), validation="window", refit=True, **arguments)
    fit(shop, tmp_path / "all", tiny(), short(), validation="none", **arguments)
    assert weights_of(tmp_path / "refit") == weights_of(tmp_path / "all")
    assert weights_of(tmp_path / "refit") != weights_of(tmp_path / "window")
    assert chosen.trained_until < refitted.trained_until == UNTIL
    for key in ("validation", "best_epoch", "habits"):
        assert refitted.manifest.meta[key] == chosen.manifest.meta[key]  # type: ignore[union-attr]
    journals = ["training.jsonl", "refit/training.jsonl"]
    assert set(journals) <= listed(verify(tmp_path / "refit", "model"))
    lines = [line for name in journals for line in (tmp_path / "refit" / name).read_text().splitlines()]
    epochs = sum(json.loads(line).get("seconds", 0) for line in lines)  # of both runs
    assert refitted.manifest.meta["training_seconds"] > epochs - 0.01  # type: ignore[union-attr]


def test_the_card_tells_what_the_model_was_made_from_and_chosen_by(
    shop: Dataset, make_shop: Callable[..., Dataset], tiny: Config, short: Options, tmp_path: Path
) -> None:
    model = fit(shop, tmp_path / "m", tiny(), short(), until=UNTIL, validation="window", refit=True)
    card = (tmp_path / "m" / "card.md").read_text("utf-8")
    meta = model.manifest.meta if model.manifest else {}
    assert "2 vectors of 16 numbers per user" in card
    assert "* 720 purchases of 60 users and 25 items, of which 24 items were trained on" in card
    assert "nothing at or after 1970-04-11" in card
    assert f"* recall {meta['validation']:.4f} after epoch 1, the best on the latest window" in card
    assert "then trained again on everything" in card
    assert "num_vectors = 2, width = 16" in card
    fit(make_shop(30, time_kind="order"), tmp_path / "o", tiny(target_events=3), short(), validation="none")
    card = (tmp_path / "o" / "card.md").read_text("utf-8")
    assert "* nothing was validated" in card
    assert "nothing that was held back" in card


def test_a_refit_stops_after_the_best_epoch(
    shop: Dataset, tiny: Config, short: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0.5, 0.9, 0.1])
    monkeypatch.setattr(Validator, "__call__", lambda _: next(found))
    fit(shop, tmp_path / "m", tiny(), short(epochs=3), refit=True)
    lines = (tmp_path / "m" / "refit" / "training.jsonl").read_text().splitlines()
    assert [record["epoch"] for record in map(json.loads, lines) if record["event"] == "epoch"] == [0, 1]


def test_a_refit_that_was_killed_goes_on_where_it_was(
    shop: Dataset, tiny: Config, short: Options, weights_of: Bytes, tmp_path: Path
) -> None:
    options = short(epochs=2, checkpoint_every=1)
    fit(shop, tmp_path / "whole", tiny(), options, refit=True)
    lines = (tmp_path / "whole" / "training.jsonl").read_text("utf-8").splitlines()
    first_run = max(json.loads(line)["step"] for line in lines)
    steps = Steps(die_at=first_run + 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", steps)
        with pytest.raises(Killed):
            fit(shop, tmp_path / "m", tiny(), options, refit=True)
    steps = Steps()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", steps)
        fit(shop, tmp_path / "m", tiny(), options, refit=True, resume=True)
    assert 0 < steps.done < read_manifest(tmp_path / "whole", "model").meta["steps"]
    assert weights_of(tmp_path / "m") == weights_of(tmp_path / "whole")


def test_a_refit_without_validation_is_refused(
    shop: Dataset, tiny: Config, short: Options, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="refit has no validation to follow"):
        fit(shop, tmp_path / "m", tiny(), short(), validation="none", refit=True)
    assert list(tmp_path.iterdir()) == []


def test_the_trend_is_chosen_on_a_later_window_only(
    shop: Dataset, tiny: Config, short: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Validator,
        "by_weights",
        lambda _, grid: {weights: weights.trend + weights.repeats for weights in grid},
    )
    habits = {
        validation: fit(shop, tmp_path / validation, tiny(), short(), validation=validation).manifest.meta[  # type: ignore[arg-type,union-attr]
            "habits"
        ]
        for validation in ("users", "window", "none")
    }
    best = {"repeats": max(REPEAT_WEIGHTS), "trend": max(TREND_WEIGHTS)}
    assert habits == {"users": best | {"trend": 0}, "window": best, "none": {"repeats": 0, "trend": 0}}


def test_the_lists_of_validation_are_a_tenth_of_a_small_catalogue(shop: Dataset, fitted: GUIM) -> None:
    assert Validator(fitted, shop, cut(shop, UNTIL, 60, 20)).k == 3  # of 25 items


# --- in the way, interrupted, resumed


def test_an_existing_folder_is_refused_before_anything_is_trained(
    shop: Dataset, tiny: Config, short: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    fit(shop, tmp_path / "m", tiny(), short())
    monkeypatch.setattr(Trainer, "run", die)
    with pytest.raises(ArtifactError, match="exists already"):
        fit(shop, tmp_path / "m", tiny(), short())
    with pytest.raises(ArtifactError, match="was not written by polyvec"):
        fit(shop, tmp_path / "photos", tiny(), short(), overwrite=True)


def test_a_moment_that_the_data_lacks_is_refused(
    shop: Dataset, tiny: Config, short: Options, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="held_back is for data with an order column"):
        fit(shop, tmp_path / "m", tiny(), short(), held_back=1)
    assert list(tmp_path.iterdir()) == []


def test_an_old_model_stays_until_the_new_one_is_whole(
    shop: Dataset, tiny: Config, short: Options, weights_of: Bytes, tmp_path: Path
) -> None:
    fit(shop, tmp_path / "m", tiny(), short())
    old = weights_of(tmp_path / "m")
    with killed_in(GUIM, "save_into"):
        fit(shop, tmp_path / "m", tiny(), short(seed=1), overwrite=True)
    assert weights_of(tmp_path / "m") == old
    fit(shop, tmp_path / "m", tiny(), short(seed=1), overwrite=True, resume=True)
    assert weights_of(tmp_path / "m") != old


def test_a_folder_interrupted_at_any_file_operation_is_absent_or_whole_and_resumes(
    shop: Dataset,
    tiny: Config,
    short: Options,
    weights_of: Bytes,
    tmp_path: Path,
    fail_at_operation: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the writing is repeated at each fault: the training is done, and lies in the workspace."""
    with killed_in(GUIM, "save_into"):
        fit(shop, tmp_path / "m", tiny(), short(), until=UNTIL)
    expected = fit(shop, tmp_path / "whole", tiny(), short(), until=UNTIL)
    steps: list[int] = []
    monkeypatch.setattr("polyvec.training.journal.SummaryWriter", SilentWriter)

    def write(folder: Path) -> None:
        fit(shop, folder / "m", tiny(), short(), until=UNTIL, resume=True)

    for folder, fault in fail_at_operation(
        write, lambda f: shutil.copytree(tmp_path / ".m.run", f / ".m.run")
    ):
        if (folder / "m").exists():
            assert listed(read_manifest(folder / "m", "model")) == listed(expected.manifest), fault
        else:
            monkeypatch.setattr(Trainer, "_step", lambda *_: steps.append(1))
            fit(shop, folder / "m", tiny(), short(), until=UNTIL, resume=True)
            assert steps == [], fault
        assert weights_of(folder / "m") == weights_of(tmp_path / "whole"), fault
        shutil.rmtree(folder)


@pytest.mark.parametrize("change", ["config", "options", "until", "validation", "data"])
def test_a_run_of_something_else_is_not_resumed(
    shop: Dataset,
    make_shop: Callable[..., Dataset],
    tiny: Config,
    short: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    with killed_in(Trainer, "run"):
        fit(shop, tmp_path / "m", tiny(), short(), until=UNTIL)
    config = tiny(alpha=19.0) if change == "config" else tiny()
    options = short(seed=9) if change == "options" else short()
    data = make_shop(users=61) if change == "data" else shop
    with pytest.raises(ArtifactError) as caught:
        fit(
            data,
            tmp_path / "m",
            config,
            options,
            until=UNTIL - (change == "until"),
            validation="none" if change == "validation" else "users",
            resume=True,
        )
    assert caught.value.what == "the interrupted call was another one"
    assert "start afresh without it" in str(caught.value.mend)
    assert not (tmp_path / "m").exists()


def test_without_resume_nothing_of_an_earlier_run_is_taken(
    shop: Dataset,
    tiny: Config,
    short: Options,
    weights_of: Bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with killed_in(GUIM, "save_into"):
        fit(shop, tmp_path / "m", tiny(max_popular=3), short(epochs=3))
    fit(shop, tmp_path / "m", tiny(), short())
    fit(shop, tmp_path / "fresh", tiny(), short())
    assert weights_of(tmp_path / "m") == weights_of(tmp_path / "fresh")
    assert len((tmp_path / "m" / "training.jsonl").read_text().splitlines()) == 1
    popular = [pl.read_parquet(tmp_path / name / "fields" / "item_id.parquet") for name in ("m", "fresh")]
    assert popular[0].equals(popular[1])


def test_with_resume_and_nothing_to_resume_a_run_starts(
    shop: Dataset, tiny: Config, short: Options, tmp_path: Path
) -> None:
    assert fit(shop, tmp_path / "m", tiny(), short(), resume=True).manifest is not None


def test_a_learning_rate_that_explodes_stops_and_leaves_no_model(
    shop: Dataset, tiny: Config, short: Options, tmp_path: Path
) -> None:
    options = short(epochs=40, learning_rate=1e30, warmup=0.0)
    with pytest.raises(TrainingError, match="the loss is not finite at step"):
        fit(shop, tmp_path / "m", tiny(), options)
    assert not (tmp_path / "m").exists()
