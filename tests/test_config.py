"""model.toml: what it may say; each refusal names the file and the key in one line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hpcseg.config import Class, ModelSpec, Normalisation, decode_toml, encode_toml, read_model
from hpcseg.errors import UsageError

GOOD = {
    "network": '"unet-light"',
    "bands": "2",
    "classes": '[{name = "water", color = "#0000ff"}, {name = "ice", color = "#ffffff"}]',
    "normalisation": "{mean = [1.0, 2.0], std = [3.0, 4.0]}",
}


def write(folder, **changes):
    """A model.toml with some keys changed; None leaves a key out."""
    path = folder / "model.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in (GOOD | changes).items() if value is not None))
    return path


def test_a_model_is_read_with_its_defaults(tmp_path):
    assert read_model(write(tmp_path)) == ModelSpec(
        network="unet-light",
        bands=2,
        classes=[Class(name="water", color="#0000ff"), Class(name="ice", color="#ffffff")],
        normalisation=Normalisation(kind="fixed", mean=[1.0, 2.0], std=[3.0, 4.0], percentiles=(2.0, 98.0)),
        options={},
        resolution=0.0,
        threshold=0.5,
        halo=-1,
        description="",
    )


def test_what_is_written_is_read(tmp_path):
    spec = read_model(write(tmp_path, options="{down = [4, 8], up = [4]}", threshold="0.3", resolution="10.0"))
    (tmp_path / "again.toml").write_bytes(encode_toml(spec))
    assert read_model(tmp_path / "again.toml") == spec


def test_scene_normalisation_needs_no_constants(tmp_path):
    spec = read_model(write(tmp_path, normalisation='{kind = "scene", percentiles = [1, 99]}'))
    assert spec.normalisation.percentiles == (1.0, 99.0)


ONE_CLASS = '[{name = "water", color = "#0000ff"}]'
MANY = "[" + ", ".join(f'{{name = "{k}", color = "#000000"}}' for k in range(256)) + "]"


REFUSALS = [
    ({"network": None}, "network"),
    ({"bands": None}, "bands"),
    ({"classes": None}, "classes"),
    ({"bands": '"two"'}, r"bands"),
    ({"bands": "0"}, "bands is 0, wanted 1 or more"),
    ({"bnads": "2"}, "bnads"),
    ({"classes": ONE_CLASS}, "1 classes, wanted 2 to 255"),
    ({"classes": MANY}, "256 classes, wanted 2 to 255"),
    ({"classes": '[{name = "a", color = "blue"}, {name = "b", color = "#ffffff"}]'}, "color 'blue' of class 'a'"),
    ({"classes": '[{name = "a", color = "#fffffff"}, {name = "b", color = "#ffffff"}]'}, "color '#fffffff' of class 'a'"),
    ({"classes": '[{name = "a"}, {name = "b", color = "#ffffff"}]'}, "color"),
    ({"classes": '[{name = "a", color = "#ffffff", colour = 1}]'}, "colour"),
    ({"normalisation": "{mean = [1.0], std = [3.0, 4.0]}"}, r"normalisation\.mean and \.std need 2 values"),
    ({"normalisation": "{mean = [1.0, 2.0], std = [3.0, 0.0]}"}, r"normalisation\.mean and \.std .* std above 0"),
    ({"normalisation": "{mean = [1.0, nan], std = [3.0, 4.0]}"}, r"normalisation\.mean"),
    ({"normalisation": "{mean = [1.0, 2.0], std = [3.0, inf]}"}, r"normalisation\..*std"),
    ({"normalisation": None}, r"normalisation\.mean"),
    ({"normalisation": '{kind = "tile"}'}, r"normalisation\.kind"),
    ({"normalisation": '{kind = "scene", percentiles = [98.0, 2.0]}'}, r"normalisation\.percentiles 98\.0, 2\.0"),
    ({"normalisation": '{kind = "scene", percentiles = [0.0, 101.0]}'}, r"normalisation\.percentiles 0\.0, 101\.0"),
    ({"normalisation": '{kind = "scene", percentiles = [1.0]}'}, r"normalisation\.percentiles"),
    ({"threshold": "1.0"}, r"threshold is 1\.0"),
    ({"threshold": "nan"}, "threshold is nan"),
    ({"resolution": "-10.0"}, "resolution"),
    ({"halo": "-2"}, "halo"),
    ({"halo": "1.5"}, "halo"),
    ({"options": "3"}, "options"),
]


@pytest.mark.parametrize(("changes", "named"), REFUSALS, ids=[f"{next(iter(each))} {k}" for k, (each, _) in enumerate(REFUSALS)])
def test_a_refusal_names_the_file_and_the_key(tmp_path, changes, named):
    path = write(tmp_path, **changes)
    with pytest.raises(UsageError, match=named) as caught:
        read_model(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text


def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path):
    for k, content in enumerate((b"network = ", b"\xff\xfe\x00")):
        path = tmp_path / f"{k}.toml"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=rf"{k}\.toml: "):
            decode_toml(path, ModelSpec)


def test_a_file_that_is_absent_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.toml: No such file"):
        read_model(tmp_path / "absent.toml")


def test_a_wrong_configuration_ends_with_code_2():
    assert UsageError.exit_code == 2


POINTS = {"network": "unet-light", "bands": 1, "classes": [{"name": "seal", "color": "#102030"}], "task": "points",
          "normalisation": {"mean": [0.0], "std": [1.0]}}  # fmt: skip


def write_points(folder: Path, **changes: object) -> Path:
    path = folder / "model.toml"
    path.write_bytes(msgspec.toml.encode(POINTS | changes))
    return path


def test_a_detector_has_one_class_or_more_and_its_distance_is_two_sigma_unless_told(tmp_path):
    assert read_model(write_points(tmp_path, sigma=1.5)).least_distance == 3.0
    assert read_model(write_points(tmp_path, sigma=1.5, distance=4.0)).least_distance == 4.0


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "sigma is 0.0, wanted above 0"),
        ({"sigma": 1.0, "distance": -1.0}, "distance is -1.0"),
        ({"sigma": 1.0, "calibration": [1] * 254}, "wanted 255 rising numbers"),
        ({"sigma": 1.0, "calibration": [2, 1] + [3] * 253}, "wanted 255 rising numbers"),
        ({"sigma": 1.0, "task": "classes", "classes": [{"name": k, "color": "#102030"} for k in "ab"]}, "are for task"),
    ],
)
def test_what_a_detector_says_of_its_points_is_checked(tmp_path, changes, wanted):
    with pytest.raises(UsageError, match=wanted):
        read_model(write_points(tmp_path, **changes))


def test_lists_of_numbers_are_written_on_a_line_and_read_back(tmp_path):
    record = read_model(write_points(tmp_path, sigma=1e-3, calibration=list(range(255)), options={"down": [4, 8], "up": [4]}))
    text = encode_toml(record)
    (tmp_path / "model.toml").write_bytes(text)
    assert b"down = [4, 8]\n" in text
    assert b"calibration = [0, 1, " in text
    assert read_model(tmp_path / "model.toml") == record
