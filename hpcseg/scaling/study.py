"""`hpcseg scaling strong|weak`: the same work on more ranks, or more work with them, run after run, into one table.

Each run is the command that a user would type, under the launcher that a user would take, into a fresh folder. A run that is in the
table is not run again, so a study that was stopped goes on where it was.
"""

from __future__ import annotations

import shlex
import shutil
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from threading import Event

import msgspec

from hpcseg.errors import HpcsegError, UsageError
from hpcseg.scaling.launching import Ended, default_launch, launcher_words, run_to_end
from hpcseg.scaling.machine import Binding, describe_machine, probe_binding
from hpcseg.scaling.records import RUNS, TABLE, Case, Mode, Row, Stage, add_row, read_rows, unit_lines
from hpcseg.scaling.stages import Data, default_model, default_size, input_megabytes, read_run, synthetic_data, words_of

PROGRAM = (str(Path(sysconfig.get_path("scripts")) / "hpcseg"),)
_WARM_ALIKE = ("ranks", "tile", "scenes")


@dataclass(frozen=True)
class Study:
    """What is run: all combinations, `repeat` times.

    out: folder of the table, kept; scenes and runs go to out/work. tiles: edges of cores in pixels; sample: of training samples. data:
    given scenes instead of synthetic ones, for all stages. count: of synthetic scenes; with `weak`, of a rank. size: their edge, 0 = by
    stage. model: "" = by stage. launch: words with {ranks} and {threads}, "" = srun or mpirun. limit: seconds of a run. extra: further
    words of the command.
    """

    mode: Mode
    stages: tuple[Stage, ...]
    out: Path
    ranks: tuple[int, ...] = (1, 2)
    tiles: tuple[int, ...] = (512,)
    precisions: tuple[str, ...] = ("bf16",)
    partitions: tuple[str, ...] = ("hilbert",)
    repeat: int = 3
    threads: int = 1
    data: Data | None = None
    count: int = 1
    size: int = 0
    model: str = ""
    sample: int = 256
    launch: str = ""
    limit: float = 600.0
    extra: str = ""
    _bindings: dict[int, Binding] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """Where scenes and runs are; may be removed after the study."""
        return self.out / "work"

    def launcher(self, ranks: int) -> list[str]:
        """The words before the program's own."""
        return launcher_words(self.launch or default_launch(), ranks, self.threads)

    def binding(self, ranks: int) -> Binding:
        """Where ranks run, asked once for each number of them."""
        if ranks not in self._bindings:
            self._bindings[ranks] = probe_binding(self.launcher(ranks), ranks)
        return self._bindings[ranks]


def cases_of(study: Study) -> list[Case]:
    """The points of a study. Precision and partition belong to maps by networks, the tile's edge not to training."""
    cases = []
    for stage, ranks in product(study.stages, study.ranks):
        network, training = stage in ("predict", "count", "train"), stage == "train"
        for precision, partition, tile in product(
            [p for p in study.precisions if not training or p in ("fp32", "bf16")] if network else ("-",),
            ("samples",) if training else study.partitions,
            (study.sample,) if training else study.tiles,
        ):
            scenes = study.count * (ranks if study.mode == "weak" else 1) if study.data is None else _given(study, ranks)
            size = 0 if study.data else study.size or default_size(stage)
            model = study.model or default_model(stage)
            cases.append(
                Case(study.mode, stage, ranks, study.threads, tile, precision, partition, scenes, size, model, study.extra)
            )
    return cases


def _given(study: Study, ranks: int) -> int:
    """How many of the given scenes a run takes."""
    assert study.data is not None
    return ranks if study.mode == "weak" else len(study.data.scenes)


