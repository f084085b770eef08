"""The index teacher, from files to labels."""

from __future__ import annotations

import numpy as np
import pytest

from hpcseg.errors import UsageError
from hpcseg.labels.index import index_teacher
from hpcseg.products import export

PONDS, WATER_PX = 85, 14575


@pytest.fixture
def two_bands(tmp_path, make_scene):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 4000, (2, 300, 280))
    pixels[:, :20] = 0
    pixels[0, 40:50, :7] = 0
    return make_scene(tmp_path / "s.tif", 300, 280, 2, "uint16", pixels=pixels, nodata=0), pixels.astype(float)


def test_class_1_is_where_the_index_exceeds_the_threshold(run, plane, two_bands):
    path, (a, b) = two_bands
    summary = run(index_teacher("pond", 1, 0.2), path, core=128)
    known = (a > 0) & (b > 0)
    index = np.divide(a - b, a + b, out=np.zeros(a.shape), where=known)
    np.testing.assert_array_equal(plane("s"), np.where(known, index > 0.2, 255))
    assert summary.exit_code == 0
    shares = summary.shares["s"]
    assert shares.px == known.sum()
    assert shares.classes["pond"].px == (index[known] > 0.2).sum()
    assert shares.classes["pond"].percent == pytest.approx(100 * (index[known] > 0.2).mean())
    assert shares.classes["pond"].m2 == pytest.approx(100 * shares.classes["pond"].px, rel=2e-3)
    assert shares.mask is None


def test_the_order_of_the_bands_is_the_user_s(run, plane, two_bands):
    path, _ = two_bands
    run(index_teacher(above=0.10371), path)
    first = plane("s")
    run(index_teacher(above=-0.10371), path, bands=(2, 1), overwrite=True)
    ok = first != 255
    np.testing.assert_array_equal(first[ok], 1 - plane("s")[ok])


def test_an_offset_comes_before_the_index(run, plane, two_bands):
    path, (a, b) = two_bands
    run(index_teacher(above=0.2, offset=500.0), path)
    known = (a > 0) & (b > 0)
    np.testing.assert_array_equal(plane("s")[known], ((a - b) / (a + b + 1000))[known] > 0.2)


def test_labels_do_not_depend_on_tiles(run, plane, two_bands):
    path, _ = two_bands
    found = []
    for core in (64, 100, 512):
        run(index_teacher(median=5, above=0.0), path, core=core, threads=2, overwrite=True)
        found.append(plane("s"))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_melt_lake_chip_has_its_ponds(run, plane, data, tmp_path):
    stem = data / "sea_ice/s2_melt_lakes/S2_22WEV_20190723_"
    summary = run(index_teacher("pond", 3, 0.25), f"{stem}B02_blue.tif+{stem}B04_red.tif", core=192)
    (found,) = summary.shares.values()
    assert found.classes["pond"].px == WATER_PX
    ogr = pytest.importorskip("osgeo.ogr")
    (path,) = (tmp_path / "out").glob("*.h5")
    for connectivity, patches in ((8, PONDS), (4, None)):
        out = tmp_path / f"ponds_{connectivity}.gpkg"
        export(path, "gpkg", out, connectivity=connectivity)
        source = ogr.Open(str(out))
        areas = [f.GetField("area_px") for f in source.GetLayer(0) if f.GetField("name") == "pond"]
        assert sum(areas) == WATER_PX
        assert len(areas) == patches if patches else len(areas) > PONDS


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"median": 2}, "--median 2: wanted an odd number"), ({"above": float("nan")}, "--above nan"), ({"name": "ice"}, "--name ice")],
)
def test_wrong_use_is_named(arguments, named):
    with pytest.raises(UsageError, match=named):
        index_teacher(**arguments)


def test_a_scene_without_the_bands_is_named_and_the_others_run(run, two_bands, make_scene, tmp_path):
    grey = make_scene(tmp_path / "grey.tif", 50, 50, 1)
    summary = run(index_teacher(), grey, two_bands[0])
    assert summary.refused == [("grey", "gives 1 bands of its 1, an index takes 2: choose them with --bands A,B")]
    assert (summary.exit_code, list(summary.shares)) == (3, ["s"])
    summary = run(index_teacher(), two_bands[0], bands=(1, 5))
    assert summary.refused[0][1] == "has bands 1 to 2, wanted 1, 5"
