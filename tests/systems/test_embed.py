from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from polyvec.artifact import read_manifest, stage_path, verify
from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.embeddings import STATES, Embeddings
from polyvec.errors import ArtifactError, UsageError
from polyvec.systems.embed import embed
from polyvec.systems.folder import alone
from polyvec.systems.guim import GUIM, GUIMConfig, fit
from polyvec.training.options import TrainingOptions

DAY = MICROSECONDS_PER_DAY
UNTIL = 100 * DAY
Faults = Callable[..., Iterator[tuple[Path, str]]]


MODULE = import_module("polyvec.systems.embed")


class Killed(BaseException):
    """The process dies here."""


@pytest.fixture
def parts_of_seven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty users in nine parts, 25 items in four."""
    monkeypatch.setattr(MODULE, "PART_ROWS", 7)


def content(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "manifest.json"
    }


def dying_at(part: int) -> Callable[[int, int], None]:
    calls = iter(range(1, 1000))

    def on_part(done: int, total: int) -> None:
        if next(calls) == part:
            raise Killed

    return on_part


# --- what comes out


def test_every_user_and_item_gets_its_vectors_and_the_folder_says_where_they_come_from(
    fitted: GUIM, shop: Dataset, tmp_path: Path
) -> None:
    embeddings = embed(fitted, shop, tmp_path / "e", until=UNTIL)
    assert embeddings.users.vectors.shape == (60, 2, 16)
    assert embeddings.items.vectors.shape == (25, 16)
    assert embeddings.users.vectors.dtype == np.float32
    assert embeddings.users.ids == shop.users
    assert embeddings.items.ids == shop.items
    assert embeddings.score == "max_cosine"
    assert fitted.manifest is not None
    provenance = embeddings.provenance
    assert provenance["model"] == fitted.manifest.fingerprint
    assert (provenance["events_until"], provenance["trained_until"]) == (UNTIL, UNTIL)
    assert provenance["system"] == "guim"
    assert verify(tmp_path / "e", "embeddings").parents == {"model": fitted.manifest.fingerprint}
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_vectors_are_the_models_and_events_those_of_the_window(
    fitted: GUIM, shop: Dataset, tmp_path: Path
) -> None:
    embeddings = embed(fitted, shop, tmp_path / "e", until=UNTIL)
    assert np.array_equal(embeddings.items.vectors, fitted.encode_items(shop.item_table))
    in_window = (shop.times >= UNTIL - 60 * DAY) & (shop.times < UNTIL)
    counts = np.add.reduceat(in_window, shop.user_offsets[:-1])
    assert embeddings.users.events.tolist() == counts.tolist()


def test_what_the_vectors_cost_is_told_and_is_no_part_of_what_they_are(
    fitted: GUIM, shop: Dataset, tmp_path: Path
) -> None:
    told = embed(fitted, shop, tmp_path / "a", until=UNTIL).provenance
    assert fitted.manifest is not None
    for key in ("parameters", "training_seconds", "variant"):
        assert told[key] == fitted.manifest.meta[key]
    assert told["encode_seconds"] >= told["encode_users_seconds"] > 0
    again = embed(fitted, shop, tmp_path / "b", until=UNTIL).provenance
    assert again["encode_seconds"] != told["encode_seconds"]
    fingerprints = {read_manifest(tmp_path / name, "embeddings").fingerprint for name in "ab"}
    assert len(fingerprints) == 1


def test_any_table_reader_reads_the_parts_in_one_line(
    fitted: GUIM, shop: Dataset, tmp_path: Path, parts_of_seven: None
) -> None:
    embeddings = embed(fitted, shop, tmp_path / "e", until=UNTIL)
    users = pl.read_parquet(tmp_path / "e" / "users" / "*.parquet")
    assert users["user_id"].to_list() == shop.users.series.to_list()
    assert np.array_equal(users["vectors"].to_numpy().reshape(60, 2, 16), embeddings.users.vectors)
    assert len(list((tmp_path / "e" / "users").iterdir())) == 9


def test_float16_is_float32_rounded(fitted: GUIM, shop: Dataset, tmp_path: Path) -> None:
    full = embed(fitted, shop, tmp_path / "full", until=UNTIL)
    half = embed(fitted, shop, tmp_path / "half", until=UNTIL, number_type="float16")
    assert half.users.vectors.dtype == half.items.vectors.dtype == np.float16
    assert np.array_equal(half.users.vectors, full.users.vectors.astype(np.float16))


@pytest.mark.parametrize("rows", [1, 7, 60, 1000])
def test_the_size_of_the_parts_does_not_matter(
    fitted: GUIM, shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    whole = embed(fitted, shop, tmp_path / "whole", until=UNTIL)
    monkeypatch.setattr(MODULE, "PART_ROWS", rows)
    parts = embed(fitted, shop, tmp_path / "parts", until=UNTIL)
    np.testing.assert_allclose(parts.users.vectors, whole.users.vectors, atol=1e-5)
    np.testing.assert_allclose(parts.items.vectors, whole.items.vectors, atol=1e-5)


# --- inductive: warm, cold, empty


def test_users_without_events_share_the_learned_prior_and_strangers_are_encoded(
    fitted: GUIM, shop: Dataset, tmp_path: Path
) -> None:
    strangers = Dataset.from_rows(
        [
            ("new", "i0", UNTIL + DAY),
            ("sleeping", "i0", DAY),
            ("later", "i3", UNTIL + 50 * DAY),
            ("alien", "never seen", UNTIL + DAY),
            ("u000", "i0", UNTIL - DAY),
            ("u000", "i0", UNTIL + DAY),
        ],
        pl.DataFrame({"item_id": ["i0", "i3", "never seen"]}).with_columns(category=None, title=None),
    )
    embeddings = embed(fitted, strangers, tmp_path / "e", until=UNTIL + 20 * DAY)
    users = dict(zip(embeddings.users.ids.series, embeddings.users.vectors, strict=True))
    states = [STATES[code] for code in embeddings.users.state]
    assert dict(zip(embeddings.users.ids.series, states, strict=True)) == {
        "new": "cold",
        "sleeping": "empty",
        "later": "empty",
        "alien": "cold",
        "u000": "warm",
    }
    assert np.array_equal(users["sleeping"], users["later"])
    assert np.isfinite(embeddings.users.vectors).all()
    assert not np.allclose(users["new"], users["later"], atol=1e-4)
    assert not np.allclose(users["alien"], users["new"], atol=1e-4)
    items = dict(zip(embeddings.items.ids.series, embeddings.items.state, strict=True))
    assert {name: STATES[code] for name, code in items.items()} == {
        "i0": "warm",
        "i3": "warm",
        "never seen": "empty",
    }


def test_a_dataset_without_a_single_event_before_the_moment_is_embedded(
    fitted: GUIM, shop: Dataset, tmp_path: Path
) -> None:
    embeddings = embed(fitted, shop, tmp_path / "e", until=0)
    assert {STATES[code] for code in embeddings.users.state} == {"empty"}
    assert np.allclose(embeddings.users.vectors, embeddings.users.vectors[0])


# --- nothing of the future


def test_what_happens_at_or_after_the_moment_changes_no_vector(
    fitted: GUIM, shop: Dataset, tmp_path: Path
) -> None:
    future = shop.times >= UNTIL
    rows = np.where(future, (shop.item_rows + 7) % shop.num_items, shop.item_rows).astype(np.int32)
    embed(fitted, shop, tmp_path / "real", until=UNTIL)
    embed(fitted, replace(shop, item_rows=rows), tmp_path / "changed", until=UNTIL)
    assert content(tmp_path / "real") == content(tmp_path / "changed")
    embed(fitted, replace(shop, item_rows=rows), tmp_path / "later", until=UNTIL + DAY)
    assert content(tmp_path / "real") != content(tmp_path / "later")


def test_events_that_are_held_back_change_no_vector(
    make_shop: Callable[..., Dataset],
    tiny: Callable[..., GUIMConfig],
    short: Callable[..., TrainingOptions],
    tmp_path: Path,
) -> None:
    shop = make_shop(30, time_kind="order")
    model = fit(shop, tmp_path / "m", tiny(target_events=3, num_cutoffs=2), short(), held_back=1)
    last = np.zeros(shop.num_events, dtype=bool)
    last[shop.user_offsets[1:] - 1] = True
    rows = np.where(last, (shop.item_rows + 7) % shop.num_items, shop.item_rows).astype(np.int32)
    embed(model, shop, tmp_path / "real", held_back=1)
    embed(model, replace(shop, item_rows=rows), tmp_path / "changed", held_back=1)
    assert content(tmp_path / "real") == content(tmp_path / "changed")
    embedded = embed(model, replace(shop, item_rows=rows), tmp_path / "all")
    assert content(tmp_path / "real") != content(tmp_path / "all")
    assert set(embedded.users.events) == {12}


def test_data_of_the_other_kind_of_time_and_moments_it_lacks_are_refused(
    fitted: GUIM, shop: Dataset, make_shop: Callable[..., Dataset], tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        embed(fitted, make_shop(3, time_kind="order"), tmp_path / "e")
    assert caught.value.what == "the model was trained on data with a timestamp"
    assert caught.value.expected == "data with a timestamp; this Dataset has an order"
    with pytest.raises(UsageError, match="held_back is for data with an order column"):
        embed(fitted, shop, tmp_path / "e", held_back=1)


# --- whole or absent, resumable


@pytest.mark.parametrize("part", range(1, 14))
def test_interrupted_after_any_part_and_resumed_it_ends_with_the_same_bytes(
    fitted: GUIM,
    shop: Dataset,
    tmp_path: Path,
    parts_of_seven: None,
    monkeypatch: pytest.MonkeyPatch,
    part: int,
) -> None:
    embed(fitted, shop, tmp_path / "whole", until=UNTIL)
    with pytest.raises(Killed):
        embed(fitted, shop, tmp_path / "e", until=UNTIL, on_part=dying_at(part))
    assert not (tmp_path / "e").exists()
    encoded: list[int] = []
    real = GUIM.encode_users
    monkeypatch.setattr(GUIM, "encode_users", lambda self, *a: encoded.append(1) or real(self, *a))
    embed(fitted, shop, tmp_path / "e", until=UNTIL, resume=True)
    assert len(encoded) == max(9 - part, 0)
    assert content(tmp_path / "e") == content(tmp_path / "whole")
    assert Embeddings.open(str(tmp_path / "e")).provenance["encode_seconds"] is None  # not known of a part
    assert (
        read_manifest(tmp_path / "e", "embeddings").files
        == read_manifest(tmp_path / "whole", "embeddings").files
    )


@pytest.mark.parametrize("change", [{"until": UNTIL - DAY}, {"number_type": "float16"}])
def test_another_request_is_not_resumed(
    fitted: GUIM, shop: Dataset, tmp_path: Path, parts_of_seven: None, change: dict[str, Any]
) -> None:
    with pytest.raises(Killed):
        embed(fitted, shop, tmp_path / "e", until=UNTIL, on_part=dying_at(2))
    with pytest.raises(ArtifactError, match="the interrupted call was another one"):
        embed(fitted, shop, tmp_path / "e", **({"until": UNTIL, "resume": True} | change))
    assert not (tmp_path / "e").exists()


def test_without_resume_nothing_of_an_earlier_call_is_taken(
    fitted: GUIM, shop: Dataset, tmp_path: Path, parts_of_seven: None
) -> None:
    with pytest.raises(Killed):
        embed(fitted, shop, tmp_path / "e", until=UNTIL - DAY, on_part=dying_at(11))
    (stage_path(tmp_path / "e") / "weights.safetensors").write_text("of another verb")
    embed(fitted, shop, tmp_path / "e", until=UNTIL)
    embed(fitted, shop, tmp_path / "fresh", until=UNTIL)
    assert content(tmp_path / "e") == content(tmp_path / "fresh")


def test_a_folder_interrupted_at_any_file_operation_is_absent_or_whole_and_resumes(
    fitted: GUIM, shop: Dataset, tmp_path: Path, fail_at_operation: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "PART_ROWS", 40)
    few = replace(shop)
    embed(fitted, few, tmp_path / "whole", until=UNTIL)
    whole = content(tmp_path / "whole")

    def write(folder: Path, *, resume: bool = False) -> Embeddings:
        return embed(fitted, few, folder / "e", until=UNTIL, resume=resume)

    for folder, fault in fail_at_operation(write):
        if not (folder / "e").exists():
            write(folder, resume=True)
        verify(folder / "e", "embeddings")
        assert content(folder / "e") == whole, fault


def test_existing_embeddings_are_replaced_only_on_request(
    fitted: GUIM, shop: Dataset, tmp_path: Path
) -> None:
    embed(fitted, shop, tmp_path / "e", until=UNTIL - DAY)
    old = content(tmp_path / "e")
    with pytest.raises(ArtifactError, match="exists already"):
        embed(fitted, shop, tmp_path / "e", until=UNTIL)
    assert content(tmp_path / "e") == old
    embed(fitted, shop, tmp_path / "e", until=UNTIL, overwrite=True)
    assert content(tmp_path / "e") != old
    (tmp_path / "photos").mkdir()
    with pytest.raises(ArtifactError, match="was not written by polyvec"):
        embed(fitted, shop, tmp_path / "photos", until=UNTIL, overwrite=True)


def test_one_call_at_a_time_makes_the_same_embeddings(fitted: GUIM, shop: Dataset, tmp_path: Path) -> None:
    with alone(tmp_path / "e"), pytest.raises(ArtifactError, match="another process is making"):
        embed(fitted, shop, tmp_path / "e", until=UNTIL)
