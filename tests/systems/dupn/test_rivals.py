"""What DUPN is compared with: each answers what it can, by its own mechanism and on the same samples."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from typing import get_args

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch.nn import functional

from polyvec.data.dataset import MICROSECONDS_PER_DAY, Dataset
from polyvec.data.split import cut
from polyvec.errors import UsageError
from polyvec.layers.tables.hashed import FACTOR, PRIME, SHIFT
from polyvec.systems import dupn
from polyvec.systems.dupn import DUPN, DUPNConfig, Task, word2vec
from polyvec.systems.dupn.config import ANSWERS, Model
from polyvec.systems.dupn.features import Encoder
from polyvec.systems.dupn.fit import Lessons, begun
from polyvec.systems.dupn.network import DUPNNetwork
from polyvec.systems.dupn.objective import Objective, Validator, predict
from polyvec.systems.dupn.rivals import KERNELS, SIZES, CNNMax, Network, make_network
from polyvec.systems.dupn.serving import ItemHead, UserState, UserTower
from polyvec.systems.dupn.tasks import samples_of
from polyvec.systems.dupn.word2vec import Sentences, vectors_of
from polyvec.systems.embed import embed
from polyvec.training import loop
from polyvec.training.optimizers import make_optimizers
from polyvec.training.options import TrainingOptions

DAY = MICROSECONDS_PER_DAY
CPU = torch.device("cpu")
RIVALS = tuple(model for model in get_args(Model) if model != "dupn")
LINEAR = ("wide", "wide_deep")
needs_gensim = pytest.mark.skipif(find_spec("gensim") is None, reason=word2vec.MISSING)


@pytest.fixture(scope="module")
def all_tasks(tasks):
    return tasks | {"churn": Task("window", days=3)}


@pytest.fixture(scope="module")
def asking(config, all_tasks) -> DUPNConfig:
    """All tasks, with queries and profiles."""
    return replace(
        config, tasks=all_tasks, query_words=20, profile_fields=("gender",), deep=(16, 8), cross_rows=2000
    )


@pytest.fixture(scope="module")
def lessons(dataset, asking, options, last_week) -> Lessons:
    return Lessons.of(dataset, asking, options, last_week, validates=False)


@pytest.fixture(scope="module")
def encoder(dataset, lessons) -> Encoder:
    return Encoder.of(dataset, lessons.fields)


@pytest.fixture(scope="module")
def some(lessons):
    """Samples of every task, one without a history and one with a short one among them."""
    chosen = {}
    for name, samples in lessons.training.items():
        few = samples.take(np.arange(0, len(samples), len(samples) // 6))
        start = few.start.copy()
        start[:2] = few.stop[:2] - [0, 2]
        chosen[name] = replace(few, start=start)
    return chosen


def settings(config: DUPNConfig, model: str, **changes) -> DUPNConfig:
    """The same for another model, with those tasks that it answers."""
    tasks = {name: task for name, task in config.tasks.items() if task.kind in ANSWERS[model]}
    return replace(config, **({"model": model, "tasks": tasks} | changes))


def made(lessons: Lessons, model: str, **changes) -> Network:
    """A network whose weights, those that begin at zero among them, all say something."""
    config = settings(lessons.config, model, **changes)
    torch.manual_seed(0)
    network = make_network(
        config, lessons.fields.shape(has_times=True), {name: lessons.tasks[name] for name in config.tasks}
    )
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return network.eval()


def answered(network: Network, samples):
    """Those of its tasks."""
    return {name: some for name, some in samples.items() if name in network.config.tasks}


def count(module: torch.nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


def test_every_model_answers_the_kinds_it_says_it_does(lessons, encoder, some):
    assert set(ANSWERS) == set(get_args(Model)) == {"dupn", *RIVALS}
    for model in RIVALS:
        network = made(lessons, model)
        batch = encoder.batch(answered(network, some), CPU)
        found = network(batch)
        classes = {"price": 4, "churn": 2, "next": len(batch.items.codes)}
        for name, logits in found.logits.items():
            shape = (len(some[name]), classes[name]) if name in classes else (len(some[name]),)
            assert logits.shape == shape, (model, name)
            assert logits.isfinite().all()
        kinds = {task.kind for task in network.config.tasks.values()}
        assert kinds == set(ANSWERS[model])


@pytest.mark.parametrize("model", RIVALS)
def test_a_sample_is_answered_alike_whatever_stands_beside_it(model, lessons, encoder, some):
    network = made(lessons, model)
    mine = answered(network, some)
    together = network(encoder.batch(mine, CPU)).logits
    for name, samples in mine.items():
        if name == "next":
            continue  # asks about the items of the batch
        for row in range(len(samples)):
            alone = network(encoder.batch({name: samples.take(np.array([row]))}, CPU)).logits[name]
            torch.testing.assert_close(together[name][row], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", RIVALS)
def test_samples_are_learned_by_heart(model, lessons, encoder):
    samples = {
        name: lessons.training[name].take(np.arange(24) * 7)
        for name in ("click", "brand", "price")
        if name in settings(lessons.config, model).tasks
    }
    torch.manual_seed(0)
    config = settings(lessons.config, model)
    network = make_network(
        config, lessons.fields.shape(has_times=True), {name: lessons.tasks[name] for name in config.tasks}
    )
    objective = Objective(network, config, config.tasks)
    optimizers = make_optimizers(network, TrainingOptions(learning_rate=3e-2, weight_decay=0))
    batch = encoder.batch(samples, CPU)
    for _ in range(40):
        objective(batch)[0].backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    logits = network.eval()(batch).logits
    for name in samples:
        truth = batch.answers[batch.slices[name]]
        told = logits[name].argmax(dim=1) if logits[name].ndim > 1 else (logits[name] > 0).long()
        assert (told == truth).float().mean() > 0.9, name


@pytest.mark.parametrize("model", RIVALS)
def test_a_batch_of_one_task_trains_its_own_head_and_what_all_share(model, lessons, encoder, some):
    network = made(lessons, model)
    batch = encoder.batch({"click": some["click"]}, CPU)
    Objective(network, network.config, network.config.tasks)(batch)[0].backward()
    own = {name for name, weights in network.named_parameters() if ".of " in name}
    touched = {name for name, weights in network.named_parameters() if weights.grad is not None}
    trained = {name.split(".of ")[1].split(".")[0] for name in touched & own if "encoder" not in name}
    assert trained == {"click"}
    if model != "wide":
        assert network.encoder.items.ids.weight.grad is not None


# ---------------------------------------------------------------------------------------------- Wide


def rows_of(network: Network, name: str, batch, sample: int) -> dict[int, float]:
    """How much every row of a task's weights counts for a sample, spelled out."""
    wide, counted = network.wide[f"of {name}"], {}
    start = batch.slices[name].start

    def count_in(row: int, share: float) -> None:
        counted[row] = counted.get(row, 0) + share

    def pair(one: int, other: int) -> int:
        return wide.num_values + (
            ((one * wide.num_values + other) % PRIME * FACTOR + SHIFT) % PRIME % wide.cross_rows
        )

    def values(group: str, codes: list[int]) -> list[int]:
        return [code + first for code, first in zip(codes, wide.starts[group], strict=True)]

    asked = []
    if wide.kind == "item":
        asked = values("asked", batch.items.codes[batch.candidates[start + sample]].tolist())
    if wide.kind == "entity":
        asked = values("asked", [int(batch.entities[start + sample]) + 1])
    users = values("users", batch.users[start + sample].tolist())
    for row in users + asked:
        count_in(row, 1)
    for user in users:
        for other in asked:
            count_in(pair(user, other), 1)
    events = np.flatnonzero(batch.owners.numpy() == start + sample)
    for event in events:
        items = values("items", batch.items.codes[batch.history[event]].tolist())
        properties = values("properties", batch.properties[event].tolist())
        pairs = [pair(item, other) for item in items for other in properties + asked]
        for row in items + properties + pairs:
            count_in(row, 1 / len(events))
    ends = [*batch.word_offsets[1:].tolist(), len(batch.words)]
    words = batch.words[int(batch.word_offsets[start + sample]) : ends[start + sample]].tolist()
    for word in words:
        row = values("words", [word])[0]
        for other in [row, *(pair(row, one) for one in asked)]:
            count_in(other, 1 / len(words))
    return counted


