"""The batch scripts with stand-ins for launchers and schedulers: what they start, and when they submit again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "slurm"
SCRIPTS = sorted(path for path in SLURM.iterdir() if path.suffix != ".def")
SAY = '#!/bin/bash\necho "$(basename "$0") $*" >>"$SAID"\n'
JOB = "predict scene.tif --out maps"
LSF = {"LSB_JOBID": "7", "HPCSEG_JOB": JOB}
LAUNCHERS = {"cluster.sbatch": "srun", "summit.lsf": "jsrun", "polaris.pbs": "mpiexec"}
PBS = {"PBS_JOBID": "7.host", "HPCSEG_JOB": JOB}


class Site:
    """A folder with programs that say how they were called, in a file, and end as they are told; and jobs there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, folder / "said"
        (folder / "bin").mkdir()
        for name in ("srun", "jsrun", "mpiexec"):
            self.program(name, 'exit "${CODE:-0}"')
        for name in ("scontrol", "qsub"):
            self.program(name, 'echo "repeat ${HPCSEG_REPEAT:-}" >>"$SAID"')
        self.program("qstat", 'printf "    Resource_List.walltime = %s\\n    Submit_arguments = -A me -l select=2 job.pbs\\n" "$WALLTIME"')
        (folder / "hosts").write_text("batch1\na1\na1\na2\na2\n")
        (folder / "nodes").write_text("a1\na2\n")

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(SAY + text + "\n")
        path.chmod(0o755)

    def run(self, script: str, *words: str, **variables: object) -> subprocess.CompletedProcess[str]:
        """Run a script as its scheduler would: from a copy, in the folder of submission."""
        copy = self.folder / "spooled"
        copy.write_bytes((SLURM / script).read_bytes())
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "HPCSEG_", "LSB_", "PBS_"))}
        mine = {
            "PATH": f"{self.folder}/bin:{kept['PATH']}", "SAID": self.said, "HPCSEG_HOME": ROOT, "WALLTIME": "02:00:00", "USER": "me",
            "SLURM_SUBMIT_DIR": self.folder, "LS_SUBCWD": self.folder, "LSB_DJOB_HOSTFILE": self.folder / "hosts",
            "PBS_O_WORKDIR": self.folder, "PBS_NODEFILE": self.folder / "nodes",
        }  # fmt: skip
        env = kept | {key: str(value) for key, value in (mine | variables).items()}
        return subprocess.run(
            ["bash", copy, *words], env=env, cwd=self.folder, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
        )

    def calls(self, name: str) -> list[str]:
        """The calls of a program so far."""
        lines = self.said.read_text().splitlines() if self.said.exists() else []
        return [line for line in lines if line.startswith(f"{name} ")]


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read(script):
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["dgx.sbatch", "frontier.sbatch", "summit.lsf", "polaris.pbs", "hpcseg.def"])
def test_what_never_ran_on_its_machine_says_so(name):
    head = (SLURM / name).read_text().split("\n\n")[0]
    assert "It never ran on such a machine" in head or "It was never built" in (SLURM / name).read_text()


@pytest.mark.parametrize("name", [path.name for path in SCRIPTS if path.suffix == ".sbatch"])
def test_every_slurm_script_asks_for_a_warning_and_to_be_requeued(name):
    text = (SLURM / name).read_text()
    assert {"#SBATCH --requeue", "#SBATCH --signal=USR1@300", "#SBATCH --open-mode=append"} <= set(text.splitlines())
    assert "srun --kill-on-bad-exit=1" in text


