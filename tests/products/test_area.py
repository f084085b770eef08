"""Ground area: against closed formulas, the known scale of projections, and across the pole and the dateline."""

from __future__ import annotations

import math

import numpy as np
import pytest
from osgeo import osr

from hpcseg.area import class_areas_m2, ground_plane, pixel_area_m2, pixel_width_m
from hpcseg.georeference import Georeference, GroundPoint


def wkt(code: int) -> str:
    system = osr.SpatialReference()
    system.ImportFromEPSG(code)
    return system.ExportToWkt()


def scene(code: int, transform: tuple[float, ...]) -> Georeference:
    return Georeference(wkt=wkt(code), transform=transform)


def mercator_row(lat: float) -> float:
    return 6378137 * math.asinh(math.tan(math.radians(lat)))


def test_web_mercator_at_27_6_north_is_a_fifth_smaller_than_nominal():
    place = scene(3857, (9e6, 10, 0, mercator_row(27.6) + 5120, 0, -10))
    areas = pixel_area_m2(place, 1024, 1024)
    # Scale along both axes of the spherical formula on the ellipsoid: (a / N cos(lat), a / M cos(lat)).
    e2, lat = 0.0066943799901413165, math.radians(27.6)
    w = 1 - e2 * math.sin(lat) ** 2
    wanted = 100 * math.cos(lat) ** 2 * (w**-0.5) * ((1 - e2) * w**-1.5)
    assert areas.shape == (4, 4)
    assert areas.mean() / 100 == pytest.approx(0.785, abs=0.005)
    assert areas[1:3, 1:3].mean() == pytest.approx(wanted, rel=1e-5)


def test_polar_stereographic_is_true_at_70_north_and_smaller_towards_the_pole():
    true_latitude = 2 * 6378137 * math.tan(math.radians(10)) * 0.99
    near = pixel_area_m2(scene(3413, (true_latitude, 250, 0, 0, 0, -250)), 256, 256)[0, 0] / 250**2
    pole = pixel_area_m2(scene(3413, (-32000, 250, 0, 32000, 0, -250)), 256, 256)[0, 0] / 250**2
    assert near == pytest.approx(1.0, abs=0.02)
    # Snyder 1987, eq. 21-35: the scale at the pole for a true latitude of 70 degrees is 0.9698582.
    assert pole == pytest.approx(1 / 0.9698582**2, rel=1e-4)


def test_the_whole_earth_in_degrees_has_the_area_of_the_ellipsoid():
    areas = pixel_area_m2(scene(4326, (-180, 0.1, 0, 90, 0, -0.1)), 1800, 3600)
    rows = np.diff(np.append(np.arange(0, 1800, 256), 1800))
    cols = np.diff(np.append(np.arange(0, 3600, 256), 3600))
    assert (areas * rows[:, None] * cols).sum() == pytest.approx(510_065_621_724_089, rel=1e-9)


def test_a_scene_across_the_dateline_is_like_any_other():
    here = pixel_area_m2(scene(32660, (4e5, 100, 0, 1.8e6, 0, -100)), 600, 4000)
    there = pixel_area_m2(scene(32633, (4e5, 100, 0, 1.8e6, 0, -100)), 600, 4000)
    np.testing.assert_allclose(here, there, rtol=1e-9)


def test_blocks_do_not_depend_on_how_far_the_scene_goes_on():
    place = scene(32633, (5e5, 10, 0, 5e6, 0, -10))
    np.testing.assert_allclose(pixel_area_m2(place, 300, 2000)[:1, :2], pixel_area_m2(place, 2000, 600)[:1, :2], rtol=1e-7)


def test_control_points_alone_are_enough():
    corners = [(r, c) for r in (0, 500, 1000) for c in (0, 500, 1000)]
    gcps = [GroundPoint(row=r, col=c, x=5e5 + 10 * c, y=5e6 - 10 * r) for r, c in corners]
    by_points = pixel_area_m2(Georeference(gcps=gcps, gcp_wkt=wkt(32633)), 1000, 1000)
    by_transform = pixel_area_m2(scene(32633, (5e5, 10, 0, 5e6, 0, -10)), 1000, 1000)
    np.testing.assert_allclose(by_points, by_transform, rtol=1e-6)


@pytest.mark.parametrize("place", [Georeference(), Georeference(transform=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))])
def test_without_a_reference_system_there_is_no_area(place):
    assert pixel_area_m2(place, 10, 10) is None
    assert pixel_width_m(place, 10, 10) is None
    assert ground_plane(place, 10, 10) is None


def test_pixels_that_look_past_the_earth_have_no_area_and_spoil_only_their_own_class():
    system = osr.SpatialReference()
    system.ImportFromProj4("+proj=geos +h=35785831 +lon_0=0 +sweep=y +ellps=GRS80")
    place = Georeference(wkt=system.ExportToWkt(), transform=(-5.5e6, 5000.0, 0.0, 5.5e6, 0.0, -5000.0))
    areas = pixel_area_m2(place, 2200, 2200)
    assert np.isnan(areas[0, 0])
    assert areas[4, 4] == pytest.approx(25e6, rel=0.01)
    counts = np.zeros((*areas.shape, 2), np.int64)
    counts[4, 4, 0], counts[0, 0, 1] = 7, 1
    known, unknown = class_areas_m2(counts, areas)
    assert known == 7 * areas[4, 4]
    assert math.isnan(unknown)


def test_the_width_of_a_pixel_shrinks_with_the_cosine_of_the_latitude():
    assert pixel_width_m(scene(4326, (10, 0.001, 0, 60.05, 0, -0.001)), 100, 100) == pytest.approx(55.8, abs=0.05)
    assert pixel_width_m(scene(32633, (5e5, 10, 0, 5e6, 0, -10)), 100, 100) == pytest.approx(10 / 0.9996, rel=1e-5)