def runs_of(study: Study) -> Iterator[tuple[Case, int]]:
    """(case, repeat) in the order of running: a warm-up of what differs in its kernels, then all cases once, then once more, so that a
    machine that changes its pace does so for all of them."""
    cases, warmed = cases_of(study), set()
    for case in cases:
        kernels = msgspec.structs.replace(case, **dict.fromkeys(_WARM_ALIKE, 0))
        if kernels not in warmed:
            warmed.add(kernels)
            yield case, 0
    yield from ((case, repeat) for repeat in range(1, study.repeat + 1) for case in cases)


def run_study(study: Study, stop: Event) -> list[str]:
    """Run what is not yet in the table; returns what failed, a line each. Raises UsageError, and StoppedError when `stop` is set."""
    runs = list(runs_of(study))
    done = {(row.case, row.repeat) for row in read_rows(study.out)} if (study.out / TABLE).exists() else set()
    failed = []
    for number, (case, repeat) in enumerate(runs, start=1):
        if (case, repeat) in done:
            continue
        where = f"run {number} of {len(runs)}"
        try:
            row = run_case(study, case, repeat, stop)
        except RunError as error:
            failed.append(f"failed {where}: {error}")
            print(failed[-1], flush=True)
            continue
        add_row(study.out, row)
        print("  ".join([where, *unit_lines(row)]), flush=True)
    return failed


class RunError(HpcsegError):
    """A run that failed: it is named, the study goes on."""


def run_case(study: Study, case: Case, repeat: int, stop: Event) -> Row:
    """One run, in a folder of its own that is removed after it. Raises RunError, and StoppedError when `stop` is set."""
    data, out = data_of(study, case), study.work / "run"
    launcher, binding = study.launcher(case.ranks), study.binding(case.ranks)
    words = [*launcher, *PROGRAM, *words_of(case, data, out), *shlex.split(study.extra)]
    shutil.rmtree(out, ignore_errors=True)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        ended = run_to_end(words, study.work / "run.log", study.limit, stop)
        if ended.code != 0:
            raise RunError(_why(study, case, repeat, ended))
        try:
            told = read_run(case, out)
        except UsageError as error:
            raise RunError(f"{_name(case, repeat)}: {error}") from error
        _keep_record(study, case, repeat, out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    about = {"nodes": binding.nodes, "binding": binding.text, "launcher": shlex.join(["hpcseg" if w == PROGRAM[0] else w for w in words])}
    given = msgspec.structs.asdict(case) | describe_machine() | about | told
    return Row(**given, repeat=repeat, wall=ended.wall, startup=ended.wall - told["seconds"], at=at, input_mb=input_megabytes(data.scenes))


def data_of(study: Study, case: Case) -> Data:
    """The scenes of a run."""
    if study.data is not None:
        return study.data.first(case.scenes)
    return synthetic_data(study.work / "scenes", case.scenes, case.size, case.partition)


def _keep_record(study: Study, case: Case, repeat: int, out: Path) -> None:
    """Keep the run.json of one run for each number of ranks, in which each rank says when it did what."""
    kept = study.out / RUNS / f"{case.mode}-{case.stage}-{case.ranks}.json"
    if repeat and (out / "run.json").exists() and not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(out / "run.json", kept)


def _why(study: Study, case: Case, repeat: int, ended: Ended) -> str:
    """Keep the log of a failed run; says where it is and how it ended."""
    log = study.out / "failed" / f"{_name(case, repeat)}.log"
    log.parent.mkdir(exist_ok=True)
    shutil.copy(ended.log, log)
    lines = [line for line in ended.log.read_text(errors="replace").splitlines() if line.strip("- ")] or ["it said nothing"]
    # Our own word comes before the launcher's.
    said = next((line for line in reversed(lines) if line.startswith("hpcseg:")), lines[-1])
    how = f"took more than {study.limit:g} s (--limit)" if ended.code is None else f"ended with code {ended.code}"
    return f"{_name(case, repeat)} {how}: {said} (all of it: {log})"


def _name(case: Case, repeat: int) -> str:
    return f"{case.mode}-{case.stage}-{case.ranks}x{case.threads}-{case.tile}-{case.precision}-{case.partition}-{repeat}"
