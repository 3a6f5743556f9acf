"""What all systems write of their training, and what they do not write at once."""

from types import SimpleNamespace

import pytest
from filelock import FileLock

from polyvec.data.dataset import Dataset
from polyvec.errors import ArtifactError
from polyvec.systems.folder import claim_workspace, told_best, told_by
from polyvec.training.checkpoint import Progress


@pytest.fixture
def nothing() -> Dataset:
    return SimpleNamespace(manifest=None, num_events=0)


def claimed(out, dataset, *, resume=False):
    return claim_workspace(out, dataset, {}, resume=resume, overwrite=True)


def test_a_model_that_another_process_is_making_is_not_made_twice(tmp_path, nothing):
    out = tmp_path / "shop.model"
    other = FileLock(tmp_path / ".shop.model.lock")  # each has its own handle, as another process has
    with other, pytest.raises(ArtifactError, match="another process is making"), claimed(out, nothing):
        pass
    with claimed(out, nothing) as workspace:
        assert workspace.is_dir()
        with pytest.raises(ArtifactError, match="another process is making"), claimed(out, nothing):
            pass


def test_a_run_that_failed_leaves_its_workspace_and_keeps_nobody_out(tmp_path, nothing):
    out = tmp_path / "shop.model"
    with pytest.raises(KeyboardInterrupt), claimed(out, nothing) as workspace:
        raise KeyboardInterrupt
    assert [*tmp_path.iterdir()] == [workspace]
    with FileLock(tmp_path / ".shop.model.lock", timeout=0):
        pass
    with claimed(out, nothing, resume=True):
        pass


def test_an_interrupted_run_that_is_not_resumed_is_lost_and_said_so(tmp_path, nothing, capsys):
    out = tmp_path / "shop.model"
    with claimed(out, nothing) as workspace:
        (workspace / "checkpoint-000000003").mkdir()
    with claimed(out, nothing, resume=True):
        assert capsys.readouterr().err == ""
    with claimed(out, nothing):
        assert "what an interrupted run had learned is lost" in capsys.readouterr().err


def test_the_first_run_chooses_the_last_makes_the_weights_and_both_take_their_time():
    chosen = Progress(step=40, best=0.5, best_epoch=2, precision="float32", seconds=3.25)
    expected = {"validation": 0.5, "best_epoch": 2, "steps": 40, "training_seconds": 3.25}
    expected |= {"validation_measure": "AUC", "precision": "float32"}
    assert told_by([chosen], "AUC") == expected
    again = Progress(step=30, precision="bfloat16", seconds=2.0)
    expected |= {"steps": 30, "training_seconds": 5.25, "precision": "bfloat16"}
    assert told_by([chosen, again], "AUC") == expected


def test_what_was_best_is_told_by_its_name_and_errors_without_their_minus():
    chosen = Progress(step=40, best=-0.5, best_epoch=2, seconds=3.25)
    assert told_best(told_by([chosen], "AUC")) == "best on validation after epoch 3: AUC -0.5000"
    assert told_best(told_by([chosen], "-error")) == "best on validation after epoch 3: error 0.5000"
    assert told_best(told_by([Progress(step=40)], "AUC")) == "nothing was validated"