@pytest.mark.parametrize("name", ["click", "brand", "price", "churn"])
def test_wide_is_a_regression_on_fields_and_pairs(name, lessons, encoder, some):
    network = made(lessons, "wide")
    batch = encoder.batch(answered(network, some), CPU)
    wide, logits = network.wide[f"of {name}"], network(batch).logits[name]
    if name == "click":
        assert len(batch.words) > 0
    for sample in range(len(some[name])):
        counted = rows_of(network, name, batch, sample)
        expected = wide.bias + sum(share * wide.table.weight[row] for row, share in counted.items())
        torch.testing.assert_close(logits[sample].reshape(-1), expected, rtol=1e-4, atol=1e-4)


def test_rows_of_fields_are_apart_and_pairs_share_theirs(lessons):
    wide = made(lessons, "wide").wide["of click"]
    sizes = lessons.fields.shape(has_times=True)
    fields = [*sizes.items.values(), *sizes.events.values(), 11, 12, *sizes.users.values(), sizes.query]
    assert wide.num_values == sum([*fields, *sizes.items.values()])
    starts = [first for group in wide.starts.values() for first in group]
    assert np.diff([*starts, wide.num_values]).tolist() == [*fields, *sizes.items.values()]
    assert wide.table.weight.shape == (wide.num_values + 2000, 1)
    one = torch.arange(wide.num_values)[:, None]
    pairs = wide._pairs(one, one[:40].T.expand(wide.num_values, -1)) - wide.num_values
    assert pairs.min() >= 0
    assert pairs.max() < 2000
    loads = np.bincount(pairs.flatten().numpy(), minlength=2000)
    assert loads.max() < 4 * loads.mean() + 10  # spread evenly, about


