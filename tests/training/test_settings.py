"""What a run is told: files and flags, and one line for what is wrong."""

from __future__ import annotations

import re

import pytest

from hpcseg.errors import UsageError
from hpcseg.training.settings import read_settings
from training.field import flags_of, settings_of, write_config


def test_a_file_says_all_and_flags_win(field, tmp_path):
    path = write_config(tmp_path / "run.toml", field, tmp_path / "out", rate=0.5, epochs=9)
    settings = read_settings(path, {"epochs": 3})
    assert (settings.rate, settings.epochs, settings.names) == (0.5, 3, ["dark", "bright"])
    assert settings.labels.ignore == [255]


def test_labels_as_a_flag_keep_the_meaning_that_the_file_gives_them(field, tmp_path):
    path = write_config(tmp_path / "run.toml", field, tmp_path / "out")
    settings = read_settings(path, {"labels": ["other.tif"]})
    assert settings.labels.files == ("other.tif",)
    assert settings.labels.ignore == [255]


def test_defaults_are_for_what_neither_file_nor_flag_says(field, tmp_path):
    path = write_config(tmp_path / "run.toml", field, tmp_path / "out", threads=3)
    settings = read_settings(path, {}, {"threads": 8, "stall": 5.0})
    assert (settings.threads, settings.stall) == (3, 60.0)
    assert read_settings(None, flags_of(field, tmp_path), {"threads": 8}).threads == 8


def test_classes_may_be_named_by_a_flag_alone(field, tmp_path):
    settings = read_settings(None, flags_of(field, tmp_path, classes=[f"c{k}" for k in range(12)]))
    assert settings.names == [f"c{k}" for k in range(12)]
    assert all(re.fullmatch("#[0-9a-f]{6}", each.color) for each in settings.classes)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("epoch = 3", "unknown field `epoch`"),
        ('epochs = "many"', "Expected `int`, got `str` - at `$.epochs`"),
        ('loss = ["l2"]', "Invalid enum value 'l2' - at `$.loss"),
        ("tile = 48", "block is 64, wanted a multiple of tile (48)"),
        ("validation = 0.7\ntest = 0.4", "wanted shares of 0 or more that sum to less than 1"),
        ("rate = 0.0", "rate is 0.0, wanted above 0"),
        ("loss = []", "loss is empty, wanted some of cross-entropy, focal, dice"),
        ("brightness = 1.5", "brightness is 1.5"),
        ("seed = -1", "seed is -1"),
        ('network = "u-net"', "no network 'u-net'; wanted one of unet, segnet"),
        ("tile = 64", "block is 64, wanted a multiple of tile (64), at least twice it"),
        ("gamma = 0.5", "wanted a gamma of 0, or 1 or more"),
        ("clip = -1.0", "must not be negative"),
        ('init = "a"\nencoder_weights = "b"', "init and encoder_weights are both given: choose one"),
        ("out = 3", "out"),
        ("rate = = 1", "run.toml"),
        ("out = \"a\"\nout = \"b\"", "run.toml"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_file_and_key(text, wanted, field, tmp_path):
    keys = {line.partition(" = ")[0] for line in text.splitlines()}
    path = write_config(tmp_path / "run.toml", field, tmp_path)
    lines = [line for line in path.read_text().splitlines() if line.partition(" = ")[0] not in keys]
    path.write_text("\n".join([text, *lines]))
    with pytest.raises(UsageError) as caught:
        read_settings(path, {})
    assert str(path) in str(caught.value)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match="no scenes, out, classes: give them in the TOML file"):
        read_settings(None, {"epochs": 3})
    (tmp_path / "run.toml").write_text('scenes = ["a.tif"]\nout = "x"\n')
    with pytest.raises(UsageError, match=r"run\.toml: no classes"):
        read_settings(tmp_path / "run.toml", {})


def test_one_class_is_too_few(field, tmp_path):
    with pytest.raises(UsageError, match="1 classes, wanted 2 to 255"):
        settings_of(field, tmp_path, classes=["all"])


def test_what_only_says_where_how_fast_or_how_long_is_no_identity(field, tmp_path):
    one = settings_of(field, tmp_path)
    same = settings_of(field, tmp_path / "b", epochs=9, threads=4, readers=2, stall=9.0, averaging="torch", checkpoint_steps=3)
    assert one.identity() == same.identity()
    for change in ({"rate": 1.0}, {"seed": 1}, {"batch": 3}, {"loss": ["dice"]}, {"tile": 16}, {"options": {"widths": [4, 4]}}):
        assert settings_of(field, tmp_path, **change).identity() != one.identity()


def test_the_identity_names_what_has_its_default_too(field, tmp_path):
    """Else a run that says nothing could not be told from one that differs."""
    assert settings_of(field, tmp_path).identity()["split_seed"] == 0
