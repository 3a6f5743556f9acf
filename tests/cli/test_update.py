"""``polyvec fit cel-lite`` and ``polyvec update`` as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from polyvec.cli.fit import command as fit_command
from polyvec.cli.main import main
from polyvec.cli.update import command as update_command
from polyvec.data.prepare import prepare

SIZES = ["--set", "width=4", "--set", "ring=1000", "--set", "batch=50"]
EVENTS = 1500
BEGIN = 10**9


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two Datasets: 1,200 ratings and the 300 after them, one a minute."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    log = pl.DataFrame(
        {
            "user_id": random.integers(0, 30, EVENTS),
            "item_id": random.integers(0, 20, EVENTS),
            "timestamp": BEGIN + 60 * np.arange(EVENTS),
            "rating": random.integers(1, 6, EVENTS).astype(np.float32),
        }
    )
    prepare(log[:1200], folder / "first.dataset")
    prepare(log[1200:], folder / "next.dataset")
    return folder


def fit(data: Path, out: Path, *more: str) -> Result:
    arguments = ["cel-lite", str(data / "first.dataset"), "--out", str(out), *SIZES, *more]
    return CliRunner().invoke(fit_command, arguments, catch_exceptions=False)


def test_a_stream_is_begun_and_gone_on_with(data: Path, tmp_path: Path) -> None:
    begun = fit(data, tmp_path / "m")
    assert "1,200 interactions" in begun.stdout
    assert "30 new users" in begun.stdout
    for part in ("CEL-Lite", "means", "last half", "cold item"):
        assert part in begun.stdout
    assert "learning" in begun.stderr
    arguments = [str(tmp_path / "m"), str(data / "next.dataset"), "--json"]
    said = json.loads(CliRunner().invoke(update_command, arguments, catch_exceptions=False).stdout)
    assert said["interactions"] == EVENTS
    assert said["latest_call"]["interactions"] == 300
    assert said["latest_call"]["errors"]["all"]["CEL-Lite"] > 0


def test_what_was_learned_is_not_learned_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(data, tmp_path / "m")
    with pytest.raises(SystemExit) as stopped:
        main(["update", str(tmp_path / "m"), str(data / "first.dataset")])
    assert stopped.value.code == 3
    assert "1,200 of 1,200 events" in capsys.readouterr().err


def test_a_moment_can_be_named_for_both(data: Path, tmp_path: Path) -> None:
    fit(data, tmp_path / "m", "--until", "2001-09-09T10:00")
    path = str(tmp_path / "m")
    more = ["--until", "2001-09-09T12:00", "--skip-earlier", "--json"]
    done = CliRunner().invoke(
        update_command, [path, str(data / "first.dataset"), *more], catch_exceptions=False
    )
    assert json.loads(done.stdout)["latest_call"]["interactions"] == 120


@pytest.mark.parametrize(
    "option", ["--refit", "--resume", "--preset=paper", "--validation=window", "--held-back=1"]
)
def test_options_that_one_pass_has_no_use_for_are_refused(
    data: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "cel-lite", str(data / "first.dataset"), "--out", str(tmp_path / "m"), option])
    assert stopped.value.code == 2
    assert f"cel-lite has no {option.split('=')[0]}" in capsys.readouterr().err


def test_every_setting_can_be_seen(data: Path, tmp_path: Path) -> None:
    shown = json.loads(fit(data, tmp_path / "m", "--show-config").stdout)
    assert shown["cel-lite"]["batch"] == 50
    assert not (tmp_path / "m").exists()


def test_a_model_of_another_system_learns_no_stream(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["update", str(data / "first.dataset"), str(data / "next.dataset")])
    assert stopped.value.code == 4
    assert "kind 'dataset'" in capsys.readouterr().err
