"""What a model gallery trains: one network of all samples, and one for each bucket that has enough of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from hpcseg.errors import UsageError
from hpcseg.gallery.images import read_scene
from hpcseg.gallery.spec import ENCODER, GALLERY, MODELS, MONO, MONO_BUCKET, NO_BUCKET, TILES, GallerySpec, read_gallery
from hpcseg.models.model import Model
from hpcseg.raster import Scene
from hpcseg.tiles import Grid
from hpcseg.training.checkpoint import publish, refuse_other
from hpcseg.training.feed import Shelf
from hpcseg.training.samples import Samples
from hpcseg.training.settings import Settings
from hpcseg.training.train import remove_earlier

ORDER = "order.json"


@dataclass(frozen=True)
class Order:
    """A model gallery to be trained. settings: of all its networks; their `out` and normalisation are the gallery's. from_mono: the
    buckets' networks begin as that of all samples ends. min_samples: train samples that a bucket needs for a network of its own."""

    gallery: Path
    application: str
    settings: Settings
    from_mono: bool = False
    min_samples: int = 16

    @property
    def folder(self) -> Path:
        """Of the model gallery."""
        return self.gallery / self.application

    @cached_property
    def spec(self) -> GallerySpec:
        """Of the image gallery. Raises UsageError."""
        return read_gallery(self.gallery)

    def settings_of(self, bucket: int) -> Settings:
        """How the network of a bucket, or of MONO_BUCKET, is trained."""
        out = self.folder / folder_of(bucket)
        begin: dict[str, Any] = {}
        if self.from_mono and bucket != MONO_BUCKET:
            begin = {"init": str(self.folder / MONO), "encoder_weights": ""}
        norm = self.spec.normalisation
        begin |= self.spec.reading.settle(self.settings)
        return msgspec.structs.replace(self.settings, normalisation=norm.kind, percentiles=norm.percentiles, out=out, **begin)

    def identity(self) -> dict[str, Any]:
        """What a run must share with that which it resumes."""
        return self.settings_of(MONO_BUCKET).identity() | {
            "gallery": self.spec.digest, "init-from-mono": self.from_mono, "min-samples": self.min_samples,
        }  # fmt: skip


class Job(NamedTuple):
    """A bucket's network, or that of all samples: MONO_BUCKET. samples: its own. why: the reason that none is trained for them, "" = one
    is."""

    bucket: int
    samples: Samples
    why: str = ""

    @property
    def train(self) -> int:
        """How many samples train it."""
        return len(self.samples.of("train"))

    def of(self, shelf: Shelf) -> Shelf:
        """The shelf with its samples alone."""
        return replace(shelf, samples=self.samples)

    @property
    def name(self) -> str:
        """As its lines and its folder say it."""
        return folder_of(self.bucket)


def folder_of(bucket: int) -> str:
    """The model folder of a bucket, or of MONO_BUCKET, within the model gallery."""
    return MONO if bucket == MONO_BUCKET else f"bucket_{bucket}"


def check_order(order: Order) -> None:
    """Refuse an order that its gallery cannot take, or that another run's folder holds. Raises UsageError."""
    name, settings, cell = order.application, order.settings, order.spec.cell
    if not name or name.startswith(".") or name != Path(name).name or name in (TILES, ENCODER):
        raise UsageError(f"--application {name!r}: wanted the name of a new folder in {order.gallery}, such as buildings")
    if cell % settings.tile:
        raise UsageError(f"tile is {settings.tile}, wanted a divisor of the gallery's cell, {cell}: a sample lies in one bucket")
    if settings.prefilter:
        raise UsageError(f"prefilter is {settings.prefilter}: a gallery's networks see what its encoder sees, and that is not filtered")
    if settings.adasum:
        raise UsageError("adasum adds up over all ranks, and a gallery's networks train on parts of them: leave it out")
    order.spec.reading.settle(settings)
    path = order.folder / ORDER
    if path.exists() and not settings.overwrite:
        refuse_other(path, json.loads(path.read_text()), json.loads(msgspec.json.encode(order.identity())))
    elif (order.folder / MODELS).exists() and not settings.overwrite:
        raise UsageError(f"{order.folder} holds models that were not trained here: choose another --application, or --overwrite")


