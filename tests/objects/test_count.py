"""hpcseg count: every object once, the same files however they are made, and a clear word where there is nothing."""

from __future__ import annotations

import csv
import math
import threading

import numpy as np
import pytest
from detectors import planted, write_detector
from osgeo import gdal, ogr

from hpcseg.errors import UsageError
from hpcseg.inference.options import Options
from hpcseg.inference.route import open_route
from hpcseg.objects.count import count
from hpcseg.objects.search import Choice
from hpcseg.products import export
from hpcseg.raster import describe, read_points

PLANTED = [(r, c) for r in (0, 63, 64 + 32, 128, 199) for c in (0, 31, 64, 127, 160, 229)]


@pytest.fixture
def scenes(make_scene, tmp_path):
    """A scene with planted points and one without any, both of 1 m."""
    place = {"transform": (5e5, 1.0, 0.0, 5e6, 0.0, -1.0), "nodata": 0}
    pixels = planted(200, 230, PLANTED)
    pixels[0, 150:, 200:225] = 0
    full = make_scene(tmp_path / "scenes/full.tif", 200, 230, 1, pixels=pixels, **place)
    bare = make_scene(tmp_path / "scenes/bare.tif", 90, 70, 1, pixels=np.full((1, 90, 70), 10), **place)
    return [str(full), str(bare)]


@pytest.fixture
def run(alone, tmp_path):
    """run(scenes, out, choice, spec, **options) counts with a detector of those keys of model.toml."""

    def call(scenes, out="out", choice=None, spec=None, **options):
        model = tmp_path / "model"
        if not model.exists():
            write_detector(model, **(spec or {}))
        chosen = Options(tuple(scenes), model=str(model), out=tmp_path / out, **({"core": 64, "precision": "fp32"} | options))
        return count(alone, chosen, choice or Choice(), threading.Event(), open_route)

    return call


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def pixels_of(path):
    return [(float(row["row"]), float(row["col"])) for row in table(path)]


