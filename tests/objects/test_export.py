"""Objects of maps as files: against SciPy on the whole image, the same bytes for any tiles and threads."""

from __future__ import annotations

import csv
import threading

import h5py
import numpy as np
import pytest
from maps import write_map
from osgeo import ogr, osr
from whole import by_scipy, random_labels

from hpcseg import store
from hpcseg.environment import stop_requested
from hpcseg.errors import UsageError
from hpcseg.georeference import Georeference
from hpcseg.labels.index import index_teacher
from hpcseg.labels.run import LabelOptions, label
from hpcseg.mpi import Pulse
from hpcseg.objects import Choice, Settings, export_objects
from hpcseg.products import class_shares
from hpcseg.raster import describe, read_points
from hpcseg.tiles import Grid


def place(code=32633, transform=(5e5, 10.0, 0.0, 5e6, 0.0, -10.0)):
    system = osr.SpatialReference()
    system.ImportFromEPSG(code)
    return Georeference(wkt=system.ExportToWkt(), transform=transform)


ALL = Choice()


@pytest.fixture
def export(alone):
    """export(maps, out, choice, **settings) gives what became of each map."""

    def call(maps, out=None, choice=ALL, **settings):
        maps = maps if isinstance(maps, list) else [maps]
        with Pulse(alone, 60.0, stop_requested) as pulse:
            return export_objects(alone, pulse, maps, out, choice, Settings(**({"tile": 64} | settings)))

    return call


def table(path):
    """A CSV's rows as records of words."""
    with path.open() as file:
        return list(csv.DictReader(file))


def numbers(rows, *names):
    return np.array([[float(row[name]) for name in names] for row in rows]).reshape(-1, len(names))


MEASURES = ("area_px", "row", "col", "box_row", "box_col", "box_height", "box_width")


@pytest.mark.parametrize("connectivity", [4, 8])
def test_objects_of_a_class_are_scipy_s_in_number_order_and_measures(export, tmp_path, connectivity):
    labels = random_labels()
    (found,) = export(write_map(tmp_path / "s.h5", labels), choice=Choice(("roof",)), connectivity=connectivity)
    rows, wanted = table(tmp_path / "s_objects.csv"), by_scipy(labels, connectivity, 1)
    assert len(rows) > 150
    assert [row["id"] for row in rows] == [str(k + 1) for k in range(len(wanted))]
    np.testing.assert_allclose(numbers(rows, *MEASURES), wanted, rtol=0, atol=1e-9)
    assert {(row["class"], row["name"], row["area_m2"]) for row in rows} == {("1", "roof", "")}
    np.testing.assert_array_equal(numbers(rows, "x", "y"), numbers(rows, "col", "row") * (1, -1))
    assert found.notes == (f"roof: {len(rows)} objects, {(labels == 1).sum():,} px",)


def test_the_layer_holds_what_the_table_holds(export, tmp_path):
    export(write_map(tmp_path / "s.h5", random_labels(1), place=place(), region="Fram"))
    source = ogr.Open(str(tmp_path / "s_objects.gpkg"))
    layer, rows = source.GetLayer(0), table(tmp_path / "s_objects.csv")
    assert (layer.GetName(), layer.GetFeatureCount(), layer.GetFIDColumn()) == ("s_objects", len(rows), "id")
    assert layer.GetSpatialRef().GetAuthorityCode(None) == "32633"
    assert layer.GetMetadataItem("class_1") == "#b5483a roof"
    for feature, row in zip(layer, rows, strict=True):
        assert feature.GetFID() == int(row["id"])
        assert feature.GetGeometryRef().GetPoint_2D() == (float(row["x"]), float(row["y"]))
        assert {name: str(value) for name, value in feature.items().items()} == {name: row[name] for name in row if name != "id"}
    np.testing.assert_allclose(numbers(rows, "x", "y"), numbers(rows, "col", "row") * (10, -10) + (5e5, 5e6))


def test_objects_of_a_map_without_georeference_are_read_as_marks_where_they_are(export, make_scene, tmp_path):
    labels = np.zeros((40, 50), np.uint8)
    labels[2:5, 7:9], labels[30, 40] = 1, 1
    export(write_map(tmp_path / "s.h5", labels), choice=Choice(("roof",)))
    scene = describe(str(make_scene(tmp_path / "s.tif", 40, 50, 1, transform=None, epsg=None)), "s")
    found = read_points(str(tmp_path / "s_objects.gpkg"), scene)
    assert list(zip(found.rows.tolist(), found.cols.tolist(), strict=True)) == [(3.5, 8.0), (30.5, 40.5)]


@pytest.mark.parametrize("code", [32633, 4326])
def test_ground_areas_add_up_to_those_of_the_classes(export, tmp_path, code):
    transform = (5e5, 10.0, 0.0, 5e6, 0.0, -10.0) if code == 32633 else (-30.0, 0.01, 0.0, 75.0, 0.0, -0.01)
    path = write_map(tmp_path / "s.h5", random_labels(), place=place(code, transform))
    export(path)
    rows = table(tmp_path / "s_objects.csv")
    for name, share in class_shares(path).items():
        areas = numbers([row for row in rows if row["name"] == name], "area_px", "area_m2").sum(0)
        assert areas[0] == share.pixels
        assert areas[1] == pytest.approx(share.area_m2, rel=1e-9)