def test_what_wide_ranks_by_weighs_nothing_below_zero(lessons, encoder, some):
    for model in LINEAR:
        network = made(lessons, model)
        samples = replace(some["sort"], numbers=np.zeros_like(some["sort"].numbers))
        assert (network(encoder.batch({"sort": samples}, CPU)).logits["sort"] == 0).all()
        for place in range(samples.numbers.shape[1]):
            numbers = np.zeros_like(samples.numbers)
            numbers[:, place] = 1
            raised = network(encoder.batch({"sort": replace(samples, numbers=numbers)}, CPU)).logits["sort"]
            assert (raised >= 0).all()


def test_an_untrained_regression_knows_nothing(lessons, encoder, some):
    config = settings(lessons.config, "wide")
    network = make_network(
        config, lessons.fields.shape(has_times=True), {name: lessons.tasks[name] for name in config.tasks}
    )
    logits = network(encoder.batch(answered(network, some), CPU)).logits
    assert (logits["click"] == 0).all()
    assert (logits["price"] == 0).all()
    torch.testing.assert_close(logits["sort"], torch.tensor(some["sort"].numbers).sum(dim=1))  # all alike


def test_wide_and_deep_is_the_sum_of_both(lessons, encoder, some):
    network = made(lessons, "wide_deep")
    assert [layer.out_features for layer in network.heads["of click"].layers.linears] == [16, 8, 1]
    batch = encoder.batch({"click": some["click"], "price": some["price"]}, CPU)
    both = network(batch).logits
    deep = network._deep(network.encoder, batch)
    for name in both:
        wide = network.wide[f"of {name}"](batch, batch.slices[name])
        torch.testing.assert_close(both[name].reshape(wide.shape), wide + deep[name])
        assert wide.abs().sum() > 0
        assert deep[name].abs().sum() > 0


def test_beside_a_deep_side_weights_of_a_ranking_begin_no_larger_than_without_one(lessons):
    tasks, begun = {"sort": lessons.tasks["sort"]}, {}
    for model in LINEAR:
        config = settings(lessons.config, model)
        network = make_network(config, lessons.fields.shape(has_times=True), tasks)
        begun[model] = network.wide["of sort"].bias
    deep = network.heads["of sort"].layers.linears[-1].bias
    assert (begun["wide"] == 1).all()
    assert (begun["wide_deep"] == 0).all()
    assert (deep > 0).all()


def test_at_the_papers_widths(lessons):
    config = settings(lessons.config, "wide_deep", deep=DUPNConfig().deep)
    network = make_network(config, lessons.fields.shape(has_times=True), {"click": lessons.tasks["click"]})
    layers = network.heads["of click"].layers.linears
    assert [layer.out_features for layer in layers] == [1024, 512, 128, 1]
    encoder = network.encoder
    assert layers[0].in_features == encoder.width + config.item_width
    assert encoder.width == (
        encoder.items.width + encoder.properties.width + encoder.profile.width + encoder.query.width
    )


# ------------------------------------------------------------------------------------- mean, DSSM, CNN


def turned(batch, task: str, sample: int):
    """The same with a sample's history the other way round."""
    mine = np.flatnonzero(batch.owners.numpy() == batch.slices[task].start + sample)
    order = torch.arange(len(batch.owners))
    order[torch.from_numpy(mine)] = torch.from_numpy(mine[::-1].copy())
    return replace(batch, history=batch.history[order], properties=batch.properties[order])


