"""Masks with a rule: which values of a raster mean data."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal

from hpcseg.errors import UsageError
from hpcseg.raster import read_mask_rule

VALUES = np.array([[0, 1, 2, 3, 200, 255]])


@pytest.fixture
def mask(tmp_path, make_scene):
    return str(make_scene(tmp_path / "m.tif", 1, 6, 1, pixels=VALUES[None]))


@pytest.fixture
def rgba(tmp_path, make_scene):
    path = make_scene(tmp_path / "rgba.tif", 1, 6, 4, pixels=np.repeat(VALUES[None], 4, 0))
    dataset = gdal.Open(str(path), gdal.GA_Update)
    dataset.GetRasterBand(4).SetColorInterpretation(gdal.GCI_AlphaBand)
    dataset.GetRasterBand(1).WriteArray(np.full((1, 6), 9))
    dataset = None
    return str(path)


def data(text):
    return (gdal.Open(read_mask_rule(text)[2]).ReadAsArray() != 0).astype(int).ravel().tolist()


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("", [0, 1, 1, 1, 1, 1]),
        (":nonzero", [0, 1, 1, 1, 1, 1]),
        (":zero", [1, 0, 0, 0, 0, 0]),
        (":=2", [0, 0, 1, 0, 0, 0]),
        (":<2", [1, 1, 0, 0, 0, 0]),
        (":<=2", [1, 1, 1, 0, 0, 0]),
        (":>200", [0, 0, 0, 0, 0, 1]),
        (":>=200", [0, 0, 0, 0, 1, 1]),
        (":>1.5", [0, 0, 1, 1, 1, 1]),
    ],
)
def test_a_rule_says_which_values_are_data(mask, rule, wanted):
    assert data(mask + rule) == wanted


def test_alpha_counts_where_there_is_such_a_band(rgba):
    assert data(rgba) == data(f"{rgba}:alpha") == [0, 1, 1, 1, 1, 1]
    assert data(f"{rgba}:transparent") == [1, 0, 0, 0, 0, 0]
    assert data(f"{rgba}:=9") == [1] * 6


def test_a_mask_lies_where_its_raster_lies(mask):
    made, own = gdal.Open(read_mask_rule(mask)[2]), gdal.Open(mask)
    assert made.GetGeoTransform() == own.GetGeoTransform()
    assert made.GetSpatialRef().IsSame(own.GetSpatialRef())


def test_file_and_rule_are_told_apart(mask):
    assert read_mask_rule(f"{mask}:>3")[:2] == (mask, ">3")
    assert read_mask_rule(mask)[:2] == (mask, "nonzero")


@pytest.mark.parametrize("text", ["absent.tif", "{mask}:bright", "{mask}:alpha", "{mask}:>x"])
def test_wrong_masks_are_refused_with_the_rules_that_there_are(mask, text):
    with pytest.raises(UsageError, match=r"wanted .*transparent, nonzero, zero, =V"):
        read_mask_rule(text.format(mask=mask))
