"""What stands in run/: scripts that bash can read, settings that hpcseg train takes, and a recipe that runs from end to end."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mpi.launch import environment

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