@pytest.mark.parametrize("model", RIVALS)
def test_only_convolutions_see_an_order(model, lessons, encoder, some):
    network = made(lessons, model)
    batch = encoder.batch({"click": some["click"]}, CPU)
    last = len(some["click"]) - 1
    assert some["click"].stop[last] - some["click"].start[last] > 3
    before, after = (network(one).logits["click"] for one in (batch, turned(batch, "click", last)))
    torch.testing.assert_close(after[:last], before[:last])
    assert torch.allclose(after[last], before[last], rtol=1e-4, atol=1e-4) == (model != "cnn_max")


@pytest.mark.parametrize("model", RIVALS)
def test_properties_are_seen_or_not(model, lessons, encoder, some):
    batch = encoder.batch({"click": some["click"]}, CPU)
    other = replace(batch, properties=(batch.properties + 1) % 3)
    for properties in ("both", "none"):
        network = made(lessons, model, properties=properties)
        blind = network(batch).logits["click"].equal(network(other).logits["click"])
        assert blind == (properties == "none")


def test_a_score_of_two_towers_is_a_cosine(lessons, encoder, some):
    network = made(lessons, "dssm", alpha=3.0)
    batch = encoder.batch(answered(network, some), CPU)
    found = network(batch)
    assert found.rep.shape == (len(batch), 8)
    items = network.encoder.items.encoding(network.encoder.items(batch.items))
    click, brand, following = (batch.slices[name] for name in ("click", "brand", "next"))
    of_click = network.head("click").items(items[batch.candidates[click]])
    of_brand = network.head("brand").encoding(network.head("brand").entities(batch.entities[brand] + 1))
    for name, rows, asked in (("click", click, of_click), ("brand", brand, of_brand)):
        expected = functional.normalize(found.rep[rows]) * functional.normalize(asked)
        torch.testing.assert_close(found.logits[name], 3 * expected.sum(dim=1))
        assert found.logits[name].abs().max() <= 3.0001
    of_next = functional.normalize(network.head("next").items(items))
    torch.testing.assert_close(
        found.logits["next"], 3 * functional.normalize(found.rep[following]) @ of_next.T
    )
    with torch.no_grad():
        for weights in network.encoder.layers.linears[-1].parameters():
            weights.mul_(5)
    torch.testing.assert_close(network(batch).logits["click"], found.logits["click"])


def test_kernels_see_what_a_plain_loop_sees(lessons, encoder, some):
    network = made(lessons, "cnn_max")
    cnn, batch = network.encoder, encoder.batch({"click": some["click"], "price": some["price"]}, CPU)
    assert isinstance(cnn, CNNMax)
    assert {0, 2, 12} <= set(batch.lengths.tolist())  # shorter than the widest kernels, and longer
    events = torch.randn(len(batch.history), cnn.kernels[0].in_channels)
    found = cnn.strongest(events, batch)
    assert found.shape == (len(batch), KERNELS * len(SIZES))
    for sample in range(len(batch)):
        mine = events[batch.owners == sample]
        for place, size in enumerate(SIZES):
            kernel, best = cnn.kernels[place], torch.zeros(KERNELS)
            for last in range(len(mine)):
                told = kernel.bias.clone()
                for back in range(min(size, last + 1)):
                    told += kernel.weight[:, :, size - 1 - back] @ mine[last - back]
                best = torch.maximum(best, told)
            of_size = found[sample, place * KERNELS : (place + 1) * KERNELS]
            torch.testing.assert_close(of_size, best, rtol=1e-4, atol=1e-4)


def test_convolutions_make_a_vector_as_wide_as_dupns(lessons, encoder, some):
    network, ours = made(lessons, "cnn_max"), made(lessons, "dupn")
    assert isinstance(network, DUPNNetwork)
    assert network.encoder.width == ours.encoder.width
    for name in lessons.tasks:
        assert count(network.head(name)) == count(ours.head(name))
    batch = encoder.batch({"click": some["click"]}, CPU)
    assert network(batch).rep[:, 16:].equal(network.encoder.profile(batch.users))
    silent = replace(batch, words=batch.words[:0], word_offsets=torch.zeros_like(batch.word_offsets))
    assert not network(silent).rep.equal(network(batch).rep)  # the query is heard


# --------------------------------------------------------------------------- from a log to answers