@pytest.mark.parametrize(
    ("script", "variables", "call"),
    [
        ("cluster.sbatch", {}, "srun --kill-on-bad-exit=1 --mpi=pmix"),
        ("dgx.sbatch", {}, "srun --kill-on-bad-exit=1 --mpi=pmix --cpu-bind=cores"),
        ("frontier.sbatch", {}, "srun --kill-on-bad-exit=1 --gpus-per-task=1 --gpu-bind=closest"),
        ("summit.lsf", LSF, "jsrun --exit_on_error 1 --nrs 12 --rs_per_host 6 --tasks_per_rs 1 --gpu_per_rs 1 --cpu_per_rs 7 --bind rs"),
        ("polaris.pbs", PBS, "mpiexec -n 8 --ppn 4 --depth 8 --cpu-bind depth"),
    ],
)
def test_each_script_starts_the_same_command_by_its_own_launcher(site, script, variables, call):
    done = site.run(script, *([] if "HPCSEG_JOB" in variables else JOB.split()), **{"SLURM_JOB_ID": "" if variables else "7"} | variables)
    assert done.returncode == 0, done.stderr
    assert site.said.read_text().splitlines()[-1] == f"{call} hpcseg {JOB}"


def test_a_launcher_that_is_given_wins(site):
    site.run("cluster.sbatch", *JOB.split(), SLURM_JOB_ID=7, HPCSEG_LAUNCH="mpiexec -n 3")
    assert site.calls("mpiexec") == [f"mpiexec -n 3 hpcseg {JOB}"]


def test_a_recipe_runs_by_the_launcher_of_the_job(site):
    (site.folder / "recipe.sh").write_text('source "$HPCSEG_HOME/run/launch.sh"\n"${launch[@]}" hpcseg train "$1"\n')
    done = site.run("cluster.sbatch", "recipe.sh", "field.toml", SLURM_JOB_ID=7)
    assert done.returncode == 0, done.stderr
    assert site.calls("srun") == ["srun --kill-on-bad-exit=1 --mpi=pmix hpcseg train field.toml"]


@pytest.mark.parametrize(("code", "again"), [(0, 0), (2, 0), (3, 0), (1, 1), (75, 1), (137, 1)])
def test_slurm_gets_a_job_again_that_came_to_no_end_of_its_own(site, code, again):
    done = site.run("cluster.sbatch", *JOB.split(), SLURM_JOB_ID=7, CODE=code)
    assert done.returncode == code
    assert site.calls("scontrol") == ["scontrol requeue 7"] * again


def test_repeats_are_bounded(site):
    done = site.run("cluster.sbatch", *JOB.split(), SLURM_JOB_ID=7, CODE=75, SLURM_RESTART_COUNT=10)
    assert done.returncode == 75
    assert "given up" in done.stderr
    assert not site.calls("scontrol")


def test_lsf_queues_by_exit_code_until_the_bound_then_gets_another(site):
    """Its own option in the script says which codes it queues again; 4 is none of them."""
    codes = [site.run("summit.lsf", CODE=1, HPCSEG_REPEATS=2, **LSF).returncode for _ in range(3)]
    assert codes == [1, 1, 4]
    assert '#BSUB -Q "all ~0 ~2 ~3 ~4"' in (SLURM / "summit.lsf").read_text()
    assert not list(site.folder.glob(".hpcseg*"))


def test_pbs_gets_a_new_job_with_the_options_of_the_first(site):
    done = site.run("polaris.pbs", CODE=1, HPCSEG_REPEAT=3, **PBS)
    assert done.returncode == 1
    assert site.calls("qsub") == ["qsub -V -A me -l select=2 job.pbs"]
    assert site.calls("repeat") == ["repeat 4"]


def test_under_pbs_the_ranks_are_warned_five_minutes_before_the_end(site):
    site.program("mpiexec", 'trap "exit 75" USR1\nfor k in {1..100}; do sleep 0.1; done')
    done = site.run("polaris.pbs", WALLTIME="00:00:02", **PBS)
    assert done.returncode == 75, done.stderr
    assert len(site.calls("qsub")) == 1


def test_without_a_scheduler_there_is_no_more_than_advice(site):
    done = site.run("cluster.sbatch", *JOB.split(), SLURM_JOB_ID="", CODE=75)
    assert done.returncode == 75
    assert "run the same command again" in done.stderr


