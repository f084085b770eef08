"""`hpcseg bench train`: seconds per sample of each network, how ranks scale, what share of a step data and averaging take."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from hpcseg.config import Class
from hpcseg.errors import UsageError
from hpcseg.models import build
from hpcseg.mpi import Comm, Pulse, on_root, patient_barrier, self_comm
from hpcseg.products.curves import draw_curves
from hpcseg.synthetic import ice
from hpcseg.training import averaging
from hpcseg.training.averaging import leaving
from hpcseg.training.feed import Feed
from hpcseg.training.settings import Labels, Settings
from hpcseg.training.shelf import fill_shelf
from hpcseg.training.train import Crew, Run, describe_model, make_network, read_history

NETWORKS = ("unet", "resnet50-fcn", "segnet", "deeplab")
_EDGE, _SCENE = 500, 2048
_CLASSES = (Class(name="water or thin ice", color="#0b3d66"), Class(name="thick ice", color="#f4f8fb"))
_MAP: dict[str, str | int] = {"0": 0, "1": 0, "2": 1}


@dataclass(frozen=True)
class Course:
    """What is measured: steps of a batch of `batch` samples a rank, after one that is not counted. folder: kept between runs."""

    network: str
    folder: Path
    threads: int
    batch: int = 1
    steps: int = 3
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def edge(self) -> int:
        """500 pixels, the paper's sample, rounded up to the network's stride."""
        stride = build(self.network, 3, 2).stride
        return -(-_EDGE // stride) * stride


@dataclass(frozen=True)
class Pace:
    """Of one measurement. seconds: of a sample, over all ranks. shares: of a step, by what it was spent on."""

    seconds: float
    shares: dict[str, float]


def make_scene(folder: Path) -> tuple[Path, Path]:
    """A synthetic scene and its truth, made unless they are there."""
    scene, truth = folder / "train" / "ice_000.tif", folder / "train" / "truth" / "ice_000.tif"
    if not truth.exists():
        ice(folder / "train", 1, _SCENE, _SCENE, seed=1)
    return scene, truth


def make_run(comm: Comm, pulse: Pulse, course: Course) -> Run:
    """A training run over the synthetic scene, ready to step. Collective."""
    scene, truth = on_root(comm, lambda: make_scene(course.folder))
    settings = Settings(
        scenes=(str(scene),), out=course.folder / "train", classes=_CLASSES, labels=Labels(files=(str(truth),), map=_MAP),
        network=course.network, tile=course.edge, block=2 * course.edge, validation=0.0, test=0.0, batch_per_rank=course.batch,
        precision=course.precision, threads=course.threads, rate=1e-4,
    )  # fmt: skip
    torch.set_num_threads(settings.threads)
    with contextlib.redirect_stdout(io.StringIO()):
        shelf = fill_shelf(comm, pulse, settings, None)
        spec = describe_model(comm, settings, shelf, None)
        crew = Crew(comm, pulse, averaging.choose(comm, settings))
        return Run(crew, settings, shelf, spec, make_network(comm, settings, spec, None))


def _steps(comm: Comm, course: Course, run: Run) -> Pace:
    count = len(run.shelf.samples.scene)

    def shares() -> Iterator[tuple[int, np.ndarray]]:
        """As many samples a rank as it takes, round and round."""
        for k in range(course.steps + 1):
            first = (k * comm.size + comm.rank) * course.batch
            yield 0, np.arange(first, first + course.batch) % count

    feed = Feed(run.shelf, run.settings, shares())
    begin, waited = 0.0, 0.0
    for k, batch in enumerate(feed):
        if k == 1:
            patient_barrier(comm)
            begin, waited = time.perf_counter(), feed.seconds
            run.trainer.seconds.compute = run.trainer.seconds.averaging = 0.0
        run.trainer.step(batch, k, run.settings.rate)
        run.pulse.step()
    patient_barrier(comm)
    wall, spent = time.perf_counter() - begin, run.trainer.seconds
    seconds = {"compute": spent.compute, "averaging": spent.averaging, "data": feed.seconds - waited}
    return Pace(wall / (course.steps * course.batch * comm.size), {name: value / wall for name, value in seconds.items()})


def compare_ranks(comm: Comm, course: Course, repeat: int) -> list[tuple[Pace, Pace | None]]:
    """Paces of all ranks together, each beside that of rank 0 alone if there are others, one after the other. Collective."""
    with Pulse(comm, 600, threading.Event()) as pulse:
        every = make_run(comm, pulse, course)
        one = make_run(self_comm(), pulse, course) if comm.size > 1 and comm.rank == 0 else None
        patient_barrier(comm)
        rounds: list[tuple[Pace, Pace | None]] = []
        with leaving(every.crew.averaging):
            for _ in range(repeat):
                together = _steps(comm, course, every)
                alone = _steps(self_comm(), course, one) if one else None
                patient_barrier(comm)
                rounds.append((together, alone))
    return rounds


def draw_together(folder: Path) -> Path:
    """Draw loss and F1 by epoch of all training runs in a folder; returns the picture. Raises UsageError if there is none."""
    runs = sorted(folder.glob("*/history.csv"))
    if not runs:
        raise UsageError(f"{folder}: no training run (history.csv) in any of its folders")
    picture = folder / "curves.png"
    draw_curves(picture, {path.parent.name: read_history(path) for path in runs}, ("f1",))
    return picture
