"""Counted objects against marked ones: the command, its figures, and what it refuses."""

from __future__ import annotations

import csv
import json

import h5py
import numpy as np
import pytest
from maps import write_map
from matplotlib import image

from hpcseg import store
from hpcseg.georeference import Georeference
from hpcseg.raster.write import epsg_wkt
from hpcseg.tiles import Grid

PLACE = Georeference(wkt=epsg_wkt(32633), transform=(500000.0, 2.0, 0.0, 5000000.0, 0.0, -2.0), axes="projected")
NAMES = ("seal", "gull")


def write_table(path, columns, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n")


def write_heat(path, heat, place=None, names=NAMES):
    """A map of heat, the same of all kinds, in tiles of 64 pixels."""
    layout = store.Layout(Grid(*heat.shape, 64, 0), 64, store.heat_planes(len(names)))
    classes = [{"name": name, "color": "#b5483a"} for name in names]
    path.parent.mkdir(exist_ok=True)
    store.create(path, layout, {"core": 64, "halo": 0}, {"classes": json.dumps(classes)}, place or Georeference())
    with h5py.File(path, "r+") as file:
        for plane in layout.planes:
            file[plane][:] = heat
        file["tiles/status"][:] = store.DONE


@pytest.fixture
def folder(tmp_path):
    """Two maps with points.csv: in a, on the ground, three of four seals and a false one; in b, in pixels, one gull 3 pixels away."""
    write_heat(tmp_path / "maps" / "a.h5", np.zeros((100, 120), np.uint8), PLACE)
    write_heat(tmp_path / "maps" / "b.h5", np.zeros((80, 80), np.uint8))
    counted = [("a", "seal", 0.9, 10.5, 10.5), ("a", "seal", 0.8, 50.5, 60.5), ("a", "seal", 0.3, 90.5, 100.5),
               ("a", "seal", 0.2, 20.5, 90.5), ("b", "gull", 0.7, 40.5, 43.5)]  # fmt: skip
    on_ground = [(k, *row, *_place(*row)) for k, row in enumerate(counted)]
    write_table(tmp_path / "maps" / "points.csv", "id,scene,class,score,row,col,x,y", on_ground)
    marked = [(r, c, "seal") for r, c in ((10.5, 10.5), (50.5, 61.0), (90.5, 100.0), (5.5, 60.5))]
    write_table(tmp_path / "marks" / "a.csv", "row,col,label", marked)
    write_table(tmp_path / "marks" / "b.csv", "row,col,label", [(40.5, 40.5, "gull"), (400, 40, "gull")])
    return tmp_path


def _place(scene, _, __, row, col):
    return (500000 + 2 * col, 5000000 - 2 * row) if scene == "a" else (col, -row)


def values(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and " " not in line)


def test_objects_are_matched_on_the_ground_by_scene_and_class(hpcseg, folder):
    code, out, error = hpcseg("evaluate", folder / "maps", "--points", folder / "marks", "--distance", "2,4")
    assert (code, error) == (0, "")
    assert values(out)["f1_within_2"] == f"{2 * 3 / (5 + 5):.4f}"
    assert values(out)["f1_within_4"] == f"{2 * 4 / (5 + 5):.4f}"
    assert f"{folder / 'marks' / 'b.csv'}: 1 of 2 points lie outside every scene" in out
    rows = list(csv.DictReader((folder / "maps" / "evaluation.csv").open(newline="")))
    found = {(row["scene"], row["class"], row["within"]): row for row in rows}
    assert [found["a", "seal", "2.0"][key] for key in ("there", "found", "matched")] == ["4", "4", "3"]
    assert [found["b", "gull", "4.0"][key] for key in ("there", "found", "matched")] == ["1", "1", "1"]
    assert found["a", "gull", "2.0"]["count_error"] == ""


def test_marks_on_no_data_are_left_out_but_not_in_tiles_that_were_not_mapped(hpcseg, folder):
    heat = np.zeros((100, 120), np.uint8)
    heat[80:, 90:] = heat[:10, 50:] = 255
    write_heat(folder / "maps" / "a.h5", heat, PLACE)
    with h5py.File(folder / "maps" / "a.h5", "r+") as file:
        file["tiles/status"][1, 1] = store.FAILED
    code, out, _ = hpcseg("evaluate", folder / "maps", "--points", folder / "marks", "--distance", "2")
    assert code == 0
    assert f"note: {folder / 'marks' / 'a.csv'}: 1 marks on no data of a left out" in out
    figures = json.loads((folder / "maps" / "evaluation.json").read_text())["figures"]
    assert [each["there"] for each in figures if (each["scene"], each["class"]) == ("a", "seal")] == [3]


def test_patches_of_the_one_class_beside_the_background_need_no_class_in_marks(hpcseg, tmp_path):
    write_map(tmp_path / "maps" / "a.h5", np.zeros((50, 60), np.uint8), ("ground", "roof"))
    write_table(tmp_path / "maps" / "points.csv", "id,scene,class,score,row,col,x,y", [(1, "a", "roof", 0.9, 10, 10, 10, -10)])
    write_table(tmp_path / "marks" / "a.csv", "row,col", [(11, 10)])
    _, out, _ = hpcseg("evaluate", tmp_path / "maps", "--points", tmp_path / "marks", "--distance", "2")
    assert values(out)["f1_within_2"] == "1.0000"


def test_pixels_of_scenes_without_a_place_have_the_size_that_is_told(hpcseg, folder):
    _, out, _ = hpcseg("evaluate", folder / "maps", "--points", folder / "marks", "--distance", "2", "--pixel-size", "0.5")
    assert values(out)["f1_within_2"] == f"{2 * 4 / (5 + 5):.4f}"


def test_all_figures_and_the_curve_are_written(hpcseg, folder, tmp_path):
    path = tmp_path / "verdict.json"
    hpcseg("evaluate", folder / "maps", "--points", folder / "marks", "--distance", "2", "--json", path)
    report = json.loads(path.read_text())
    assert report["classes"] == list(NAMES)
    assert report["figures"][0]["matched"] == 3
    assert image.imread(path.with_suffix(".png")).shape[0] > 300


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--points", "marks"), "give --points PATH and --distance D"),
        (("--distance", "2"), "give --points PATH and --distance D"),
        (("--points", "marks", "--distance", "0"), "of more than 0"),
        (("--points", "marks", "--distance", "2", "--labels", "marks"), "without --labels"),
        (("--points", "absent", "--distance", "2"), "no labels at"),
    ],
)
def test_what_cannot_be_judged_is_said_in_a_line(hpcseg, folder, words, wanted, monkeypatch):
    monkeypatch.chdir(folder)
    code, _, error = hpcseg("evaluate", "maps", *words)
    assert (code, error.count("\n")) == (2, 1)
    assert wanted in error


def test_a_folder_without_counted_points_is_refused(hpcseg, folder):
    (folder / "maps" / "points.csv").unlink()
    code, _, error = hpcseg("evaluate", folder / "maps", "--points", folder / "marks", "--distance", "2")
    assert code == 2
    assert "no points.csv here: wanted the folder of hpcseg count" in error


def test_nothing_counted_is_a_verdict_too(hpcseg, folder):
    write_table(folder / "maps" / "points.csv", "id,scene,class,score,row,col,x,y", [])
    code, out, _ = hpcseg("evaluate", folder / "maps", "--points", folder / "marks", "--distance", "2")
    assert code == 0
    assert values(out)["f1_within_2"] == "0.0000"
    assert values(out)["count_error_within_2"] == "-1.0000"