def test_files_are_the_same_for_any_tiles_and_threads(export, tmp_path):
    path = write_map(tmp_path / "s.h5", random_labels(2, (230, 250), 3), ("a", "b", "c"), place())
    every = [{"tile": 64}, {"tile": 100, "threads": 2}, {"tile": 1024}]
    found = [[each.read_bytes() for each in export(path, tmp_path, **settings)[0].files] for settings in every]
    assert [len(each) for each in found] == [3, 3, 3]
    assert found[0] == found[1] == found[2]
    assert [each.name for each in tmp_path.glob(".*")] == [], "scratch files are left"


def test_small_objects_are_left_out_and_the_others_keep_their_numbers(export, tmp_path):
    path = write_map(tmp_path / "s.h5", random_labels(), place=place())
    export(path)
    every = table(tmp_path / "s_objects.csv")
    for choice, large in (
        (Choice(min_area_px=20), lambda row: int(row["area_px"]) >= 20),
        (Choice(min_area_m2=2500.0), lambda row: float(row["area_m2"]) >= 2500),
    ):
        export(path, choice=choice)
        rows = table(tmp_path / "s_objects.csv")
        assert rows == [row for row in every if large(row)]
        assert 0 < len(rows) < len(every)


def test_the_mean_confidence_of_an_object_is_told(export, tmp_path):
    labels = np.zeros((20, 30), np.uint8)
    labels[5:9, 5:9] = 1
    path, layout = tmp_path / "s.h5", store.Layout(Grid(20, 30, 20, 0), 20, ("labels", "confidence"))
    classes = '[{"name": "ground", "color": "#dfe6d8"}, {"name": "roof", "color": "#b5483a"}]'
    store.create(path, layout, {"core": 20, "halo": 0}, {"classes": classes}, Georeference())
    with h5py.File(path, "r+") as file:
        file["labels"][:], file["confidence"][:] = labels, 127
        file["confidence"][6, 7] = 254
        file["tiles/status"][:] = 1
    export(path, choice=Choice(("roof",)))
    assert numbers(table(tmp_path / "s_objects.csv"), "confidence", "area_px").tolist() == [[(15 * 127 + 254) / (16 * 254), 16.0]]


@pytest.mark.parametrize(("labels", "choice"), [
    (np.full((70, 90), 255, np.uint8), Choice()),
    (np.zeros((70, 90), np.uint8), Choice(("roof",))),
    (random_labels(0, (70, 90)), Choice(min_area_px=10**6)),
])  # fmt: skip
def test_no_objects_make_empty_files_and_a_clear_word(export, tmp_path, labels, choice):
    (found,) = export(write_map(tmp_path / "s.h5", labels, place=place()), choice=choice)
    assert found.notes == ("no objects: the files are valid and empty",)
    assert table(tmp_path / "s_objects.csv") == []
    source = ogr.Open(str(tmp_path / "s_objects.gpkg"))
    assert source.GetLayer(0).GetFeatureCount() == 0
    assert (tmp_path / "s_objects.png").stat().st_size > 1000


def test_maps_that_do_not_fit_are_named_and_the_others_written(export, tmp_path):
    good = write_map(tmp_path / "good.h5", random_labels(), place=place())
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    others = [tmp_path / "broken.h5", write_map(tmp_path / "other.h5", random_labels(), ("ice", "water"), place())]
    nowhere = write_map(tmp_path / "nowhere.h5", random_labels())
    first, *rest = export([good, *others, nowhere], choice=Choice(("roof",), 100.0))
    assert first.files
    assert not first.problem
    reasons = "is not a prediction file", "has no class roof; wanted some of ice, water", "--min-area-px"
    for each, wanted in zip(rest, reasons, strict=True):
        assert not each.files
        assert wanted in each.problem
    with pytest.raises(UsageError, match="broken"):
        export(others, choice=Choice(("roof",)))


def test_a_label_without_a_name_is_an_error_of_that_map(export, tmp_path):
    (found,) = export(write_map(tmp_path / "s.h5", np.full((70, 90), 7, np.uint8)))
    assert "label 7, but the legend names 2 classes" in found.problem
    assert not list(tmp_path.glob("*objects*"))


def test_the_melt_lake_chip_has_its_ponds(alone, export, data, tmp_path):
    folder = data / "sea_ice/s2_melt_lakes"
    scene = "+".join(str(folder / f"S2_22WEV_20190723_{band}.tif") for band in ("B02_blue", "B04_red"))
    label(alone, index_teacher("pond", 3, 0.25), LabelOptions((scene,), out=tmp_path, core=192), threading.Event())
    (path,) = tmp_path.glob("*.h5")
    (found,) = export(path, None, Choice(("pond",)), tile=256)
    assert found.notes == ("pond: 85 objects, 14,575 px",)
    with (folder / "pond_measurements.csv").open() as file:
        wanted = sorted((float(row["area"]), float(row["centroid_row"]), float(row["centroid_col"])) for row in csv.DictReader(file))
    rows = numbers(table(tmp_path / f"{path.stem}_objects.csv"), "area_px", "row", "col") - (0, 0.5, 0.5)
    np.testing.assert_allclose(sorted(map(tuple, rows)), wanted, atol=1e-6)
    (found,) = export(path, None, Choice(("pond",), 500.0), tile=256)
    assert found.notes[0].startswith("pond: 55 objects")
