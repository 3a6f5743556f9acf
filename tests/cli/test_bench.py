"""polyvec bench, as typed."""

import json

import numpy as np
import polars as pl
import pytest

from polyvec.cli.main import main
from polyvec.data.prepare import prepare
from polyvec.embeddings import Embeddings

DAY = 86_400


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    draw = np.random.default_rng(0)
    events = [
        {"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": 10**9 + int(at)}
        for user in range(60)
        for item, at in zip(draw.integers(0, 30, 12), np.sort(draw.integers(0, 120 * DAY, 12)), strict=True)
    ]
    prepare(pl.DataFrame(events), folder / "shop.dataset")
    for seed in range(2):
        draw = np.random.default_rng(seed)
        Embeddings.from_arrays(
            [f"u{n}" for n in range(60)],
            draw.normal(size=(60, 4)),
            [f"i{n}" for n in range(30)],
            draw.normal(size=(30, 4)),
        ).save(folder / f"{seed}.emb")
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(["bench", *[str(argument) for argument in arguments]])
    return caught.value.code


def test_a_run_ends_with_its_page_and_two_runs_are_compared(shop, capsys):
    common = [shop / "shop.dataset", "--cutoff", "2001-12-08"]
    both = ["--embeddings", f"mine={shop / '0.emb'}", "--embeddings", f"mine={shop / '1.emb'}"]
    assert run(*common, *both, "--out", shop / "run1") == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(shop / "run1" / "benchmark.html")
    assert "CMP-L: mine is" in told.out
    assert "note: mine: cannot be checked" in told.err
    assert "note: fewer than 5 seeds: mine (2)" in told.err
    assert run(*common, "--embeddings", shop / "0.emb", "--out", shop / "run2", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["costs"][0]["system"] == "0"
    assert content["costs"][0]["training_seconds"] is None
    assert content["curves"] == []
    assert run("--compare", shop / "run1", shop / "run2") == 0
    assert "mine − 0: " in capsys.readouterr().out
    assert run("--compare", shop / "run1", shop / "run1", "--json") == 0
    assert all(row["difference"] == 0 for row in json.loads(capsys.readouterr().out))


@pytest.fixture(scope="module")
def files(shop):
    """Vectors of the first system, as files of somebody who has never heard of polyvec."""
    mine = Embeddings.open(shop / "0.emb")
    np.save(shop / "users.npy", np.asarray(mine.users.vectors)[:, 0])
    np.save(shop / "items.npy", np.asarray(mine.items.vectors))
    for side in ("users", "items"):
        (shop / f"{side}.txt").write_text("\n".join(getattr(mine, side).ids.series), "utf-8")
    return ["--users", shop / "users.npy", "--user-ids", shop / "users.txt",
            "--items", shop / "items.npy", "--item-ids", shop / "items.txt"]  # fmt: skip


def test_vectors_in_files_score_as_the_same_vectors_in_embeddings(shop, files, capsys):
    common = [shop / "shop.dataset", "--cutoff", "2001-12-08", "--embeddings", f"mine={shop / '0.emb'}"]
    assert run(*common, *files, "--name", "theirs", "--out", shop / "both", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    values = {
        name: [(row["task"], row["part"], row["metric"], row["value"])
               for row in content["matching"] if row["ranker"] == name]
        for name in ("mine", "theirs")
    }  # fmt: skip
    assert len(values["mine"]) > 10
    assert values["theirs"] == values["mine"]
    assert content["protocol"]["embeddings"]["theirs"] == [str(shop / "users.npy")]
    assert any(note.startswith("theirs: cannot be checked") for note in content["notes"])


def test_without_a_name_vectors_in_files_have_that_of_the_file(shop, files, capsys):
    common = [shop / "shop.dataset", "--cutoff", "2001-12-08"]
    assert run(*common, *files, "--score", "max_dot", "--out", shop / "alone", "--json") == 0
    (costs,) = json.loads(capsys.readouterr().out)["costs"]
    assert (costs["system"], costs["score"]) == ("users", "max_dot")


def test_files_of_items_without_those_of_users_are_refused(shop, files, capsys):
    arguments = [shop / "shop.dataset", "--embeddings", shop / "0.emb", "--out", shop / "none"]
    assert run(*arguments, *files[2:]) == 2
    told = capsys.readouterr().err
    assert "--user-ids is given without --users" in told
    assert "mend: name the vectors of the users: --users FILE" in told


def test_two_systems_of_one_name_are_refused_where_one_is_in_files(shop, files, capsys):
    arguments = [shop / "shop.dataset", "--cutoff", "2001-12-08", "--embeddings", f"a={shop / '0.emb'}"]
    assert run(*arguments, *files, "--name", "a", "--out", shop / "none") == 2
    assert "the vectors of --users and Embeddings are both called a" in capsys.readouterr().err
    assert not (shop / "none").exists()


def test_a_label_that_the_profiles_lack_is_refused_before_anything_is_asked(shop, capsys):
    pl.DataFrame({"user_id": ["u1"], "taste": ["tea"]}).write_parquet(shop / "users.parquet")
    arguments = [shop / "shop.dataset", "--embeddings", shop / "0.emb", "--cutoff", "2001-12-08"]
    assert (
        run(*arguments, "--profiles", shop / "users.parquet", "--labels", "tast", "--out", shop / "run4") == 3
    )
    told = capsys.readouterr().err
    assert "the profiles have no column tast" in told
    assert f"where: {shop / 'users.parquet'}" in told
    assert "did you mean 'taste'?" in told
    assert "mend: name columns of --profiles with --labels" in told


def test_profiles_without_users_are_refused_before_anything_is_asked(shop, capsys):
    pl.DataFrame({"user": ["u1"], "taste": ["tea"]}).write_parquet(shop / "nobody.parquet")
    arguments = [shop / "shop.dataset", "--embeddings", shop / "0.emb", "--cutoff", "2001-12-08"]
    assert run(*arguments, "--profiles", shop / "nobody.parquet", "--out", shop / "run5") == 3
    told = capsys.readouterr().err
    assert "the profiles have no column user_id" in told
    assert f"where: {shop / 'nobody.parquet'}, column user_id" in told


def test_what_is_missing_is_asked_for(shop, capsys):
    assert run(shop / "shop.dataset", "--out", shop / "run3") == 2
    assert "a benchmark needs a Dataset, --embeddings (or --users) and --out" in capsys.readouterr().err
    assert run(shop / "shop.dataset", "--embeddings", shop / "0.emb", "--out", shop / "run3") == 2
    assert "no cut-off is given" in capsys.readouterr().err
    assert not (shop / "run3").exists()


def test_fewer_than_no_models_cannot_be_trained(shop, capsys):
    given = [shop / "shop.dataset", "--embeddings", shop / "0.emb", "--cutoff", "2001-12-08"]
    assert run(*given, "--sasrec", -1, "--out", shop / "none") == 2
    assert "-1 is not in the range x>=0" in capsys.readouterr().err


def test_embeddings_under_the_name_of_the_baseline_are_refused_before_it_is_trained(shop, capsys):
    given = [shop / "shop.dataset", "--embeddings", f"SASRec={shop / '0.emb'}", "--cutoff", "2001-12-08"]
    assert run(*given, "--sasrec", 1, "--out", shop / "twice") == 2
    told = capsys.readouterr().err
    assert "Embeddings are given under the name SASRec, which --sasrec trains under" in told
    assert "expected: one name for each system" in told
    assert "mend: choose another name with --embeddings NAME=FOLDER" in told
    assert "SASRec, seed 0" not in told
    assert run(*given, "--out", shop / "named", "--json") == 0  # nothing is trained under that name


def test_sasrec_is_trained_beside_the_others_when_asked(shop, capsys):
    common = [shop / "shop.dataset", "--cutoff", "2001-12-08", "--target-days", 20]
    given = ["--embeddings", shop / "0.emb", "--sasrec", 2, "--out", shop / "with_sasrec", "--json"]
    assert run(*common, *given) == 0
    content = json.loads(capsys.readouterr().out)
    found = [row for row in content["matching"] if row["ranker"] == "SASRec"]
    assert found
    assert all(len(row["per_seed"]) in (0, 2) for row in found)
    assert content["protocol"]["sasrec_seeds"] == 2


def test_two_folders_of_one_name_are_refused_where_no_name_is_given(shop, capsys):
    (shop / "lr=0.1").mkdir()
    for place in (shop / "0.emb", shop / "lr=0.1" / "0.emb"):
        if not place.exists():
            Embeddings.open(shop / "1.emb").save(place)
    common = [shop / "shop.dataset", "--cutoff", "2001-12-08"]
    both = ["--embeddings", shop / "0.emb", "--embeddings", shop / "lr=0.1" / "0.emb"]
    assert run(*common, *both, "--out", shop / "never") == 2
    told = capsys.readouterr().err
    assert "two Embeddings are called 0: " in told
    assert "--embeddings NAME=" in told
    named = ["--embeddings", shop / "0.emb", "--embeddings", f"other={shop / 'lr=0.1' / '0.emb'}"]
    assert run(*common, *named, "--tune", "--out", shop / "named_apart", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["system"] for row in content["costs"]] == ["0", "other"]
    assert set(content["protocol"]["tuning"]) >= {"neighbours", "ease_l2", "als_factors"}
