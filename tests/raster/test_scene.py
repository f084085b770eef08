"""Describing scenes: what a file says of itself, and what is refused."""

from __future__ import annotations

import shutil

import msgspec
import numpy as np
import pytest
from osgeo import gdal

from hpcseg.errors import SceneError
from hpcseg.georeference import GroundPoint
from hpcseg.raster import describe, estimate_cost, with_mask
from hpcseg.raster.scene import estimate_valid
from hpcseg.tiles import Grid


def odd(data, name):
    return describe(str(data / "odd_inputs" / name), name)


def test_a_tiled_scene_is_described(make_scene, tmp_path):
    path = make_scene(tmp_path / "a.tif", 100, 150, 2, "uint16", nodata=0, block=64, compress="DEFLATE")
    scene = describe(str(path), "a")
    assert (scene.height, scene.width, scene.bands, scene.count) == (100, 150, (1, 2), 2)
    assert (scene.dtype, scene.block, scene.nodata) == ("uint16", (64, 64), (0, 0))
    assert (scene.scale, scene.offset, scene.mask) == ((1, 1), (0, 0), False)
    assert scene.place.transform == (500000, 10, 0, 5000000, 0, -10)
    assert scene.place.axes == "projected"
    assert scene.has_gaps
    assert not scene.striped


def test_strips_over_a_wide_scene_are_striped(make_scene, data, tmp_path):
    assert describe(str(make_scene(tmp_path / "wide.tif", 40, 1100, 1)), "wide").striped
    assert not describe(str(make_scene(tmp_path / "narrow.tif", 40, 200, 1)), "narrow").striped
    assert describe(str(data / "rasters" / "nocog.tif"), "nocog").striped
    assert not describe(str(data / "rasters" / "cog.tif"), "cog").striped


def test_bytes_without_nodata_value_or_mask_have_no_gaps(make_scene, tmp_path):
    assert not describe(str(make_scene(tmp_path / "u8.tif", 20, 20)), "u8").has_gaps
    assert describe(str(make_scene(tmp_path / "f32.tif", 20, 20, dtype="float32")), "f32").has_gaps


def test_nodata_given_by_the_user_wins(make_scene, tmp_path):
    path = make_scene(tmp_path / "a.tif", 20, 20, nodata=0)
    assert describe(str(path), "a", nodata=9).nodata == (9, 9, 9)


def test_bands_are_chosen_in_the_order_asked_for(make_scene, tmp_path):
    path = str(make_scene(tmp_path / "a.tif", 20, 20, 4))
    assert describe(path, "a", (3, 1)).bands == (3, 1)
    assert describe(path, "a").count == 4


def test_alpha_is_a_mask_and_no_band(data):
    for name, dtype in (("alpha.tif", "uint8"), ("RGBA.uint16.tif", "uint16")):
        scene = odd(data, name)
        assert (scene.bands, scene.count, scene.dtype, scene.mask) == ((1, 2, 3), 4, dtype, True)


def test_internal_and_external_masks_are_seen(data):
    assert odd(data, "cog_uint8_rgb_mask.tif").mask
    assert odd(data, "201404_13SED190110_201404_0x1500m_CL_1_extmask.tif").mask


def test_nan_scale_and_offset_are_kept(data):
    assert np.isnan(odd(data, "float_nan.tif").nodata[0])
    scaled = odd(data, "cog_scale.tif")
    assert (scaled.scale, scaled.offset, scaled.nodata) == ((0.0001, 0.001), (1000, 2000), (0, 0))


def test_a_palette_is_refused_with_the_way_out(data):
    with pytest.raises(SceneError, match=r"palette.*-expand rgb"):
        odd(data, "cog_cmap.tif")


def test_complex_pixels_are_refused_with_the_way_out(tmp_path):
    path = str(tmp_path / "slc.tif")
    gdal.GetDriverByName("GTiff").Create(path, 8, 8, 1, gdal.GDT_CFloat32).FlushCache()
    with pytest.raises(SceneError, match=r"complex.*amplitude"):
        describe(path, "slc")


