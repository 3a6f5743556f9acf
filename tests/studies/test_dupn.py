from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import polars as pl
import pytest

from polyvec.evaluation.runs import over_runs
from polyvec.training.options import TrainingOptions

STUDY = Path(__file__).parents[2] / "studies" / "dupn"
MODULES = ("planted", "sets", "methods", "run", "replay", "page")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(STUDY))
    yield {name: importlib.import_module(name) for name in MODULES}
    sys.path.remove(str(STUDY))
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def log(modules) -> tuple[pl.DataFrame, pl.DataFrame]:
    return modules["planted"].plant(7, users=600)


@pytest.fixture(scope="module")
def scratch(modules, tmp_path_factory) -> Path:
    """A small planted Dataset where the study looks for it."""
    folder = tmp_path_factory.mktemp("scratch")
    modules["run"]._few(folder, modules["run"].place_of(folder, "planted", 0), 0)
    return folder


def test_what_an_event_says_is_up_to_what_it_was_how_long_ago_and_what_came_after(modules):
    planted = modules["planted"]
    log, place = planted.Log(), {name: np.array([planted.ACTIONS.index(name)]) for name in planted.ACTIONS}
    log.add(np.array([0]), place["favourite"], np.array([3]))
    log.add(np.array([60]), place["cart"], np.array([5]))
    log.add(np.array([120]), place["purchase"], np.array([-1]))  # nothing is bought
    soon, later = (log.strengths(np.array([after])) for after in (180, 2 * planted.DAY))
    strengths = planted.STRENGTHS
    kept = 1 - planted.FORGETS["cart"]
    np.testing.assert_allclose(soon, [[strengths["favourite"][0] * kept, strengths["cart"][0], 0]])
    np.testing.assert_allclose(later, [[strengths["favourite"][2] * kept, strengths["cart"][2], 0]])


def test_the_planted_shop_has_what_its_tasks_ask_for(modules, log):
    events, items = log
    counts = dict(events["action"].value_counts().iter_rows())
    assert set(counts) == set(modules["planted"].ACTIONS)
    assert 0.3 < counts["click"] / counts["impression"] < 0.7
    assert counts["follow"] < counts["purchase"] / 3
    assert items["shop"].n_unique() > items["icon"].n_unique() > 4
    assert {"price", *modules["planted"].NUMBERS, "brand", "category"} <= set(items.columns)
    assert events["timestamp"].max().date().isoformat() < modules["sets"].SETS["planted"].end


def test_what_is_carted_is_bought_again_within_the_hour_and_what_was_just_bought_is_not(modules, log):
    """Of a style like it: what is bought costs what was carted last, not what was bought last."""
    events, items = log
    events = events.join(items, on="item_id").sort("user_id", "timestamp")
    price = pl.col("price").log()
    found = {}
    for action in ("cart", "view", "purchase"):
        last = pl.when(pl.col("action") == action).then(price).shift(1).forward_fill().over("user_id")
        when = pl.when(pl.col("action") == action).then(pl.col("timestamp")).shift(1).forward_fill()
        asked = events.with_columns(last=last, ago=pl.col("timestamp") - when.over("user_id"))
        asked = asked.filter(
            pl.col("action") == "purchase", pl.col("ago") < pl.duration(hours=1)
        ).drop_nulls()
        found[action] = asked.select(pl.corr(price, "last")).item() if len(asked) > 50 else None
    assert found["cart"] > found["view"] + 0.2
    assert found["purchase"] is None or found["purchase"] < 0


def test_every_seed_has_a_planted_log_of_its_own(modules, log):
    place, folder = modules["run"].place_of, Path("scratch")
    assert place(folder, "planted", 0) != place(folder, "planted", 1)
    assert place(folder, "taobao", 0) == place(folder, "taobao", 1)
    assert not modules["planted"].plant(8, users=600)[0].equals(log[0])
    assert modules["planted"].plant(7, users=600)[0].equals(log[0])


def test_parts_follow_each_other_in_time(modules, scratch):
    run, one = modules["run"], modules["sets"].SETS["planted"]
    experiment = run.Experiment.of(scratch, "planted", run.SETTINGS[0], 0, quick=True)
    lessons = experiment.lessons(one.tasks, experiment.config)
    test = experiment.test(lessons)
    for name in one.tasks:
        assert lessons.training[name].times.max() < lessons.held_out[name].times.min()
        assert lessons.held_out[name].times.max() < test[name].times.min()


