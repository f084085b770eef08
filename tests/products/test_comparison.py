"""Comparisons: what each cell is, and pictures of any shape with what belongs on them."""

import numpy as np
import pytest
from maps import COLORS, blurred, patches, write_map
from matplotlib.image import imread

from hpcseg import store
from hpcseg.config import Class
from hpcseg.errors import UsageError
from hpcseg.products.comparison import Comparison, error_kinds, read_image, write_comparison

CLASSES = [Class(name=name, color=color) for name, color in zip(("ground", "roof", "water", "road"), COLORS, strict=True)]


def planes(height=60, width=80, classes=2):
    truth = patches(height, width, classes, patch=11)
    near = (np.random.default_rng(1).random(truth.shape) < 0.1).astype(np.uint8)
    return np.stack([truth, blurred(truth, classes), near])


def drawn(path, comparison):
    write_comparison(path, comparison)
    return (imread(path)[..., :3] * 255).round().astype(int)


def share(image, color):
    """Share of a picture that has a colour."""
    wanted = [int(color[k : k + 2], 16) for k in (1, 3, 5)]
    return (np.abs(image - wanted) <= 2).all(-1).mean()


def test_two_classes_tell_missed_from_false():
    found = np.array([[[0, 1, 1, 0, 1, 0, 255]], [[0, 1, 0, 1, 255, 1, 0]], [[0, 0, 0, 0, 0, 1, 1]]], np.uint8)
    assert error_kinds(found, 2).tolist() == [[0, 1, 2, 3, 4, 5, 6]]


def test_more_classes_tell_right_from_wrong():
    found = np.array([[[0, 2, 2, 1, 0, 255]], [[0, 2, 1, 255, 1, 3]], [[0, 0, 0, 0, 1, 0]]], np.uint8)
    assert error_kinds(found, 4).tolist() == [[0, 0, 1, 2, 3, 4]]


def test_a_scene_gets_a_panel_of_its_own(tmp_path):
    image = np.full((60, 80, 4), (10, 200, 30, 255), np.uint8)
    without = drawn(tmp_path / "a.png", Comparison("a", "", CLASSES[:2], planes(), 1))
    beside = drawn(tmp_path / "b.png", Comparison("b", "", CLASSES[:2], planes(), 1, image))
    assert share(without, "#0ac81e") == 0
    assert share(beside, "#0ac81e") > 0.1
    assert beside.shape[1] > without.shape[1]


@pytest.mark.parametrize("classes", [2, 4])
def test_truth_map_and_errors_show_their_colours(tmp_path, classes):
    image = drawn(tmp_path / "a.png", Comparison("a", "b", CLASSES[:classes], planes(classes=classes), 1))
    for color in (*(each.color for each in CLASSES[:classes]), "#d55e00"):
        assert share(image, color) > 0.003, color


@pytest.mark.parametrize("shape", [(1, 1), (3, 1200), (1200, 3), (40, 1200), (1200, 900)])
def test_scenes_of_any_shape_fit_on_a_page(tmp_path, shape):
    image = drawn(tmp_path / "a.png", Comparison("a", "b", CLASSES[:2], np.zeros((3, *shape), np.uint8), 7))
    assert max(image.shape) < 4000


def test_the_image_is_read_at_the_size_of_the_picture_and_must_be_the_maps(tmp_path, make_scene):
    stored = store.read(write_map(tmp_path / "m.h5", np.zeros((120, 160), np.uint8)))
    right, wrong = make_scene(tmp_path / "a.tif", 120, 160, 1, "uint16"), make_scene(tmp_path / "b.tif", 60, 80)
    assert read_image(right, stored, planes()).shape == (60, 80, 4)
    with pytest.raises(UsageError, match=r"b\.tif has 60x80 pixels, the map 120x160"):
        read_image(wrong, stored, planes())


def test_a_picture_that_cannot_be_written_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=r"absent/a\.png cannot be written"):
        write_comparison(tmp_path / "absent" / "a.png", Comparison("a", "b", CLASSES[:2], planes(), 1))