def tastes(users: int = 60, taken: int = 9) -> Dataset:
    """People who mostly buy of one category, their own: no order, no action and no pair of events matters."""
    random = np.random.default_rng(0)
    rows = [
        (f"u{user:02}", f"i{int(random.integers(12)) * 4 + kind:02}", (10 * place + user % 10) * DAY // 4)
        for user in range(users)
        for place, kind in enumerate(np.where(random.random(taken) < 0.9, user % 4, random.integers(4)))
    ]
    table = pl.DataFrame({
        "item_id": [f"i{item:02}" for item in range(48)],
        "category": [f"c{item % 4}" for item in range(48)],
        "brand": [f"b{item % 4}" for item in range(48)],
        "title": [f"kind{item % 4} of thing" for item in range(48)],
    })  # fmt: skip
    return Dataset.from_rows(rows, table)


SINCE = 20 * DAY


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return tastes()


@pytest.fixture(scope="module")
def small(asking) -> DUPNConfig:
    tasks = {name: asking.tasks[name] for name in ("click", "next")}
    tasks["brand"] = replace(asking.tasks["brand"], new_only=False)
    return replace(asking, query_words=0, profile_fields=(), tasks=tasks, validation_days=3, max_length=6)


@pytest.fixture(scope="module")
def folder(shop, small, options, tmp_path_factory):
    """Fitted models of all kinds."""
    folder = tmp_path_factory.mktemp("rivals")
    for model in RIVALS:
        rate, epochs, size = {"dssm": (1e-2, 12, 200), "cnn_max": (1e-2, 2, 200)}.get(model, (2e-2, 6, 200))
        short = replace(options, epochs=epochs, learning_rate=rate, batch_size=size)
        dupn.fit(shop, folder / model, settings(small, model), short, until=SINCE)
    return folder


@pytest.fixture(scope="module")
def fitted(folder) -> dict[str, DUPN]:
    return {model: DUPN.open(folder / model) for model in RIVALS}


def measured(model: DUPN, dataset: Dataset, since: int) -> dict[str, dict[str, float]]:
    """What answers of the days from then on are worth."""
    tasks = {name: task for name, (task, _) in model.tasks.items()}
    samples = {
        name: samples_of(dataset, task, known, since, 1000 * DAY, 1, model.config.max_length)
        for name, (task, known) in model.tasks.items()
    }
    return Validator(model.network, tasks, samples, Encoder.of(dataset, model.fields)).measures()


@pytest.mark.parametrize("model", ["wide", "wide_deep", "dssm"])
def test_what_people_like_is_learned_without_an_order(model, fitted, shop):
    found = measured(fitted[model], shop, SINCE)
    assert found["brand"]["auc"] > 0.8
    assert found["click"]["auc"] > 0.75  # one of four drawn items is of the same category: at best 0.87


@pytest.mark.parametrize(("model", "sees"), [("wide", False), ("wide_deep", False), ("cnn_max", True)])
def test_what_came_last_is_seen_by_convolutions_alone(
    model, sees, plant, asking, options, last_week, tmp_path
):
    """What is bought was carted in the same visit, which in a mean is one of several."""
    shop = plant(users=80)
    config = settings(replace(asking, query_words=0, tasks={"price": asking.tasks["price"]}), model)
    short = replace(options, epochs=6, batch_size=50)
    dupn.fit(shop, tmp_path / "model", config, short, until=last_week, validation="none")
    accuracy = measured(DUPN.open(tmp_path / "model"), shop, last_week)["price"]["accuracy"]
    assert accuracy > 0.85 if sees else 0.3 < accuracy < 0.75  # by chance 0.25


@pytest.mark.parametrize("model", RIVALS)
def test_a_saved_model_is_the_same_and_tells_what_it_is(model, fitted, folder, small):
    opened = fitted[model]
    assert opened.config.model == model
    assert opened.trained_until == SINCE - 3 * DAY  # the rest is validated on
    meta = opened.manifest.meta
    assert (meta["variant"], meta["C"]) == (f"{model}, with properties", 0 if model in LINEAR else 1)
    told = (folder / model / "card.md").read_text("utf-8")
    assert ("No vectors of users" in told) == (model in LINEAR)
    weights = load_file(folder / model / "weights.safetensors")
    for name, weight in opened.network.state_dict().items():
        assert weight.equal(weights[name])


@pytest.mark.parametrize("model", RIVALS)
def test_ordered_data_adagrad_and_bfloat16_are_possible(model, small, options, tmp_path):
    ordered = replace(tastes(users=20), time_kind="order")
    tasks = {"sort": Task("class", column="category"), "next": Task("next")}
    config = settings(replace(small, tasks=tasks, optimizer="adagrad", validation_days=1), model)
    short = replace(options, epochs=1, precision="bfloat16", batch_size=200)
    found = dupn.fit(ordered, tmp_path / "model", config, short, held_back=1)
    assert found.time_kind == "order"
    assert np.isfinite(found.manifest.meta["validation"])


def test_a_second_run_ends_with_the_same_bits_also_if_it_was_killed(
    shop, small, options, tmp_path, monkeypatch
):
    config, short = settings(small, "wide_deep"), replace(options, epochs=2, batch_size=200)
    dupn.fit(shop, tmp_path / "one", config, short, until=SINCE, refit=True)
    interrupt_fit(monkeypatch, shop, tmp_path / "other", config, short, refit=True)
    dupn.fit(shop, tmp_path / "other", config, short, until=SINCE, refit=True, resume=True)
    assert same_weights(tmp_path / "one", tmp_path / "other")


def interrupt_fit(monkeypatch, shop, out, config, options, **how) -> None:
    """Begin a run, which is killed after its first checkpoint."""
    save = loop.save_checkpoint

    def save_and_die(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            dupn.fit(shop, out, config, options, until=SINCE, **how)
    assert not out.exists()


def same_weights(one, other) -> bool:
    first, second = (load_file(path / "weights.safetensors") for path in (one, other))
    return set(first) == set(second) and all(first[name].equal(second[name]) for name in first)


@pytest.mark.parametrize("model", RIVALS)
def test_a_plan_tells_the_parameters_of_the_fitted_model(model, fitted, shop, small, options):
    plan = dupn.plan(shop, settings(small, model), options, until=SINCE)
    assert plan.parameters == fitted[model].manifest.meta["parameters"]
    assert plan.model.total == fitted[model].manifest.meta["bytes"]
    assert (plan.model.item_table == 0) == (model == "wide")


def test_vectors_of_two_towers_score_as_their_tasks_do(fitted, shop, tmp_path):
    model = fitted["dssm"]
    embed(model, shop, tmp_path / "vectors", until=SINCE)
    assert model.next_task == "next"
    lone = replace(model, tasks={"click": model.tasks["click"]})
    assert lone.next_task == "click"
    users = torch.tensor(lone.encode_users(shop, cut(shop, SINCE, None, 0))[:, 0])
    items = torch.tensor(lone.encode_items(shop.item_table))
    task, known = model.tasks["click"]
    samples = samples_of(shop, task, known, SINCE, 1000 * DAY, 1, model.config.max_length)
    first = samples.take(np.flatnonzero(samples.stop == cut(shop, SINCE, None, 0).history_end[samples.users]))
    assert len(first) > 20  # of users who did nothing since then
    cosines = functional.cosine_similarity(users[first.users], items[first.items])
    first = replace(first, times=np.full(len(first), SINCE))
    logits = predict(model.network, "click", first, model.encoder_of(shop))
    np.testing.assert_allclose(model.config.alpha * cosines, logits, atol=1e-4)


@pytest.mark.parametrize("model", LINEAR)
def test_a_regression_has_no_vectors_and_says_so(model, fitted, shop, tmp_path):
    with pytest.raises(UsageError, match=f"model={model} has no vectors of users"):
        embed(fitted[model], shop, tmp_path / "vectors", until=SINCE)
    assert not (tmp_path / "vectors").exists()
    with pytest.raises(UsageError, match="has no vectors"):
        fitted[model].encode_items(shop.item_table)
    with pytest.raises(UsageError, match="has no vectors"):
        fitted[model].encode_users(shop, cut(shop, SINCE, None, 0))


def test_convolutions_are_served_in_two_parts(fitted, shop):
    model = fitted["cnn_max"]
    part, head = UserTower(model).read(shop, np.array([3]), SINCE), ItemHead.of(model, shop.item_table)
    found = head.score(part, "click")[0]
    samples = samples_of(shop, *model.tasks["click"], SINCE, 1000 * DAY, 1, model.config.max_length)
    windows = cut(shop, SINCE, None, 0)
    begin, end = windows.history_start[3], windows.history_end[3]
    each = samples.take(np.zeros(len(shop.items), np.int64))
    each = replace(
        each, users=each.users * 0 + 3, times=each.times * 0 + SINCE, items=np.arange(len(each)),
        start=each.start * 0 + max(begin, end - model.config.max_length), stop=each.stop * 0 + end,
    )  # fmt: skip
    expected = predict(model.network, "click", each, model.encoder_of(shop))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    with pytest.raises(UsageError, match="no states that take event by event"):
        UserState.empty(model)


@pytest.mark.parametrize("model", ["wide", "wide_deep", "dssm"])
def test_without_heads_on_one_representation_there_is_nothing_to_split_or_transfer(
    model, fitted, shop, options, tmp_path
):
    with pytest.raises(UsageError, match=f"model={model} cannot be split"):
        ItemHead.of(fitted[model], shop.item_table)
    with pytest.raises(UsageError, match=f"model={model} cannot be transferred"):
        dupn.transfer(fitted[model], shop, "sort", Task("class", column="category"), tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_new_head_learns_from_convolutions_that_stay_as_they_are(fitted, folder, shop, options, tmp_path):
    new, short = Task("class", column="category"), replace(options, epochs=2)
    model = dupn.transfer(
        fitted["cnn_max"], shop, "sort", new, tmp_path / "new", how="rt", options=short, until=SINCE
    )
    before, after = (
        load_file(path / "weights.safetensors") for path in (folder / "cnn_max", tmp_path / "new")
    )
    assert all(after[name].equal(weight) for name, weight in before.items())
    assert measured(model, shop, SINCE)["sort"]["auc"] > 0.6  # after two epochs; by chance 0.5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "wide"}, "tasks.next is of kind next: model=wide answers item, rank, class"),
        ({"model": "wide_deep"}, "tasks.next is of kind next"),
        ({"model": "dssm"}, "tasks.price is of kind class: model=dssm answers next, item, entity"),
        ({"model": "cnn_max", "properties": "gates"}, "model=cnn_max has no gates and no attention"),
        ({"model": "cnn_max", "pooling": "last"}, "pooling is left out"),
        ({"model": "wide", "tasks": None, "item_table": "hash", "item_rows": 9}, "has weights of items"),
        ({"model": "wide", "tasks": None, "item_vectors": "word2vec"}, "has weights of items"),
        ({"item_vectors": "word2vec", "item_table": "hash", "item_rows": 9}, "needs a row for each id"),
        ({"model": "dssm", "tasks": None, "deep": ()}, "deep"),
    ],
)
def test_what_a_model_is_not_is_refused(config, changes, told):
    with pytest.raises(ValidationError, match=told):
        replace(config, **changes)


def test_tasks_that_the_data_answers_and_the_model_does_not_are_left_out(dataset, config, options, last_week):
    lessons = Lessons.of(
        dataset, replace(config, tasks=None, model="dssm"), options, last_week, validates=False
    )
    assert set(lessons.tasks) == {"next", "click", "brand"}
    assert lessons.left_out["price"] == "model=dssm answers next, item, entity"


def test_as_typed(tmp_path, capsys, run):
    size = ["--users", 60, "--items", 300, "--events", 2000, "--days", 60, "--countries", 1]
    assert run("synth", "--out", tmp_path / "shop", *size) == 0
    events, items = (tmp_path / "shop" / f"{name}.parquet" for name in ("events", "items"))
    data, out = tmp_path / "shop.dataset", tmp_path / "shop.wide"
    assert run("prepare", events, "--items", items, "--out", data) == 0
    capsys.readouterr()
    typed = ["--set", "epochs=1", "--set", "max_length=5", "--set", "deep=8,4", "--set", "model=wide_deep"]
    assert run("fit", "dupn", data, "--out", out, "--json", *typed) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["tasks"].values()) <= set(ANSWERS["wide_deep"])
    assert told["left_out"]["next"] == "model=wide_deep answers item, rank, class, entity, window"
    assert DUPN.open(out).config.deep == (8, 4)
    assert run("embed", out, data, "--out", tmp_path / "no") == 2
    assert "has no vectors of users" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- word2vec


