"""hpcseg count with a model that labels pixels: its connected patches are told as a detector's points are."""

from __future__ import annotations

import csv
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
from detectors import write_detector, write_labeller
from osgeo import gdal, ogr
from whole import by_scipy, random_labels

from hpcseg.errors import UsageError
from hpcseg.inference.options import Options
from hpcseg.inference.route import open_route
from hpcseg.objects.count import count
from hpcseg.objects.search import Choice

BRIGHT, DIM, GROUND = 250, 160, 10
SURE, LIKELY = (1 / (1 + math.exp(-(value - 127) / 20)) for value in (BRIGHT, DIM))
NO_SHEET = Choice(sheet=0, tile=64)
PLACE = {"transform": (5e5, 2.0, 0.0, 5e6, 0.0, -2.0), "nodata": 0}


@pytest.fixture(scope="module")
def labels():
    return random_labels(3, (180, 150))


@pytest.fixture
def scene(make_scene, tmp_path, labels):
    """Patches of class 1, bright in the upper half and dim in the lower; no data where the labels have none."""
    value = np.where(np.arange(180)[:, None] < 90, BRIGHT, DIM)
    pixels = np.where(labels == 255, 0, np.where(labels == 1, value, GROUND))
    return str(make_scene(tmp_path / "ice.tif", 180, 150, 1, pixels=pixels[None], **PLACE))


@pytest.fixture
def run(alone, tmp_path):
    """run(scenes, choice, kinds, **options) counts with a model of classes."""

    def call(scenes, choice=NO_SHEET, kinds=1, **options):
        model = tmp_path / f"model{kinds}"
        if not model.exists():
            write_labeller(model, kinds)
        chosen = Options(tuple(scenes), model=str(model), out=tmp_path / "out", **({"core": 64, "precision": "fp32"} | options))
        return count(alone, chosen, choice, threading.Event(), open_route)

    return call


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def numbers(rows, *names):
    return np.array([[float(row[name]) for name in names] for row in rows]).reshape(-1, len(names))


def test_patches_are_scipy_s_with_area_size_and_mean_confidence(scene, run, tmp_path, labels):
    told = run([scene])
    rows, wanted = table(tmp_path / "out/points.csv"), by_scipy(labels, 8, 1)
    assert len(rows) > 50
    np.testing.assert_allclose(numbers(rows, "area_px", "row", "col"), wanted[:, :3], rtol=0, atol=1e-9)
    area, size = numbers(rows, "area_m2", "size").T
    np.testing.assert_allclose(area, 4 * wanted[:, 0], rtol=2e-3)
    np.testing.assert_allclose(np.pi * size**2 / 4, area)
    np.testing.assert_allclose(numbers(rows, "x", "y"), numbers(rows, "col", "row") * (2, -2) + (5e5, 5e6))
    sure = wanted[:, 3] + wanted[:, 5] <= 90
    scores = numbers(rows, "score")[:, 0]
    np.testing.assert_allclose(scores[sure], SURE, atol=3e-3)
    np.testing.assert_allclose(scores[wanted[:, 3] >= 90], LIKELY, atol=3e-3)
    assert {(row["scene"], row["class"]) for row in rows} == {("ice", "seal")}
    assert told.lines == [f"seal: {len(rows):,} objects, score_sum {scores.sum():,.1f}"]
    (row,) = table(tmp_path / "out/counts.csv")
    assert (row["objects"], float(row["score_sum"])) == (str(len(rows)), pytest.approx(scores.sum(), abs=0.01))
    assert ogr.Open(str(tmp_path / "out/points.gpkg")).GetLayer(0).GetFeatureCount() == len(rows)


def test_files_are_the_same_for_any_tiles_and_threads(scene, run, tmp_path):
    told = run([scene], Choice(density=30, tile=64))
    before = {path: path.read_bytes() for path in told.files}
    assert [path.name for path in before] == ["points.gpkg", "points.csv", "counts.csv", "ice_density.tif", "sheet.png"]
    again = run([scene], Choice(density=30, tile=1024), threads=2)
    assert again.summary.ranks[0].tiles == 0
    assert {path: path.read_bytes() for path in again.files} == before
    assert not list((tmp_path / "out").glob(".*")), "scratch files are left"


