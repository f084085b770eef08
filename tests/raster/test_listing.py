"""From what people type to scenes: files, globs, folders, STAC, and manifests with their columns."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from osgeo import gdal, ogr

from hpcseg.errors import UsageError
from hpcseg.raster import Entry, list_scenes


@pytest.fixture
def folder(make_scene, tmp_path):
    for name in ("b.tif", "a.TIF", "c.png"):
        make_scene(tmp_path / name, 4, 4, 1)
    (tmp_path / "notes.md").write_text("no raster")
    return tmp_path


def names(entries):
    return [entry.name for entry in entries]


def test_a_file_is_named_by_its_stem():
    assert list_scenes(["some/where/S2.B04.tif"]) == [Entry("S2.B04", ("some/where/S2.B04.tif",))]
    assert names(list_scenes(["/vsizip/x.zip/scene"])) == ["scene"]


def test_a_folder_means_its_rasters_by_name(folder):
    assert names(list_scenes([str(folder)])) == ["a", "b", "c"]


def test_what_hpcseg_made_beside_its_maps_is_no_scene(folder):
    for name, key in (("b.tif", "TIFFTAG_SOFTWARE"), ("c.png", "Software")):
        dataset = gdal.Open(str(folder / name), gdal.GA_Update)
        dataset.SetMetadataItem(key, "hpcseg 1.0")
        dataset.FlushCache()
    assert names(list_scenes([str(folder)])) == ["a", "b", "c"]
    (folder / "run.json").write_text("{}")
    (folder / "d.tif").write_bytes(b"broken")
    assert names(list_scenes([str(folder)])) == ["a", "d"]
    assert names(list_scenes([str(folder / "b.tif")])) == ["b"]


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


def manifest_of(tmp_path, text, name="scenes.csv"):
    (tmp_path / name).write_text(text)
    return list_scenes([str(tmp_path / name)])


def test_all_other_columns_of_a_manifest_come_with_its_scenes(tmp_path):
    rows = 'a.tif,north,2019-07-23,"Sound, inner",train\nb.tif,,2020-01-02,,\n'
    first, second = manifest_of(tmp_path, f"scene,id,date,region,split\n{rows}")
    assert first.columns == {"date": "2019-07-23", "region": "Sound, inner", "split": "train"}
    assert second.columns == {"date": "2020-01-02"}
    assert list_scenes(["a.tif"])[0].columns == {}


def test_paths_in_columns_are_relative_to_the_manifest_and_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("m").mkdir()
    columns = "label,before,mask,aoi,note"
    (entry,) = manifest_of(Path("m"), f"scene,{columns}\na.tif,../t/a.tif,x.tif+y.tif,/vsizip/m.zip/m.tif,/far/aoi.gpkg,a/b\n")
    assert entry.parts == ("m/a.tif",)
    assert entry.columns == {
        "label": str(tmp_path / "t" / "a.tif"),
        "before": f"{tmp_path / 'm' / 'x.tif'}+{tmp_path / 'm' / 'y.tif'}",
        "mask": "/vsizip/m.zip/m.tif",
        "aoi": "/far/aoi.gpkg",
        "note": "a/b",
    }


def test_why_a_scene_failed_before_does_not_travel(tmp_path):
    assert manifest_of(tmp_path, "scene,reason,date\na.tif,gone,2019\n")[0].columns == {"date": "2019"}


def test_an_entry_is_hashed_pickled_and_compared_with_its_columns(tmp_path):
    (entry,) = manifest_of(tmp_path, "scene,date\na.tif,2019\n")
    assert pickle.loads(pickle.dumps(entry)) == entry
    assert hash(entry) == hash(Entry(entry.name, entry.parts, entry.columns))
    assert entry != Entry(entry.name, entry.parts)


def test_a_source_means_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (entry,) = list_scenes(["x/absent.tif+/vsizip/z.zip/b.tif"])
    assert entry.source == f"{tmp_path / 'x' / 'absent.tif'}+/vsizip/z.zip/b.tif"


def test_a_file_of_a_manifest_may_have_a_plus_in_its_name(make_scene, tmp_path):
    path = str(make_scene(tmp_path / "a+b.tif", 4, 4))
    assert manifest_of(tmp_path, "scene\na+b.tif\n") == [Entry("a+b", (path,))]


def test_a_spreadsheet_s_byte_order_mark_and_spaces_do_not_matter(tmp_path):
    (tmp_path / "s.csv").write_bytes("\ufeffscene, date \na.tif, 2019\n".encode())
    (entry,) = list_scenes([str(tmp_path / "s.csv")])
    assert (entry.name, entry.columns) == ("a", {"date": "2019"})


def test_a_column_without_a_name_is_left_out(tmp_path):
    assert manifest_of(tmp_path, ",scene,date\n0,a.tif,2019\n")[0].columns == {"date": "2019"}


def test_a_row_with_more_cells_than_columns_is_refused_by_its_place(tmp_path):
    with pytest.raises(UsageError, match=r"scenes\.csv, row 2: more cells than the 2 columns: .*quotes"):
        manifest_of(tmp_path, "scene,region\na.tif,x\nb.tif,Sound, inner\n")


def test_a_manifest_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "s.csv").write_bytes(b"scene\n\xff\xfe\xfa.tif\n")
    with pytest.raises(UsageError, match=r"s\.csv: .*decode"):
        list_scenes([str(tmp_path / "s.csv")])


def test_a_geopackage_gives_columns_with_dates_as_year_month_day(tmp_path):
    source = ogr.GetDriverByName("GPKG").CreateDataSource(str(tmp_path / "s.gpkg"))
    layer = source.CreateLayer("scenes", None, ogr.wkbNone)
    for name, kind in (("scene", ogr.OFTString), ("date", ogr.OFTDate), ("cloud", ogr.OFTReal), ("mask", ogr.OFTString)):
        layer.CreateField(ogr.FieldDefn(name, kind))
    feature = ogr.Feature(layer.GetLayerDefn())
    feature["scene"], feature["date"], feature["cloud"] = "x/a.tif", "2019/07/23", 0.5
    layer.CreateFeature(feature)
    source = layer = None
    (entry,) = list_scenes([str(tmp_path / "s.gpkg")])
    assert entry == Entry("a", (str(tmp_path / "x" / "a.tif"),), {"date": "2019-07-23", "cloud": "0.5"})


@pytest.mark.parametrize(
    ("told", "columns"),
    [
        ({"datetime": "2019-07-23T10:00:00Z", "eo:cloud_cover": 3}, {"date": "2019-07-23T10:00:00Z"}),
        ({"datetime": None, "start_datetime": "2019-07-01T00:00:00Z"}, {"date": "2019-07-01T00:00:00Z"}),
        ({}, {}),
    ],
)
def test_a_stac_item_gives_its_date(tmp_path, told, columns):
    write_item(tmp_path / "S2A.json", told, red=("B04.tif", ["data"]))
    assert list_scenes([str(tmp_path / "S2A.json")])[0].columns == columns


def write_item(path, properties=None, **assets):
    content = {
        "type": "Feature",
        "id": path.stem,
        "links": [],
        "properties": properties,
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
