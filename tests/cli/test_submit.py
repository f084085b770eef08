"""hpcseg submit: a script on standard output, the stage's own mistakes at once, and with --now a job."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(make_model, make_scene, tmp_path, monkeypatch) -> Path:
    """A folder with a model and a scene of 4 tiles, where the command is given."""
    make_model(tmp_path / "m", down=[4, 4], up=[4])
    make_scene(tmp_path / "a.tif", 100, 120)
    monkeypatch.chdir(tmp_path)
    return tmp_path


PREDICT = ("predict", "a.tif", "--model", "m", "--out", "o", "--core", "64")


def test_a_script_with_an_estimate_is_printed(hpcseg, folder):
    code, text, error = hpcseg("submit", "--rate", 1e-5, "--time-limit", "0:45", "--account", "me", "--", *PREDICT)
    assert (code, error) == (0, "")
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    lines = text.splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "#SBATCH --account=me" in lines
    # 4 tiles of 410 s, half as much again: two ranks take 31 minutes and one more tile.
    assert "#SBATCH --nodes=2" in lines
    assert "#SBATCH --time=00:38:00" in lines
    assert lines[-1] == f'exec bash "$HPCSEG_HOME/slurm/cluster.sbatch" {" ".join(PREDICT)}'
    assert not (folder / "o").exists()


@pytest.mark.parametrize(
    ("machine", "line"),
    [
        ("dgx", "#SBATCH --ntasks-per-node=8"),
        ("frontier", "#SBATCH --cpus-per-task=7"),
        ("summit", "#BSUB -W 00:30"),
        ("polaris", "#PBS -l walltime=00:30:00"),
    ],
)
def test_a_machine_has_resources_of_its_own(hpcseg, folder, machine, line):
    code, text, _ = hpcseg("submit", "--machine", machine, "--time", "0:30", *PREDICT)
    assert code == 0
    assert line in text.splitlines()


@pytest.mark.parametrize(
    "words",
    [("export", ".", "--to", "cog"), ("gallery", "search", "g", "0" * 16), ("verify", "."), (str(ROOT / "run/buildings.sh"), "a.tif")],
    ids=lambda words: Path(words[0]).name,
)
def test_stages_without_an_estimate_and_recipes_take_a_time(hpcseg, folder, words):
    code, text, _ = hpcseg("submit", "--time", "2:00:00", "--nodes", 2, *words)
    assert code == 0
    assert "#SBATCH --time=02:00:00" in text
    assert "#SBATCH --nodes=2" in text
    code, _, error = hpcseg("submit", *words)
    assert code == 2
    assert "--time H:MM:SS" in error


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--rate", 1, "predict", "a.tif", "--model", "m"), ["--out"]),
        (("--rate", 1, *PREDICT, "--core", "wide"), ["--core", "wide"]),
        (("--rate", 1, *PREDICT, "--core", "63"), ["--core 63", "stride"]),
        (("--rate", 1, *PREDICT, "--probability", "tree"), ["tree", "class 0"]),
        (("--rate", 1, "predict", "absent.tif", "--model", "m", "--out", "o"), ["absent.tif"]),
        (("--rate", 1, "predict", "a.tif", "--model", "absent", "--out", "o"), ["absent", "sea-ice"]),
        (("--rate", 1, "label", "snow"), ["snow", "ice, index, water"]),
        (("--rate", 1, "label", "water", "a.tif", "--out", "o"), ["--scale"]),
        (("--rate", 1, "train", "--scenes", "a.tif", "--labels", "a.tif", "--out", "o"), ["classes"]),
        (("--rate", 1, "mapp", "a.tif"), ["mapp", "predict"]),
        (("--rate", 1, "run/absent.sh"), ["run/absent.sh"]),
        (("--time", "soon", *PREDICT), ["--time", "soon", "4:00:00"]),
        (("--rate", 1, "--machine", "summit", "--gpus-per-node", 4, *PREDICT), ["summit.lsf", "6 ranks"]),
        (("--rate", 1, "--memory-per-node", 0.1, *PREDICT), ["--memory-per-node", "at most 0 fit"]),
        (("--rate", 1e-5, "--time-limit", "0:40", "--nodes", 1, *PREDICT), ["--nodes 2 would do", "--repeats 1"]),
        (("--nodes", 1), ["WORDS"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_what_cannot_run_or_fit_is_refused_in_one_line_now_and_not_after_a_night_in_the_queue(hpcseg, folder, words, named):
    code, text, error = hpcseg("submit", *words)
    assert (code, text) == (2, "")
    assert error.startswith("hpcseg: ")
    assert error.count("\n") == 1
    assert all(part in error for part in named), error


def test_ranks_without_work_are_warned_of_beside_the_script(hpcseg, folder):
    code, text, error = hpcseg("submit", "--rate", 1, "--nodes", 5, *PREDICT)
    assert code == 0
    assert error == "hpcseg: warning: 5 ranks, but work for 4 only\n"
    assert "# warning: 5 ranks" in text


def test_now_submits_and_says_the_number(hpcseg, folder, monkeypatch):
    (folder / "sbatch").write_text('#!/bin/bash\necho 4711\n')
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    code, text, _ = hpcseg("submit", "--rate", 1, "--now", *PREDICT)
    assert code == 0
    (kept,) = folder.glob("hpcseg-predict-*.sh")
    assert text.splitlines() == ["job=4711", f"script={kept.name}"]


def test_options_may_come_from_a_configuration(hpcseg, folder):
    (folder / "site.toml").write_text('machine = "polaris"\ntime-limit = "6:00:00"\naccount = "ice"\nrate = 30\n')
    code, text, _ = hpcseg("submit", "--config", "site.toml", *PREDICT)
    assert code == 0
    assert "#PBS -A ice" in text
