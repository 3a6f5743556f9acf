from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from polyvec.training.journal import JOURNAL, TENSORBOARD, Journal


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text("utf-8").splitlines()]


def write(folder: Path, first: int, last: int) -> None:
    journal = Journal(folder, total_steps=10, step=first)
    for step in range(first + 1, last + 1):
        journal.advance(step)
        journal.record("step", step, {"loss": step / 2, "wins": [0.25, 0.75]})
    journal.close()


def test_a_record_is_one_json_line(tmp_path: Path) -> None:
    write(tmp_path, 0, 2)
    assert lines(tmp_path) == [
        {"event": "step", "step": 1, "loss": 0.5, "wins": [0.25, 0.75]},
        {"event": "step", "step": 2, "loss": 1.0, "wins": [0.25, 0.75]},
    ]


def test_a_record_is_on_disk_before_the_journal_is_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, total_steps=10, step=0)
    journal.record("step", 1, {"loss": 0.5})
    assert len(lines(tmp_path)) == 1
    journal.close()


def test_a_resumed_run_takes_back_what_it_will_say_again(tmp_path: Path) -> None:
    write(tmp_path, 0, 6)
    write(tmp_path, 4, 8)
    assert [record["step"] for record in lines(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("torn", ['{"event": "st', "\n", '{"event": "step"}\n', "[1]\n", '{"step": null}\n'])
def test_a_torn_last_line_is_taken_back(tmp_path: Path, torn: str) -> None:
    write(tmp_path, 0, 2)
    with (tmp_path / JOURNAL).open("a", encoding="utf-8") as stream:
        stream.write(torn)
    write(tmp_path, 2, 3)
    assert [record["step"] for record in lines(tmp_path)] == [1, 2, 3]


def test_tensorboard_gets_every_number_and_the_parts_of_lists(tmp_path: Path) -> None:
    write(tmp_path, 0, 2)
    (file,) = (tmp_path / TENSORBOARD).iterdir()
    values = [
        (event.step, value.tag)
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
    ]
    tags = ["step/loss", "step/wins/0", "step/wins/1"]
    assert values == [(step, tag) for step in (1, 2) for tag in tags]


def test_progress_goes_to_stderr_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, 0, 2)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "training" in captured.err