def test_what_cannot_be_opened_is_refused(tmp_path):
    text = tmp_path / "notes.tif"
    text.write_text("no raster")
    for path in (text, tmp_path / "absent.tif"):
        with pytest.raises(SceneError, match="cannot be opened"):
            describe(str(path), "x")


@pytest.mark.parametrize("bands", [(4,), (0,), (1, 9)])
def test_a_band_that_is_not_there_is_refused(make_scene, tmp_path, bands):
    path = make_scene(tmp_path / "a.tif", 20, 20)
    with pytest.raises(SceneError, match="has bands 1 to 3"):
        describe(str(path), "a", bands)


@pytest.mark.parametrize(("name", "count"), [("cog_gcps.tif", 210), ("RGB.byte.gcp.vrt", 4)])
def test_ground_control_points_are_the_georeference_where_there_is_no_transform(data, name, count):
    path = str(data / "rasters" / name)
    place = describe(path, "gcps").place
    assert place.transform is None
    assert len(place.gcps) == count
    assert place.gcp_wkt
    first = gdal.Open(path).GetGCPs()[0]
    assert place.gcps[0] == GroundPoint(first.GCPLine, first.GCPPixel, first.GCPX, first.GCPY, first.GCPZ, first.Id)


def test_a_scene_without_georeference_has_none(data):
    place = odd(data, "no_geo2.jpg").place
    assert (place.wkt, place.transform, place.gcps, place.axes) == ("", None, [], "none")


def test_a_transform_without_reference_system_is_kept(data):
    place = describe(str(data / "water" / "garonne" / "after_VV.tif"), "after").place
    assert place.transform == (10240, 10, 0, -12800, 0, -10)
    assert (place.wkt, place.axes) == ("", "none")


def test_a_rotated_transform_is_kept_and_not_separable(data):
    place = odd(data, "rotated.tif").place
    assert place.transform == gdal.Open(str(data / "odd_inputs" / "rotated.tif")).GetGeoTransform()
    assert not place.separable


def test_geographic_and_projected_axes_are_told_apart(data):
    assert odd(data, "cog_uint8_rgb_nodata.tif").place.axes == "geographic"
    assert odd(data, "test_esri_wkt.tif").place.axes == "projected"


@pytest.mark.parametrize(
    ("name", "shape"), [("float_nan.tif", (2, 3)), ("test_esri_wkt.tif", (2, 2)), ("float_raster_with_nodata.tif", (12, 13))]
)
def test_tiny_scenes_are_scenes(data, name, shape):
    scene = odd(data, name)
    assert (scene.height, scene.width) == shape


def test_the_digest_follows_the_pixels_not_the_path(make_scene, tmp_path):
    first = make_scene(tmp_path / "a.tif", 30, 30)
    moved = shutil.copy(first, tmp_path / "b.tif")
    other = make_scene(tmp_path / "c.tif", 30, 30, seed=1)
    digests = [describe(str(path), "x").digest for path in (first, moved, other)]
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_of_a_vrt_follows_the_pixels_of_its_sources(make_scene, tmp_path):
    source = make_scene(tmp_path / "source.tif", 30, 30)
    gdal.Translate(str(tmp_path / "scene.vrt"), str(source), format="VRT").FlushCache()
    before = describe(str(tmp_path / "scene.vrt"), "x").digest
    make_scene(source, 30, 30, seed=1)
    assert describe(str(tmp_path / "scene.vrt"), "x").digest != before


def test_overviews_are_decimation_factors(data):
    assert describe(str(data / "rasters" / "cog.tif"), "cog").overviews == (2, 4, 8, 16)
    assert describe(str(data / "rasters" / "nocog.tif"), "nocog").overviews == ()


def with_overviews(path):
    dataset = gdal.Open(str(path), gdal.GA_Update)
    dataset.BuildOverviews("NEAREST", [2, 4, 8])
    del dataset
    return describe(str(path), "x")


def test_tiles_with_data_are_estimated_from_an_overview(make_scene, tmp_path):
    pixels = np.zeros((1, 512, 640), np.uint8)
    pixels[0, 100:200, 300:420] = 50
    scene = with_overviews(make_scene(tmp_path / "a.tif", 512, 640, 1, nodata=0, block=64, pixels=pixels))
    seems = estimate_valid(scene, Grid(512, 640, 128, 16))
    wanted = pixels[0].reshape(4, 128, 5, 128).any((1, 3))
    np.testing.assert_array_equal(seems, wanted)