def test_where_the_answer_is_of_the_user_no_user_is_in_two_parts(modules, scratch):
    run = modules["run"]
    experiment = run.Experiment.of(scratch, "planted", run.SETTINGS[0], 0, quick=True)
    experiment = run.replace(experiment, one=run.replace(experiment.one, of_users=("price",), most=200))
    lessons = experiment.lessons(experiment.one.tasks, experiment.config)
    parts = [lessons.training, lessons.held_out, experiment.test(lessons)]
    users = [set((one["price"].users % 10).tolist()) for one in parts]
    assert users == [set(range(3, 10)), {2}, {0, 1}]
    assert set((parts[0]["click"].users % 10).tolist()) == set(range(10))
    assert max(len(samples) for samples in lessons.training.values()) == 200


def test_a_run_says_what_the_page_needs_and_a_model_is_transferred(modules, scratch, tmp_path):
    run, methods = modules["run"], modules["methods"]
    job = ("planted", methods.ALL, 0, 0)
    runs = run.TunedRuns(tmp_path / "runs.jsonl", run.settings_of)
    runs.add(job, run.run_once(scratch, *job, None, quick=True))
    found = runs.runs[job]
    assert set(found["tasks"]) == {"click", "rank", "price", "icon"}
    price = found["tasks"]["price"]
    assert {"auc", "accuracy"} == set(price["test"])
    assert 0.1 < price["majority"] < 0.4
    assert len(price["curve"]) == 1
    assert price["curve"][0][1] == price["validation"]
    assert found["validation"] == pytest.approx(
        np.mean([one["validation"] for one in found["tasks"].values()]), abs=1e-4
    )
    run.fit_base(scratch, "planted", 0, 0, quick=True)
    fitted, blank = (run.fitted(scratch, "planted", 0, 0, quick=True, blank=one) for one in (False, True))
    weight = "encoder.lstm.item_weight"
    assert not fitted.network.state_dict()[weight].equal(blank.network.state_dict()[weight])
    told = run.run_once(scratch, "planted", methods.transferred("rt", 20), 0, 0, 0, quick=True)
    assert set(told["tasks"]) == {"shop"}
    alone = run.run_once(scratch, "planted", methods.transferred("rs", 100), 0, 0, 0, quick=True)
    assert told["tasks"]["shop"]["samples"] == pytest.approx(alone["tasks"]["shop"]["samples"] / 5, abs=1)


def test_a_method_without_settings_of_its_own_takes_those_of_another(modules):
    run = modules["run"]
    for method in ("all", "bplstm"):
        assert run.settings_of("planted", method) == (len(run.SETTINGS), "all")
    assert run.settings_of("planted", "nobp")[1] == "nobp"


def test_a_method_is_asked_what_it_can_answer_alone(modules):
    methods = modules["methods"]
    asked = {name: list(methods.tasks_of("planted", methods.RIVALS[name])) for name in ("wide", "DSSM")}
    assert asked == {"wide": ["click", "rank", "price", "icon"], "DSSM": ["click", "icon"]}
    assert "next" not in methods.tasks_of("taobao", methods.RIVALS["wide"])


def test_weights_by_hand_are_those_of_the_set_and_no_method_where_it_has_none(modules):
    methods = modules["methods"]
    assert methods.BY_HAND not in methods.methods_of("taobao")
    by_hand = methods.methods_of("online_retail")[methods.BY_HAND]
    weights = {task: one.weight for task, one in methods.tasks_of("online_retail", by_hand).items()}
    assert weights == {"next": 1, "price": 1, "churn": 0.1, "spend": 0.1}


def test_families_of_products_follow_from_titles(modules):
    titles = pl.Series(["RED BAG", "BAG OF TOYS", "BIG BAG", None, "BOX", "12 OF"])
    assert modules["sets"].families(titles, least=2).to_list() == ["BAG", "BAG", "BAG", None, None, None]


def runs_of(values: dict[str, list[float]], **more: object) -> dict:
    """Figures of a method, by task."""
    count = len(next(iter(values.values())))
    tasks = {
        task: {
            "test": {"auc": over_runs(some)},
            "validation": over_runs(some),
            "samples": 100 if task == "icon" else 1000,
            "asked": 50,
            "curve": [[1000, some[0] - 0.1], [2000, some[0]]],
        }
        for task, some in values.items()
    }
    told = {"seeds": list(range(count)), "tasks": tasks, "attention": {}, "parameters": 7}
    validation = [float(np.mean(some)) for some in zip(*values.values(), strict=True)]
    told |= {"validation": over_runs(validation), "seconds": over_runs([1.0] * count)}
    return told | {"epoch": over_runs([3.0] * count)} | more