def test_density_counts_centres_and_knows_where_nothing_was_seen(scene, run, tmp_path, labels):
    run([scene], replace(NO_SHEET, density=40))
    cells = gdal.Open(str(tmp_path / "out/ice_density.tif")).ReadAsArray()
    found, wanted = by_scipy(labels, 8, 1), np.zeros((9, 8), np.int64)
    np.add.at(wanted, tuple((found[:, 1:3] // 20).astype(int).T), 1)
    seen = np.add.reduceat(np.add.reduceat(labels != 255, np.arange(0, 180, 20), 0), np.arange(0, 150, 20), 1) > 0
    np.testing.assert_array_equal(cells, np.where(seen | (wanted > 0), wanted, 2**32 - 1))


def test_unsure_and_small_patches_do_not_count(scene, run, tmp_path):
    run([scene])
    every = table(tmp_path / "out/points.csv")
    for choice, counts in (
        (replace(NO_SHEET, threshold=0.95), lambda row: float(row["score"]) >= 0.95),
        (replace(NO_SHEET, min_area=100.0), lambda row: float(row["area_m2"]) >= 100),
    ):
        run([scene], choice)
        rows = table(tmp_path / "out/points.csv")
        assert 0 < len(rows) < len(every)
        assert [row["row"] for row in rows] == [row["row"] for row in every if counts(row)]
    told = run([scene], Choice(threshold=1.0))
    assert told.lines[-1].startswith(f"no objects: the highest score is {round(254 * SURE) / 254:.3f}, the threshold 1.000")
    assert run([scene], Choice(min_area=1e9)).lines[-1].startswith("no objects: none is large enough")
    assert table(tmp_path / "out/points.csv") == []


def test_classes_are_chosen_and_told_apart(make_scene, run, tmp_path):
    pixels = np.full((2, 60, 70), GROUND)
    pixels[0, 5:9, 5:9] = pixels[1, 30:33, 30:40] = pixels[1, 50, 5] = BRIGHT
    scene = str(make_scene(tmp_path / "two.tif", 60, 70, 2, pixels=pixels, transform=None, epsg=None))
    run([scene], kinds=2)
    assert [(row["class"], row["objects"]) for row in table(tmp_path / "out/counts.csv")] == [("seal", "1"), ("bear", "2")]
    run([scene], replace(NO_SHEET, classes=("ground", "bear"), pixel_size=0.5), kinds=2)
    rows = table(tmp_path / "out/points.csv")
    assert [(row["class"], row["area_px"]) for row in rows] == [("ground", str(60 * 70 - 16 - 31)), ("bear", "30"), ("bear", "1")]
    assert [float(row["area_m2"]) for row in rows[1:]] == [30 * 0.25, 0.25]


def test_scenes_that_do_not_say_where_they_lie_tell_areas_in_pixels_alone(make_scene, run, tmp_path):
    pixels = np.full((1, 40, 40), GROUND)
    pixels[0, 5:9, 5:9] = BRIGHT
    scene = str(make_scene(tmp_path / "bare.tif", 40, 40, 1, pixels=pixels, transform=None, epsg=None))
    with pytest.raises(UsageError, match="bare does not say where on the Earth it lies: give --pixel-size"):
        run([scene], Choice(min_area=3.0))
    assert not list(tmp_path.glob("out/*.h5")), "refused before anything is mapped"
    run([scene], replace(NO_SHEET, density=10))
    (row,) = table(tmp_path / "out/points.csv")
    assert (row["area_px"], row["area_m2"], row["size"]) == ("16", "", "")
    assert gdal.Open(str(tmp_path / "out/bare_density.tif")).ReadAsArray().tolist()[0] == [1, 0, 0, 0]


def test_a_scene_without_patches_gives_empty_files_and_a_word(make_scene, run, tmp_path):
    scene = str(make_scene(tmp_path / "s.tif", 40, 40, 1, pixels=np.full((1, 40, 40), GROUND)))
    assert run([scene]).lines == ["seal: 0 objects, score_sum 0.0", "no objects: nothing is labelled seal; the files are valid and empty"]
    assert table(tmp_path / "out/counts.csv")[0]["objects"] == "0"
    assert ogr.Open(str(tmp_path / "out/points.gpkg")).GetLayer(0).GetFeatureCount() == 0


def test_choices_that_do_not_fit_the_model_are_refused(scene, run, alone, tmp_path):
    with pytest.raises(UsageError, match=r"--distance: model .* labels pixels, wanted a detector"):
        run([scene], Choice(distance=2.0))
    with pytest.raises(UsageError, match="--classes roof: wanted some of ground, seal"):
        run([scene], Choice(classes=("roof",)))
    detector = Options((scene,), model=str(write_detector(tmp_path / "spots")), out=tmp_path / "out")
    for choice in (Choice(classes=("seal",)), Choice(min_area=1.0)):
        with pytest.raises(UsageError, match="is a detector, wanted one that labels pixels"):
            count(alone, detector, choice, threading.Event(), open_route)
    assert not (tmp_path / "out").exists()