@needs_gensim
def test_vectors_by_word2vec_stay_to_the_bit_while_the_rest_is_trained(shop, small, options, tmp_path):
    config = replace(small, item_vectors="word2vec")
    short = replace(options, epochs=2, batch_size=200)
    lessons = Lessons.of(shop, config, short, SINCE, validates=True)
    before = begun(shop, lessons, short).network.state_dict()
    model = dupn.fit(shop, tmp_path / "one", config, short, until=SINCE)
    after = model.network.state_dict()
    kept = {name for name, weight in before.items() if after[name].equal(weight)}
    tables = {name for name in before if name.startswith(("encoder.items.tables", "encoder.items.words"))}
    assert tables <= kept
    assert len(tables) == 4  # ids, brand, category, title
    assert "encoder.items.encoding.weight" not in kept
    assert "encoder.lstm.item_weight" not in kept
    assert model.manifest.meta["variant"] == "both, attention, word2vec"


@needs_gensim
def test_word2vec_reads_nothing_of_the_future_and_is_made_again_to_the_bit(shop, small, options):
    config = replace(small, item_vectors="word2vec")

    def tables(log: Dataset, *, validates: bool = True) -> list[torch.Tensor]:
        lessons = Lessons.of(log, config, options, SINCE, validates=validates)
        items = begun(log, lessons, options).representing.encoder.items
        return [*(table.weight.detach() for table in items.all_tables), items.words.weight.detach()]

    first = tables(shop)
    random = np.random.default_rng(1)
    is_late = np.asarray(shop.times) >= SINCE - 3 * DAY
    others = np.where(is_late, random.integers(48, size=shop.num_events), np.asarray(shop.item_rows))
    shuffled = replace(shop, item_rows=others.astype(shop.item_rows.dtype))
    assert 0 < is_late.sum() < shop.num_events
    assert all(one.equal(other) for one, other in zip(first, tables(shuffled), strict=True))
    later = tables(shop, validates=False)  # as for a refit: what was validated on is read, too
    assert not any(one.equal(other) for one, other in zip(first[:1], later[:1], strict=True))


