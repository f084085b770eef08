"""What stands in run/: scripts that bash can read, settings that hpcseg train takes, and a recipe that runs from end to end."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mpi.launch import environment

from hpcseg.georeference import Georeference
from hpcseg.raster import create_geotiff
from hpcseg.synthetic import SarScene
from hpcseg.tiles import Window
from hpcseg.training.settings import read_settings

RUN = Path(__file__).resolve().parents[1] / "run"


def bash(*words, **more):
    """Run a script, with more variables in its environment; returns the finished process."""
    return subprocess.run(["bash", *map(str, words)], capture_output=True, text=True, timeout=900, env=environment(more))


@pytest.mark.parametrize("script", sorted(RUN.glob("*.sh")), ids=lambda path: path.name)
def test_bash_can_read(script):
    done = bash("-n", script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("config", sorted(RUN.glob("*.toml")), ids=lambda path: path.name)
def test_settings_want_nothing_but_scenes_labels_and_out(config, tmp_path):
    settings = read_settings(config, {"scenes": ["a.tif"], "labels": ["b.tif"], "out": str(tmp_path)})
    assert settings.names[0]
    assert settings.validation > 0, "something chooses the checkpoint"


def test_buildings_without_arguments_is_wrong_use():
    done = bash(RUN / "buildings.sh", "scene.tif")
    assert done.returncode == 2
    assert "wanted SCENE LABELS" in done.stderr


@pytest.mark.parametrize(("code", "calls"), [(75, ["--resample"]), (2, ["--resample", "--overwrite"])])
def test_buildings_resumes_a_map_unless_it_is_of_another_model(tmp_path, code, calls):
    launch = tmp_path / "launch"
    words = 'case "$*" in *train*) echo test_f1=0.5; exit ;; esac\n'
    words += f'echo "${{@: -1}}" >>{tmp_path}/calls; [ "${{@: -1}}" = --overwrite ] || exit {code}; exit 75'
    launch.write_text(f"#!/bin/bash\n{words}\n")
    launch.chmod(0o755)
    done = bash(RUN / "buildings.sh", "scene.tif", "truth.tif", tmp_path / "out", HPCSEG_LAUNCH=launch)
    assert done.returncode == 75, done.stderr
    assert (tmp_path / "calls").read_text().split() == calls


@pytest.fixture
def roofs(tmp_path, make_scene):
    """A small scene of bright squares, u16, and its truth: paths of both."""
    truth = np.kron(np.random.default_rng(3).random((8, 8)) < 0.4, np.ones((16, 16), bool))
    pixels = np.random.default_rng(4).integers(200, 300, (3, 128, 128)) + 400 * truth
    scene = make_scene(tmp_path / "scene.tif", 128, 128, dtype="uint16", pixels=pixels)
    return scene, make_scene(tmp_path / "truth.tif", 128, 128, 1, pixels=truth[None])


@pytest.mark.long
def test_buildings_trains_three_seeds_and_draws_the_map_of_the_median(roofs, tmp_path):
    out = tmp_path / "out"
    flags = ["--resolution", "0", "--tile", "16", "--block", "32", "--epochs", "2", "--threads", "1"]
    done = bash(RUN / "buildings.sh", *roofs, out, *flags)
    assert done.returncode == 0, done.stderr
    scores = {int(k): float(v) for k, v in re.findall(r"^seed_(\d)_test_f1=(\S+)$", done.stdout, re.MULTILINE)}
    assert sorted(scores) == [0, 1, 2]
    median = float(re.search(r"^median_test_f1=(\S+)$", done.stdout, re.MULTILINE)[1])
    assert median == sorted(scores.values())[1]
    assert scores[int(re.search(r"^median_seed=(\d)$", done.stdout, re.MULTILINE)[1])] == median
    assert (out / "maps" / "scene.h5").exists()
    assert (out / "maps" / "scene_evaluation.png").exists()


def figure(done, key):
    """The number of a line key=number ..."""
    return float(re.search(rf"^{key}=(\S+)", done.stdout, re.MULTILINE)[1])


@pytest.mark.long
def test_sea_ice_judges_teachers_and_their_students(tmp_path):
    out = tmp_path / "out"
    small = {"SEEDS": "1", "LEADS": "0 24", "SIZE": "256", "TRAIN_SEEDS": "101", "TRAIN_SIZE": "256"}
    small |= {"TRAIN_LEADS": "24 64", "MAPPED": "0 24"}
    flags = ["--tile", "128", "--epochs", "1", "--threads", "1"]
    done = bash(RUN / "sea_ice.sh", out, *flags, **small)
    assert done.returncode == 0, done.stderr
    assert figure(done, "published_narrow_clear") > 0.9
    assert figure(done, "default_over_none_clear_1") > -0.01
    rows = re.findall(r"^(?:plain|filtered) labels.* (?:original|filtered)((?: +[01]\.\d{4}){4})$", done.stdout, re.MULTILINE)
    assert len(rows) == 6, "three students, each on two kinds of pictures"
    assert list((out / "pictures").glob("*.png"))
    again = bash(RUN / "sea_ice.sh", out, *flags, **small)
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith(done.stdout[done.stdout.index("students on unseen") :])


@pytest.fixture
def flood(tmp_path):
    """A synthetic radar scene in dB before and during a flood, and its truth of 0 and 1: paths."""
    scene = SarScene(5, 0, 896, 896, water=0.2, flood=0.2, scale="db")
    whole = Window(0, 0, 896, 896)
    during, truth = scene.block(whole)
    paths = [tmp_path / name for name in ("before.tif", "after.tif", "truth.tif")]
    for path, values in zip(paths, (scene.before(whole), during, (truth > 0)[None].astype(np.uint8)), strict=True):
        with create_geotiff(path, values.shape, values.dtype.name, Georeference()) as put:
            put(whole, values)
    return paths


@pytest.mark.long
def test_water_judges_teacher_student_and_textures(flood, tmp_path):
    out = tmp_path / "out"
    small = {"SHARES": "0.3", "SEEDS": "11", "VALIDATION": "21", "UNSEEN": "1", "SIZE": "448", "REAL": "--scale db"}
    small |= {"FEATURES": "sd", "SPECTRAL": "15", "SPATIAL": "25"}
    done = bash(RUN / "water.sh", out, *flood, "--epochs", "1", "--threads", "1", **small)
    assert done.returncode == 0, done.stderr
    assert figure(done, "teacher") > 0.7
    assert figure(done, "real_teacher") > 0.7
    assert 0 <= figure(done, "student") <= 1
    assert re.search(r"^sd +spectral +15  spatial +25  [01]\.\d{4}$", done.stdout, re.MULTILINE)
    assert (out / "real" / "maps" / "after_evaluation.png").exists()


def test_water_without_truth_is_wrong_use(tmp_path):
    done = bash(RUN / "water.sh", tmp_path, "before.tif", "after.tif")
    assert done.returncode == 2
    assert "wanted [OUT] [BEFORE AFTER TRUTH]" in done.stderr


@pytest.mark.long
def test_gallery_sorts_kinds_that_it_was_not_told(tmp_path):
    out = tmp_path / "out"
    more = SarScene(8, 0, 256, 256, scale="db")
    with create_geotiff(tmp_path / "vv.tif", (1, 256, 256), "f4", Georeference()) as put:
        put(Window(0, 0, 256, 256), more.block(Window(0, 0, 256, 256))[0])
    small = {"SIZE": "512", "SEEDS": "1", "CELL": "64", "BUCKETS": "4"}
    scene = "+".join([str(tmp_path / "vv.tif")] * 3)
    done = bash(RUN / "gallery.sh", out, f"sar={scene}", "--epochs", "6", "--threads", "1", **small)
    assert done.returncode == 0, done.stderr
    assert figure(done, "kinds") == 3
    assert figure(done, "buckets") == 4
    assert figure(done, "cells") == 3 * 64 + 16
    assert figure(done, "purity") > 0.6
    assert 0 < figure(done, "colour_purity") <= 1
    assert 0 < figure(done, "map") <= 1
    assert 0 < figure(done, "unseen_right") <= 1
    assert re.search(r"^towns( +\d+)+$", done.stdout, re.MULTILINE)


def test_gallery_takes_scenes_with_their_kinds(tmp_path):
    done = bash(RUN / "gallery.sh", tmp_path, "scene.tif")
    assert done.returncode == 2
    assert "wanted [OUT] [KIND=SCENE ...]" in done.stderr


def test_trees_without_arguments_is_wrong_use():
    done = bash(RUN / "trees.sh", "scene.tif")
    assert done.returncode == 2
    assert "wanted PICTURE BOXES OTHER OTHER_BOXES" in done.stderr


@pytest.mark.long
def test_trees_are_found_in_an_unseen_strip_better_than_by_a_grid_or_by_colour(data, tmp_path):
    folder = data / "counting" / "trees"
    picture = next(folder.glob("*YELL*.png"))
    done = bash(RUN / "trees.sh", picture, picture.with_suffix(".xml"), folder / "OSBS_029.tif", folder / "OSBS_029.xml", tmp_path / "out",
                "--threads", "1", SEEDS="0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    for within, least in (("2", 0.65), ("1", 0.4)):
        assert figure(done, f"test_detector_f1_within_{within}") >= least
        for other in ("grid", "colour"):
            assert figure(done, f"test_detector_f1_within_{within}") > figure(done, f"test_{other}_f1_within_{within}")
    assert (tmp_path / "out" / "count_other" / "sheet.png").exists()
    assert (tmp_path / "out" / "other.png").exists()


@pytest.mark.long
def test_animals_are_counted_where_colour_does_not_tell_them(tmp_path):
    small = {"SIZE": "512", "SCENES": "1", "HPCSEG_RANKS": "1"}
    done = bash(RUN / "animals.sh", tmp_path / "out", "--epochs", "1", "--threads", "1", **small)
    assert done.returncode == 1, done.stderr
    assert "wanted 0.9 or more" in done.stderr
    assert 0.05 < figure(done, "colour_f1") < 0.6
    assert 0 <= figure(done, "detector_f1") < 0.9
    assert (tmp_path / "out/count/points.gpkg").exists()
