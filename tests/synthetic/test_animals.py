"""Animals on ice: the same pixels and points however they are made, look-alikes that colour cannot tell, files that know where they lie."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from osgeo import gdal, ogr
from scipy import ndimage

from hpcseg import synthetic
from hpcseg.errors import UsageError
from hpcseg.kernels.peaks import find_peaks, neighbours
from hpcseg.matching import Objects, curve
from hpcseg.synthetic import AnimalScene
from hpcseg.tiles import Grid, Window

WHOLE = Window(0, 0, 640, 640)


@pytest.mark.parametrize("options", [{}, {"pixel": 0.3, "density": 1.0, "lookalikes": 0.3, "swath": True}])
def test_blocks_do_not_change_a_scene(options):
    scene = AnimalScene(3, 1, 300, 230, **options)
    picture, points = scene.block(Window(0, 0, 300, 230))
    grid, parts = Grid(300, 230, 77, 0), []
    for tile in range(grid.size):
        window = grid.core_window(tile)
        part, found = scene.block(window)
        np.testing.assert_array_equal(part, picture[(slice(None), *window.slices)])
        parts += found.tolist()
    assert sorted(parts) == points.tolist()


def test_animals_are_dark_and_lie_beside_cracks_and_apart():
    scene = AnimalScene(1, 0, 640, 640)
    picture, points = scene.block(WHOLE)
    rows, cols = np.floor(points).astype(int).T
    assert len(points) > 20
    assert (picture[:, rows, cols] < 130).all()
    crack, _ = scene._cracks(WHOLE)
    assert (crack[rows, cols] > 0.9).all()
    assert (crack[rows, cols] < 3.2).all()
    gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + 99 * np.eye(len(points))
    assert gaps.min() * 0.2 > 1.5


def test_a_scene_without_animals_has_the_lookalikes_alone():
    picture, points = AnimalScene(1, 0, 640, 640, density=0).block(WHOLE)
    assert points.shape == (0, 2)
    bare, _ = AnimalScene(1, 0, 640, 640, density=0, lookalikes=0).block(WHOLE)
    assert 0.002 < (picture != bare).any(0).mean() < 0.1


def test_no_threshold_on_darkness_at_any_scale_tells_animals_from_the_rest():
    picture, points = AnimalScene(2, 0, 640, 640).block(WHOLE)
    there = Objects(np.zeros(len(points), np.int64), *points.T, np.zeros(len(points), np.uint8))
    best = []
    for sigma in (0.7, 1.5, 3):
        dark = ndimage.gaussian_filter(255 - picture.mean(0), sigma)
        rows, cols, scores = find_peaks((dark / dark.max() * 254).astype(np.uint8), WHOLE, neighbours(5.0), 60).T
        found = Objects(np.zeros(len(rows), np.int64), rows + 0.5, cols + 0.5, scores.astype(np.uint8))
        best.append(max(each.f1 for each in curve(there, found, 5.0, range(60, 255, 6))))
    assert 0.1 < max(best) < 0.6


def test_files_tell_scenes_and_points(tmp_path):
    written = synthetic.animals(tmp_path, 2, 200, 260, 5, swath=True)
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        "animals_000.tif", "truth/animals_000.geojson", "animals_001.tif", "truth/animals_001.geojson", "animals.csv",
    ]  # fmt: skip
    dataset = gdal.Open(str(written[2]))
    picture, points = AnimalScene(5, 1, 200, 260, swath=True).block(Window(0, 0, 200, 260))
    np.testing.assert_array_equal(dataset.ReadAsArray(), picture)
    assert (picture[:, 0, 0] == 0).all()
    with written[-1].open() as file:
        rows = [row for row in csv.DictReader(file) if row["scene"] == "animals_001"]
    np.testing.assert_array_equal([[float(row["row"]), float(row["col"])] for row in rows], points)
    source = ogr.Open(str(written[3]))
    layer = source.GetLayer(0)
    assert layer.GetSpatialRef().GetAuthorityCode(None) == "3413"
    x0, dx, _, y0, _, dy = dataset.GetGeoTransform()
    on_ground = [feature.GetGeometryRef().GetPoint_2D() for feature in layer]
    np.testing.assert_allclose(on_ground, np.stack([x0 + dx * points[:, 1], y0 + dy * points[:, 0]], 1), rtol=1e-12)
    assert math.isclose(dx, 0.2)


@pytest.mark.parametrize("wrong", [{"height": 0}, {"seed": -1}, {"pixel": 2}, {"density": 1.5}, {"lookalikes": -0.1}])
def test_wrong_use_is_refused(wrong):
    with pytest.raises(UsageError, match="synthetic animals"):
        AnimalScene(**({"seed": 1, "index": 0, "height": 10, "width": 10} | wrong))
