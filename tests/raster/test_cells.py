"""Windows of scenes: the same values as plain GDAL and NumPy, decoded once, in bounded memory."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from osgeo import gdal

from hpcseg.errors import ReadError
from hpcseg.raster import CellCache, SceneReader, Values, describe, with_mask
from hpcseg.raster.cells import Cell
from hpcseg.tiles import Window

REACH = 8


def plain(rule="all", bands=1):
    return Values((1.0,) * bands, (0.0,) * bands, rule)


def read(scene, window, values=None, cache=None, reach=REACH, dtype=np.float32):
    """A window by the reader: values (h, w, b), validity (h, w), number of valid pixels."""
    bands = len(scene.bands)
    out, valid = np.full((window.height, window.width * bands), 77, dtype), np.full((window.height, window.width), 9, np.uint8)
    reader = SceneReader(scene, values or plain(bands=bands), cache or CellCache(1 << 28))
    count = reader.read(window, reach, out, valid)
    return out.reshape(window.height, window.width, bands), valid, count


def reference(scene, window, values=None):
    """The same by plain GDAL and NumPy, for a window that reaches at most REACH pixels over the scene."""
    values = values or plain(bands=len(scene.bands))
    dataset = gdal.Open(scene.path)
    raw = np.stack([dataset.GetRasterBand(b).ReadAsArray() for b in scene.bands], -1)
    out = (raw * np.array(scene.scale) + np.array(scene.offset)) * np.array(values.scale) + np.array(values.offset)
    missing = ~np.isfinite(out)
    for k, nodata in enumerate(scene.nodata):
        missing[..., k] |= raw[..., k] == (np.nan if nodata is None else nodata)
    invalid = missing.any(-1) if values.rule == "any" else missing.all(-1)
    if scene.mask:
        invalid |= dataset.GetRasterBand(scene.bands[0]).GetMaskBand().ReadAsArray() == 0
    out[missing | invalid[..., None]] = 0
    pads = [(max(0, -window.row), max(0, window.stop[0] - scene.height)), (max(0, -window.col), max(0, window.stop[1] - scene.width))]
    shifted = Window(window.row + pads[0][0], window.col + pads[1][0], window.height, window.width)
    padded = np.pad(out, [*pads, (0, 0)], mode="reflect")[shifted.slices]
    return padded, np.pad(~invalid, pads)[shifted.slices]


def assert_same(scene, window, values=None):
    out, valid, count = read(scene, window, values)
    wanted, wanted_valid = reference(scene, window, values)
    np.testing.assert_array_equal(valid, wanted_valid)
    np.testing.assert_allclose(out, wanted, rtol=2e-6, atol=1e-4 * max(1.0, float(np.abs(wanted).max()) / 1000))
    assert count == wanted_valid.sum()


REAL = [
    "odd_inputs/float_nan.tif",
    "odd_inputs/float_raster_with_nodata.tif",
    "odd_inputs/cog_nodata_nan.tif",
    "odd_inputs/cog_scale.tif",
    "odd_inputs/alpha.tif",
    "odd_inputs/RGBA.uint16.tif",
    "odd_inputs/cog_uint8_rgb_mask.tif",
    "odd_inputs/cog_uint8_rgb_nodata.tif",
    "odd_inputs/201404_13SED190110_201404_0x1500m_CL_1_extmask.tif",
    "odd_inputs/all-nodata.tif",
    "odd_inputs/rotated.tif",
    "odd_inputs/test_esri_wkt.tif",
    "odd_inputs/cog_int16.tif",
    "odd_inputs/goes.tif",
    "odd_inputs/no_geo2.jpg",
    "rasters/RGB.byte.tif",
    "rasters/RGB.byte.gcp.vrt",
    "rasters/shade.tif",
    "rasters/cog.tif",
    "rasters/nocog.tif",
    "rasters/cog_gcps.tif",
    "rasters/s2_B11.jp2",
    "rasters/l8_B4.tif",
    "water/s1_vv_vh_db/VV.tif",
    "sea_ice/s2_melt_lakes/S2_22WEV_20190723_B02_blue.tif",
]


@pytest.mark.parametrize("name", REAL)
def test_windows_of_real_files_equal_gdal_and_numpy(data, name):
    scene = describe(str(data / name), "x")
    corner = Window(scene.height - min(90, scene.height), scene.width - min(70, scene.width), 90 + REACH, 70 + REACH)
    for window in (Window(-1, -1, 150, 120), corner, Window(scene.height // 3, scene.width // 3, 33, 41)):
        fits = window.intersect(Window(0, 0, scene.height, scene.width))
        edge = min(REACH, scene.height - 1, scene.width - 1)
        assert_same(scene, fits.grow(edge).intersect(window.grow(edge)))


def test_both_rules_for_pixels_with_some_bands_missing(data):
    scene = describe(str(data / "rasters" / "RGB.byte.tif"), "x")
    window = Window(100, 80, 300, 320)
    counts = []
    for rule in ("all", "any"):
        assert_same(scene, window, plain(rule, 3))
        counts.append(read(scene, window, plain(rule, 3))[2])
    assert 0 < counts[1] < counts[0]


@pytest.mark.parametrize("block", [0, 16, 128, 256])
@pytest.mark.parametrize("compress", ["NONE", "DEFLATE"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_blocks_compression_and_type_do_not_show(make_scene, tmp_path, dtype, compress, block):
    path = make_scene(tmp_path / "a.tif", 300, 290, 2, dtype, nodata=40, block=block, compress=compress)
    assert_same(describe(str(path), "a"), Window(-5, 200, 200, 98), Values((0.5, 2.0), (-1.0, 3.0)))


def test_chosen_bands_come_in_their_order(make_scene, tmp_path):
    scene = describe(str(make_scene(tmp_path / "a.tif", 50, 60, 4)), "a", (4, 2))
    assert_same(scene, Window(3, 4, 30, 40))


def test_a_file_s_scale_and_offset_come_before_the_model_s(data):
    scene = describe(str(data / "odd_inputs" / "cog_scale.tif"), "x")
    assert_same(scene, Window(10, 20, 100, 120), Values((0.1, 3.0), (-100.0, 5.0)))


def test_bfloat16_windows_are_the_rounded_float32_ones(make_scene, tmp_path):
    scene = describe(str(make_scene(tmp_path / "a.tif", 80, 90, 3, "uint16", nodata=40)), "a")
    window, values = Window(-4, -4, 70, 70), Values((0.013,) * 3, (-1.1,) * 3)
    single, bits = read(scene, window, values)[0], read(scene, window, values, dtype=np.uint16)[0]
    wanted = torch.from_numpy(single).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(bits, wanted)


def test_beyond_the_reach_a_window_is_zero(make_scene, tmp_path):
    scene = describe(str(make_scene(tmp_path / "a.tif", 40, 40, 1)), "a")
    out, valid, count = read(scene, Window(-20, -20, 100, 100), reach=6)
    assert (out[:14] == 0).all()
    assert (out[:, 66:] == 0).all()
    assert (out[14:20, 20:60] != 0).all()
    assert valid.sum() == count == 1600


def test_an_unrepresentable_nodata_value_marks_nothing(make_scene, tmp_path):
    path = str(make_scene(tmp_path / "a.tif", 40, 40, 1))
    for nodata in (-9999.0, 300.0, 40.5, float("nan"), float("inf")):
        assert read(describe(path, "a", nodata=nodata), Window(0, 0, 40, 40))[2] == 1600


@pytest.mark.parametrize("nodata", [-3.3999999521443642e38, -9999.0, 1e20])
def test_a_nodata_value_is_compared_in_the_type_of_the_pixels(make_scene, tmp_path, nodata):
    pixels = np.ones((1, 20, 20), np.float32)
    pixels[0, 5:9, 3:7] = nodata
    scene = describe(str(make_scene(tmp_path / "a.tif", 20, 20, 1, "float32", pixels=pixels, nodata=nodata)), "a")
    assert read(scene, Window(0, 0, 20, 20))[2] == 400 - 16


def test_only_the_broken_block_of_a_corrupt_file_cannot_be_read(data):
    path = data / "odd_inputs" / "corrupt.tif"
    scene = describe(str(path), "corrupt")
    for window in (Window(0, 0, 512, 1024), Window(512, 0, 512, 512)):
        assert_same_part(scene, window)
    for window in (Window(512, 512, 512, 512), Window(400, 400, 200, 200)):
        with pytest.raises(ReadError, match=r"corrupt.tif, rows 512:1024, cols 512:1024: .*TIFFReadEncodedTile"):
            read(scene, window)


def assert_same_part(scene, window):
    dataset, area = gdal.Open(scene.path), (window.col, window.row, window.width, window.height)
    raw, mask = dataset.ReadAsArray(*area), dataset.GetRasterBand(1).GetMaskBand().ReadAsArray(*area)
    out, valid, _ = read(scene, window)
    np.testing.assert_array_equal(valid, mask != 0)
    np.testing.assert_array_equal(out, np.moveaxis(raw[: len(scene.bands)], 0, -1) * (mask != 0)[..., None])


def test_a_read_error_of_a_stack_names_the_scene_not_its_xml(data, make_scene, tmp_path):
    path = str(data / "odd_inputs" / "corrupt.tif")
    xml = gdal.BuildVRT("", [path, path], separate=True).GetMetadata("xml:VRT")[0]
    with pytest.raises(ReadError, match=r"^two, rows") as caught:
        read(describe(xml, "two"), Window(600, 600, 64, 64))
    assert "<VRT" not in str(caught.value)


@given(st.tuples(st.integers(-8, 199), st.integers(-8, 179)), st.tuples(st.integers(1, 120), st.integers(1, 120)))
def test_any_window_is_the_same_part_of_the_scene(small_scene, corner, size):
    scene, whole, valid = small_scene
    height, width = min(size[0], 208 - corner[0]), min(size[1], 188 - corner[1])
    if corner[0] + height <= 0 or corner[1] + width <= 0:
        return
    window = Window(*corner, height, width)
    out, ours, count = read(scene, window)
    place = Window(corner[0] + 8, corner[1] + 8, height, width).slices
    inside = window.intersect(Window(0, 0, 200, 180))
    at_edge = inside != window and min(inside.height, inside.width) <= REACH
    np.testing.assert_array_equal(ours, valid[place])
    assert count == valid[place].sum()
    if not at_edge:
        np.testing.assert_array_equal(out, whole[place])


@pytest.fixture(scope="module")
def small_scene(make_scene, tmp_path_factory):
    path = make_scene(tmp_path_factory.mktemp("small") / "a.tif", 200, 180, 2, nodata=40, block=128)
    scene = describe(str(path), "a")
    out, valid, _ = read(scene, Window(-8, -8, 216, 196))
    return scene, out, valid


def test_cells_are_decoded_once_whichever_thread_asks(make_scene, tmp_path):
    scene = describe(str(make_scene(tmp_path / "a.tif", 512, 512, 3, block=128)), "a")
    cache = CellCache(1 << 28)
    reader = SceneReader(scene, plain(bands=3), cache)

    def job(_):
        out, valid = np.empty((512, 1536), np.float32), np.empty((512, 512), np.uint8)
        reader.read(Window(0, 0, 512, 512), 0, out, valid)
        return out

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(job, range(12)))
    assert cache.loads == 16
    assert all(np.array_equal(results[0], each) for each in results)


def test_the_cache_is_bounded_and_keeps_what_was_used_last(make_scene, tmp_path):
    scene = describe(str(make_scene(tmp_path / "a.tif", 1024, 256, 1, block=128)), "a")
    cell = 128 * 128
    cache = CellCache(4 * cell)
    for row in range(0, 1024, 128):
        read(scene, Window(row, 0, 128, 256), cache=cache)
        assert cache.nbytes <= cache.capacity
    assert cache.loads == 16
    read(scene, Window(896, 0, 128, 256), cache=cache)
    assert cache.loads == 16
    read(scene, Window(0, 0, 128, 128), cache=cache)
    assert cache.loads == 17


def test_a_cell_larger_than_the_cache_is_read_all_the_same(make_scene, tmp_path):
    scene = describe(str(make_scene(tmp_path / "a.tif", 300, 300, 1, block=128)), "a")
    cache = CellCache(1)
    np.testing.assert_array_equal(read(scene, Window(0, 0, 300, 300), cache=cache)[0], read(scene, Window(0, 0, 300, 300))[0])
    assert cache.nbytes <= 128 * 128


def test_an_error_while_loading_reaches_all_who_wait_and_is_tried_again():
    cache, started = CellCache(1000), threading.Event()

    def broken():
        started.set()
        time.sleep(0.1)
        raise ReadError("the block is gone")

    def ask(first):
        if not first:
            started.wait()
        try:
            cache.get("key", broken)
        except ReadError as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, [True, False, False])) == ["the block is gone"] * 3
    cell = Cell(np.zeros((2, 2), np.uint8), np.empty((0, 0), np.uint8))
    assert cache.get("key", lambda: cell) is cell
    assert cache.nbytes == 4


def half_mask(make_scene, path, columns):
    """A mask of 200 x 180 pixels that leaves those columns."""
    pixels = np.zeros((1, 200, 180))
    pixels[..., columns] = 7
    return str(make_scene(path, 200, 180, 1, pixels=pixels))


def test_a_pixel_needs_the_file_the_mask_beside_it_and_the_area(make_scene, tmp_path):
    scene = describe(str(make_scene(tmp_path / "a.tif", 200, 180, 2, nodata=40, block=128)), "a")
    mask = half_mask(make_scene, tmp_path / "m.tif", slice(0, 120))
    both = msgspec.structs.replace(with_mask(scene, mask, mask), aoi="POLYGON ((0 50, 180 50, 180 200, 0 200, 0 50))")
    window = Window(30, 20, 170, 160)
    (before, valid, _), (out, masked, count) = read(scene, window), read(both, window)
    wanted = valid.copy()
    wanted[:20], wanted[:, 100:] = 0, 0
    np.testing.assert_array_equal(masked, wanted)
    np.testing.assert_array_equal(out, before * wanted[..., None])
    assert count == wanted.sum() < valid.sum()


def test_a_mask_beside_the_file_adds_to_the_file_s_own(data, make_scene, tmp_path):
    scene = describe(str(data / "odd_inputs" / "alpha.tif"), "x")
    pixels = np.ones((1, scene.height, scene.width))
    pixels[:, : scene.height // 2] = 0
    mask = str(make_scene(tmp_path / "m.tif", scene.height, scene.width, 1, pixels=pixels))
    window = Window(0, 0, scene.height, scene.width)
    wanted = read(scene, window)[1] * pixels[0]
    assert 0 < wanted.sum() < pixels.sum()
    np.testing.assert_array_equal(read(with_mask(scene, mask, mask), window)[1], wanted)


def test_one_file_under_two_names_keeps_its_masks_apart(make_scene, tmp_path):
    path, cache = str(make_scene(tmp_path / "a.tif", 200, 180, 1)), CellCache(1 << 26)
    for name, columns in (("west", slice(0, 90)), ("east", slice(90, 180))):
        mask = half_mask(make_scene, tmp_path / f"{name}.tif", columns)
        valid = read(with_mask(describe(path, name), mask, mask), Window(0, 0, 200, 180), cache=cache)[1]
        assert valid[:, columns].all()
        assert valid.sum() == 90 * 200


def test_a_mask_that_breaks_while_it_is_read_fails_the_window_alone(data, make_scene, tmp_path):
    broken = str(data / "odd_inputs" / "corrupt.tif")
    corrupt = describe(broken, "corrupt")
    scene = describe(str(make_scene(tmp_path / "a.tif", corrupt.height, corrupt.width, 1, block=512)), "a")
    scene = with_mask(scene, broken, broken)
    read(scene, Window(0, 0, 64, 64))
    with pytest.raises(ReadError, match=r"a\.tif, rows 512:1024, cols 512:1024: .*corrupt\.tif"):
        read(scene, Window(600, 600, 64, 64))