def begin_order(order: Order) -> None:
    """Make the model gallery's folder and say in it what is trained; with `overwrite` earlier networks go. Raises UsageError."""
    for bucket in (MONO_BUCKET, *range(len(order.spec.buckets))):
        remove_earlier(order.settings_of(bucket))
    try:
        order.folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"{order.folder}: {error.strerror}") from error
    if order.settings.overwrite:
        (order.folder / MODELS).unlink(missing_ok=True)
    publish(order.folder / ORDER, lambda path: path.write_bytes(msgspec.json.format(msgspec.json.encode(order.identity()), indent=1)))


def check_shelf(order: Order, shelf: Shelf, start: Model | None) -> None:
    """Refuse scenes and a start model that do not fit the gallery. Raises UsageError."""
    bands, wanted = len(shelf.scenes[0].bands), order.spec.bands
    if bands != wanted:
        raise UsageError(f"the scenes give {bands} bands, {order.gallery / GALLERY} takes {wanted}: choose them with bands = [...]")
    if start and (start.spec.normalisation != order.spec.normalisation or start.spec.prefilter):
        raise UsageError(f"--init {start.name}: other normalisation or filter than the gallery's: train it with normalisation = \"scene\"")


def make_jobs(order: Order, shelf: Shelf) -> list[Job]:
    """The job of all samples, then those of the buckets in order, then that of samples in none of them, if there are any. Raises
    UsageError where no bucket can have a network of its own, or scenes are not in the image gallery."""
    samples = shelf.samples
    bucket_of = buckets_of(order.gallery, order.spec.cell, shelf.scenes, samples)
    jobs = [_job(order, samples.only(bucket_of == k, order.spec.cell), k) for k in range(len(order.spec.buckets))]
    if all(job.why for job in jobs):
        most = max(jobs, key=lambda job: job.train)
        raise UsageError(f"no bucket can have a network of its own; the fullest, {most.bucket}: {most.why}: more labels, or --min-samples")
    beyond = samples.only(bucket_of >= len(jobs), order.spec.cell)
    rest = [Job(MONO_BUCKET, beyond, "in no bucket")] if len(beyond.scene) else []
    return [Job(MONO_BUCKET, samples), *jobs, *rest]


def _job(order: Order, samples: Samples, bucket: int) -> Job:
    job = Job(bucket, samples)
    absent = [name for name, n in zip(order.settings.names, samples.class_counts("train"), strict=True) if n == 0]
    if job.train < order.min_samples:
        return job._replace(why=f"{job.train} train samples, wanted {order.min_samples}")
    what = "an object" if order.settings.task == "points" else "a pixel"
    return job._replace(why=f"no train sample has {what} of {', '.join(absent)}" if absent else "")


def buckets_of(gallery: Path, cell: int, scenes: Sequence[Scene], samples: Samples) -> np.ndarray:
    """The bucket of the cell that each sample lies in, u8 (n,). Raises UsageError for scenes that the image gallery does not hold."""
    tables = [read_scene(gallery, scene.digest) for scene in scenes]
    absent = [scene.name for scene, table in zip(scenes, tables, strict=True) if table is None]
    if absent:
        raise UsageError(f"not in the image gallery: {_some(absent)}; first say: hpcseg gallery assign {gallery} SCENES")
    found = np.full(len(samples.scene), NO_BUCKET, np.uint8)
    for s, (scene, table) in enumerate(zip(scenes, tables, strict=True)):
        assert table is not None
        whole = np.full(Grid(scene.height, scene.width, cell, 0).shape, NO_BUCKET, np.uint8)
        if any(n > most for n, most in zip(table.shape, whole.shape, strict=True)):
            raise UsageError(f"{scene.name} is in the image gallery on another grid: give --resolution and --crs as there, or none")
        whole[: table.shape[0], : table.shape[1]] = table
        here = samples.scene == s
        rows, cols = (k * samples.grids[s].core // cell for k in np.divmod(samples.tile[here], samples.grids[s].shape[1]))
        found[here] = whole[rows, cols]
    return found


def _some(names: Sequence[str]) -> str:
    more = [f"and {len(names) - 3} more"] if len(names) > 3 else []
    return ", ".join([*names[:3], *more])
