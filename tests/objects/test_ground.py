"""Ground areas in whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import osr

from hpcseg.area import BLOCK, pixel_area_m2
from hpcseg.georeference import Georeference
from hpcseg.kernels.components import COMPONENT
from hpcseg.objects.ground import Ground
from hpcseg.tiles import Window


def wkt(code):
    system = osr.SpatialReference()
    system.ImportFromEPSG(code)
    return system.ExportToWkt()


DEGREES = Georeference(wkt=wkt(4326), transform=(-30.0, 0.01, 0.0, 75.0, 0.0, -0.01))
WORLD = Georeference(wkt=wkt(4326), transform=(-180.0, 0.25, 0.0, 110.0, 0.0, -0.25))


def test_the_unit_is_a_power_of_two_that_lets_the_whole_scene_fit():
    ground = Ground.of(DEGREES, 700, 900)
    assert np.log2(ground.unit) == int(np.log2(ground.unit))
    assert 2**60 < int(ground.areas.max()) * 700 * 900 < 2**63
    np.testing.assert_allclose(ground.areas * ground.unit, pixel_area_m2(DEGREES, 700, 900), rtol=1e-12)


def test_running_sums_follow_the_blocks_of_the_scene():
    ground, window = Ground.of(DEGREES, 700, 900), Window(250, 500, 20, 300)
    running = ground.running(window)
    assert running.shape == (2, 301)
    cols = np.arange(500, 800) // BLOCK
    np.testing.assert_array_equal(np.diff(running), ground.areas[np.array([[0], [1]]), cols])


def test_areas_are_null_where_the_box_leaves_the_ground():
    """Rows above the pole lie nowhere: 80 of them, in the first row of blocks."""
    ground = Ground.of(WORLD, 880, 1440)
    if not ground.off.any():
        ground = ground._replace(off=np.indices(ground.areas.shape)[0] == 0)
    components = np.zeros(2, COMPONENT)
    components["ground"] = 1 << 40
    components["top"], components["bottom"], components["right"] = (200, 300), (257, 513), 1440
    assert np.isnan(ground.in_m2(components)).tolist() == [True, False]


@pytest.mark.parametrize("place", [Georeference(), Georeference(transform=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))])
def test_without_a_reference_system_areas_are_unknown(place):
    ground = Ground.of(place, 300, 400)
    assert not ground.known
    assert not ground.running(Window(0, 0, 300, 400)).any()
    assert np.isnan(ground.in_m2(np.zeros(3, COMPONENT))).all()