def test_a_job_of_nothing_is_wrong_use(site):
    done = site.run("cluster.sbatch", SLURM_JOB_ID=7)
    assert done.returncode == 2
    assert "wanted a command" in done.stderr


@pytest.mark.parametrize("words", ["verify maps", "export maps --to cog", "evaluate maps", "stats a.tif", "recipe.sh --overwrite"])
def test_what_would_start_anew_is_not_submitted_again(site, words):
    (site.folder / "recipe.sh").write_text("exit 75\n")
    done = site.run("cluster.sbatch", *words.split(), SLURM_JOB_ID=7, CODE=75)
    assert done.returncode == 75
    assert "not submitted again: this would start anew" in done.stderr
    assert not site.calls("scontrol")
    assert site.run("summit.lsf", CODE=75, **LSF | {"HPCSEG_JOB": words}).returncode == 4


def test_a_recipe_is_submitted_again(site):
    (site.folder / "recipe.sh").write_text("exit 75\n")
    site.run("cluster.sbatch", "recipe.sh", "scene.tif", SLURM_JOB_ID=7)
    assert site.calls("scontrol") == ["scontrol requeue 7"]


@pytest.mark.parametrize(("script", "job"), [("cluster.sbatch", {"SLURM_JOB_ID": 7}), ("summit.lsf", LSF), ("polaris.pbs", PBS)])
def test_a_repeat_keeps_what_an_earlier_start_has_done_but_none_before_that_began(site, script, job):
    """Slurm, LSF and PBS may themselves start a job again whose node is lost: then nothing has counted."""
    site.program(LAUNCHERS[script], 'printf "%s|" "$@" >>"$SAID"; echo >>"$SAID"; [ -z "$TOUCH" ] || touch "$HPCSEG_BEGUN"; exit 75')
    words = () if "HPCSEG_JOB" in job else ("predict", "--overwrite", "a b.tif")
    job = job | {"HPCSEG_JOB": "predict --overwrite 'a b.tif'"} if not words else job
    for touch in ("", "1", ""):
        site.run(script, *words, TOUCH=touch, **job)
    said = [line.partition("|hpcseg|")[2] for line in site.said.read_text().splitlines() if "|hpcseg|" in line]
    assert said == ["predict|--overwrite|a b.tif|", "predict|--overwrite|a b.tif|", "predict|a b.tif|"]
    site.program(LAUNCHERS[script], "exit 0")
    site.run(script, *words, **job)
    assert not list(site.folder.glob(".hpcseg*"))


@pytest.mark.parametrize(("words", "again"), [
    ("train G a.toml --overwrite", 1), ("assign G a.tif", 1), ("assign G a.tif --overwrite", 0), ("build a.tif --out G", 0)])
def test_of_galleries_only_what_resumes_is_submitted_again(site, words, again):
    site.run("cluster.sbatch", "gallery", *words.split(), SLURM_JOB_ID=7, CODE=75)
    assert len(site.calls("scontrol")) == again


def test_each_task_of_an_array_is_told_its_part_of_the_scenes(site):
    site.program("srun", 'echo "part $HPCSEG_PART" >>"$SAID"')
    array = {"SLURM_ARRAY_TASK_COUNT": 3, "SLURM_ARRAY_TASK_MIN": 2, "SLURM_ARRAY_TASK_MAX": 6, "SLURM_ARRAY_TASK_STEP": 2}
    for number in (2, 4, 6):
        site.run("cluster.sbatch", *JOB.split(), SLURM_JOB_ID=7, SLURM_ARRAY_TASK_ID=number, **array)
    assert site.calls("part") == ["part 1/3", "part 2/3", "part 3/3"]


@pytest.mark.parametrize(("tasks", "more"), [([1, 3, 7], {}), ([3], {}), ([1, 2], {"HPCSEG_PART": "3/10"})])
def test_an_array_that_shares_nothing_out_evenly_is_wrong_use(site, tasks, more):
    array = {"SLURM_ARRAY_TASK_COUNT": len(tasks), "SLURM_ARRAY_TASK_MIN": tasks[0], "SLURM_ARRAY_TASK_MAX": tasks[-1]}
    done = site.run("cluster.sbatch", *JOB.split(), SLURM_JOB_ID=7, SLURM_ARRAY_TASK_ID=tasks[-1], **array, **more)
    assert done.returncode == 2
    assert "wanted an array such as --array=1-10" in done.stderr
    assert not site.calls("srun")


