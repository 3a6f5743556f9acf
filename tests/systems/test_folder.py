"""What both systems write of their training."""

from polyvec.systems.folder import told_by
from polyvec.training.checkpoint import Progress


def test_the_first_run_chooses_the_last_makes_the_weights_and_both_take_their_time():
    chosen = Progress(step=40, best=0.5, best_epoch=2, seconds=3.25)
    expected = {"validation": 0.5, "best_epoch": 2, "steps": 40, "training_seconds": 3.25}
    assert told_by([chosen]) == expected
    again = Progress(step=30, seconds=2.0)
    assert told_by([chosen, again]) == expected | {"steps": 30, "training_seconds": 5.25}
