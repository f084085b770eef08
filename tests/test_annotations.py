"""Annotations: values become kinds, and what lies in no scene is said."""

from __future__ import annotations

import pytest

from hpcseg.annotations import pixel_length, read_annotations, tell_outside
from hpcseg.config import LabelSpec
from hpcseg.errors import UsageError
from hpcseg.raster import describe


@pytest.fixture
def scene(make_scene, tmp_path):
    return describe(str(make_scene(tmp_path / "s.tif", 20, 30, 1)), "s")


def table(folder, *rows):
    path = folder / "s.csv"
    path.write_text("col,row,label\n" + "".join(f"{row}\n" for row in rows))
    return str(path)


def test_one_class_alone_takes_every_point(scene, tmp_path):
    found = read_annotations(table(tmp_path, "1,2,Tree", "3,4,"), scene, LabelSpec(), ["tree"])
    assert found.kinds.tolist() == [0, 0]


def test_values_are_names_or_numbers_of_several_classes(scene, tmp_path):
    found = read_annotations(table(tmp_path, "1,2,gull", "3,4,0"), scene, LabelSpec(), ["seal", "gull"])
    assert found.kinds.tolist() == [1, 0]


def test_the_map_says_what_values_become_and_what_is_left_out(scene, tmp_path):
    spec = LabelSpec(map={"pup": "seal", "rock": "ignore"}, ignore=[7])
    found = read_annotations(table(tmp_path, "1,2,pup", "3,4,rock", "5,6,7"), scene, spec, ["seal"])
    assert (found.kinds.tolist(), found.cols.tolist(), len(found.numbers)) == ([0], [1.0], 3)


def test_a_value_without_a_class_is_named(scene, tmp_path):
    with pytest.raises(UsageError, match="a point of s is 'whale', wanted 0, 1, seal, gull"):
        read_annotations(table(tmp_path, "1,2,whale"), scene, LabelSpec(), ["seal", "gull"])


def test_points_outside_every_scene_are_counted_once(scene, tmp_path):
    path = table(tmp_path, "1,2,", "300,2,", "-4,2,")
    found = read_annotations(path, scene, LabelSpec(), ["seal"])
    assert tell_outside([found, found]) == [f"{path}: 2 of 3 points lie outside every scene"]
    assert tell_outside([found._replace(total=1)]) == []


def test_a_pixel_is_metres_where_the_scene_says_so_else_what_is_told(scene, data):
    picture = describe(str(next((data / "counting" / "trees").glob("*YELL*.png"))), "yell")
    assert pixel_length(scene, 99.0) == pytest.approx(10, rel=1e-3)
    assert (pixel_length(picture, 0.1), pixel_length(picture)) == (0.1, 1.0)
