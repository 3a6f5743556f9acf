"""A task that was not trained on, in the paper's four ways."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from polyvec.errors import DataError, UsageError
from polyvec.systems import dupn
from polyvec.systems.dupn import DUPN, Task
from polyvec.systems.dupn.features import Encoder
from polyvec.systems.dupn.fit import Lessons
from polyvec.systems.dupn.objective import Validator
from polyvec.systems.dupn.tasks import samples_of
from polyvec.systems.dupn.transfer import begin, drawn

NEW = Task("class", column="category")


@pytest.fixture(scope="module")
def folder(dataset, config, options, last_week, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer") / "model"
    known = {name: config.tasks[name] for name in ("price", "click")}
    dupn.fit(dataset, folder, replace(config, tasks=known), options, until=last_week)
    return folder


@pytest.fixture(scope="module")
def base(folder) -> DUPN:
    return DUPN.open(folder)


def test_an_encoder_that_is_kept_drops_nothing_while_the_head_learns(base, dataset, options, last_week):
    lessons = Lessons.of(
        dataset, replace(base.config, tasks={"sort": NEW}), options, last_week, validates=False,
        fields=base.fields,
    )  # fmt: skip
    start, _ = begin(dataset, base, lessons, "sort", "rt", options)
    encoder = Encoder.of(dataset, base.fields)
    batch = encoder.batch({"sort": lessons.training["sort"].take(np.arange(50))}, torch.device("cpu"))
    start.network.train()
    one, other = (
        start.representing.encoder(batch, start.representing.encoder.items(batch.items))[0] for _ in "12"
    )
    assert one.equal(other)


@pytest.fixture(scope="module")
def frozen(base, dataset, options, last_week, folder) -> DUPN:
    short = replace(options, epochs=20, weight_decay=0.1)
    return dupn.transfer(
        base, dataset, "sort", NEW, folder.with_name("rt"), how="rt", options=short, until=last_week
    )


def accuracy(model: DUPN, dataset, since: int, task: str = "sort") -> float:
    one, known = model.tasks[task]
    samples = {task: samples_of(dataset, one, known, since, 10**15, 1, model.config.max_length)}
    return Validator(model.network, {task: one}, samples, Encoder.of(dataset, model.fields)).measures()[task][
        "accuracy"
    ]


def test_with_the_encoder_kept_the_head_learns_and_all_else_stays_to_the_bit(
    folder, base, frozen, dataset, last_week
):
    assert accuracy(frozen, dataset, last_week) > 0.6  # by chance 0.25
    before, after = (load_file(one / "weights.safetensors") for one in (folder, folder.with_name("rt")))
    assert all(after[name].equal(weight) for name, weight in before.items())
    assert {name.split(".")[1] for name in set(after) - set(before)} == {"of sort"}
    assert accuracy(frozen, dataset, last_week, "price") == accuracy(base, dataset, last_week, "price")
    meta = frozen.manifest.meta
    assert frozen.trained_until == base.trained_until
    assert meta["chosen_until"] == base.manifest.meta["chosen_until"] == last_week
    assert meta["transferred"] == {"task": "sort", "how": "rt", "share": 1.0}
    assert set(meta["samples"]) == {"price", "click", "sort"}


def test_few_labels_do_for_a_head_and_not_for_a_model_of_its_own(base, dataset, options, last_week, tmp_path):
    found = {}
    for how in ("rt", "rs"):
        model = dupn.transfer(
            base, dataset, "sort", NEW, tmp_path / how, how=how, share=0.05, until=last_week,
            options=replace(options, epochs=60),
        )  # fmt: skip
        found[how] = accuracy(model, dataset, last_week)
    assert found["rt"] > found["rs"] + 0.1


def test_a_smaller_share_of_the_labels_is_part_of_a_larger_one(base, dataset, last_week):
    task, known = base.tasks["price"]
    samples = samples_of(dataset, task, known, 0, last_week, 1, 12)
    few, more = (set(drawn(samples, share).events.tolist()) for share in (0.05, 0.2))
    assert len(few) == round(0.05 * len(samples))
    assert few < more


def test_an_encoder_that_was_never_trained_does_worse(base, frozen, dataset, options, last_week, tmp_path):
    random = DUPN.new(
        base.config, base.options, base.fields, base.tasks, base.trained_items, base.trained_until,
        base.time_kind,
    )  # fmt: skip
    model = dupn.transfer(
        random, dataset, "sort", NEW, tmp_path / "model", how="rt", until=last_week,
        options=replace(options, epochs=20),
    )  # fmt: skip
    assert accuracy(model, dataset, last_week) < accuracy(frozen, dataset, last_week) - 0.1


def test_fine_tuning_trains_both_and_drops_the_heads_that_it_leaves(
    folder, base, dataset, options, last_week, tmp_path
):
    moved = {}
    for rate in (1.0, 0.1):
        model = dupn.transfer(
            base, dataset, "sort", NEW, tmp_path / f"{rate}", how="ft", encoder_rate=rate, until=last_week,
            options=replace(options, epochs=10),
        )  # fmt: skip
        assert set(model.tasks) == {"sort"}
        assert accuracy(model, dataset, last_week) > 0.6
        before = load_file(folder / "weights.safetensors")["encoder.lstm.item_weight"]
        moved[rate] = torch.dist(model.network.encoder.lstm.item_weight, before)
    assert 0 < moved[0.1] < moved[1.0] / 2


def test_all_tasks_together_are_trained_anew(base, dataset, options, last_week, tmp_path):
    short = replace(options, epochs=1)
    model = dupn.transfer(
        base, dataset, "sort", NEW, tmp_path / "model", how="ra", options=short, until=last_week
    )
    assert set(model.tasks) == {"price", "click", "sort"}
    assert not model.network.encoder.lstm.item_weight.equal(base.network.encoder.lstm.item_weight)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"name": "price"}, "trained on task 'price' already"),
        ({"how": "tf"}, "no transfer 'tf'"),
        ({"share": 0.0}, "a share of 0.0"),
        ({"how": "rt", "encoder_rate": 0.1}, "an encoder rate of 0.1 with 'rt'"),
    ],
)
def test_what_cannot_be_done_is_refused(base, dataset, tmp_path, changes, what):
    asked = {"name": "sort"} | changes
    with pytest.raises(UsageError, match=what):
        dupn.transfer(base, dataset, task=NEW, out=tmp_path / "model", **asked)
    with pytest.raises(UsageError, match="trained on data with a timestamp"):
        dupn.transfer(base, replace(dataset, time_kind="order"), "sort", NEW, tmp_path / "model")
    with pytest.raises(DataError, match="task 'sort': neither events nor catalogue have 'sorts'"):
        dupn.transfer(base, dataset, "sort", replace(NEW, column="sorts"), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_days_that_the_encoder_has_seen_count_as_trained_on(dataset, config, options, last_week, tmp_path):
    short = replace(options, epochs=1)
    one = replace(config, tasks={"price": config.tasks["price"]})
    base = dupn.fit(dataset, tmp_path / "one", one, short, until=last_week, validation="none")
    model = dupn.transfer(
        base, dataset, "sort", NEW, tmp_path / "two", how="rt", options=short, until=last_week
    )
    assert model.trained_until == last_week


def test_as_typed(tmp_path, capsys, run):
    size = ["--users", 100, "--items", 400, "--events", 4000, "--days", 90, "--countries", 1]
    assert run("synth", "--out", tmp_path / "shop", *size) == 0
    events, items = (tmp_path / "shop" / f"{name}.parquet" for name in ("events", "items"))
    data, model = tmp_path / "shop.dataset", tmp_path / "shop.dupn"
    assert run("prepare", events, "--items", items, "--out", data) == 0
    (tmp_path / "old.toml").write_text('[dupn]\nwidth = 8\n[dupn.tasks.next]\nkind = "next"\n', "utf-8")
    (tmp_path / "new.toml").write_text('[dupn.tasks.sort]\nkind = "class"\ncolumn = "category"\n', "utf-8")
    typed = ["--set", "epochs=1", "--config"]
    assert run("fit", "dupn", data, "--out", model, *typed, tmp_path / "old.toml") == 0
    capsys.readouterr()
    out = tmp_path / "larger.dupn"
    new = [*typed, tmp_path / "new.toml", "--out", out]
    assert run("transfer", model, data, "--task", "sort", "--how", "rt", "--json", *new) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tasks"] == {"next": "next", "sort": "class"}
    assert run("transfer", model, data, "--task", "sort", "--overwrite", *new) == 0
    assert "task sort (ft), auc" in capsys.readouterr().out
    (tmp_path / "wide.toml").write_text(
        '[dupn]\nwidth = 99\n[dupn.tasks.sort]\nkind = "class"\ncolumn = "category"\n', "utf-8"
    )
    wide = ["--config", tmp_path / "wide.toml", "--out", tmp_path / "no"]
    assert run("transfer", model, data, "--task", "sort", *wide) == 2
    assert "network is the model's" in capsys.readouterr().err
    assert run("transfer", model, data, "--task", "sort", "--set", "width=9", "--overwrite", *new) == 2
    said = capsys.readouterr().err
    assert "there is no setting 'width'" in said
    assert "learning_rate" in said
    assert "item_vectors" not in said  # the network's, which are not to be told
    assert run("transfer", model, data, "--task", "srt", "--overwrite", *new) == 2
    assert "did you mean 'sort'" in capsys.readouterr().err
