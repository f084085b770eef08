"""Offsets that metadata say."""

from __future__ import annotations

import pytest
from osgeo import gdal

from hpcseg.raster import read_added_offsets


@pytest.fixture
def scene(tmp_path, make_scene):
    def make(name, whole=None, bands=None):
        path = make_scene(tmp_path / name, 4, 4, 2)
        dataset = gdal.Open(str(path), gdal.GA_Update)
        dataset.SetMetadata(whole or {})
        for k, item in (bands or {}).items():
            dataset.GetRasterBand(k).SetMetadata(item)
        dataset = None
        return str(path)

    return make


def test_without_a_word_nothing_is_added(scene):
    assert read_added_offsets([scene("a.tif")], (2, 1)) == (0.0, 0.0)


def test_a_raster_s_word_holds_for_its_bands_and_a_band_s_own_comes_first(scene):
    path = scene("a.tif", {"BOA_ADD_OFFSET": "-1000"}, {2: {"BOA_ADD_OFFSET": "-500"}})
    assert read_added_offsets([path], (1, 2)) == (-1000.0, -500.0)


def test_bands_count_through_all_parts_of_a_stack(scene):
    paths = [scene("a.tif"), scene("b.tif", {"RADIO_ADD_OFFSET": "-1000"})]
    assert read_added_offsets(paths, (4, 1, 3)) == (-1000.0, 0.0, -1000.0)


def test_a_list_of_equal_numbers_is_that_number(scene):
    assert read_added_offsets([scene("a.tif", {"BOA_ADD_OFFSET": "{-1000,-1000}"})], (1,)) == (-1000.0,)
