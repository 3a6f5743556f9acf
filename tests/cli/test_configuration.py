from __future__ import annotations

from pathlib import Path

import pytest

from polyvec.cli.configuration import configure
from polyvec.errors import UsageError
from polyvec.systems.guim.config import GUIMConfig
from polyvec.systems.pgtl.config import PGTLConfig
from polyvec.training.options import TrainingOptions

DEFAULTS = {"guim": GUIMConfig(), "training": TrainingOptions()}
MEND = "pass --show-config alone to see every setting"


def refused(config_file: str | None, *settings: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        configure(DEFAULTS, config_file, settings)
    return caught.value


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run.toml"


def test_every_setting_is_named_where_the_verb_does_not_show_them() -> None:
    with pytest.raises(UsageError) as caught:
        configure({"training": TrainingOptions()}, None, ["width=8"], shows=False)
    assert "settings: epochs, batch_size" in str(caught.value.mend)


# --- what is applied


def test_nothing_given_gives_the_defaults() -> None:
    assert configure(DEFAULTS, None, []) == DEFAULTS


def test_a_file_sets_tables_and_single_settings_come_after_it(toml: Path) -> None:
    toml.write_text(
        "[guim]\nwidth = 64\nalpha = 10\ngelu = true\nhabits = [0.5, 0]\n[training]\nepochs = 7\n"
    )
    configured = configure(DEFAULTS, "run.toml", ["width=32", "learning_rate=1e-2", "gelu=false"])
    model, training = configured["guim"], configured["training"]
    assert (model.width, model.alpha, model.gelu, model.habits) == (32, 10.0, False, (0.5, 0.0))
    assert (training.epochs, training.learning_rate) == (7, 0.01)
    assert model.num_layers == GUIMConfig().num_layers


def test_values_of_a_list_have_commas_between_them() -> None:
    defaults = {"pgtl": PGTLConfig()}
    assert configure(defaults, None, ["windows=7, 30,0"])["pgtl"].windows == (7, 30, 0)
    assert configure(defaults, None, ["hidden="])["pgtl"].hidden == ()
    with pytest.raises(UsageError, match=r"pgtl\.windows\.1"):
        configure(defaults, None, ["windows=7,x"])


def test_the_last_of_two_equal_settings_counts() -> None:
    assert configure(DEFAULTS, None, ["width=32", "width=64"])["guim"].width == 64


def test_an_equals_sign_belongs_to_the_value() -> None:
    assert refused(None, "mixture=a=b").what.endswith("got 'a=b'")


# --- what is refused, by its exact words


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (["num_vektors=8"], "--set: there is no setting 'num_vektors'; did you mean 'num_vectors'?"),
        (["epoch=8"], "--set: there is no setting 'epoch'; did you mean 'epochs'?"),
        (["width"], "--set width has no value; expected --set key=value"),
        (
            ["width=wide"],
            "guim.width: Input should be a valid integer, unable to parse string as an integer, got 'wide'",
        ),
        (["width=0"], "guim.width: Input should be greater than 0, got '0'"),
        (
            ["width=1.5"],
            "guim.width: Input should be a valid integer, unable to parse string as an integer, got '1.5'",
        ),
        (["mixture=mean"], "guim.mixture: Input should be 'max', 'soft_max' or 'attention', got 'mean'"),
        (["masking=1"], "guim.masking: Input should be less than 1, got '1'"),
        (["width=130"], "guim: width 130 is not a multiple of num_heads 4"),
        (["warmup=nan"], "training.warmup: Input should be less than 1, got 'nan'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_rule(settings: list[str], what: str) -> None:
    error = refused(None, *settings)
    assert error.what == what
    assert error.mend == MEND


def test_every_mistake_of_a_file_and_of_single_settings_is_named_at_once(toml: Path) -> None:
    toml.write_text(
        "epochs = 3\n"
        '[guim]\nwidth = "64"\nnum_vektors = 3\nnum_layers = true\nmixture = "mean"\n'
        "[training]\nepochs = 2.5\n"
        "[gium]\na = 1\n"
    )
    assert refused("run.toml", "epoch=1", "num_heads=0", "clip").what.splitlines() == [
        "run.toml: 'epochs' is not a table of a configuration; known: [guim], [training]",
        "run.toml: there is no setting 'num_vektors'; did you mean 'num_vectors'?",
        "guim.width: Input should be a valid integer, got '64'",
        "guim.num_layers: Input should be a valid integer, got True",
        "guim.mixture: Input should be 'max', 'soft_max' or 'attention', got 'mean'",
        "training.epochs: Input should be a valid integer, got 2.5",
        "run.toml: 'gium' is not a table of a configuration; did you mean '[guim]'?",
        "--set: there is no setting 'epoch'; did you mean 'epochs'?",
        "--set clip has no value; expected --set key=value",
        "guim.num_heads: Input should be greater than 0, got '0'",
    ]


def test_what_fits_only_together_with_a_setting_is_accepted(toml: Path) -> None:
    toml.write_text("[guim]\nnum_heads = 3\n")
    assert refused("run.toml").what == "guim: width 128 is not a multiple of num_heads 3"
    assert configure(DEFAULTS, "run.toml", ["width=96"])["guim"].width == 96


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "run.toml does not exist"),
        (
            b"[guim\n",
            "run.toml is not TOML: Expected ']' at the end of a table declaration (at line 1, column 6)",
        ),
        (
            b"\xff",
            "run.toml is not TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
        (b"guim = 3\n", "run.toml: 'guim' is not a table of a configuration; did you mean '[guim]'?"),
        (
            b"[guim.masks]\nshare = 1\n",
            "run.toml: there is no setting 'masks'; did you mean 'masking'?",
        ),
        (b"[guim]\nwidth = 1979-05-27\n", "guim.width: Input should be a valid integer, got '1979-05-27'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(toml: Path, content: bytes | None, what: str) -> None:
    if content is not None:
        toml.write_bytes(content)
    assert refused("run.toml").what == what
