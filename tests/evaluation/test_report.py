"""The report: whole on disk, self-contained, and safe whatever the titles hold."""

import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest

from polyvec.artifact import read_manifest, writing
from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.errors import ArtifactError, DataError
from polyvec.evaluation.evaluate import Settings, Truths, evaluate
from polyvec.evaluation.report import Sources, read_training, write_report

PROFILE = {
    "users": 80,
    "events_per_user": {"mean": 3.5},
    "top_items": [{"item_id": "i1", "events": 4}],
    "notes": ["<i>odd</i>"],
    "none": None,
}


@pytest.fixture
def sources(taste_shop, tmp_path):
    _, _, embeddings = taste_shop
    embeddings.save(tmp_path / "shop.emb")
    with writing(tmp_path / "shop.dataset", "dataset", meta={}) as stage:
        (stage / "profile.json").write_text(json.dumps(PROFILE))
    with writing(tmp_path / "shop.model", "model", meta={}) as stage:
        lines = [{"event": "step", "step": step, "loss": 3.0 / step} for step in (1, 2)]
        (stage / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Sources(tmp_path / "shop.emb", tmp_path / "shop.dataset", tmp_path / "shop.model")


SETTINGS = Settings(target_days=20)


@pytest.fixture(scope="module")
def evaluation(taste_shop):
    dataset, tastes, embeddings = taste_shop
    people = pl.DataFrame({"user_id": dataset.users.series, "likes": tastes, "num_interests": tastes + 1})
    truths = Truths(people, ("likes",), None, people)
    return evaluate(embeddings, dataset, [100 * DAY, 105 * DAY], SETTINGS, truths)


@pytest.fixture
def write(taste_shop, evaluation, sources, tmp_path):
    """Write the report and return its folder."""
    dataset, _, embeddings = taste_shop

    def to_folder(sources=sources, **options):
        write_report(tmp_path / "report", evaluation, embeddings, dataset, SETTINGS, sources, **options)
        return tmp_path / "report"

    return to_folder


class Outline(HTMLParser):
    """Collects tags that are open at the end, addresses and headings."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.tags = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_needs_nothing_else_and_no_title_breaks_it(write):
    page = (write() / "report.html").read_text("utf-8")
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert all(address.startswith("#") for address in outline.addresses)
    assert "script" not in outline.tags
    assert not re.search(r"@import|url\((?!#)", page)
    for section in ("verdict", "tasks", "profiles", "mixture", "training", "people", "items", "data"):
        assert f'<section id="{section}">' in page
    assert "CMP-L, recall@100, at the cut-offs in order" in page
    assert "&lt;b&gt;title &amp; " in page
    assert "<b>title" not in page
    assert "<i>odd" not in page


def test_json_parquet_and_manifest_say_the_same(write, sources):
    folder = write()
    told = json.loads((folder / "report.json").read_text("utf-8"))
    assert pl.read_parquet(folder / "results.parquet").to_dicts() == told["results"]
    assert pl.read_parquet(folder / "profiles.parquet").to_dicts() == told["profiles"]
    manifest = read_manifest(folder, "report")
    assert manifest.parents["embeddings"] == read_manifest(sources.embeddings, "embeddings").fingerprint
    assert manifest.meta["verdicts"] == told["verdicts"]


def test_an_existing_report_is_kept_unless_told_and_may_lack_profile_and_model(write, sources, tmp_path):
    write()
    with writing(tmp_path / "bare.dataset", "dataset", meta={}):
        pass
    bare = Sources(sources.embeddings, tmp_path / "bare.dataset")
    with pytest.raises(ArtifactError, match="exists already"):
        write(bare)
    page = (write(bare, overwrite=True) / "report.html").read_text("utf-8")
    assert "The Dataset has no profile." in page
    assert '<section id="training">' not in page


def test_a_damaged_training_log_names_its_line(tmp_path):
    with writing(tmp_path / "a.model", "model", meta={}) as stage:
        (stage / "training.jsonl").write_text('{"step": 1}\n{"step": \n')
    with pytest.raises(DataError, match="not a JSON object") as caught:
        read_training(tmp_path / "a.model")
    assert caught.value.row == 2


def test_a_model_without_a_training_log_has_no_curves(tmp_path):
    with writing(tmp_path / "a.model", "model", meta={}):
        pass
    assert read_training(tmp_path / "a.model") == []