def test_verdicts_follow_from_differences_paired_by_seed(modules):
    tasks = ("click", "rank", "price", "icon")

    def all_of(*values: float) -> dict:
        return runs_of({task: list(values) for task in tasks})

    methods = {
        "all": all_of(0.80, 0.81, 0.82),
        "nobp": all_of(0.79, 0.80, 0.81),
        "bpatt": all_of(0.80, 0.80, 0.81),
        "mean pooling": all_of(0.70, 0.81, 0.92),
        "uncertainty weights": all_of(0.75, 0.80, 0.81),
        "click alone": runs_of({"click": [0.80, 0.81, 0.82]}),
        "icon alone": runs_of({"icon": [0.6, 0.6, 0.6]}),
    }
    told = modules["page"].page({"sets": {"planted": methods}}, {})
    assert "**planted, click: properties of events help (all against nobp)**: yes. 0.8100" in told
    assert "**planted, click: attention beats mean pooling**: undecided." in told
    assert "**planted: bpatt beats nobp on most tasks**: yes. On 4 of 4" in told
    assert "all tasks at once (all) are at least as good as this one alone**: yes. 0.8100" in told
    assert "**planted, icon: and better on the sparsest**: yes." in told
    assert "| one model each | – | – | – | auc 0.8100 ± 0.0248 | – | – | auc 0.6000 ± 0.0000 | 14 |" in told
    assert "![planted_icon](planted_icon.svg)" in told


def test_transfer_is_judged_by_the_way_that_validation_prefers(modules):
    transferred = modules["methods"].transferred
    values = {"rt": 0.7, "ft": 0.6, "rs": 0.5, "random frozen": 0.55}
    methods = {
        transferred(how, share): runs_of({"shop": [value, value + 0.01, value + 0.02]})
        for how, value in values.items()
        for share in (5, 100)
    }
    page = modules["page"]
    told = page.page({"sets": {"planted": methods}}, {})
    few = "**planted, shop, 5 % of the labels: "
    assert few + "a frozen encoder (RT) beats one that was never trained**: yes." in told
    assert few + "the better of RT and FT (rt) beats starting anew (RS)**: yes. 0.7100" in told
    assert "100 % of the labels: and beats RT (ft)**: no." in told
    assert "| ft | auc 0.6100 ± 0.0248 | – | auc 0.6100 ± 0.0248 |" in told
    complete = {
        transferred(how, share): runs_of({"shop": [0.5]}) for how in modules["methods"].TRANSFERS
        for share in modules["methods"].SHARES
    }  # fmt: skip
    (drawn,) = page.pictures("planted", complete)
    assert drawn[0] == "planted_shop.svg"
    assert "random frozen" in drawn[1]


def test_classes_attention_and_rivals_are_told(modules):
    one = runs_of({"next": [0.2] * 3, "buy": [0.8] * 3, "action": [0.9] * 3})
    one["tasks"]["action"]["test"]["accuracy"] = over_runs([0.70, 0.71, 0.72])
    one["tasks"]["action"]["majority"] = over_runs([0.50, 0.50, 0.50])
    one["attention"] = {"buy": {"1 h": [2.0, 10]}, "cart": {"1 h": [1.0, 10], "> 30 d": [0.5, 10]}}
    rival = runs_of({"next": [0.25] * 3, "buy": [0.7] * 3, "action": [0.8] * 3})
    methods = {"all": one, "CNN-max": rival, "DSSM": runs_of({"buy": [0.75] * 3})}
    page = modules["page"]
    told = page.page({"sets": {"taobao": methods}}, {})
    assert "accuracy is 5% above always naming the most frequent class**: yes. 0.7100" in told
    assert "attention tells actions apart (a ratio above 1.2)**: yes" in told
    assert "buy 2.00, cart 0.75" in told
    assert "**taobao, next: DUPN beats the best of its rivals, CNN-max**: no." in told
    assert "**taobao, buy: DUPN beats the best of its rivals, DSSM**: yes." in told
    assert "| > 30 d | – | 0.50 (10) |" in told
    ((file, picture),) = page.pictures("taobao", methods)
    assert file == "taobao_attention.svg"
    assert "30 d" in picture


