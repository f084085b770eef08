"""A reader that filters gives what a reader of the filtered picture would."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal

from hpcseg.kernels.filters import FILTERS, Prefilter
from hpcseg.raster import CellCache, Values, create_geotiff, describe, open_reader
from hpcseg.synthetic import ice
from hpcseg.tiles import Window

HEIGHT, WIDTH = 300, 420
SCALE, OFFSET = (1 / 50, 1 / 60, 1 / 70), (-2.0, -1.5, -1.0)


@pytest.fixture(scope="module", params=FILTERS)
def both(request, tmp_path_factory, make_scene):
    """A scene with a corner without data and the filter fitted to it; the filtered picture as a scene of its own."""
    folder = tmp_path_factory.mktemp("filtered")
    ice(folder, 1, HEIGHT, WIDTH, seed=3, clouds=0.3, scale=0.05)
    pixels = gdal.Open(str(folder / "ice_000.tif")).ReadAsArray()
    pixels[:, :50, :70] = 0
    scene = describe(str(make_scene(folder / "a.tif", HEIGHT, WIDTH, pixels=pixels, nodata=0, block=128)), "a")
    chosen, whole = FILTERS[request.param], Window(0, 0, HEIGHT, WIDTH)
    values, valid = np.ascontiguousarray(pixels.transpose(1, 2, 0)).reshape(HEIGHT, -1), (pixels != 0).any(0).astype(np.uint8)
    counts, picture = chosen.start(), np.empty((HEIGHT, WIDTH * 3), np.uint8)
    chosen.count(values, valid, whole, whole, counts)
    fit = chosen.fit(counts)
    chosen.clear(values, valid, whole, whole, fit, picture)
    bands = picture.reshape(HEIGHT, WIDTH, 3).transpose(2, 0, 1)
    assert (bands != pixels).any(0).mean() > 0.05
    with create_geotiff(folder / "f.tif", (3, HEIGHT, WIDTH), "uint8", scene.place, masked=True) as put:
        put(whole, np.concatenate([bands, valid[None]]))
    return scene, Prefilter(request.param, fit), describe(str(folder / "f.tif"), "f")


@pytest.mark.parametrize(
    "window", [Window(0, 0, HEIGHT, WIDTH), Window(-9, 40, 120, 130), Window(200, 300, 150, 160), Window(7, 8, 30, 40)]
)
@pytest.mark.parametrize(("dtype", "missing"), [("float32", 0.0), ("float32", np.nan), ("uint16", 0.0)])
def test_windows_are_those_of_the_filtered_picture(both, window, dtype, missing):
    scene, prefilter, picture = both
    found = []
    for each, passed in ((scene, prefilter), (picture, None)):
        out, valid = np.full((window.height, window.width * 3), 9, dtype), np.full(window[2:], 9, np.uint8)
        reader = open_reader(each, Values(SCALE, OFFSET, missing=missing, prefilter=passed), CellCache(1 << 26))
        found.append((reader.read(window, 9, out, valid), out, valid))
    assert found[0][0] == found[1][0] == found[0][2].sum()
    np.testing.assert_array_equal(found[0][2], found[1][2])
    np.testing.assert_array_equal(found[0][1], found[1][1])
