"""From what people type to scenes: files, globs, folders, manifests, stacks and warps."""

from __future__ import annotations

import json

import numpy as np
import pytest
from osgeo import gdal, osr

from hpcseg.errors import SceneError, UsageError
from hpcseg.raster import CellCache, Entry, SceneReader, Values, describe, list_scenes, open_name
from hpcseg.tiles import Window


@pytest.fixture
def folder(make_scene, tmp_path):
    for name in ("b.tif", "a.TIF", "c.png"):
        make_scene(tmp_path / name, 4, 4, 1)
    (tmp_path / "notes.md").write_text("no raster")
    return tmp_path


def names(entries):
    return [entry.name for entry in entries]


def pixels(path, **options):
    """All of a scene as the reader gives it: values (h, w, b) and validity."""
    scene = describe(path, "x")
    bands = len(scene.bands)
    out, valid = np.empty((scene.height, scene.width * bands), np.float32), np.empty((scene.height, scene.width), np.uint8)
    reader = SceneReader(scene, Values((1.0,) * bands, (0.0,) * bands), CellCache(1 << 26))
    reader.read(Window(0, 0, scene.height, scene.width), 0, out, valid)
    return out.reshape(scene.height, scene.width, bands), valid


def test_a_file_is_named_by_its_stem():
    assert list_scenes(["some/where/S2.B04.tif"]) == [Entry("S2.B04", ("some/where/S2.B04.tif",))]
    assert names(list_scenes(["/vsizip/x.zip/scene"])) == ["scene"]


def test_a_folder_means_its_rasters_by_name(folder):
    assert names(list_scenes([str(folder)])) == ["a", "b", "c"]


def test_a_glob_means_what_it_matches(folder):
    assert names(list_scenes([str(folder / "*.tif"), str(folder / "c.*")])) == ["b", "c"]


def test_a_glob_without_match_is_refused_by_name(folder):
    with pytest.raises(UsageError, match=r"no file matches .*\*\.jp2"):
        list_scenes([str(folder / "*.jp2")])


def test_an_empty_folder_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=f"no scenes in {tmp_path}"):
        list_scenes([str(tmp_path)])


def test_a_stack_is_written_with_plus():
    assert list_scenes(["x/B04.tif+y/B02.tif"]) == [Entry("B04", ("x/B04.tif", "y/B02.tif"))]


def test_a_file_with_a_plus_in_its_name_is_no_stack(make_scene, tmp_path):
    path = str(make_scene(tmp_path / "a+b.tif", 4, 4))
    assert list_scenes([path]) == [Entry("a+b", (path,))]


def test_a_text_manifest_has_a_scene_a_line_beside_itself(tmp_path):
    manifest = tmp_path / "scenes.txt"
    manifest.write_text("# comment\na.tif\n\n/far/b.tif\nc.tif+d.tif\n")
    assert list_scenes([str(manifest)]) == [
        Entry("a", (str(tmp_path / "a.tif"),)),
        Entry("b", ("/far/b.tif",)),
        Entry("c", (str(tmp_path / "c.tif"), str(tmp_path / "d.tif"))),
    ]


def test_a_csv_manifest_may_name_its_scenes(tmp_path):
    manifest = tmp_path / "scenes.csv"
    manifest.write_text("date,id,scene\n2019,north,a.tif\n2020,,b.tif\n")
    assert names(list_scenes([str(manifest)])) == ["north", "b"]


def test_a_csv_manifest_without_scenes_is_refused_with_its_columns(tmp_path):
    manifest = tmp_path / "scenes.csv"
    manifest.write_text("id,path\nnorth,a.tif\n")
    with pytest.raises(UsageError, match="no column scene among id, path"):
        list_scenes([str(manifest)])


@pytest.mark.parametrize("row", ["north", "north,"])
def test_a_row_without_a_scene_is_refused_by_its_place(tmp_path, row):
    manifest = tmp_path / "scenes.csv"
    manifest.write_text(f"id,scene\nsouth,a.tif\n{row}\n")
    with pytest.raises(UsageError, match=r"scenes\.csv.*(north|row|line)"):
        list_scenes([str(manifest)])


def write_item(path, **assets):
    content = {
        "type": "Feature",
        "id": path.stem,
        "links": [],
        "assets": {name: {"href": href, "roles": roles} for name, (href, roles) in assets.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_a_stac_item_gives_its_data_assets_or_those_asked_for(tmp_path):
    item = tmp_path / "S2A.json"
    write_item(item, red=("./B04.tif", ["data"]), blue=("B02.tif", ["data"]), view=("tci.jpg", ["overview"]))
    assert list_scenes([str(item)]) == [Entry("S2A", (str(tmp_path / "B04.tif"), str(tmp_path / "B02.tif")))]
    assert list_scenes([str(item)], ("view", "red")) == [Entry("S2A", (str(tmp_path / "tci.jpg"), str(tmp_path / "B04.tif")))]
    with pytest.raises(UsageError, match=r"S2A\.json: no asset nir; choose with --assets among red, blue, view"):
        list_scenes([str(item)], ("nir",))


def test_a_stac_catalogue_gives_the_items_of_all_its_children(tmp_path):
    write_item(tmp_path / "2019" / "a.json", data=("a.tif", ["data"]))
    write_item(tmp_path / "b.json", data=("b.tif", ["data"]))
    for path, links in (
        ("catalog.json", [("self", "catalog.json"), ("child", "2019/collection.json"), ("item", "./b.json")]),
        ("2019/collection.json", [("parent", "../catalog.json"), ("item", "a.json")]),
    ):
        (tmp_path / path).write_text(json.dumps({"links": [{"rel": rel, "href": href} for rel, href in links]}))
    assert list_scenes([str(tmp_path / "catalog.json")]) == [
        Entry("a", (str(tmp_path / "2019" / "a.tif"),)),
        Entry("b", (str(tmp_path / "b.tif"),)),
    ]


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"links": [{}]}'])
def test_a_json_file_that_is_no_stac_is_refused_by_name(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UsageError, match=r"x\.json: not a STAC item or catalogue"):
        list_scenes([str(tmp_path / "x.json")])


def test_an_absent_manifest_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.csv: No such file"):
        list_scenes([str(tmp_path / "absent.csv")])


def test_two_scenes_of_one_name_are_refused_with_both(tmp_path):
    with pytest.raises(UsageError, match=r"two scenes are named a: x/a\.tif and y/a\.png; give them ids"):
        list_scenes(["x/a.tif", "y/a.png"])
    manifest = tmp_path / "scenes.csv"
    manifest.write_text("scene,id\nx/a.tif,first\ny/a.tif,second\n")
    assert names(list_scenes([str(manifest)])) == ["first", "second"]


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