def test_days_are_told_as_means_over_periods_and_judged_over_seeds(modules, tmp_path):
    replay, page, file = modules["replay"], modules["page"], tmp_path / "replay.jsonl"
    chosen = {
        "rate": 1, "passes": 2, "rehearsal": 0, "frozen": {"next": 0.1}, "tried": {"1, 2, 0": {"next": 0.11}},
    }  # fmt: skip
    replay.add_run(file, {"set": "taobao", "chosen": chosen})
    for seed, gain in enumerate((0.10, 0.12, 0.11)):
        periods = [
            {
                "period": number,
                "frozen": {"next": 0.2},
                "updated": {"next": 0.2 + number * gain},
                "anew": {"next": 0.2 + number * gain + 0.1},
                "update steps": 10,
                "anew steps": 200,
            }
            for number in (1, 2)
        ]
        replay.add_run(file, {"set": "taobao", "seed": seed, "run": {"epochs": 1, "periods": periods}})
    found = replay.collect(file)
    assert found["taobao"]["tasks"]["next"]["updated − frozen"]["values"] == [0.15, 0.18, 0.165]
    assert found["taobao"]["curves"]["next"]["updated"] == [[1, 0.31], [2, 0.42]]
    told = page.page({"sets": {}}, found)
    assert "next: updated beats frozen**: yes. 0.3650" in told
    assert "ahead in 6 of 6 periods" in told
    assert "at most 0.003 behind training anew**: no. Difference -0.1000" in told
    assert "ahead in 0 of 6 periods" in told
    assert "at most 25% of training anew**: yes. 5.0% of the steps" in told
    assert "![days_taobao_next](days_taobao_next.svg)" in told


@pytest.fixture
def player(modules, tmp_path, monkeypatch):
    """Return a function that plays four days of models that know only when they learned; and what they did.

    The power fails when a fifth answer is asked for, once.
    """
    replay, learned, asked = modules["replay"], [], []
    meta = {"updates": [{"steps": 1, "update_seconds": 1.0}], "steps": 9, "training_seconds": 9.0}

    def opened(path):
        told = SimpleNamespace(meta=meta)
        until = int((path / "until").read_text())
        return SimpleNamespace(options=TrainingOptions(), manifest=told, trained_until=until)

    def written(path, until):
        path.mkdir(exist_ok=True)
        (path / "until").write_text(str(until))
        return opened(path)

    def fitted(_dataset, out, _replay, _seed, until, _epochs=0):
        learned.append((out.name, until))
        return written(out, until)

    def update(path, _dataset, training, how, *, until, gate):
        assert (training.epochs, how.rehearsal, how.share) == (2, 1.0, 0)
        learned.append((path.name, until))
        return written(path, until)

    def worth_of(model, _dataset, start, _stop):
        if len(asked) == 4:
            asked.append("power cut")
            raise KeyboardInterrupt
        asked.append(start)
        return {"next": model.trained_until / start}

    monkeypatch.setattr(replay, "DUPN", SimpleNamespace(open=opened))
    monkeypatch.setattr(replay, "dupn", SimpleNamespace(update=update))
    for name, function in {"fitted": fitted, "worth_of": worth_of, "copy_whole": shutil.copytree}.items():
        monkeypatch.setattr(replay, name, function)
    log = replace(replay.SETS["taobao"], periods=4)
    monkeypatch.setitem(replay.SETS, "taobao", log)
    days, file = [log.moment(number) for number in range(4)], tmp_path / "replay.jsonl"
    chosen = {"rate": 1.0, "passes": 2, "rehearsal": 1.0}

    def play(with_events):
        dataset = SimpleNamespace(times=np.array([days[number] for number in with_events]))
        return replay.play(dataset, tmp_path / "unfinished", "taobao", 0, chosen, file)

    return SimpleNamespace(play=play, learned=learned, days=days, replay=replay, file=file)


def test_days_that_were_played_are_not_played_again(player):
    learned, days, replay, file = player.learned, player.days, player.replay, player.file
    with pytest.raises(KeyboardInterrupt):
        player.play(range(4))
    first = [*learned]
    found = player.play(range(4))
    assert first == [("frozen", days[0]), ("anew", days[1]), ("updated", days[1]), ("anew", days[2])]
    assert learned[4:] == [("anew", days[2]), ("updated", days[2]), ("anew", days[3]), ("updated", days[3])]
    assert [line["period"] for line in replay.read_runs(file)] == [1, 2, 3]
    assert [line["updated"]["next"] for line in found["periods"]] == [1, 1, 1]


def test_a_day_on_which_nothing_happened_is_not_learned_and_costs_nothing(player):
    with pytest.raises(KeyboardInterrupt):
        player.play([0, 2])
    found = player.play([0, 2])
    updates = [until for name, until in player.learned if name == "updated"]
    assert updates == [player.days[1], player.days[3]]
    assert [line["update steps"] for line in found["periods"]] == [1, 0, 1]