def test_an_estimate_covers_scenes_that_tiles_do_not_divide(make_scene, tmp_path):
    scene = with_overviews(make_scene(tmp_path / "a.tif", 257, 390, 1, nodata=0, block=64))
    grid = Grid(257, 390, 128, 16)
    seems = estimate_valid(scene, grid)
    assert seems.shape == grid.shape
    assert seems.all()


def test_no_estimate_without_gaps_or_overviews(make_scene, tmp_path):
    grid = Grid(512, 512, 128, 16)
    whole = with_overviews(make_scene(tmp_path / "whole.tif", 512, 512, 1))
    plain = describe(str(make_scene(tmp_path / "plain.tif", 512, 512, 1, nodata=0)), "plain")
    assert estimate_valid(whole, grid) is None
    assert estimate_valid(plain, grid) is None
    assert estimate_cost(plain, grid).tolist() == [1] * 16


def test_the_world_is_estimated_in_a_moment(data):
    scene = describe(str(data / "rasters" / "cog_world.tif"), "world")
    grid = Grid(scene.height, scene.width, 1024, 64)
    seems = estimate_valid(scene, grid)
    dataset = gdal.Open(scene.path)
    level = dataset.GetRasterBand(1).GetOverview(scene.overviews.index(64)).ReadAsArray() != 0
    rows, cols = (range(0, 16 * n, 16) for n in grid.shape)
    wanted = [[level[row : row + 16, col : col + 16].any() for col in cols] for row in rows]
    np.testing.assert_array_equal(seems, wanted)


# A mask beside the file.


def with_a_mask(make_scene, folder, *, overviews=True):
    """A scene of 512 x 640 valid pixels whose mask leaves one part of it, and what that part touches in tiles of 128."""
    scene = describe(str(make_scene(folder / "a.tif", 512, 640, 1)), "a")
    pixels = np.zeros((1, 512, 640), np.uint8)
    pixels[0, 100:200, 300:420] = 1
    make_scene(folder / "m.tif", 512, 640, 1, pixels=pixels, block=64)
    if overviews:
        with_overviews(folder / "m.tif")
    return with_mask(scene, str(folder / "m.tif"), str(folder / "m.tif")), pixels[0].reshape(4, 128, 5, 128).any((1, 3))


def test_a_mask_beside_the_file_makes_gaps(make_scene, tmp_path):
    assert with_a_mask(make_scene, tmp_path)[0].has_gaps


def test_cost_is_estimated_from_the_mask_s_overviews_too(make_scene, tmp_path):
    scene, wanted = with_a_mask(make_scene, tmp_path)
    np.testing.assert_array_equal(estimate_cost(scene, Grid(512, 640, 128, 16)), wanted.ravel())


def test_a_mask_without_overviews_costs_nothing_to_estimate(make_scene, tmp_path):
    scene, _ = with_a_mask(make_scene, tmp_path, overviews=False)
    assert estimate_cost(scene, Grid(512, 640, 128, 16)).all()


def test_file_mask_and_area_together_decide_the_cost(make_scene, tmp_path):
    scene, wanted = with_a_mask(make_scene, tmp_path)
    left = msgspec.structs.replace(scene, aoi="POLYGON ((0 0, 380 0, 380 512, 0 512, 0 0))")
    wanted[:, 3:] = False
    assert wanted.any()
    np.testing.assert_array_equal(estimate_cost(left, Grid(512, 640, 128, 16)), wanted.ravel())


def test_the_mask_s_digest_follows_its_pixels_not_its_path(make_scene, tmp_path):
    scene, _ = with_a_mask(make_scene, tmp_path)
    moved = with_mask(scene, str(tmp_path / "a.tif"), str(shutil.copy(tmp_path / "m.tif", tmp_path / "n.tif")))
    other = with_mask(scene, scene.mask_path, str(make_scene(tmp_path / "o.tif", 512, 640, 1)))
    assert scene.mask_digest == moved.mask_digest != other.mask_digest
    assert scene.digest == other.digest
