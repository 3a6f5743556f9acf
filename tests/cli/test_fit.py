"""``polyvec fit`` as a person uses it, killed and interrupted as a real process."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from polyvec.artifact import verify
from polyvec.cli.embed import command as embed_command
from polyvec.cli.fit import command
from polyvec.cli.main import main
from polyvec.data.options import PrepareOptions
from polyvec.data.prepare import prepare

DAY = 86_400
TINY = {
    "width": 16,
    "num_vectors": 2,
    "num_layers": 1,
    "num_heads": 2,
    "history_days": 60,
    "target_days": 20,
    "num_cutoffs": 2,
    "stride_days": 10,
    "batch_size": 8,
    "epochs": 4,
    "patience": 0,
    "checkpoint_every": 3,
    "device": "cpu",
}
STEPS = 4 * 11  # four epochs of the batches that the windows make
RUNNING = 300.0  # seconds after which a process that should have ended has not


def settings(**changes: Any) -> list[str]:
    return [part for key, value in (TINY | changes).items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Dataset folder: 60 users, 20 items, 120 days."""
    draw = random.Random(0)
    events = [
        {
            "user_id": f"u{user}",
            "item_id": f"i{(user % 2) * 10 + draw.randrange(10)}",
            "timestamp": 10**9 + at,
        }
        for user in range(60)
        for at in sorted(draw.sample(range(120 * DAY), 10))
    ]
    out = tmp_path_factory.mktemp("data") / "shop.dataset"
    prepare(pl.DataFrame(events), out, options=PrepareOptions())
    return out


def fit(dataset: Path, out: Path, *more: str, **changes: Any) -> Result:
    arguments = ["guim", str(dataset), "--out", str(out), *settings(**changes), *more]
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


# --- what it says


