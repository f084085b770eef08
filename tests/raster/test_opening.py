"""What GDAL opens for a scene: stacks, warps, alignment, and masks that follow."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal, osr

from hpcseg.errors import SceneError
from hpcseg.raster import CellCache, Entry, SceneReader, Values, describe, open_mask, open_name, with_mask
from hpcseg.tiles import Window


def pixels(path, mask=""):
    """All of a scene as the reader gives it: values (h, w, b) and validity."""
    scene = with_mask(describe(path, "x"), mask, mask) if mask else describe(path, "x")
    bands = len(scene.bands)
    out, valid = np.empty((scene.height, scene.width * bands), np.float32), np.empty((scene.height, scene.width), np.uint8)
    reader = SceneReader(scene, Values((1.0,) * bands, (0.0,) * bands), CellCache(1 << 26))
    reader.read(Window(0, 0, scene.height, scene.width), 0, out, valid)
    return out.reshape(scene.height, scene.width, bands), valid


def test_one_file_is_opened_as_it_is(make_scene, tmp_path):
    path = str(make_scene(tmp_path / "a.tif", 8, 8))
    assert open_name(Entry("a", (path,))) == path


def stack(make_scene, tmp_path, **second):
    """Two scenes of one band; the second differs as told."""
    first = make_scene(tmp_path / "a.tif", 40, 50, 1, "uint16", nodata=0, seed=1)
    other = make_scene(tmp_path / "b.tif", **({"height": 40, "width": 50, "bands": 1, "dtype": "float32", "seed": 2} | second))
    return Entry("pair", (str(first), str(other)))


def test_a_stack_has_the_bands_of_its_parts_in_order(make_scene, tmp_path):
    entry = stack(make_scene, tmp_path)
    out, _ = pixels(open_name(entry))
    for k, part in enumerate(entry.parts):
        np.testing.assert_array_equal(out[..., k], gdal.Open(part).ReadAsArray())


def test_a_stack_keeps_georeference_nodata_and_names_its_scene(make_scene, tmp_path):
    scene = describe(open_name(stack(make_scene, tmp_path)), "pair")
    assert scene.place.transform == (500000, 10, 0, 5000000, 0, -10)
    assert scene.nodata == (0, None)
    assert (scene.sources, scene.dtype) == ("pair", "float32")


def test_a_stack_of_real_bands(data):
    lakes = data / "sea_ice" / "s2_melt_lakes"
    parts = tuple(str(lakes / f"S2_22WEV_20190723_{band}.tif") for band in ("B02_blue", "B04_red"))
    out, valid = pixels(open_name(Entry("lakes", parts)))
    raw = np.stack([gdal.Open(part).ReadAsArray() for part in parts], -1)
    np.testing.assert_array_equal(valid, (raw != 0).any(-1))
    np.testing.assert_array_equal(out, raw)


def test_a_stack_takes_every_band_of_each_part(make_scene, tmp_path):
    two, one = (make_scene(tmp_path / f"{bands}.tif", 20, 20, bands, seed=bands) for bands in (2, 1))
    out, _ = pixels(open_name(Entry("x", (str(two), str(one)))))
    wanted = [*gdal.Open(str(two)).ReadAsArray(), gdal.Open(str(one)).ReadAsArray()]
    np.testing.assert_array_equal(out, np.stack(wanted, -1))


def test_a_stack_of_rotated_parts_keeps_their_transform(data):
    rotated = str(data / "odd_inputs" / "rotated.tif")
    scene = describe(open_name(Entry("x", (rotated, rotated))), "x")
    assert scene.bands == (1, 2)
    assert scene.place == describe(rotated, "x").place


def test_a_stack_of_parts_with_ground_control_points_keeps_them(data):
    points = str(data / "rasters" / "cog_gcps.tif")
    stacked, alone = describe(open_name(Entry("x", (points, points))), "x").place, describe(points, "x").place
    assert (stacked.wkt, stacked.transform, stacked.gcp_wkt) == (alone.wkt, alone.transform, alone.gcp_wkt)
    # A VRT writes pixel positions with four decimals.
    for one, other in zip(stacked.gcps, alone.gcps, strict=True):
        np.testing.assert_allclose((one.row, one.col, one.x, one.y, one.z), (other.row, other.col, other.x, other.y, other.z), atol=1e-4)


def test_a_stack_of_parts_without_georeference_is_a_scene_without_one(make_scene, tmp_path):
    parts = tuple(str(make_scene(tmp_path / f"{k}.tif", 9, 8, 1, transform=None, epsg=None, seed=k)) for k in range(2))
    path = open_name(Entry("x", parts))
    assert describe(path, "x").place.transform is None
    assert pixels(path)[0].shape == (9, 8, 2)


@pytest.mark.parametrize(
    "second", [{"height": 41}, {"width": 51}, {"transform": (500005, 10, 0, 5000000, 0, -10)}, {"epsg": 32634}], ids=lambda s: next(iter(s))
)
def test_parts_on_different_grids_are_refused_by_name(make_scene, tmp_path, second):
    with pytest.raises(SceneError, match=r"b\.tif does not lie on the grid of .*a\.tif; --align"):
        open_name(stack(make_scene, tmp_path, **second))


def test_align_warps_the_parts_onto_the_first(make_scene, tmp_path):
    entry = stack(make_scene, tmp_path, height=60, width=70, transform=(499900.0, 10.0, 0, 5000100.0, 0, -10.0))
    out, valid = pixels(open_name(entry, align=True))
    assert out.shape == (40, 50, 2)
    np.testing.assert_array_equal(out[..., 0], gdal.Open(entry.parts[0]).ReadAsArray())
    np.testing.assert_array_equal(out[..., 1], gdal.Open(entry.parts[1]).ReadAsArray()[10:50, 10:60])
    assert valid.all()


def test_another_reference_system_is_read_through_a_warp(make_scene, tmp_path):
    path = make_scene(tmp_path / "a.tif", 80, 90, 1, "uint16", nodata=0)
    scene = describe(open_name(Entry("a", (str(path),)), crs="EPSG:3035"), "a")
    assert osr.SpatialReference(scene.place.wkt).GetAuthorityCode(None) == "3035"
    warped = gdal.Warp("", str(path), format="MEM", dstSRS="EPSG:3035", resampleAlg="bilinear").ReadAsArray()
    out, valid = pixels(scene.path)
    np.testing.assert_array_equal(out[..., 0], warped)
    np.testing.assert_array_equal(valid, warped != 0)


def test_a_stack_can_be_warped_too(make_scene, tmp_path):
    out, valid = pixels(open_name(stack(make_scene, tmp_path), resolution=20.0))
    assert out.shape == (20, 25, 2)
    assert valid.all()


def test_another_resolution_is_read_through_a_warp(make_scene, tmp_path):
    path = make_scene(tmp_path / "a.tif", 80, 90)
    scene = describe(open_name(Entry("a", (str(path),)), resolution=20.0), "a")
    assert (scene.height, scene.width) == (40, 45)
    assert scene.place.transform[1] == 20


def test_what_a_warp_leaves_empty_is_no_data(data):
    path = str(data / "rasters" / "cog_gcps.tif")
    _, valid = pixels(open_name(Entry("x", (path,)), crs="EPSG:4326"))
    corners = [valid[k, j] for k in (0, -1) for j in (0, -1)]
    assert not any(corners), "the corners of a slanting swath lie outside it"


def test_parts_that_cannot_be_opened_are_refused_by_name(make_scene, tmp_path):
    path = str(make_scene(tmp_path / "a.tif", 8, 8))
    with pytest.raises(SceneError, match=r"cannot be opened: .*absent\.tif"):
        open_name(Entry("a", (path, str(tmp_path / "absent.tif"))))


def test_a_reference_system_that_does_not_exist_is_refused(make_scene, tmp_path):
    path = str(make_scene(tmp_path / "a.tif", 8, 8))
    with pytest.raises(SceneError, match="9999999"):
        open_name(Entry("a", (path,)), crs="EPSG:9999999")


# Masks beside a scene.


@pytest.fixture
def masked(make_scene, tmp_path):
    """masked(**differences) writes a scene of 80 x 90 pixels and a mask that leaves out its left third; gives the entry and the mask."""

    def write(**changes):
        values = np.ones((1, 80, 90))
        values[:, :, :30] = 0
        scene = make_scene(tmp_path / "a.tif", 80, 90, 2)
        shape = {"height": 80, "width": 90, "pixels": values}
        mask = make_scene(tmp_path / "m.tif", **(shape | {"bands": 1} | changes))
        return Entry("a", (str(scene),), {"mask": str(mask)}), values[0]

    return write


def test_an_entry_without_a_mask_has_none(make_scene, tmp_path):
    assert open_mask(Entry("a", (str(make_scene(tmp_path / "a.tif", 8, 8)),))) == ""


@pytest.mark.parametrize("changes", [{}, {"transform": None, "epsg": None}], ids=["in place", "without georeference"])
def test_a_mask_on_the_scene_s_grid_is_opened_as_it_is(masked, changes):
    entry, wanted = masked(**changes)
    path = open_mask(entry)
    assert path == entry.columns["mask"]
    np.testing.assert_array_equal(pixels(open_name(entry), path)[1], wanted)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"height": 81, "pixels": None}, "is 81x90 pixels, the scene 80x90"),
        ({"transform": (500000.2, 10, 0, 5000000, 0, -10)}, "has the geotransform"),
        ({"transform": (500000, 10.01, 0, 5000000, 0, -10.01)}, "has the geotransform"),
        ({"epsg": 32634}, "is in WGS 84 / UTM zone 34N, the scene in WGS 84 / UTM zone 33N"),
    ],
    ids=["size", "shift", "pixel", "system"],
)
def test_a_mask_on_another_grid_is_refused_by_name(masked, changes, said):
    with pytest.raises(SceneError, match=rf"its mask .*m\.tif {said}.*: warp it there"):
        open_mask(masked(**changes)[0])


def test_a_mask_that_cannot_be_opened_is_refused_by_name(masked, tmp_path):
    entry, _ = masked()
    with pytest.raises(SceneError, match=r"its mask cannot be opened: .*absent\.tif"):
        open_mask(Entry("a", entry.parts, {"mask": str(tmp_path / "absent.tif")}))
    with pytest.raises(SceneError, match=r"^cannot be opened: .*gone\.tif"):
        open_mask(Entry("a", (str(tmp_path / "gone.tif"),), entry.columns))


@pytest.mark.parametrize("changes", [{}, {"transform": None, "epsg": None}], ids=["in place", "without georeference"])
def test_a_mask_follows_a_change_of_resolution(masked, changes):
    entry, wanted = masked(**changes)
    valid = pixels(open_name(entry, resolution=5.0), open_mask(entry, resolution=5.0))[1]
    np.testing.assert_array_equal(valid, wanted.repeat(2, 0).repeat(2, 1))


def test_a_mask_follows_a_warp_by_the_scene_s_control_points(data, tmp_path):
    path = str(data / "rasters" / "cog_gcps.tif")
    height, width = describe(path, "x").height, describe(path, "x").width
    mask = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "m.tif"), width, height, 1, gdal.GDT_Byte)
    half = np.ones((height, width), np.uint8)
    half[: height // 2] = 0
    mask.WriteArray(half)
    mask = None
    entry = Entry("x", (path,), {"mask": str(tmp_path / "m.tif")})
    whole = pixels(open_name(entry, crs="EPSG:4326"))[1]
    some = pixels(open_name(entry, crs="EPSG:4326"), open_mask(entry, crs="EPSG:4326"))[1]
    assert not (some & ~whole).any()
    assert some.sum() / whole.sum() == pytest.approx(0.5, abs=0.1)


def test_a_stack_has_one_mask_on_the_grid_of_its_first_part(make_scene, masked, tmp_path):
    one, wanted = masked()
    other = make_scene(tmp_path / "b.tif", 80, 90, 1, seed=3)
    entry = Entry("pair", (*one.parts, str(other)), one.columns)
    np.testing.assert_array_equal(pixels(open_name(entry), open_mask(entry))[1], wanted)


@pytest.mark.parametrize("changed", ["a.tif", "b.tif"])
@pytest.mark.parametrize("resolution", [0.0, 20.0], ids=["plain", "resampled"])
def test_the_digest_of_an_aligned_stack_follows_each_part(make_scene, tmp_path, changed, resolution):
    entry = stack(make_scene, tmp_path, height=60, width=70)

    def digest():
        return describe(open_name(entry, "", resolution, True), "x", parts=entry.parts).digest

    before = digest()
    assert digest() == before
    make_scene(tmp_path / changed, 40 if changed == "a.tif" else 60, 50 if changed == "a.tif" else 70, 1, seed=9)
    assert digest() != before
