"""Leaks: what happens after the cut-off reaches no vector and no simple method; where it does, it is caught.

After the cut-off a coin says who takes which of two items that were never sold before, and which of two that
were. Nothing before the cut-off is related to the coin: nobody who is honest can foretell it.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from polyvec.artifact import Manifest
from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.split import cut
from polyvec.embeddings import Embeddings
from polyvec.errors import DataError
from polyvec.evaluation.baselines.standard import standard_features, standard_rankers
from polyvec.evaluation.benchmark import benchmark
from polyvec.evaluation.evaluate import Settings, evaluate
from polyvec.evaluation.foresight import foresight, foresight_note
from polyvec.evaluation.rankers import HabitsRanker
from polyvec.evaluation.tasks.matching import check_no_leak
from polyvec.evaluation.tasks.next_item import check_held_back
from polyvec.foreign import import_vectors
from polyvec.retrieval.habits import Weights
from polyvec.systems import guim, sasrec
from polyvec.systems.embed import embed
from polyvec.training.options import TrainingOptions

T = 100 * DAY  # the cut-off
NEW_SOLD, KNOWN_SOLD = T + 5 * DAY, T + 7 * DAY
USERS, ITEMS = 120, 40
COIN = np.random.default_rng(7).permutation(USERS) < USERS // 2
SPREAD = np.sqrt((USERS + 1) / (3 * USERS**2))  # of the AUC of scores that know nothing of two equal halves
BOUND = 2.6 * SPREAD  # 99 of 100 such scores lie within
SETTINGS = Settings(history_days=90, target_days=30)
NEW, KNOWN = ("canary", "decoy"), ("i00", "i01")
THINGS = ("cup", "lamp", "rug", "bed")
TITLES = [f"{colour} {thing}" for colour in ("red", "blue", "green", "grey") for thing in THINGS]


def shop(coin, sales=0):
    """Eight items per user before the cut-off, drawn by chance; one of each pair after it."""
    generator = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        days = np.sort(generator.choice(np.arange(40, 100), 8, replace=False))
        items = generator.choice(ITEMS, 8, replace=False)
        rows += [
            (f"u{user:03d}", f"i{item:02d}", int(day) * DAY) for item, day in zip(items, days, strict=True)
        ]
        side = 0 if coin[user] else 1
        rows += [(f"u{user:03d}", NEW[side], NEW_SOLD), (f"u{user:03d}", KNOWN[side], KNOWN_SOLD)]
    names = [*(f"i{item:02d}" for item in range(ITEMS)), *NEW]
    titles = [TITLES[number % len(TITLES)] for number in range(ITEMS)] + ["red bed", "blue cup"]
    catalogue = {"item_id": names, "title": titles, "sales": [sales] * ITEMS + [sales, -sales]}
    return Dataset.from_rows(rows, pl.DataFrame(catalogue))


@pytest.fixture(scope="module")
def dataset():
    return shop(COIN)


@pytest.fixture(scope="module")
def other_future():
    """The same past; everybody takes the other of each pair, and the catalogue has other sales."""
    return shop(~COIN, sales=99)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fit(system, dataset, out, until, epochs, **moment):
    moment = {"until": until, "validation": "none"} | moment
    options = TrainingOptions(
        epochs=epochs, batch_size=32, learning_rate=1e-2, precision="float32", device="cpu", patience=0
    )
    if system == "sasrec":
        config = sasrec.SASRecConfig(width=32, num_layers=1, num_heads=2, dropout=0.0, max_length=12)
        return sasrec.fit(dataset, out, config, options, **moment)
    config = guim.GUIMConfig(
        num_vectors=2,
        width=32,
        num_layers=1,
        num_heads=2,
        dropout=0.0,
        id_width=32,
        history_days=90,
        target_days=6,
        target_events=1,
        masked_weight=0,
        num_cutoffs=1,
        max_length=12,
    )
    return guim.fit(dataset, out, config, options, **moment)


@pytest.fixture(scope="module")
def made(dataset, other_future, tmp_path_factory):
    """Embeddings by system, honest and not; each is trained once."""
    folder = tmp_path_factory.mktemp("leaks")
    found = {}

    def make(system, trained_until=T, encoded_until=T, data=dataset):
        key = f"{system}-{trained_until}-{encoded_until}-{data is dataset}"
        if key not in found:
            model = fit(system, data, folder / f"{key}.model", trained_until, 3 if trained_until == T else 40)
            found[key] = embed(model, data, folder / f"{key}.emb", until=encoded_until)
        return found[key]

    return make


def auc(embeddings, dataset, pair=NEW):
    """Chance that who takes the first of a pair prefers it to the other by more than who does not."""
    users_UCD = embeddings.unit_users()[embeddings.users.ids.rows(dataset.users.series)]
    one, other = embeddings.unit_items()[embeddings.items.ids.rows(list(pair))]
    return roc_auc_score(COIN, (users_UCD @ one).max(axis=1) - (users_UCD @ other).max(axis=1))


def of_everything(dataset, until):
    """User and item vectors, ``[U, D]`` and ``[N, D]``, of the SVD of who took what before a moment."""
    owners = np.repeat(np.arange(dataset.num_users), np.diff(dataset.user_offsets))
    counted = dataset.times < until
    matrix = np.zeros((dataset.num_users, dataset.num_items))
    matrix[owners[counted], dataset.item_rows[counted]] = 1
    left, strength, right = np.linalg.svd(matrix, full_matrices=False)
    return left[:, :8] * strength[:8], right[:8].T


def elsewhere(dataset, folder, until, told):
    """Bring vectors in as ``polyvec import`` does, with what was told of them."""
    for side, vectors, ids in zip(
        ("users", "items"),
        of_everything(dataset, until),
        (dataset.users.series, dataset.items.series),
        strict=True,
    ):
        np.save(folder / f"{side}.npy", vectors)
        np.save(folder / f"{side}_ids.npy", ids.to_numpy().astype(str))
    return import_vectors(
        folder / "users.npy",
        folder / "emb",
        items=folder / "items.npy",
        user_ids=folder / "users_ids.npy",
        item_ids=folder / "items_ids.npy",
        score="max_dot",
        provenance=told,
    )


# --- nothing of the future arrives


@pytest.mark.parametrize("system", ["guim", "sasrec"])
@pytest.mark.parametrize("pair", [NEW, KNOWN])
def test_what_is_planted_in_the_future_scores_at_chance(system, pair, made, dataset):
    assert check_no_leak(made(system), dataset, T) == []
    assert abs(auc(made(system), dataset, pair) - 0.5) < BOUND


@pytest.mark.parametrize("system", ["guim", "sasrec"])
def test_another_future_changes_no_bit_of_any_vector(system, made, dataset, other_future):
    one, other = made(system), made(system, data=other_future)
    for ours, theirs in [(one.users, other.users), (one.items, other.items)]:
        np.testing.assert_array_equal(ours.vectors, theirs.vectors)
        np.testing.assert_array_equal(ours.events, theirs.events)
        np.testing.assert_array_equal(ours.state, theirs.state)


def test_another_future_changes_nothing_that_a_simple_method_says(dataset, other_future):
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(USERS, 4)), generator.normal(size=(dataset.num_items, 4))
    fixed = Embeddings.from_arrays(dataset.users.series, vectors[0], dataset.items.series, vectors[1])
    said = []
    for data in (dataset, other_future):
        windows = cut(data, T, 90, 30)
        rankers = standard_rankers(data, windows).rankers
        rankers |= {"with habits": HabitsRanker(fixed, data, windows, Weights(1.0, 1.0))}
        answers = {name: ranker.rank(np.arange(USERS), data.num_items) for name, ranker in rankers.items()}
        features = {name: one.numbers for name, one in standard_features(data, windows).items()}
        said.append(answers | features)
    assert len(said[0]) >= 8
    for name, answer in said[0].items():
        np.testing.assert_array_equal(answer, said[1][name], err_msg=name)


# --- planted leaks


@pytest.mark.parametrize("system", ["guim", "sasrec"])
def test_a_model_trained_past_the_cut_off_is_caught(system, made, dataset):
    leaking = made(system, trained_until=NEW_SOLD + DAY)
    assert auc(leaking, dataset) > 0.5 + BOUND
    with pytest.raises(DataError, match="the model was trained on events until 1970-04-17"):
        benchmark({"leaking": [leaking]}, dataset, T, SETTINGS)


@pytest.mark.parametrize("system", ["guim", "sasrec"])
def test_users_encoded_past_the_cut_off_are_caught(system, made, dataset):
    leaking = made(system, encoded_until=KNOWN_SOLD + DAY)
    assert abs(auc(leaking, dataset, KNOWN) - 0.5) > BOUND  # what was taken may attract or repel
    with pytest.raises(DataError, match="users were encoded from events until 1970-04-19"):
        benchmark({"leaking": [leaking]}, dataset, T, SETTINGS)


@pytest.mark.parametrize("system", ["guim", "sasrec"])
def test_a_model_whose_best_epoch_was_chosen_past_the_cut_off_is_caught(system, dataset, tmp_path):
    """Its training ended before the cut-off; which epoch was kept was decided after it."""
    model = fit(system, dataset, tmp_path / "m", KNOWN_SOLD + DAY, 1, validation="window")
    assert model.trained_until <= KNOWN_SOLD
    leaking = embed(model, dataset, tmp_path / "e", until=model.trained_until)
    with pytest.raises(DataError, match="best epoch was chosen on events until 1970-04-19"):
        check_no_leak(leaking, dataset, model.trained_until)
    assert check_no_leak(leaking, dataset, KNOWN_SOLD + DAY) == []


@pytest.mark.parametrize("system", ["guim", "sasrec"])
def test_of_ordered_data_a_model_trained_on_the_last_event_is_caught(system, dataset, tmp_path):
    ordered = replace(dataset, time_kind="order")
    for trained, is_honest in ((1, True), (0, False)):
        model = fit(system, ordered, tmp_path / f"m{trained}", None, 1, held_back=trained)
        made = embed(model, ordered, tmp_path / f"e{trained}", held_back=1)
        if is_honest:
            assert check_held_back(made, ordered) == []
        else:
            with pytest.raises(DataError, match="the model was trained on all but 0 of each user's events"):
                benchmark({"leaking": [made]}, ordered, None, SETTINGS)


def test_vectors_made_elsewhere_from_the_future_are_noted_whatever_was_told_of_them(dataset, tmp_path):
    leaking = elsewhere(dataset, tmp_path, KNOWN_SOLD, {"events_until": T, "trained_until": T})
    assert check_no_leak(leaking, dataset, T) == []  # what was told is not true
    assert auc(leaking, dataset) > 0.5 + BOUND
    assert foresight(leaking, dataset, T).share.low > 0.9
    done = benchmark({"leaking": [leaking]}, dataset, T, SETTINGS)
    assert any(note.startswith("leaking: it knows who will take which of 2 items") for note in done.notes)


def test_vectors_made_elsewhere_from_the_past_are_not_noted(dataset, tmp_path):
    honest = elsewhere(dataset, tmp_path, T, {"events_until": T, "trained_until": T})
    assert foresight_note(honest, dataset, T, 30) == []
    assert foresight(honest, dataset, T).share.value == 0.5  # nothing is known of either item


def test_a_catalogue_that_tells_the_future_is_caught(tmp_path):
    """Of 24 items first sold after the cut-off half sell; a category made later says which."""
    honest, leaking = (fit_on_categories(tmp_path / name, name) for name in ("honest", "leaking"))
    assert abs(honest - 0.5) < 2.6 * np.sqrt(25 / (12 * 12 * 12))
    assert abs(leaking - 0.5) > 0.4  # they are told apart; either way


def fit_on_categories(folder, kind):
    """AUC of the mean score over users, of new items that will sell against new items that will not."""
    generator = np.random.default_rng(3)
    sells = generator.permutation(64) < 32
    is_new = np.arange(64) >= 40
    weights = np.where(sells, 9.0, 1.0)[:40]
    rows = []
    for user in range(60):
        for day in generator.choice(np.arange(20, 100), 12, replace=False):
            rows.append((user, int(generator.choice(40, p=weights / weights.sum())), int(day) * DAY))
        rows += [(user, int(item), T + DAY) for item in generator.choice(np.flatnonzero(is_new & sells), 3)]
    told = sells if kind == "leaking" else generator.permutation(sells)
    names = np.where(told, "bestsellers", "others")
    dataset = Dataset.from_rows(rows, pl.DataFrame({"item_id": np.arange(64), "category": names}))
    folder.mkdir()
    embeddings = embed(fit("guim", dataset, folder / "m", T, 10), dataset, folder / "e", until=T)
    assert check_no_leak(embeddings, dataset, T) == []  # provenance cannot see it
    scores_UCN = embeddings.unit_users() @ embeddings.unit_items()[is_new].T
    return roc_auc_score(sells[is_new], scores_UCN.max(axis=1).mean(axis=0))


def test_histories_that_were_shortened_tell_the_future_and_are_refused(dataset):
    meta = {"options": {"max_history": int(np.diff(dataset.user_offsets).max())}}
    short = replace(dataset, manifest=Manifest("dataset", {}, {}, meta, "", "", ""))
    made = Embeddings.from_arrays(
        dataset.users.series,
        np.ones((dataset.num_users, 2)),
        dataset.items.series,
        np.ones((dataset.num_items, 2)),
    )
    for ask in (
        lambda: benchmark({"any": [made]}, short, KNOWN_SOLD),
        lambda: evaluate(made, short, [KNOWN_SOLD]),
    ):
        with pytest.raises(
            DataError, match="how many of them lie before the cut-off tells how many come after"
        ):
            ask()
