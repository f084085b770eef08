"""Products of a prediction file: nothing is lost, nothing is invented, and what is missing is said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import shapely
from matplotlib.image import imread
from osgeo import gdal, ogr, osr
from osgeo_utils.samples.validate_cloud_optimized_geotiff import validate

from hpcseg import store
from hpcseg.errors import SceneError, StoreError, UsageError
from hpcseg.georeference import Georeference, GroundPoint
from hpcseg.products import class_shares, export
from hpcseg.products.quicklook import _round_down
from hpcseg.tiles import Grid

CLASSES = [
    {"name": "water", "color": "#10407f"},
    {"name": "ice", "color": "#e0f0ff"},
    {"name": "land", "color": "#a08040"},
]


def wkt(code: int) -> str:
    system = osr.SpatialReference()
    system.ImportFromEPSG(code)
    return system.ExportToWkt()


def same_system(system: osr.SpatialReference, text: str) -> bool:
    wanted = osr.SpatialReference(text)
    wanted.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return bool(system.IsSame(wanted))


UTM = Georeference(wkt=wkt(32633), transform=(5e5, 10.0, 0.0, 5e6, 0.0, -10.0))
POLAR = Georeference(wkt=wkt(3413), transform=(3e5, 250.0, 0.0, -9e5, 0.0, -250.0))
ROTATED = Georeference(wkt=wkt(32633), transform=(5e5, 9.0, 3.0, 5e6, 3.0, -9.0))
DEGREES = Georeference(wkt=wkt(4326), transform=(-30.0, 1e-4, 0.0, 75.0, 0.0, -1e-4))
POINTS = Georeference(
    gcps=[GroundPoint(row=r, col=c, x=5e5 + 10 * c, y=5e6 - 10 * r, id=f"{r}") for r in (0, 300, 600) for c in (0, 350, 700)],
    gcp_wkt=wkt(32633),
)
NOWHERE = Georeference()


def blobs(height: int, width: int) -> np.ndarray:
    """Labels with large and small patches and a corner without data."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 3, (-(-height // 40), -(-width // 40)), np.uint8)
    labels = np.kron(coarse, np.ones((40, 40), np.uint8))[:height, :width].copy()
    labels[rng.random(labels.shape) < 0.002] = 2
    labels[: height // 4, : width // 3] = 255
    return labels


def predict(
    path: Path, labels: np.ndarray, place: Georeference, *, confidence: bool = False, missing: int = 0, **attributes
) -> Path:
    core = min(64, *labels.shape)
    planes = ("labels", "confidence") if confidence else ("labels",)
    layout = store.Layout(Grid(*labels.shape, core, 0), core, planes)
    store.create(path, layout, {"core": core, "halo": 0}, {"classes": json.dumps(CLASSES)} | attributes, place)
    with h5py.File(path, "r+") as file:
        file["labels"][:] = labels
        if confidence:
            file["confidence"][:] = np.where(labels == 255, 255, 10 * labels + 200)
        status = np.ones(layout.grid.shape, np.uint8)
        status.ravel()[:missing] = 0
        file["tiles/status"][:] = status
    return path


@pytest.fixture
def labels() -> np.ndarray:
    return blobs(610, 705)


def polygons(path: Path) -> list[tuple[int, str, float | None, int, shapely.Geometry]]:
    source = ogr.Open(str(path))
    return [
        (*(f.GetField(k) for k in range(4)), shapely.from_wkb(bytes(f.GetGeometryRef().ExportToWkb())))
        for f in source.GetLayer(0)
    ]


def test_a_cog_holds_the_labels_bit_by_bit_with_legend_and_overviews(tmp_path, labels):
    product = export(predict(tmp_path / "a.h5", labels, UTM, model=np.bytes_("unet-ice")), "cog", tmp_path / "a.tif")
    warnings, errors, _ = validate(str(product.path), full_check=True)
    assert (warnings, errors) == ([], [])
    dataset = gdal.Open(str(product.path))
    band = dataset.GetRasterBand(1)
    np.testing.assert_array_equal(band.ReadAsArray(), labels)
    assert band.GetNoDataValue() == 255
    assert band.GetOverviewCount() > 0
    assert set(np.unique(band.GetOverview(0).ReadAsArray())) <= {0, 1, 2, 255}
    assert band.GetCategoryNames() == ["water", "ice", "land"]
    assert band.GetColorTable().GetColorEntry(1) == (0xE0, 0xF0, 0xFF, 255)
    assert band.GetColorTable().GetColorEntry(255)[3] == 0
    assert dataset.GetMetadataItem("model") == "unet-ice"
    assert dataset.GetMetadataItem("class_2") == "land"
    assert dataset.GetMetadata("IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
    assert product.notes == ()


MANIFEST = {"date": "2019-07-23", "region": "Sound, inner", "model": "of the manifest", "mask": "/far/mask.tif"}


def test_what_the_manifest_said_travels_to_cog_and_polygons_but_paths(tmp_path, labels):
    path = predict(tmp_path / "a.h5", labels, UTM, confidence=True, model="unet", manifest=json.dumps(MANIFEST))
    found = [gdal.Open(str(file)).GetMetadata() for file in export(path, "cog", tmp_path / "a.tif").files]
    source = ogr.Open(str(export(path, "gpkg", tmp_path / "a.gpkg").path))
    found.append(source.GetLayer(0).GetMetadata())
    for items in found:
        assert (items["date"], items["region"]) == ("2019-07-23", "Sound, inner")
        assert items["model"] == "unet", "what hpcseg itself says wins"
        assert "mask" not in items


def test_confidence_becomes_a_second_cog(tmp_path, labels):
    product = export(predict(tmp_path / "a.h5", labels, UTM, confidence=True), "cog", tmp_path / "a.tif")
    assert [path.name for path in product.files] == ["a.tif", "a_confidence.tif"]
    assert validate(str(product.files[1]), full_check=True)[:2] == ([], [])
    dataset = gdal.Open(str(product.files[1]))
    band = dataset.GetRasterBand(1)
    np.testing.assert_array_equal(band.ReadAsArray(), np.where(labels == 255, 255, 10 * labels + 200))
    assert band.GetScale() == pytest.approx(1 / 254)


@pytest.mark.parametrize(
    "place", [UTM, POLAR, ROTATED, DEGREES, NOWHERE, Georeference(transform=(3.0, 2.0, 0.0, 1.0, 0.0, 2.0))]
)
def test_a_cog_lies_where_the_scene_lies(tmp_path, labels, place):
    dataset = gdal.Open(str(export(predict(tmp_path / "a.h5", labels, place), "cog", tmp_path / "a.tif").path))
    assert dataset.GetGeoTransform(can_return_null=True) == place.transform
    system = dataset.GetSpatialRef()
    assert (system is not None) == bool(place.wkt)
    if place.wkt:
        assert same_system(system, place.wkt)


def test_a_cog_keeps_control_points(tmp_path, labels):
    dataset = gdal.Open(str(export(predict(tmp_path / "a.h5", labels, POINTS), "cog", tmp_path / "a.tif").path))
    assert validate(dataset, full_check=True)[:2] == ([], [])
    kept = [(p.GCPLine, p.GCPPixel, p.GCPX, p.GCPY) for p in dataset.GetGCPs()]
    assert kept == [(p.row, p.col, p.x, p.y) for p in POINTS.gcps]
    assert same_system(dataset.GetGCPSpatialRef(), POINTS.gcp_wkt)


def test_polygons_cover_each_valid_pixel_once_whatever_the_tiles(tmp_path, labels):
    rows = polygons(export(predict(tmp_path / "a.h5", labels, UTM), "gpkg", tmp_path / "a.gpkg").path)
    assert {(label, name) for label, name, *_ in rows} == {(0, "water"), (1, "ice"), (2, "land")}
    for k in range(3):
        assert sum(row[3] for row in rows if row[0] == k) == (labels == k).sum()
    shapes = [row[4] for row in rows]
    assert shapely.is_valid(shapes).all()
    assert shapely.area(shapely.union_all(shapes)) == pytest.approx(100 * (labels != 255).sum())
    assert shapely.total_bounds(shapes).tolist() == [5e5, 5e6 - 6100, 5e5 + 7050, 5e6]


def test_a_patch_across_tiles_is_one_polygon(tmp_path):
    labels = np.zeros((200, 200), np.uint8)
    labels[50:150, 50:150] = 1
    rows = polygons(export(predict(tmp_path / "a.h5", labels, UTM), "gpkg", tmp_path / "a.gpkg").path)
    assert sorted((row[0], row[3], len(row[4].exterior.coords)) for row in rows) == [(0, 30000, 5), (1, 10000, 5)]


@pytest.mark.parametrize("place", [UTM, POLAR, ROTATED, DEGREES, POINTS])
def test_areas_of_polygons_and_of_classes_agree(tmp_path, labels, place):
    path = predict(tmp_path / "a.h5", labels, place)
    rows, shares = polygons(export(path, "gpkg", tmp_path / "a.gpkg").path), class_shares(path)
    for k, each in enumerate(CLASSES):
        share = shares[each["name"]]
        assert share.pixels == (labels == k).sum()
        assert sum(row[2] for row in rows if row[0] == k) == pytest.approx(share.area_m2, rel=2e-4)
    assert sum(share.share for share in shares.values()) == pytest.approx(1)


def test_polygons_of_control_points_lie_on_the_ground(tmp_path, labels):
    path = export(predict(tmp_path / "a.h5", labels, POINTS), "gpkg", tmp_path / "a.gpkg").path
    bounds = shapely.total_bounds([row[4] for row in polygons(path)])
    np.testing.assert_allclose(bounds, [5e5, 5e6 - 6100, 5e5 + 7050, 5e6], atol=0.01)
    source = ogr.Open(str(path))
    assert same_system(source.GetLayer(0).GetSpatialRef(), wkt(32633))


def test_polygons_without_georeference_lie_where_the_image_is_drawn(tmp_path, labels):
    rows = polygons(export(predict(tmp_path / "a.h5", labels, NOWHERE), "gpkg", tmp_path / "a.gpkg").path)
    assert shapely.total_bounds([row[4] for row in rows]).tolist() == [0, -610, 705, 0]
    assert {row[2] for row in rows} == {None}


def test_small_patches_merge_into_their_neighbours(tmp_path, labels):
    rows = polygons(export(predict(tmp_path / "a.h5", labels, UTM), "gpkg", tmp_path / "a.gpkg", min_area_px=20).path)
    assert min(row[3] for row in rows) >= 20
    assert sum(row[3] for row in rows) == (labels != 255).sum()


@pytest.mark.parametrize("place", [UTM, NOWHERE], ids=["ground", "nowhere"])
@pytest.mark.parametrize("shape", [(2, 2), (70, 900), (900, 70)], ids=["tiny", "wide", "tall"])
def test_a_quicklook_of_any_shape(tmp_path, shape, place):
    product = export(predict(tmp_path / "a.h5", blobs(*shape), place, model="unet"), "png", tmp_path / "a.png", title="x" * 300)
    picture = imread(product.path)
    assert min(picture.shape[:2]) > 200
    assert max(picture.shape[:2]) < 2400


def test_a_quicklook_counts_all_pixels_although_it_draws_few(tmp_path):
    labels = blobs(700, 3300)
    product = export(predict(tmp_path / "a.h5", labels, POLAR), "png", tmp_path / "a.png")
    assert [share.pixels for share in product.classes.values()] == [(labels == k).sum() for k in range(3)]
    colours = {tuple(c) for c in np.round(255 * imread(product.path)[..., :3]).astype(int).reshape(-1, 3)}
    assert {(0x10, 0x40, 0x7F), (0xE0, 0xF0, 0xFF), (0xA0, 0x80, 0x40)} <= colours


def test_a_quicklook_beside_its_scene(tmp_path, labels):
    scene = tmp_path / "scene.tif"
    dataset = gdal.GetDriverByName("GTiff").Create(str(scene), 705, 610, 3, gdal.GDT_UInt16)
    dataset.WriteArray(np.random.default_rng(0).integers(300, 3000, (3, 610, 705)).astype(np.uint16))
    dataset = None
    path = predict(tmp_path / "a.h5", labels, UTM)
    alone, both = (imread(export(path, "png", tmp_path / "a.png", scene=s).path) for s in (None, scene))
    assert both.shape[1] / both.shape[0] > 1.3 * alone.shape[1] / alone.shape[0]


def test_a_scene_of_another_size_or_none_at_all_is_refused(tmp_path, labels):
    path, other = predict(tmp_path / "a.h5", labels, UTM), tmp_path / "other.tif"
    gdal.GetDriverByName("GTiff").Create(str(other), 5, 5).FlushCache()
    with pytest.raises(UsageError, match="5x5 pixels, the map 610x705"):
        export(path, "png", tmp_path / "a.png", scene=other)
    with pytest.raises(SceneError, match=r"none\.tif cannot be read"):
        export(path, "png", tmp_path / "a.png", scene=tmp_path / "none.tif")


@pytest.mark.parametrize(("length", "wanted"), [(1, 1), (1.99, 1), (2, 2), (49, 20), (0.7, 0.5), (1000, 1000)])
def test_scale_bars_have_round_lengths(length, wanted):
    assert _round_down(length) == pytest.approx(wanted)


@pytest.mark.parametrize(("kind", "suffix"), [("cog", "tif"), ("gpkg", "gpkg"), ("png", "png")])
def test_an_incomplete_map_is_exported_and_says_so(tmp_path, labels, kind, suffix):
    product = export(predict(tmp_path / "a.h5", labels, UTM, missing=3), kind, tmp_path / f"a.{suffix}")
    assert product.path.exists()
    assert product.notes == ("3 of 120 tiles are missing: no data in the product",)


@pytest.mark.parametrize(("kind", "suffix"), [("cog", "tif"), ("gpkg", "gpkg"), ("png", "png")])
def test_a_second_export_replaces_the_first_and_leaves_nothing_beside_it(tmp_path, labels, kind, suffix):
    path, out = predict(tmp_path / "a.h5", labels, UTM), tmp_path / f"a.{suffix}"
    export(path, kind, out)
    export(path, kind, out)
    assert {p.name for p in tmp_path.iterdir()} <= {"a.h5", out.name, f"{out.name}.aux.xml"}


@pytest.mark.parametrize("kind", ["cog", "gpkg", "png"])
def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path, labels, kind):
    path = predict(tmp_path / "a.h5", labels, UTM)
    with pytest.raises(UsageError, match="cannot be written"):
        export(path, kind, tmp_path / "no folder" / "a.tif")
    with pytest.raises(UsageError, match="cannot be written"):
        export(path, kind, tmp_path)
    with pytest.raises(UsageError, match="is the prediction file itself"):
        export(path, kind, path)
    assert os.listdir(tmp_path) == ["a.h5"]


@pytest.mark.parametrize("kind", ["gpkg", "png"])
def test_a_label_outside_the_legend_is_refused_and_leaves_nothing(tmp_path, labels, kind):
    labels[400, 400] = 9
    path = predict(tmp_path / "a.h5", labels, UTM)
    with pytest.raises(StoreError, match="label 9, but the legend names 3 classes"):
        export(path, kind, tmp_path / "a.out")
    assert os.listdir(tmp_path) == ["a.h5"]


def test_wrong_inputs_are_named(tmp_path, labels):
    (tmp_path / "b.h5").write_text("not HDF5")
    with pytest.raises(StoreError, match="is not a prediction file"):
        export(tmp_path / "b.h5", "cog", tmp_path / "b.tif")
    with pytest.raises(StoreError, match="no legend"):
        export(predict(tmp_path / "c.h5", labels, UTM, classes="{}"), "cog", tmp_path / "c.tif")
    with pytest.raises(UsageError, match="wanted one of cog, gpkg, png"):
        export(predict(tmp_path / "d.h5", labels, UTM), "jpg", tmp_path / "d.jpg")


def test_gdal_is_left_as_it_was_found(tmp_path, labels):
    before = gdal.GetUseExceptions(), ogr.GetUseExceptions(), osr.GetUseExceptions(), gdal.GetCacheMax()
    export(predict(tmp_path / "a.h5", labels, UTM), "gpkg", tmp_path / "a.gpkg")
    assert (gdal.GetUseExceptions(), ogr.GetUseExceptions(), osr.GetUseExceptions(), gdal.GetCacheMax()) == before


def test_patches_that_touch_at_a_corner_are_one_where_asked(tmp_path):
    labels = np.zeros((40, 40), np.uint8)
    labels[5:10, 5:10] = labels[10:15, 10:15] = labels[10, 4] = 1
    path = predict(tmp_path / "a.h5", labels, UTM)
    for connectivity, patches in ((4, 3), (8, 1)):
        rows = polygons(export(path, "gpkg", tmp_path / "a.gpkg", connectivity=connectivity).path)
        areas = [row[3] for row in rows if row[1] == "ice"]
        assert (len(areas), sum(areas)) == (patches, 51)
