"""Labels from prediction files: their own classes by the map; each refusal in one line by name."""

from __future__ import annotations

import numpy as np
import pytest
from truth.labelled import CLASSES, numbers, opened, read, refusal, write_prediction

from hpcseg.config import LabelSpec
from hpcseg.errors import SceneError, StoreError, UsageError


def test_what_a_map_has_not_mapped_is_not_labelled(scene, tmp_path):
    pixels = numbers()
    pixels[128:256, 128:256] = 255
    truth = opened(write_prediction(tmp_path / "a.h5", pixels), scene)
    np.testing.assert_array_equal(read(truth), pixels)


def test_prediction_files_with_other_classes_or_grids_are_refused(scene, tmp_path):
    path = write_prediction(tmp_path / "a.h5", numbers(), CLASSES[::-1])
    assert "has the classes road, roof, ground, wanted ground, roof, road" in refusal(SceneError, path, scene)
    path = write_prediction(tmp_path / "b.h5", numbers()[:-1])
    assert "is 299x420 pixels, the scene 300x420" in refusal(SceneError, path, scene)
    (tmp_path / "c.h5").write_bytes(b"none")
    assert "not a prediction file" in refusal(StoreError, tmp_path / "c.h5", scene)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (LabelSpec(map={"0": "road", "1": "ignore", "2": 0}), [2, 255, 0]),
        (LabelSpec(map={"sea": "road", "floe": 1, "2": "ignore"}), [2, 1, 255]),
        (LabelSpec(map={"sea": 0, "floe": 1}, ignore=[2]), [0, 1, 255]),
        (LabelSpec(map={"sea": 0, "floe": 1, "2": 1, "cloud": 2}), [0, 1, 2]),
    ],
    ids=["numbers", "names", "ignore", "names before numbers"],
)
def test_the_classes_of_a_prediction_file_are_looked_up(spec, wanted, scene, tmp_path):
    pixels = numbers()
    pixels[:50] = 255
    truth = opened(write_prediction(tmp_path / "a.h5", pixels, ("sea", "floe", "cloud")), scene, spec)
    np.testing.assert_array_equal(read(truth), np.array([*wanted, *[255] * 253], np.uint8)[pixels])


def test_ignored_classes_of_a_prediction_file_need_no_map(scene, tmp_path):
    truth = opened(write_prediction(tmp_path / "a.h5", numbers()), scene, LabelSpec(ignore=[1]))
    np.testing.assert_array_equal(read(truth), np.array([0, 255, 2], np.uint8)[numbers()])


def test_a_prediction_file_whose_classes_the_map_lacks_is_refused(scene, tmp_path):
    path = write_prediction(tmp_path / "a.h5", numbers(), ("sea", "floe", "cloud"))
    said = refusal(UsageError, path, scene, LabelSpec(map={"sea": 0, "1": 1}))
    assert said == f'{path}: its class cloud is not in [labels] map, which has sea, 1: add it, or "ignore"'
    path = write_prediction(tmp_path / "b.h5", numbers(4))
    assert "label 3 is none of the file's own classes" in refusal(UsageError, path, scene)
