"""What tests of truth share: a scene, and labels for it."""

from __future__ import annotations

import pytest
from osgeo import gdal
from truth.labelled import COLOURS, HEIGHT, WIDTH, numbers

from hpcseg.raster import describe


@pytest.fixture(scope="module")
def scene(make_scene, tmp_path_factory):
    return describe(str(make_scene(tmp_path_factory.mktemp("scene") / "scene.tif", HEIGHT, WIDTH)), "scene")


@pytest.fixture
def make_labels(make_scene, tmp_path):
    """make_labels(pixels (h, w) or (b, h, w), ...) writes a label raster and returns its path."""

    def make(pixels, dtype="uint8", **options):
        pixels = pixels if pixels.ndim == 3 else pixels[None]
        return make_scene(tmp_path / "labels.tif", *pixels.shape[1:], len(pixels), dtype, pixels=pixels, **options)

    return make


@pytest.fixture
def palette(tmp_path):
    """A raster with a palette of COLOURS, and its indices."""
    raster = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "palette.tif"), WIDTH, HEIGHT, 1, gdal.GDT_Byte)
    table = gdal.ColorTable()
    for k, colour in enumerate(COLOURS.tolist()):
        table.SetColorEntry(k, (*colour, 255))
    raster.GetRasterBand(1).SetColorTable(table)
    raster.WriteArray(numbers(4))
    raster = None
    return tmp_path / "palette.tif"