@needs_gensim
def test_a_run_with_word2vec_that_was_killed_ends_with_the_same_bits(
    shop, small, options, tmp_path, monkeypatch
):
    tasks = {"click": small.tasks["click"]}
    config = replace(small, item_vectors="word2vec", tasks=tasks, model="dssm")
    short = replace(options, epochs=2, batch_size=200)
    dupn.fit(shop, tmp_path / "one", config, short, until=SINCE, refit=True)
    interrupt_fit(monkeypatch, shop, tmp_path / "other", config, short, refit=True)
    dupn.fit(shop, tmp_path / "other", config, short, until=SINCE, refit=True, resume=True)
    assert same_weights(tmp_path / "one", tmp_path / "other")


@needs_gensim
def test_words_of_one_sentence_lie_near_each_other():
    random = np.random.default_rng(0)
    words = np.concatenate([random.integers(10, size=8) + 1 + 10 * (turn % 2) for turn in range(400)])
    sentences = Sentences(words, np.arange(0, len(words) + 1, 8))
    vectors = vectors_of(sentences, 22, 8, 0)
    assert (vectors[[0, 21]] == 0).all()  # in no sentence
    unit = vectors[1:21] / np.linalg.norm(vectors[1:21], axis=1, keepdims=True)
    likeness = unit @ unit.T
    assert likeness[:10, :10].mean() > likeness[:10, 10:].mean() + 0.3
    np.testing.assert_array_equal(vectors, vectors_of(sentences, 22, 8, 0))
    assert not np.array_equal(vectors, vectors_of(sentences, 22, 8, 1))
    nothing = Sentences(words[:0], np.zeros(3, np.int64))
    assert (vectors_of(nothing, 3, 8, 0) == 0).all()


