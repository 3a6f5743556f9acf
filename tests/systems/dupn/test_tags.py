"""Fields of the catalogue that hold lists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.split import cut
from polyvec.embeddings import COLD, EMPTY
from polyvec.errors import DataError
from polyvec.systems.dupn import DUPN, DUPNConfig, Task, fit
from polyvec.systems.dupn.features import Encoder, Fields
from polyvec.systems.dupn.samples import samples_at
from polyvec.systems.dupn.serving import ItemHead, UserTower
from polyvec.systems.dupn.tasks import tasks_of
from polyvec.systems.dupn.update import News
from polyvec.systems.updating import UpdateOptions

CPU = torch.device("cpu")
KINDS = 4


def tagged(dataset: Dataset) -> Dataset:
    """Tags alone tell what an item is: its kind, and one of three that says nothing; two items have none."""
    kinds = dataset.item_table["item_id"].str.slice(1).cast(pl.Int64)
    lists = [[f"kind {kind % KINDS}", f"noise {kind % 3}"] for kind in kinds.to_list()]
    lists[0], lists[1] = None, []
    table = dataset.item_table.select("item_id").with_columns(tags=pl.Series(lists, dtype=pl.List(pl.String)))
    return replace(dataset, item_table=table)


@pytest.fixture(scope="module")
def shop(dataset) -> Dataset:
    return tagged(dataset)


@pytest.fixture(scope="module")
def tag_config(config) -> DUPNConfig:
    return replace(config, tasks={"next": Task("next"), "click": Task("item")}, item_fields=("tags",))


@pytest.fixture(scope="module")
def folder(shop, tag_config, options, last_week, tmp_path_factory):
    path = tmp_path_factory.mktemp("dupn") / "m"
    fit(shop, path, tag_config, replace(options, epochs=5), until=last_week, validation="none")
    return path


@pytest.fixture(scope="module")
def model(folder) -> DUPN:
    return DUPN.open(folder)


def test_every_value_of_the_lists_has_a_row_and_items_have_those_of_theirs(shop, tag_config):
    fields = Fields.learn(shop, tag_config, shop.times >= 0)
    assert fields.tags["tags"].series.to_list() == [
        *(f"kind {kind}" for kind in range(KINDS)),
        *(f"noise {noise}" for noise in range(3)),
    ]
    items = Encoder.of(shop, fields).catalogue.take(np.array([7, 0, 1, 3]), CPU)
    (values, offsets), *others = items.tags
    assert not others
    assert values.tolist() == [7 % KINDS, KINDS + 7 % 3, 3 % KINDS, KINDS + 3 % 3]
    assert offsets.tolist() == [0, 2, 2, 2]


def test_items_that_were_never_seen_are_told_by_their_tags(model, shop):
    table = pl.DataFrame({"item_id": [f"new {kind}" for kind in range(KINDS)]})
    tags = pl.Series([[f"kind {kind}"] for kind in range(KINDS)])
    strangers = table.with_columns(tags=tags)
    mine, known = model.encode_items(strangers), model.encode_items(shop.item_table)[2:]
    mine, known = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (mine, known))
    kinds = np.arange(2, len(shop.item_table)) % KINDS
    nearest = (-mine @ known.T).argsort(axis=1)[:, :8]
    assert (kinds[nearest] == np.arange(KINDS)[:, None]).mean() > 0.9
    assert model.manifest.meta["fields"]["items"] == ["item_id", "tags"]
    states, _ = model.item_states(strangers)
    assert (states == COLD).all()
    unknown = pl.Series([[], None, ["never heard of"], []], dtype=pl.List(pl.String))
    nothing = strangers.with_columns(tags=unknown)
    assert (model.item_states(nothing)[0] == EMPTY).all()


def test_both_parts_of_the_split_say_what_the_whole_says(model, shop, last_week):
    samples = samples_at(cut(shop, last_week, None, 0)[np.full(5, 9)], model.config.max_length)
    samples = replace(samples, items=np.array([0, 1, 2, 20, 30]))
    batch = Encoder.of(shop, model.fields).batch({"click": samples}, CPU)
    with torch.no_grad():
        expected = model.network(batch).logits["click"]
    part = UserTower(model).read(shop, np.array([9]), last_week)
    found = ItemHead.of(model, shop.item_table).score(part, "click")[0, samples.items]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_new_values_get_rows_and_change_no_answer(folder, shop, last_week):
    model = DUPN.open(folder)
    lists = shop.item_table["tags"].to_list()
    lists[5] = [*lists[5], "brand new"]
    grown = replace(shop, item_table=shop.item_table.with_columns(tags=pl.Series(lists)))
    larger = News.of(model, grown, last_week, 1000 * DAY, UpdateOptions(share=0)).grown(model, grown)
    assert larger.fields.tags["tags"].series.to_list()[-1] == "brand new"
    assert larger.fields.tags["tags"].series[:-1].equals(model.fields.tags["tags"].series)
    others = shop.item_table.filter(pl.col("item_id") != "i05")
    np.testing.assert_array_equal(larger.encode_items(others), model.encode_items(others))


def test_word2vec_makes_the_vectors_of_tags_too(shop, tag_config, options, tmp_path):
    pytest.importorskip("gensim", reason="needs the extra word2vec")
    config = replace(tag_config, item_vectors="word2vec")
    made = fit(shop, tmp_path / "m", config, replace(options, epochs=1), validation="none")
    (table,) = made.network.encoder.items.list_tables
    assert not table.weight.requires_grad
    assert (table.weight.norm(dim=1) > 0.01).all()


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (pl.lit("one text"), "a field of the item holds String"),
        (pl.lit([{"a": 1}]), r"a field of the item holds List\(Struct"),
    ],
)
def test_a_catalogue_whose_tags_are_no_lists_of_texts_is_refused(model, shop, tags, said):
    with pytest.raises(DataError, match=said):
        model.encode_items(shop.item_table.with_columns(tags=tags))


def test_a_column_without_any_value_is_no_field_and_one_that_items_lack_says_nothing(shop, model, tag_config):
    empty = shop.item_table.with_columns(
        tags=pl.Series([[]] * len(shop.item_table), dtype=pl.List(pl.String))
    )
    assert Fields.learn(replace(shop, item_table=empty), tag_config, shop.times >= 0).tags == {}
    untold = pl.DataFrame({"item_id": ["new"], "tags": [None]})
    assert model.item_states(untold)[0].tolist() == [EMPTY]


def test_brands_that_are_lists_are_no_task_of_their_own(dataset):
    listed = dataset.item_table.with_columns(brand=pl.concat_list("brand"))
    assert "brand" in tasks_of(dataset)
    assert "brand" not in tasks_of(replace(dataset, item_table=listed))


def test_lists_where_texts_were_learned_are_refused(dataset, config):
    fields = Fields.learn(dataset, config, dataset.times >= 0)
    listed = dataset.item_table.with_columns(brand=pl.concat_list("brand"))
    with pytest.raises(DataError, match="holds lists") as caught:
        Encoder.of(replace(dataset, item_table=listed), fields)
    assert caught.value.column == "brand"