def test_what_does_not_fit_is_refused_before_an_earlier_count_is_replaced(scenes, run, tmp_path):
    run(scenes)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UsageError, match=r"--density 0\.1: wanted cells no smaller than a pixel"):
        run(scenes, choice=Choice(density=0.1), overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(("core", "tile"), [(64, 32), (128, 1024)])
def test_points_on_tile_corners_and_edges_are_each_found_once(scenes, run, tmp_path, core, tile):
    told = run(scenes, choice=Choice(tile=tile), core=core)
    assert told.summary.exit_code == 0
    wanted = [(r + 0.5, c + 0.5) for r, c in PLANTED]
    assert pixels_of(tmp_path / "out/points.csv") == wanted
    first = table(tmp_path / "out/points.csv")[0]
    assert (first["scene"], first["class"], float(first["x"]), float(first["y"])) == ("full", "seal", 500000.5, 4999999.5)
    source = ogr.Open(str(tmp_path / "out/points.gpkg"))
    layer = source.GetLayer(0)
    assert (layer.GetName(), layer.GetFeatureCount()) == ("points", len(PLANTED))
    assert layer.GetSpatialRef().GetAuthorityCode(None) == "32633"


def test_files_are_the_same_for_any_tiles_and_threads(scenes, run, tmp_path):
    told = run(scenes, choice=Choice(density=30, tile=64))
    before = {path: path.read_bytes() for path in told.files}
    assert len(before) == 6
    for path in before:
        path.unlink()
    again = run(scenes, choice=Choice(density=30, tile=1024), threads=2)
    assert again.summary.ranks[0].tiles == 0
    assert {path: path.read_bytes() for path in again.files} == before


def test_counts_tell_scores_or_what_is_to_be_expected(scenes, run, tmp_path):
    told = run(scenes, choice=Choice(threshold=0.999))
    rows = {row["scene"]: row for row in table(tmp_path / "out/counts.csv")}
    assert [rows[name]["objects"] for name in ("full", "bare")] == ["0", "0"]
    assert float(rows["full"]["score_sum"]) == pytest.approx(len(PLANTED) * 253 / 254, abs=1e-3)
    assert any("no objects: the highest score is 0.996, the threshold 1.000" in line for line in told.lines)
    assert table(tmp_path / "out/points.csv") == []
    assert ogr.Open(str(tmp_path / "out/points.gpkg")).GetLayer(0).GetFeatureCount() == 0


def test_a_calibrated_model_says_how_many_to_expect(scenes, run, tmp_path):
    told = run(scenes, spec={"calibration": [0] * 100 + [123_456] * 100 + [750_001] * 55})
    rows = {row["scene"]: row for row in table(tmp_path / "out/counts.csv")}
    assert rows["full"]["expected"] == f"{len(PLANTED) * 750_001 / 1e6:.6f}"
    assert rows["bare"]["expected"] == "0.000000"
    assert told.lines == [f"seal: {len(PLANTED)} objects, expected {len(PLANTED) * 0.750001:.1f}"]


def test_density_counts_the_points_of_each_cell_and_knows_where_nothing_was_seen(scenes, run, tmp_path):
    run(scenes, choice=Choice(density=25))
    dataset = gdal.Open(str(tmp_path / "out/full_density.tif"))
    cells = dataset.ReadAsArray()
    wanted = np.zeros((8, 10), np.int64)
    np.add.at(wanted, tuple(np.transpose(PLANTED) // 25), 1)
    wanted[6:, 8] = 2**32 - 1
    np.testing.assert_array_equal(cells, wanted)
    assert dataset.GetGeoTransform() == (5e5, 25, 0, 5e6, 0, -25)
    assert dataset.GetRasterBand(1).GetNoDataValue() == 2**32 - 1
    assert dataset.GetMetadataItem("LAYOUT", "IMAGE_STRUCTURE") == "COG"


def test_lengths_are_on_the_ground(make_scene, run, tmp_path):
    pixels, spots = planted(60, 60, [(20, 20), (20, 24)]), [(20.5, 20.5), (20.5, 24.5)]
    near = str(make_scene(tmp_path / "near.tif", 60, 60, 1, pixels=pixels, transform=(5e5, 0.5, 0.0, 5e6, 0.0, -0.5)))
    bare = str(make_scene(tmp_path / "bare.tif", 60, 60, 1, pixels=pixels, transform=None, epsg=None))
    far = {"spec": {"resolution": 0.5, "sigma": 0.6}}
    run([near], **far)
    assert pixels_of(tmp_path / "out/points.csv") == spots
    run([near], choice=Choice(distance=2.1))
    assert pixels_of(tmp_path / "out/points.csv") == spots[:1]
    run([bare], "bare", Choice(distance=2.1))
    assert pixels_of(tmp_path / "bare/points.csv") == spots[:1]
    run([bare], "bare", Choice(distance=2.1, pixel_size=0.6))
    assert pixels_of(tmp_path / "bare/points.csv") == spots
    assert (float(table(tmp_path / "bare/points.csv")[1]["x"]), float(table(tmp_path / "bare/points.csv")[1]["y"])) == (24.5, -20.5)


def test_two_kinds_of_objects_are_counted_apart_and_systems_have_layers_of_their_own(make_scene, run, tmp_path):
    pixels = np.concatenate([planted(60, 60, [(9, 9), (30, 30)]), planted(60, 60, [(30, 30), (50, 10), (59, 59)])])
    files = [str(make_scene(tmp_path / f"{code}.tif", 60, 60, 2, pixels=pixels, epsg=code)) for code in (32633, 32634)]
    told = run(files, spec={"kinds": 2})
    rows = table(tmp_path / "out/counts.csv")
    assert [(row["scene"], row["class"], row["objects"]) for row in rows] == [
        (scene, *of) for scene in ("32633", "32634") for of in (("seal", "2"), ("bear", "3"))
    ]
    source = ogr.Open(str(tmp_path / "out/points.gpkg"))
    layers = [source.GetLayer(k) for k in range(source.GetLayerCount())]
    assert [(each.GetName(), each.GetSpatialRef().GetAuthorityCode(None), each.GetFeatureCount()) for each in layers] == [
        ("points_1", "32633", 5), ("points_2", "32634", 5),
    ]  # fmt: skip
    assert told.lines[1].startswith("bear: 6 objects")


def test_what_was_counted_is_read_as_marks_whatever_the_scenes_systems(make_scene, run, tmp_path):
    files = {"ground": {}, "bare": {"transform": None, "epsg": None}}
    paths = [str(make_scene(tmp_path / f"{name}.tif", 200, 230, 1, pixels=planted(200, 230, PLANTED), **of)) for name, of in files.items()]
    run(paths)
    for path, name in zip(paths, files, strict=True):
        for kind in ("gpkg", "csv"):
            found = read_points(str(tmp_path / f"out/points.{kind}"), describe(path, name), "class")
            np.testing.assert_allclose(np.column_stack([found.rows, found.cols]), np.add(PLANTED, 0.5), atol=1e-6)
            assert set(found.values) == {"seal"}


def test_a_folder_of_scenes_that_holds_what_was_counted_is_counted_again(scenes, run, tmp_path):
    for _ in range(2):
        assert run([str(tmp_path / "scenes")], "scenes", Choice(density=30)).summary.scenes == len(scenes)
    assert len(list((tmp_path / "scenes").glob("*.tif"))) == 2 * len(scenes)


def test_a_count_is_not_one_of_several_jobs(scenes, hpcseg, tmp_path, monkeypatch):
    words = ("count", *scenes, "--model", write_detector(tmp_path / "model"), "--out", tmp_path / "out")
    code, _, said = hpcseg(*words, "--part", "1/2")
    assert (code, "--part" in said) == (2, True)
    monkeypatch.setenv("HPCSEG_PART", "1/2")
    code, _, said = hpcseg(*words)
    assert (code, "HPCSEG_PART=1/2: a count tells of all its scenes together" in said) == (2, True)
    assert not (tmp_path / "out").exists()


def test_files_of_an_earlier_count_do_not_outlive_their_maps(scenes, run, tmp_path, monkeypatch):
    told = run(scenes, choice=Choice(density=30))
    other = tmp_path / "out/other_density.tif"
    other.write_bytes((tmp_path / "out/bare_density.tif").read_bytes())
    monkeypatch.setattr("hpcseg.objects.count.write_survey", lambda survey, pulse: ([], []))
    run(scenes)
    assert not [path for path in told.files if path.exists()]
    assert other.exists(), "of a scene that is not counted anew"


def test_rasters_of_other_makers_stay(scenes, run, make_scene, tmp_path):
    own = make_scene(tmp_path / "out/full_density.tif", 20, 20, 1)
    before = own.read_bytes()
    run(scenes)
    assert own.read_bytes() == before


def test_many_points_are_told_in_small_batches(scenes, run, tmp_path, monkeypatch):
    told = run(scenes, choice=Choice(density=30))
    before = {path: path.read_bytes() for path in told.files}
    monkeypatch.setattr("hpcseg.objects.found.BATCH", 7)
    assert {path: path.read_bytes() for path in run(scenes, choice=Choice(density=30)).files} == before


def test_the_sheet_shows_the_best(scenes, run, tmp_path):
    assert tmp_path / "out/sheet.png" in run(scenes, choice=Choice(sheet=7)).files
    assert gdal.Open(str(tmp_path / "out/sheet.png")).RasterCount >= 3
    assert tmp_path / "out/sheet.png" not in run(scenes, choice=Choice(sheet=0)).files
    assert not (tmp_path / "out/sheet.png").exists()


def test_a_scene_without_data_gives_empty_files_and_a_word(make_scene, run, tmp_path):
    empty = str(make_scene(tmp_path / "empty.tif", 70, 70, 1, pixels=np.zeros((1, 70, 70)), nodata=0))
    told = run([empty], choice=Choice(density=100))
    assert told.lines[-1] == "no objects: nowhere is there any heat; the files are valid and empty"
    assert table(tmp_path / "out/counts.csv")[0]["objects"] == "0"
    assert (gdal.Open(str(tmp_path / "out/empty_density.tif")).ReadAsArray() == 2**32 - 1).all()


def test_scenes_that_do_not_fit_leave_valid_files(make_scene, run, tmp_path):
    told = run([str(make_scene(tmp_path / "rgb.tif", 70, 70, 3))])
    assert told.summary.exit_code == 3
    assert told.lines[-1].startswith("no objects: no scene could be searched")
    assert table(tmp_path / "out/counts.csv") == []
    assert ogr.Open(str(tmp_path / "out/points.gpkg")).GetLayer(0).GetFeatureCount() == 0


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(distance=5000), "5000 pixels of full, wanted at most 1024"), (Choice(density=0.5), "cells no smaller than a pixel"),
        (Choice(density=math.nan), "--density nan: wanted a finite number"), (Choice(pixel_size=math.inf), "--pixel-size inf"),
        (Choice(threshold=math.nan), "--threshold nan"), (Choice(distance=math.inf), "--distance inf"),
    ],
)  # fmt: skip
def test_lengths_that_do_not_fit_are_refused_before_anything_is_mapped(scenes, run, tmp_path, choice, message):
    with pytest.raises(UsageError, match=message):
        run(scenes, choice=choice)
    assert not list(tmp_path.glob("out/*.h5"))


def test_a_map_of_heat_has_no_labels_to_export(scenes, run, tmp_path):
    run(scenes)
    with pytest.raises(UsageError, match="heat of a detector, not labels: hpcseg count"):
        export(tmp_path / "out/full.h5", "cog", tmp_path / "full.tif")
