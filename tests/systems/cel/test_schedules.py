from __future__ import annotations

from polyvec.systems.cel.config import CELConfig
from polyvec.systems.cel.schedules import AfterEvery, AfterGrowing, Every
from polyvec.systems.cel.steps import reassignment


def test_by_default_clusters_split_and_reassign_when_the_authors_code_does() -> None:
    config = CELConfig()
    splits = [step for step in range(500) if Every(config.split_every)(step)]
    assert splits[:49] == list(range(0, 481, 10))
    due = reassignment(config)
    after = {step + 1 for step in range(config.cluster_steps) if due(step)}
    assert after == {40, 80, 120, 200, 280, 440, 520, 680, 760}


def test_other_schedules() -> None:
    assert [step for step in range(12) if AfterEvery(4)(step)] == [3, 7, 11]
    assert [step + 1 for step in range(60) if AfterGrowing(8, 1.5)(step)] == [8, 12, 18, 27, 40]
    assert not any(reassignment(CELConfig(reassign_every=0))(step) for step in range(100))
