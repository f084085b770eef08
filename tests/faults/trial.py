"""A trial: jobs to which faults come, what each leaves, and the same command again until the work is done."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from mpi.launch import Job

from faults import stages
from faults.draw import Fault, Run, Trial
from faults.stages import Field, Reference
from faults.strike import Place, Stopped, bring_scenes_back, continue_due, make_room, strike

END_SECONDS = 10.0
# What jobs of which a rank is stopped are told.
STALL_SECONDS = 6.0
# After mpirun itself has ended.
LINGER_SECONDS = 5.0
# Of a rank: what its reader, its network and its writer may hold at once.
IN_HAND = 4
# Share of its time that an undisturbed job loads on an idle machine: on a busy one it is more, but faults are to come as often to the work.
LOADING = 0.45
_MOST_RUNS = 4


@dataclass(frozen=True)
class End:
    """How a job ended. code: None if it hung. after: seconds from its first fault to the end."""

    code: int | None
    after: float
    said: str


@dataclass
class Result:
    """What a trial found. came: faults that came to a running job, at_work: to one that had begun its first tile or step.
    wrong: what is not as it should be, in words. redone: tiles mapped, or steps made, more than once. rows: of the table."""

    trial: Trial
    came: int = 0
    at_work: int = 0
    hangs: int = 0
    unreadable: int = 0
    wrong_tiles: int = 0
    redone: int = 0
    wrong: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


class Conduct:
    """A trial under way in a new folder, or, where the disk is to fill up, on the small file system.

    patience: how much longer than on an idle machine jobs may take to end.
    """

    def __init__(self, shared: Field, trial: Trial, folder: Path, disk: Path | None, patience: float) -> None:
        self.shared, self.trial, self.patience = shared, trial, patience
        self.tally = folder / "tally"
        shutil.copytree(shared.folder / "scenes", folder / "scenes")
        self.place = Place(sorted((folder / "scenes").glob("*.tif")), shared.scenes, disk, STALL_SECONDS * patience)
        fills = any(fault.kind == "disk full" for run in trial.runs for fault in run.faults)
        self.out = (disk if fills and disk else folder) / "out"
        self.result = Result(trial)
        self.made, self.anew = 0, False

    def go(self) -> Result:
        """All of it. Raises RuntimeError if the undisturbed job fails."""
        for run in self.trial.runs:
            reference = self.shared.reference(self.trial.stage, run.ranks)
            end = self._run(run, reference, slow=True)
            left = self._look(reference)
            self._tell(run, end, f"{left} of {reference.units}")
            make_room(self.place)
            if self.trial.away and self.place.changed():
                self._resume(reference, {0, 3})
            bring_scenes_back(self.place)
        self._complete(reference)
        return self.result

    def _complete(self, reference: Reference) -> None:
        """The same command until all is done, then a look at all."""
        for _ in range(_MOST_RUNS):
            if self._resume(reference, {0}) == 0:
                break
        self.result.wrong += stages.final_faults(self.trial.stage, self.out, reference)
        self.result.redone = self.made - reference.units
        in_hand = IN_HAND * sum(run.ranks for run in self.trial.runs)
        if self.trial.stage == "predict" and not self.anew and self.result.redone > in_hand:
            self.result.wrong.append(f"{self.result.redone} tiles mapped again, {in_hand} were in hand")
        self._judge(self.result.rows[-1])

    def _judge(self, row: list[str]) -> None:
        """The end of a trial's last row."""
        row[-2:] = [f"{self.result.redone}{' anew' if self.anew else ''}", "; ".join(self.result.wrong) or "ok"]

    def _resume(self, reference: Reference, wanted: set[int]) -> int | None:
        """The same command again, undisturbed; its exit code. One that another scene has had its hand in is begun anew."""
        end = self._run(Run(self.trial.heirs, ()), reference, slow=False)
        refused = end.code == 2 and "--overwrite" in end.said and self._has_scene_faults()
        if end.code not in wanted and not refused:
            self.result.wrong.append(f"resumed with exit code {end.code}")
        self.anew = self.anew or (refused and not self.place.changed())
        self._look(reference)
        return end.code

    def _has_scene_faults(self) -> bool:
        return any(fault.kind.startswith("scene") for run in self.trial.runs for fault in run.faults)

    def _run(self, run: Run, reference: Reference, slow: bool) -> End:
        """A job and its faults, each when its time has come, to its end."""
        # Where no rank is stopped, a job that is stuck must not be saved by its limit on that.
        stops = any("STOP" in fault.kind for fault in run.faults)
        options = ["--stall", self.place.stall] * stops + ["--overwrite"] * self.anew
        command = self.shared.command(self.trial.stage, self.place.scenes, self.out, *options)
        job = self.shared.start(self.trial.stage, run.ranks, command, self.tally, slow)
        try:
            first = self._watch(job, run, reference)
            end = End(*close(job, first))
        finally:
            job.kill()
        self.result.hangs += end.code is None
        self.result.wrong += ["hang"] * (end.code is None)
        self.result.said.append(f"exit {end.code}\n{end.said}")
        self.made += self._count(run.ranks)
        self.tally.unlink(missing_ok=True)
        return end

    def _count(self, ranks: int) -> int:
        return stages.count(self.trial.stage, ranks, self.tally)

    def _watch(self, job: Job, run: Run, reference: Reference) -> float:
        """Let the faults come until the job ends, or its time is up; monotonic time of the first fault."""
        due, stopped, first = list(run.faults), [], 0.0
        limit, ahead = self._limit(run, reference.seconds), reference.units - stages.units_done(self.trial.stage, self.out)
        while job.process.poll() is None and (now := time.monotonic() - job.begin) < limit:
            for fault in [each for each in due if self._is_due(each, now, run.ranks, reference, ahead)]:
                came = strike(self.place, fault, job, run.ranks)
                if came:
                    first = first or time.monotonic()
                    due.remove(fault)
                    stopped += [came] if isinstance(came, Stopped) else []
                    self.result.came += 1
                    self.result.at_work += self.tally.exists()
                    limit = min(limit, now + self._limit_after(fault, run))
            continue_due(stopped, now)
            time.sleep(0.01)
        return first or time.monotonic()

    def _is_due(self, fault: Fault, now: float, ranks: int, reference: Reference, ahead: int) -> bool:
        """Whether a fault's time has come: by the clock while the job loads, then by what it has done of what was ahead of it, which takes
        even time."""
        if fault.when < LOADING:
            return now >= fault.when / LOADING * reference.loading
        return self.tally.exists() and self._count(ranks) >= (fault.when - LOADING) / (1 - LOADING) * ahead

    def _limit(self, run: Run, seconds: float) -> float:
        """Seconds from a job's start by which it must have ended. seconds: the undisturbed job takes."""
        stops = sum("STOP" in fault.kind for fault in run.faults)
        return self.patience * (END_SECONDS + 3 * seconds) + 2 * self.place.stall * bool(stops)

    def _limit_after(self, fault: Fault, run: Run) -> float:
        """Seconds from a fault by which the job must have ended: a signal that ends it does so soon, if no rank is stopped."""
        prompt = fault.kind.startswith(("SIGKILL", "SIGTERM", "SIGUSR1"))
        return self.patience * END_SECONDS if prompt and len(run.faults) == 1 else float("inf")

    def _look(self, reference: Reference) -> int:
        """Look at all that a job has left; the tiles, or steps, that are done."""
        bad = stages.look_at_files(self.out)
        self.result.unreadable += len(bad)
        self.result.wrong += bad
        if bad:
            return 0
        if self.trial.stage == "predict":
            wrong = stages.wrong_tiles(self.out, reference)
            self.result.wrong_tiles += wrong
            self.result.wrong += [f"{wrong} wrong tiles"] * bool(wrong)
        return stages.units_done(self.trial.stage, self.out)

    def _tell(self, run: Run, end: End, left: str) -> None:
        """A row of the table."""
        faults = " and ".join(name_of(fault, run.ranks, len(self.place.scenes)) for fault in run.faults)
        code = "hang" if end.code is None else str(end.code)
        row = [str(self.trial.number), self.trial.stage, f"{run.ranks} > {self.trial.heirs}", faults, f"{run.faults[0].when:.2f}"]
        self.result.rows.append([*row, code, f"{end.after:.1f}", left, "", ""])


def name_of(fault: Fault, ranks: int, scenes: int) -> str:
    """A fault for people."""
    what, _, whom = fault.kind.partition(" ")
    if what == "scene":
        return f"scene {int(fault.victim * scenes)} {whom}" + (f" to {fault.amount:.0%}" if whom == "truncated" else "")
    if what == "disk" or whom == "mpirun":
        return fault.kind
    return f"{what} rank {int(fault.victim * ranks)}" + (f" {whom}" if what == "SIGSTOP" else "")


def close(job: Job, first: float) -> tuple[int | None, float, str]:
    """The end of a job: exit code, None if it, or a process of it, goes on; seconds since its first fault; what it said."""
    code, after = job.process.poll(), time.monotonic() - first
    deadline = time.monotonic() + LINGER_SECONDS
    while code is not None and job.members() and time.monotonic() < deadline:
        time.sleep(0.05)
    orphans = bool(job.members())
    job.kill()
    try:
        said = "\n".join(job.process.communicate(timeout=10))
    except subprocess.TimeoutExpired:
        said, orphans = "its output never ended", True
    return (None if orphans else code), after, said
