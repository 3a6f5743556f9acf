"""ALS through the library ``implicit``, where it is installed."""

import numpy as np
import pytest

from polyvec.errors import DataError, UsageError
from polyvec.evaluation.baselines import Popularity
from polyvec.evaluation.baselines.als import als, als_installed
from polyvec.evaluation.baselines.item_to_item import history_matrix, known_items
from polyvec.evaluation.rankers import EmbeddingsRanker
from polyvec.evaluation.tasks.matching import check_no_leak

CHOSEN = {"factors": 3, "l2": 0.1, "alpha": 2.0}
needs_implicit = pytest.mark.skipif(not als_installed(), reason="implicit is not installed: extra 'als'")


def squared_loss(histories, users, items, l2):
    """Equation 3 of the paper with confidence 1 everywhere, summed entry by entry."""
    errors = histories - users @ items.T
    return float((errors**2).sum() + l2 * ((users**2).sum() + (items**2).sum()))


def test_without_the_library_it_says_what_to_install(random_dataset, random_windows, monkeypatch):
    monkeypatch.setattr("polyvec.evaluation.baselines.als.als_installed", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'polyvec\[als\]'"):
        als(random_dataset, random_windows, **CHOSEN)


@needs_implicit
def test_it_ends_near_a_minimum_of_its_loss(random_dataset, random_windows):
    made = als(random_dataset, random_windows, factors=4, l2=0.5, alpha=1, iterations=200)
    histories = history_matrix(random_dataset, random_windows)
    known = histories[np.diff(histories.indptr) > 0][:, known_items(histories)].toarray()
    users, items = made.users.vectors[:, 0], made.items.vectors
    loss = squared_loss(known, users, items, 0.5)
    exact = np.linalg.solve(
        items.T @ items + 0.5 * np.eye(4), items.T @ known.T
    ).T  # best users to these items
    assert loss <= squared_loss(known, exact, items, 0.5) * 1.001
    generator = np.random.default_rng(0)
    for _ in range(20):
        nudge = generator.normal(size=items.shape) * 0.03
        assert loss < squared_loss(known, users, items + nudge, 0.5)


@needs_implicit
def test_only_what_has_history_gets_vectors_and_the_cutoff_is_told(random_dataset, random_windows):
    made = als(random_dataset, random_windows, **CHOSEN)
    assert made.score == "max_dot"
    assert "u07" not in set(made.users.ids.series)
    assert "i24" not in set(made.items.ids.series)  # bought after the cut-off alone
    assert check_no_leak(made, random_dataset, int(random_windows.cutoffs[0])) == []
    with pytest.raises(DataError, match="users were encoded from events until"):
        check_no_leak(made, random_dataset, int(random_windows.cutoffs[0]) - 1)


@needs_implicit
def test_the_seed_decides_and_the_future_changes_nothing(random_dataset, random_windows, altered_future):
    made = als(random_dataset, random_windows, **CHOSEN, seed=1)
    again = als(*altered_future, **CHOSEN, seed=1)
    assert np.array_equal(made.users.vectors, again.users.vectors)
    assert np.array_equal(made.items.vectors, again.items.vectors)
    other = als(random_dataset, random_windows, **CHOSEN, seed=2)
    assert not np.array_equal(made.users.vectors, other.users.vectors)


@needs_implicit
def test_every_parameter_changes_something(random_dataset, random_windows):
    usual = CHOSEN | {"iterations": 3}
    made = als(random_dataset, random_windows, **usual).items.vectors
    for name, value in {"factors": 4, "l2": 1.0, "alpha": 5.0, "iterations": 4}.items():
        other = als(random_dataset, random_windows, **usual | {name: value}).items.vectors
        assert other.shape != made.shape or not np.allclose(other, made), name


@needs_implicit
def test_it_finds_tastes_that_popularity_does_not(taste_recall):
    found = taste_recall(lambda *data: EmbeddingsRanker(als(*data, factors=4, l2=1.0, alpha=5.0), data[0]))
    assert found > 1.3 * taste_recall(Popularity)
