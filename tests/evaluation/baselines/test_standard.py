"""All baselines together: which there are, for which data, and what is said of those left out."""

import numpy as np
import pytest

from polyvec.data.dataset import Dataset
from polyvec.data.split import leave_last_out
from polyvec.evaluation.baselines import PERSONAL_FREQUENCY, Popularity, repeats_first
from polyvec.evaluation.baselines.als import als_installed
from polyvec.evaluation.baselines.standard import (
    AGGREGATES,
    ALS,
    BOUGHT_WORDS,
    COSINE,
    EASE,
    Tuning,
    standard_features,
    standard_rankers,
    tuned,
)
from polyvec.evaluation.tasks.next_item import next_item

COUNTED = ["popularity", "popularity of 30 days", "popularity of 7 days", PERSONAL_FREQUENCY]
LEARNED = [COSINE, EASE, *([ALS] if als_installed() else [])]
TUNING = Tuning(neighbours=5, ease_l2=5, als_factors=4, als_l2=1)


@pytest.fixture(scope="module")
def standard(random_dataset, random_windows):
    return standard_rankers(random_dataset, random_windows, TUNING, seed=3)


def test_data_with_timestamps_gets_all_of_them(standard):
    assert list(standard.rankers) == COUNTED + LEARNED
    assert standard.notes == [] or not als_installed()


def test_users_without_history_get_what_sells_now(standard, random_dataset):
    latest = standard.rankers["popularity of 7 days"].rank(np.array([7]), 6)
    for name in LEARNED:
        assert np.array_equal(standard.rankers[name].rank(np.array([7]), 6), latest), name


def test_whoever_a_ranker_knows_too_few_items_for_gets_what_sells_now(standard):
    latest = set(standard.rankers["popularity of 7 days"].rank(np.array([0]), 25)[0].tolist()) - {-1}
    for name in LEARNED:
        for ranked in standard.rankers[name].rank(np.arange(30), 25):
            assert latest <= set(ranked.tolist()), name


def test_no_baseline_knows_the_future(standard, altered_future):
    users = np.arange(30)
    for name, ranker in standard_rankers(*altered_future, TUNING, seed=3).rankers.items():
        assert np.array_equal(ranker.rank(users, 8), standard.rankers[name].rank(users, 8)), name


@pytest.mark.parametrize("name", LEARNED)
def test_every_learned_one_finds_tastes_that_popularity_does_not(name, taste_recall):
    found = taste_recall(lambda *data: standard_rankers(*data, TUNING).rankers[name])
    assert found > 1.2 * taste_recall(Popularity)


def test_data_with_an_order_has_no_recent_popularity(random_dataset):
    rows = [("u", "a", 1), ("u", "b", 2), ("v", "b", 1), ("v", "a", 2), ("v", "c", 3), ("w", "c", 1)]
    dataset = Dataset.from_rows(rows, time_kind="order")
    made = standard_rankers(dataset, leave_last_out(dataset), TUNING)
    assert list(made.rankers) == ["popularity", PERSONAL_FREQUENCY, *LEARNED]
    assert "recent popularity is left out: these histories have no common end in time" in made.notes
    assert set(next_item(made.rankers, dataset)["ranker"]) == set(made.rankers)


def test_timestamps_with_cutoffs_of_their_own_have_no_recent_popularity_either(random_dataset):
    made = standard_rankers(random_dataset, leave_last_out(random_dataset), TUNING)
    assert "popularity of 7 days" not in made.rankers


def test_too_many_items_leave_ease_out_with_a_note(random_dataset, random_windows, monkeypatch):
    monkeypatch.setattr("polyvec.evaluation.baselines.standard.MOST_ITEMS", 10)
    made = standard_rankers(random_dataset, random_windows, TUNING)
    assert EASE not in made.rankers
    assert any(note.startswith("EASE is left out: 1") for note in made.notes)


def test_a_missing_library_leaves_als_out_with_a_note(random_dataset, random_windows, monkeypatch):
    monkeypatch.setattr("polyvec.evaluation.baselines.standard.als_installed", lambda: False)
    made = standard_rankers(random_dataset, random_windows, TUNING)
    assert ALS not in made.rankers
    assert made.notes == [
        "ALS is left out: the library implicit is not installed: pip install 'polyvec[als]'"
    ]


def test_each_choice_changes_its_ranker(standard, random_dataset, random_windows):
    others = {COSINE: Tuning(1, 5, 4, 1), EASE: Tuning(5, 5000, 4, 1), ALS: Tuning(5, 5, 4, 1, 9)}
    for name in LEARNED:
        other = standard_rankers(random_dataset, random_windows, others[name], seed=3).rankers[name]
        ranked = standard.rankers[name].rank(np.arange(30), 8)
        assert not np.array_equal(other.rank(np.arange(30), 8), ranked), name


def test_bought_before_goes_before_any_ranker(standard, random_dataset, random_windows, bought):
    first = repeats_first(random_dataset, random_windows, standard.rankers)
    assert f"bought before, then {EASE}" in first
    for name in LEARNED:
        ranked = first[f"bought before, then {name}"].rank(np.arange(30), 15)
        alone = standard.rankers[name].rank(np.arange(30), 15)
        for user, own in enumerate(bought):
            assert set(ranked[user, : len(own)].tolist()) == own
            rest = [item for item in alone[user].tolist() if item not in own][: 15 - len(own)]
            assert ranked[user, len(own) :].tolist()[: len(rest)] == rest


def test_features_are_of_each_window(random_dataset, random_windows):
    made = standard_features(random_dataset, random_windows[:9])
    assert list(made) == [AGGREGATES, BOUGHT_WORDS]
    for one in made.values():
        assert len(one.numbers) == 9
        assert one.numbers.dtype == np.float32


def test_each_method_gets_the_settings_that_are_best(random_dataset, random_windows, monkeypatch):
    """Worth is what the ranker was made with, so that the largest of every grid is best."""
    made = {}
    for name in ("neighbours", "ease", "als"):

        def remember(*_, _name=name, **settings):
            made["latest"] = (_name, settings or _[1])

        monkeypatch.setattr(f"polyvec.evaluation.baselines.standard.{name}", remember)
    monkeypatch.setattr("polyvec.evaluation.baselines.standard.als_installed", lambda: True)
    monkeypatch.setattr("polyvec.evaluation.baselines.standard.EmbeddingsRanker", lambda *_: None)

    def value(_):
        name, settings = made["latest"]
        if name == "als":
            return settings["factors"] - settings["l2"] + settings["alpha"]
        return -1.0 if settings is None else float(settings)

    assert tuned(random_dataset, random_windows, value) == Tuning(100, 1000.0, 128, 1.0, 20.0)
