"""The script of a job: for each machine what its scheduler reads, the shipped script by reference, and how it is submitted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpcseg.errors import HpcsegError, UsageError
from hpcseg.submission.machines import MACHINES, Resources, find_home, scheduler_of, submit, write_script

ROOT = Path(__file__).resolve().parents[2]
ASKED = Resources(4, 8, 8, 7, 5400, 500.0, "ice", "batch", 12)
WORDS = ("predict", "my scenes", "--out", "it's $HOME")
LINES = {
    "cluster": ["--nodes=4", "--ntasks-per-node=8", "--gpus-per-node=8", "--cpus-per-task=7", "--time=01:30:00", "--mem=500000M",
                "--account=ice", "--partition=batch", "--requeue", "--signal=USR1@300"],
    "dgx": ["--nodes=4", "--ntasks-per-node=8", "--cpus-per-task=7", "--time=01:30:00", "--requeue"],
    "frontier": ["--nodes=4", "--gpus-per-node=8", "--cpus-per-task=7", "--account=ice", "--requeue"],
    "summit": ["-nnodes 4", "-W 01:30", "-P ice", "-q batch", '-Q "all ~0 ~2 ~3 ~4"', "-wt 5"],
    "polaris": ["-l select=4", "-l walltime=01:30:00", "-A ice", "-q batch", "-r y", "-l filesystems=home:eagle"],
}  # fmt: skip


def script_of(name: str, asked: Resources = ASKED) -> tuple[str, list[str]]:
    """A machine's script, and the lines in it that its scheduler reads, without their mark."""
    machine = MACHINES[name]
    mark = scheduler_of(machine).mark
    text = write_script(machine, asked, WORDS, ["told\nso"])
    return text, [line.removeprefix(mark) for line in text.splitlines() if line.startswith(mark)]


@pytest.mark.parametrize("name", MACHINES)
def test_a_script_asks_for_the_resources_and_keeps_what_the_shipped_one_says(name):
    text, lines = script_of(name)
    assert not set(LINES[name]) - set(lines)
    keys = [line.split("=")[0] if line.startswith("--") else line for line in lines]
    assert len(set(keys)) == len(keys)
    assert "# told so" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


@pytest.mark.parametrize("name", MACHINES)
def test_a_script_hands_its_words_to_the_shipped_one_as_they_are(name, tmp_path):
    text, _ = script_of(name)
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / MACHINES[name].script).write_text('printf "%s\\n" "$HPCSEG_REPEATS" "$@"')
    moved = text.replace(f"HPCSEG_HOME={ROOT}", f"HPCSEG_HOME={tmp_path}")
    done = subprocess.run(["bash"], input=moved, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == ["12", *WORDS]


def test_repeats_are_never_fewer_than_faults_may_take():
    assert "HPCSEG_REPEATS" not in script_of("cluster", ASKED._replace(repeats=3))[0]


def test_what_is_not_asked_for_is_not_in_the_script():
    text, lines = script_of("cluster", Resources(1, 1, 0, 1, 5400))
    assert not [line for line in lines if line.startswith(("--gpus", "--mem", "--account", "--partition"))]
    assert "HPCSEG_REPEATS" not in text


def test_a_short_job_is_warned_halfway_not_before_it_has_begun():
    assert "--signal=USR1@120" in script_of("cluster", ASKED._replace(seconds=200))[1]
    assert "-wt 2" in script_of("summit", ASKED._replace(seconds=200))[1]


def test_the_repository_is_found_or_asked_for(monkeypatch, tmp_path):
    monkeypatch.delenv("HPCSEG_HOME", raising=False)
    assert find_home() == ROOT
    monkeypatch.setenv("HPCSEG_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="set HPCSEG_HOME"):
        find_home()


@pytest.fixture
def scheduler(monkeypatch, tmp_path):
    """scheduler(name, text) puts a program on the PATH that keeps its words and input in `said`, then does as the text says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, text: str) -> None:
        path = tmp_path / name
        path.write_text(f'#!/bin/bash\n{{ echo "$@"; cat; }} >said\n{text}\n')
        path.chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("name", "program", "answer", "number"),
    [
        ("cluster", "sbatch", "4711;there", "4711"),
        ("summit", "bsub", "Job <4711> is submitted to queue <batch>.", "4711"),
        ("polaris", "qsub", "4711.polaris-pbs-01", "4711.polaris-pbs-01"),
    ],
)
def test_a_script_is_submitted_and_kept(scheduler, tmp_path, name, program, answer, number):
    scheduler(program, f'echo "{answer}"')
    assert submit(MACHINES[name], "the script\n", "predict")[0] == number
    (kept,) = tmp_path.glob("hpcseg-predict-*.sh")
    assert kept.read_text() == "the script\n"
    words, text = (tmp_path / "said").read_text().split("\n", 1)
    assert text == "the script\n"
    assert words == {"cluster": f"--parsable {kept.name}", "summit": "", "polaris": kept.name}[name]


def test_what_a_scheduler_says_against_a_script_is_said(scheduler):
    scheduler("sbatch", 'echo "error: no such account" >&2; exit 1')
    with pytest.raises(HpcsegError, match=r"sbatch refused .*: error: no such account"):
        submit(MACHINES["cluster"], "the script\n", "predict")


def test_without_a_scheduler_nothing_is_left(scheduler, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no bsub here"):
        submit(MACHINES["summit"], "the script\n", "predict")
    assert not list(tmp_path.glob("*.sh"))
