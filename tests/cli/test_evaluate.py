"""hpcseg evaluate: its options, what it prints and writes, and that ranks change nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from maps import blurred, patches, write_map
from mpi.launch import needs_mpirun, run

NUMBERS = {"a": (300, 400), "b": (1100, 700)}


@pytest.fixture
def folder(tmp_path, make_scene):
    """Two maps in maps/, their truth with 0, 200 and 9 (unknown) in truth/, their scenes in scenes/."""
    for seed, (name, size) in enumerate(NUMBERS.items()):
        truth = patches(*size, seed=seed)
        values = np.where(truth == 255, 9, truth * 200)
        make_scene(tmp_path / "truth" / f"{name}_mask.tif", *size, 1, pixels=values[None], transform=None, epsg=None)
        make_scene(tmp_path / "scenes" / f"{name}.tif", *size, 3, transform=None, epsg=None)
        write_map(tmp_path / "maps" / f"{name}.h5", blurred(truth, seed=seed))
    return tmp_path


MAP = "0=ground,200=roof,9=ignore"


def values(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and " " not in line.split("=", 1)[0])


def test_figures_are_printed_and_written(hpcseg, folder):
    code, out, error = hpcseg("evaluate", folder / "maps", "--labels", folder / "truth", "--classes-map", MAP)
    assert (code, error) == (0, "")
    report, lines = json.loads((folder / "maps" / "evaluation.json").read_text()), values(out)
    assert float(lines["f1_roof"]) == pytest.approx(report["pooled"]["classes"][1]["f1"], abs=1e-6)
    assert lines["scenes"] == "2"
    assert "mean per scene" in out
    assert f"{report['confusion'][1][0]:,}" in out


@pytest.mark.parametrize("way", ["file", "table", "list"])
def test_what_labels_mean_comes_from_a_file_or_the_configuration_too(hpcseg, folder, way):
    pairs = {"0": "ground", "200": 1, "9": "ignore"}
    inline = ", ".join(f'"{key}" = {json.dumps(value)}' for key, value in pairs.items())
    (folder / "train.toml").write_text(f"epochs = 3\n[labels]\nmap = {{{inline}}}\n")
    (folder / "run.toml").write_text(f"classes-map = {{{inline}}}\n" if way == "table" else f'classes-map = "{MAP}"\n')
    words = ("--classes-map", folder / "train.toml") if way == "file" else ("--config", folder / "run.toml")
    hpcseg("evaluate", folder / "maps", "--labels", folder / "truth", "--classes-map", MAP, "--json", folder / "wanted.json")
    code, _, error = hpcseg("evaluate", folder / "maps", "--labels", folder / "truth", *words, "--json", folder / "found.json")
    assert (code, error) == (0, "")
    assert (folder / "found.json").read_text() == (folder / "wanted.json").read_text()


def test_flags_complete_the_specification(hpcseg, folder):
    words = (folder / "maps", "--labels", folder / "truth", "--classes-map", "0=ground,200=roof")
    assert hpcseg("evaluate", *words)[0] == 2
    assert hpcseg("evaluate", *words, "--ignore", "9")[0] == 0


def test_pictures_stand_beside_the_maps(hpcseg, folder):
    words = ("--classes-map", MAP, "--png", "--png-scenes", 1, "--scenes", folder / "scenes", "--border", 2)
    code, out, _ = hpcseg("evaluate", folder / "maps", "--labels", folder / "truth", *words)
    assert code == 0
    assert [path.name for path in folder.rglob("*.png")] == ["a_evaluation.png"]
    assert "wrote" in out
    assert "without its scene" not in out


def test_a_map_that_cannot_be_judged_is_named_with_exit_code_3(hpcseg, folder, make_scene):
    make_scene(folder / "truth" / "b_mask.tif", 1100, 701, 1, pixels=np.zeros((1, 1100, 701)), transform=None, epsg=None)
    code, out, _ = hpcseg("evaluate", folder / "maps", "--labels", folder / "truth", "--classes-map", MAP)
    assert code == 3
    assert "skipped b: " in out
    assert "1100x701" in out
    assert (values(out)["scenes"], values(out)["refused_scenes"]) == ("1", "1")
    assert json.loads((folder / "maps" / "evaluation.json").read_text())["refused"][0]["name"] == "b"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--classes-map", "0:ground"), "VALUE=CLASS"),
        (("--classes-map", "0=tree"), "tree"),
        (("--classes-map", "absent.toml"), "absent.toml"),
        (("--border", "-1"), "--border"),
        (("--border", "big"), "big"),
        (("--ignore", "x"), "--ignore"),
        (("--json", "/absent/a.json"), "--json"),
        (("--labels", "absent"), "absent"),
        (("--png", "--scenes", "absent/*.tif"), "absent/*.tif"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_use_is_one_line_that_names_it(hpcseg, folder, words, named):
    code, out, error = hpcseg("evaluate", folder / "maps", "--labels", folder / "truth", *words)
    assert (code, out) == (2, "")
    assert error.startswith("hpcseg: ")
    assert error.count("\n") == 1
    assert named in error
    assert not list(folder.rglob("*.json"))


def test_without_labels_it_is_said_what_to_give(hpcseg, folder):
    code, _, error = hpcseg("evaluate", folder / "maps")
    assert code == 2
    assert "no scene has labels" in error


@pytest.mark.mpi
@needs_mpirun
@pytest.mark.parametrize("ranks", [3, pytest.param(2, marks=pytest.mark.long)])
def test_the_report_is_the_same_for_one_rank_and(ranks, hpcseg, folder):
    words = (folder / "maps", "--labels", folder / "truth", "--classes-map", MAP, "--border", 3, "--block", 200)
    assert hpcseg("evaluate", *words, "--json", folder / "one.json")[0] == 0
    result = run(ranks, "evaluate", *words, "--json", folder / "many.json", "--png")
    assert (folder / "one.json").read_bytes() == (folder / "many.json").read_bytes()
    assert len(list(folder.glob("*_evaluation.png"))) == 2
    assert result.stdout.count("mean_iou=") == 1