def test_sentences_are_those_of_known_words_and_cut_where_gensim_would_drop_the_rest(monkeypatch):
    sentences = Sentences(np.array([3, 0, 1, 2, 0, 0, 5]), np.array([0, 3, 3, 6, 7]))
    known = sentences.only(sentences.words > 0)
    assert list(known) == [["3", "1"], ["2"], ["5"]]
    monkeypatch.setattr(word2vec, "LONGEST", 2)
    assert list(sentences) == [["3", "0"], ["1"], ["2", "0"], ["0"], ["5"]]


def test_without_the_library_it_is_said_what_to_install(shop, small, options, monkeypatch, tmp_path):
    monkeypatch.setattr(word2vec, "find_spec", lambda _: None)
    config = replace(small, item_vectors="word2vec")
    with pytest.raises(UsageError, match=r"pip install 'polyvec\[word2vec\]'"):
        dupn.fit(shop, tmp_path / "model", config, options, until=SINCE)
    with pytest.raises(UsageError, match="gensim is not installed"):
        dupn.plan(shop, config, options, until=SINCE)
    assert not list(tmp_path.iterdir())


@needs_gensim
def test_a_model_with_word2vec_is_fine_tuned_with_its_vectors_as_they_are(shop, small, options, tmp_path):
    config = replace(small, item_vectors="word2vec", tasks={"click": small.tasks["click"]})
    short, new = replace(options, epochs=1), Task("class", column="category")
    model = dupn.fit(shop, tmp_path / "one", config, short, until=SINCE)
    tuned = dupn.transfer(model, shop, "sort", new, tmp_path / "two", options=short, until=SINCE)
    one, other = (each.representing.encoder.items.ids.weight for each in (model, tuned))
    assert one.equal(other)
    assert not model.network.encoder.lstm.bias.equal(tuned.network.encoder.lstm.bias)
    fresh = dupn.transfer(model, shop, "sort", new, tmp_path / "new", how="rs", options=short, until=SINCE)
    assert fresh.representing.encoder.items.ids.weight.equal(one)  # made anew, of the same events