@pytest.mark.parametrize("array", [{}, {f"SLURM_ARRAY_TASK_{key}": 3 for key in ("ID", "MIN", "MAX")} | {"SLURM_ARRAY_TASK_COUNT": 1}])
def test_a_part_that_is_given_is_done_by_one_job(site, array):
    site.program("srun", 'echo "part $HPCSEG_PART" >>"$SAID"')
    site.run("cluster.sbatch", *JOB.split(), SLURM_JOB_ID=7, HPCSEG_PART="3/10", **array)
    assert site.calls("part") == ["part 3/10"]


def test_one_task_of_an_array_is_submitted_again_alone(site):
    array = {"SLURM_ARRAY_TASK_COUNT": 2, "SLURM_ARRAY_TASK_MIN": 1, "SLURM_ARRAY_TASK_MAX": 2, "SLURM_ARRAY_TASK_ID": 2}
    site.run("cluster.sbatch", *JOB.split(), SLURM_JOB_ID=7, SLURM_ARRAY_JOB_ID=7, CODE=75, **array)
    assert site.calls("scontrol") == ["scontrol requeue 7_2"]


def test_an_array_of_what_has_no_parts_is_wrong_use(site):
    array = {"SLURM_ARRAY_TASK_COUNT": 3, "SLURM_ARRAY_TASK_MIN": 1, "SLURM_ARRAY_TASK_ID": 1}
    done = site.run("cluster.sbatch", "export", "maps", SLURM_JOB_ID=7, **array)
    assert done.returncode == 2
    assert "not of export" in done.stderr
    assert not site.calls("srun")


def test_a_job_that_is_no_array_has_all_scenes(site):
    site.program("srun", 'echo "part ${HPCSEG_PART:-none}" >>"$SAID"')
    site.run("cluster.sbatch", *JOB.split(), SLURM_JOB_ID=7)
    assert site.calls("part") == ["part none"]


@pytest.mark.parametrize(("script", "variables"), [("summit.lsf", LSF), ("polaris.pbs", PBS)])
def test_quotes_in_the_words_of_a_job_hold_whichever_way_they_come(site, script, variables):
    words = 'printf "%s|" "$@" >>"$SAID"'
    for name in ("jsrun", "mpiexec"):
        site.program(name, words)
    site.run(script, **variables | {"HPCSEG_JOB": "predict 'my scenes' --out maps"})
    site.run(script, "predict", "my scenes", "--out", "maps", **{key: value for key, value in variables.items() if key != "HPCSEG_JOB"})
    assert site.said.read_text().count("|hpcseg|predict|my scenes|--out|maps|") == 2


def test_a_chain_has_each_job_wait_for_the_one_before_it(site):
    site.program("sbatch", 'wc -l <"$SAID"')
    chain = site.folder / "chain"
    chain.write_text('# a comment\n-N 4 cluster.sbatch label ice "my scenes" --out labels\n\n-N 8 cluster.sbatch predict a.csv --out maps')
    done = site.run("chain.sh", str(chain))
    assert done.returncode == 0, done.stderr
    assert site.calls("sbatch") == [
        "sbatch --parsable --kill-on-invalid-dep=yes -N 4 cluster.sbatch label ice my scenes --out labels",
        "sbatch --parsable --kill-on-invalid-dep=yes --dependency=afterok:1 -N 8 cluster.sbatch predict a.csv --out maps",
    ]


def test_listed_failures_do_not_stop_a_chain(site):
    assert site.run("cluster.sbatch", *JOB.split(), SLURM_JOB_ID=7, CODE=3, HPCSEG_GO_ON=1).returncode == 0