def test_json_tells_what_was_made_and_where(dataset: Path, tmp_path: Path) -> None:
    done = fit(dataset, tmp_path / "m", "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert said["path"] == str(tmp_path / "m")
    assert said == {"path": said["path"], **verify(tmp_path / "m", "model").meta}
    assert (said["C"], said["D"]) == (2, 16)


def test_a_person_reads_one_line_on_stdout_and_progress_on_stderr(dataset: Path, tmp_path: Path) -> None:
    done = fit(dataset, tmp_path / "m")
    assert done.stdout.startswith(f"{tmp_path / 'm'}: guim, 2 vectors of 16 per user, ")
    assert done.stdout.count("\n") == 1
    assert "training" in done.stderr


@pytest.mark.parametrize(("preset", "negatives"), [("default", "auto"), ("paper", "sampled")])
def test_show_config_prints_what_would_be_trained_and_stops(
    tmp_path: Path, preset: str, negatives: str
) -> None:
    arguments = ["guim", "no such dataset", "--out", str(tmp_path / "m"), "--preset", preset]
    done = CliRunner().invoke(command, [*arguments, "--set", "epochs=5", "--show-config"])
    shown = json.loads(done.stdout)
    assert shown["guim"]["negatives"] == negatives
    assert shown["training"]["epochs"] == 5
    assert list(tmp_path.iterdir()) == []


def test_cels_deep_preset_is_a_deep_interest_network(tmp_path: Path) -> None:
    arguments = ["cel", "no such dataset", "--out", str(tmp_path / "m"), "--preset", "deep", "--show-config"]
    shown = json.loads(CliRunner().invoke(command, arguments).stdout)
    assert (shown["cel"]["interaction"], shown["cel"]["target"]) == ("din", "click")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--set", "widht=3"], 2, "error: --set: there is no setting 'widht'; did you mean 'width'?"),
        (["--until", "soon"], 2, "error: 'soon' is not a date"),
        (["--held-back", "1"], 2, "error: held_back is for data with an order column"),
        (["--held-back", "-1"], 2, "Invalid value for '--held-back'"),
        (["--until", "1999-01-01"], 2, "error: nothing lies before 1999-01-01"),
        (["--set", "learning_rate=1e30", "--set", "warmup=0"], 5, "error: the loss is not finite at step"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fit", "guim", str(dataset), "--out", str(tmp_path / "m"), *settings(), *arguments])
    assert caught.value.code == code
    said = capsys.readouterr().err
    assert text in said
    assert "Traceback" not in said
    assert not (tmp_path / "m").exists()


def test_a_folder_of_another_kind_is_refused(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(dataset, tmp_path / "m").exit_code == 0
    with pytest.raises(SystemExit) as caught:
        main(["fit", "guim", str(tmp_path / "m"), "--out", str(tmp_path / "n")])
    assert caught.value.code == 4
    assert "is a folder of kind 'model'" in capsys.readouterr().err


# --- killed and interrupted


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., ForkServerProcess]]:
    """Return a function that starts ``polyvec fit`` as a process of its own, without loading torch anew."""
    context = mp.get_context("forkserver")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        context.set_forkserver_preload(["polyvec.systems.guim", "polyvec.cli.fit", "polyvec.cli.main"])
        started: list[ForkServerProcess] = []

        def begin(dataset: Path, out: Path, *more: str, **changes: Any) -> ForkServerProcess:
            arguments = ["fit", "guim", str(dataset), "--out", str(out), *settings(**changes), *more]
            process = context.Process(target=main, args=(arguments,), daemon=True)
            process.start()
            started.append(process)
            return process

        yield begin
        for process in started:
            process.kill()
            process.join()


def wait_for_step(workspace: Path, step: int, process: ForkServerProcess) -> bool:
    """Wait until a checkpoint of at least this step is there; False if the process ended before."""
    limit = time.monotonic() + RUNNING
    while time.monotonic() < limit:
        steps = [int(path.name.split("-")[1]) for path in workspace.glob("checkpoint-*")]
        if steps and max(steps) >= step:
            return True
        if process.exitcode is not None:
            return False
        time.sleep(0.001)
    raise AssertionError(f"no checkpoint of step {step} after {RUNNING} seconds")


def finish(process: ForkServerProcess) -> int | None:
    process.join(RUNNING)
    return process.exitcode


def contents(out: Path) -> tuple[bytes, list[tuple[str, int]]]:
    """Weights, and which records the run left."""
    lines = (out / "training.jsonl").read_text().splitlines()
    return (out / "weights.safetensors").read_bytes(), [
        (record["event"], record["step"]) for record in map(json.loads, lines)
    ]


@pytest.fixture(scope="module")
def uninterrupted(
    dataset: Path, start: Callable[..., ForkServerProcess], tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, list[tuple[str, int]]]:
    out = tmp_path_factory.mktemp("uninterrupted") / "m"
    assert finish(start(dataset, out)) == 0
    weights, records = contents(out)
    assert records[-1] == ("epoch", STEPS)
    return weights, records


def test_killed_at_random_moments_and_resumed_a_run_ends_with_the_same_bytes(
    dataset: Path, start: Callable[..., ForkServerProcess], uninterrupted: object, tmp_path: Path
) -> None:
    draw = random.Random(os.getpid())  # another run of the tests, other moments
    kills = sorted(draw.sample(range(1, STEPS - 3), 3))
    killed = 0
    for step in kills:
        process = start(dataset, tmp_path / "m", "--resume")
        if wait_for_step(tmp_path / ".m.run", step, process):
            time.sleep(draw.random() * 0.02)
            process.kill()
        finish(process)
        killed += process.exitcode == -signal.SIGKILL
        assert (tmp_path / "m").exists() == (process.exitcode == 0)
        if process.exitcode == 0:
            break
    assert killed >= 1, kills
    if not (tmp_path / "m").exists():
        assert finish(start(dataset, tmp_path / "m", "--resume")) == 0
    assert contents(tmp_path / "m") == uninterrupted, kills
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_a_checkpoint_ends_with_130_and_loses_nothing(
    dataset: Path,
    start: Callable[..., ForkServerProcess],
    uninterrupted: object,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    process = start(dataset, tmp_path / "m")
    assert wait_for_step(tmp_path / ".m.run", 9, process)
    assert process.pid is not None
    os.kill(process.pid, number)
    assert finish(process) == 130
    assert not (tmp_path / "m").exists()
    (checkpoint,) = (tmp_path / ".m.run").glob("checkpoint-*")
    assert verify(checkpoint, "checkpoint").meta["step"] >= 9
    assert finish(start(dataset, tmp_path / "m", "--resume")) == 0
    assert contents(tmp_path / "m") == uninterrupted


def test_a_resumed_command_with_another_configuration_is_refused(
    dataset: Path, start: Callable[..., ForkServerProcess], tmp_path: Path
) -> None:
    process = start(dataset, tmp_path / "m")
    assert wait_for_step(tmp_path / ".m.run", 3, process)
    process.kill()
    finish(process)
    with pytest.raises(SystemExit) as caught:
        main(["fit", "guim", str(dataset), "--out", str(tmp_path / "m"), *settings(width=8), "--resume"])
    assert caught.value.code == 4


# --- the other system


def test_sasrec_is_fitted_refitted_and_embedded(dataset: Path, tmp_path: Path) -> None:
    sizes = {"width": 16, "num_layers": 1, "epochs": 2, "device": "cpu", "target_days": 20}
    chosen = [part for key, value in sizes.items() for part in ("--set", f"{key}={value}")]
    model, vectors = tmp_path / "m", tmp_path / "emb"
    fitted = CliRunner().invoke(
        command, ["sasrec", str(dataset), "--out", str(model), "--refit", *chosen], catch_exceptions=False
    )
    assert fitted.exit_code == 0
    assert "sasrec, 1 vector of 16 per user" in fitted.stdout
    done = CliRunner().invoke(
        embed_command, [str(model), str(dataset), "--out", str(vectors)], catch_exceptions=False
    )
    assert "60 users of 1 vector and 20 items, 16 wide" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "paper"], "sasrec has no preset 'paper'"),
        (["--validation", "users"], "sasrec has no validation 'users'"),
        (["--set", "num_vectors=2"], "num_vectors"),
    ],
)
def test_what_sasrec_has_not_is_refused(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "sasrec", str(dataset), "--out", str(tmp_path / "m"), *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


# --- a budget


def test_a_budget_is_told_kept_and_what_it_chose_is_told_before_training(
    dataset: Path, tmp_path: Path
) -> None:
    done = fit(dataset, tmp_path / "m", "--budget", "52kB", "--json", epochs=1)
    said = json.loads(done.stdout)
    assert said["budget"] == 52_000
    assert said["item_table_bytes"] < said["bytes"] <= 52_000
    told = next(line for line in done.stderr.splitlines() if "budget" in line)
    assert told == "a budget of 52,000 bytes: item_table=int8"


@pytest.mark.parametrize(
    ("system", "arguments", "said"),
    [
        ("guim", ["--budget", "1kB"], "error: a budget of 1,000 bytes is too little for this model"),
        ("guim", ["--budget", "lots"], "'lots' is not a number of bytes such as 200MB"),
        ("guim", ["--budget", "0"], "'0' is not a number of bytes"),
        ("guim", ["--budget", "3 cups"], "'3 cups' is not a number of bytes"),
        ("guim", ["--budget", "1MB", "--set", "item_table=int8"], "error: --budget chooses item_table"),
        ("guim", ["--budget", "1MB", "--set", "item_table=popular"], "error: --budget chooses item_table"),
        ("cel", ["--budget", "1MB", "--set", "user_table=full"], "error: --budget chooses user_table"),
        ("cel", ["--budget", "0.1kB"], "error: a budget of 100 bytes is too little for this model"),
        ("dupn", ["--budget", "1MB"], "error: dupn has no budget"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    system: str,
    arguments: list[str],
    said: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", system, str(dataset), "--out", str(tmp_path / "m"), *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
