"""`hpcseg gallery train`: a model gallery, the networks of all buckets at once, each by ranks of its own.

mpirun -n 4 hpcseg gallery train GALLERY CONFIG.toml --application buildings
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import torch

from hpcseg.config import ModelSpec, encode_toml
from hpcseg.errors import HpcsegError
from hpcseg.gallery.jobs import Job, Order, begin_order, check_order, check_shelf, folder_of, make_jobs
from hpcseg.gallery.schedule import Group, divide
from hpcseg.gallery.spec import MODELS, MONO, MONO_BUCKET, BucketModel, ModelsSpec
from hpcseg.gallery.verdicts import Verdict, judge_buckets, sizes
from hpcseg.models import load_model
from hpcseg.mpi import Comm, Pulse, on_root, patient_barrier
from hpcseg.training import averaging
from hpcseg.training.averaging import leaving
from hpcseg.training.checkpoint import publish
from hpcseg.training.feed import Shelf
from hpcseg.training.shelf import fill_shelf, say
from hpcseg.training.train import Crew, Outcome, load_start, make_folder, train_on


class Report(msgspec.Struct):
    """A model gallery, trained, or stopped: then without verdicts. groups: (ranks, names of the networks), in the order of their start.
    refused: scenes that could not be opened. wall: seconds."""

    stopped: bool
    verdicts: list[Verdict]
    groups: list[tuple[int, list[str]]]
    averaging: str
    ranks: int
    refused: int
    wall: float = 0.0


def train_gallery(comm: Comm, order: Order, stop: threading.Event) -> Report | None:
    """Train, resume, judge and write a model gallery. Collective. stop: when set, on any rank, checkpoints are written and all end.

    Returns the report on rank 0. An error of one network is raised on all ranks when the others have ended.
    """
    begin = time.perf_counter()
    on_root(comm, lambda: check_order(order))
    settings = order.settings_of(MONO_BUCKET)
    with Pulse(comm, settings.stall, stop) as pulse:
        torch.set_num_threads(settings.threads)
        start = load_start(comm, settings)
        shelf = fill_shelf(comm, pulse, settings, start)
        on_root(comm, lambda: check_shelf(order, shelf, start))
        jobs = on_root(comm, lambda: make_jobs(order, shelf))
        on_root(comm, lambda: begin_order(order))
        say(comm, [_announce(shelf, job) for job in jobs[1:]])
        library = averaging.choose(comm, settings)
        with leaving(library):
            report = _train_all(Crew(comm, pulse, library), order, shelf, jobs)
    if comm.rank:
        return None
    report.wall = time.perf_counter() - begin
    publish(order.folder / "train.json", lambda path: path.write_text(json.dumps(msgspec.to_builtins(report), indent=1)))
    return report


def _announce(shelf: Shelf, job: Job) -> str:
    counts = " ".join(f"{part}={n}" for part, n in sizes(job.of(shelf)).items())
    return f"{job.name}: samples {counts}: {f'left to the mono model: {job.why}' if job.why else 'a network of its own'}"


def _train_all(crew: Crew, order: Order, shelf: Shelf, jobs: Sequence[Job]) -> Report:
    """All rounds, then the verdicts and the manifest."""
    todo = [job for job in jobs if not job.why]
    report = Report(False, [], [], crew.averaging.name, crew.comm.size, shelf.refused)
    outcomes: dict[int, Outcome] = {}
    for each in [todo[:1], todo[1:]] if order.from_mono else [todo]:
        plan = divide([job.train for job in each], crew.comm.size)
        groups = [(len(group.ranks), [each[k].name for k in group.jobs]) for group in plan]
        say(crew.comm, [f"{n} rank{'s' if n > 1 else ''}: {', '.join(names)}" for n, names in groups])
        report.groups += groups
        outcomes |= _train_round(crew, order, shelf, each, plan)
        report.stopped = any(job.bucket not in outcomes or outcomes[job.bucket].stopped for job in each)
        if report.stopped:
            return report
    verdicts, spec = judge_buckets(crew, order, shelf, jobs)
    report.stopped = any(crew.comm.allgather(crew.pulse.stop.is_set()))
    if not report.stopped:
        report.verdicts = verdicts
        on_root(crew.comm, lambda: _publish_manifest(order, verdicts, spec))
    return report


def _train_round(crew: Crew, order: Order, shelf: Shelf, jobs: Sequence[Job], plan: Sequence[Group]) -> dict[int, Outcome]:
    """What became of jobs that run at once, by bucket, on every rank; after a stop some are missing. An error of one is raised on all
    ranks alike once the others have ended."""
    comm = crew.comm
    mine = next(k for k, group in enumerate(plan) if comm.rank in group.ranks)
    part, library = Comm(comm.Split(mine, comm.rank)), crew.averaging.divide([group.ranks for group in plan])
    ended: dict[int, Outcome | HpcsegError | None] = {}
    for job in (jobs[k] for k in plan[mine].jobs):
        if any(part.allgather(crew.pulse.stop.is_set())):
            break
        ended[job.bucket] = _train_one(replace(crew, comm=part, averaging=library, name=job.name), order, shelf, job)
    patient_barrier(comm)
    found = {bucket: end for each in comm.allgather(ended) for bucket, end in each.items() if end is not None}
    part.Free()
    for bucket, end in found.items():
        if isinstance(end, HpcsegError):
            error = type(end)(f"{folder_of(bucket)}: {end}")
            error.shared = True  # type: ignore[attr-defined]  # as `together` says it
            raise error
    return found


def _train_one(crew: Crew, order: Order, shelf: Shelf, job: Job) -> Outcome | HpcsegError | None:
    """Train a network; an error that its ranks raised alike is given back, for others have work to do."""
    settings = order.settings_of(job.bucket)
    try:
        on_root(crew.comm, lambda: make_folder(settings))
        return train_on(crew, settings, job.of(shelf), load_start(crew.comm, settings))
    except HpcsegError as error:
        if crew.comm.size > 1 and not getattr(error, "shared", False):
            raise
        return error


def _publish_manifest(order: Order, verdicts: Sequence[Verdict], spec: ModelSpec) -> None:
    """models.toml, by which the model gallery is known to be whole."""
    models = [
        BucketModel(bucket=each.bucket, code=order.spec.buckets[each.bucket].code, folder=MONO if each.why else folder_of(each.bucket),
                    samples=each.samples["train"], why=each.why, **each.scores)
        for each in verdicts if each.bucket != MONO_BUCKET
    ]  # fmt: skip
    settings = order.settings
    said = ModelsSpec(
        gallery="..", digest=order.spec.digest, mono=MONO, halo=load_model(str(order.folder / MONO)).halo, models=models,
        data=(*settings.scenes, *settings.labels.files), threshold=spec.threshold, calibration=tuple(spec.calibration),
    )  # fmt: skip
    publish(order.folder / MODELS, lambda path: path.write_bytes(encode_toml(said)))
