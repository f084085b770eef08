"""hpcseg label: what its command line takes, and what it refuses in one line."""

from __future__ import annotations

import pytest


def test_a_teacher_labels_and_says_what_it_saw(hpcseg, make_scene, tmp_path):
    scene = make_scene(tmp_path / "a.tif", 100, 120)
    code, out, _ = hpcseg("label", "ice", scene, "--out", tmp_path / "o", "--filter", "none")
    assert code == 0
    assert out.startswith("a: open water ")
    assert "tiles=1 of 1" in out
    assert (tmp_path / "o" / "a.h5").exists()


def test_bands_may_come_from_several_files(hpcseg, make_scene, tmp_path):
    one, two = (make_scene(tmp_path / f"{k}.tif", 60, 60, 1, seed=k) for k in (1, 2))
    code, out, _ = hpcseg("label", "index", f"{one}+{two}", "--out", tmp_path / "o", "--above", "0.1", "--bands", "2,1", "--name", "water")
    assert (code, "water " in out) == (0, True)


def test_a_manifest_with_scenes_before_makes_a_map_of_floods(hpcseg, make_scene, tmp_path):
    for name, seed in (("after", 1), ("before", 2)):
        make_scene(tmp_path / f"{name}.tif", 60, 60, 1, seed=seed)
    (tmp_path / "m.csv").write_text("scene,before\nafter.tif,before.tif\n")
    code, out, _ = hpcseg("label", "water", tmp_path / "m.csv", "--scale", "db", "--fallback", "100", "--out", tmp_path / "o")
    assert (code, "permanent " in out, "flood " in out) == (0, True, True)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("ice", "a.tif"), ["--out"]),
        (("ice", "a.tif", "--out", "o", "--water", "300"), ["--water", "300"]),
        (("ice", "a.tif", "--out", "o", "--water", "210"), ["--water 210 and --thick 205"]),
        (("ice", "a.tif", "--out", "o", "--stretch", "7"), ["--stretch 7", "LOW,HIGH"]),
        (("ice", "a.tif", "--out", "o", "--stretch", "9,7"), ["--stretch 9,7", "LOW below HIGH"]),
        (("ice", "a.tif", "--out", "o", "--filter", "some"), ["--filter", "some", "none"]),
        (("ice", "{tif}", "--out", "{out}", "--mask", "absent.tif:zero"), ["--mask absent.tif:zero", "transparent"]),
        (("index", "a.tif", "--out", "o"), ["--above"]),
        (("index", "a.tif", "--out", "o", "--above", "0", "--median", "4"), ["--median 4", "odd"]),
        (("water", "a.tif", "--out", "o"), ["--scale", "amplitude", "power", "db"]),
        (("water", "{tif}", "--out", "{out}", "--scale", "db", "--core", "300"), ["--core 300", "256"]),
        (("water", "{tif}", "--out", "{out}", "--scale", "db", "--looks", "0"), ["--looks 0", "more than 0"]),
        (("water", "{tif}", "--out", "{out}", "--scale", "db", "--before", "absent.csv"), ["absent.csv"]),
        (("snow", "a.tif"), ["snow"]),
        (("index", "absent.txt", "--out", "{out}", "--above", "0"), ["absent.txt"]),
    ],
    ids=lambda value: "-".join(value[:1] + value[-2:]) if isinstance(value, tuple) else None,
)
def test_wrong_use_is_one_line_that_names_it(hpcseg, make_scene, tmp_path, words, named):
    scene = make_scene(tmp_path / "a.tif", 50, 50)
    code, _, text = hpcseg("label", *(word.format(tif=scene, out=tmp_path / "o") for word in words))
    assert code == 2, text
    assert text.count("\n") == 1
    assert all(part in text for part in named), text
