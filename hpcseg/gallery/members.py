"""A model gallery, opened: which network maps which bucket, checked against the image gallery that it belongs to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from hpcseg.config import SCORES, ModelSpec, decode_toml
from hpcseg.errors import UsageError
from hpcseg.gallery.cells import NO_NETWORK
from hpcseg.gallery.spec import GALLERY, MODELS, MONO_BUCKET, GallerySpec, ModelsSpec, read_gallery
from hpcseg.models import Model, load_model
from hpcseg.models.cost import operations_per_pixel
from hpcseg.models.probe import Probe


@dataclass(frozen=True)
class Member:
    """A network of a model gallery, without its weights. nbytes: of its weights in float32. operations: for each pixel of a window."""

    folder: Path
    digest: str
    halo: int
    stride: int
    nbytes: int
    operations: float
    found: Probe | None = None

    def load(self) -> Model:
        """The network with its weights."""
        return load_model(str(self.folder), True, self.found)


@dataclass(frozen=True)
class ModelGallery:
    """Networks by number, 0 = the mono model. images: folder of the image gallery. of_bucket: int16 (256,), the number of each bucket's
    network, NO_NETWORK for NO_BUCKET. halo: of all, a multiple of their strides. said: of its maps, that of the mono model; of detectors
    with the threshold and the calibration of all together."""

    images: Path
    spec: GallerySpec
    members: tuple[Member, ...]
    of_bucket: np.ndarray
    halo: int
    digest: str
    said: ModelSpec


def is_gallery(model: str) -> bool:
    """Whether what was given as a model is a model gallery, or the image gallery of some."""
    return any((Path(model) / name).is_file() for name in (MODELS, GALLERY))


def open_gallery(folder: Path, insist: bool = False) -> ModelGallery:
    """Open a model gallery and check all of it. insist: as in load_model.

    Raises UsageError: no or another image gallery, networks that are missing or do not belong together.
    """
    if not (folder / MODELS).is_file():
        found = ", ".join(sorted(str(path.parent) for path in folder.glob(f"*/{MODELS}"))) or "none yet: hpcseg gallery train makes them"
        raise UsageError(f"{folder} is a gallery of images; wanted one of its model galleries: {found}")
    said = decode_toml(folder / MODELS, ModelsSpec)
    images = folder / said.gallery
    spec = read_gallery(images)
    _check_buckets(folder / MODELS, said, spec)
    folders = list(dict.fromkeys([said.mono, *(each.folder for each in sorted(said.models, key=lambda each: each.bucket))]))
    members, mono = [], None
    for name in folders:
        who = "the mono model" if name == said.mono else f"the network of bucket {_buckets_of(said, name)}"
        model = _load(folder, name, who, insist)
        mono = mono or model.spec
        _check_model(f"{folder / name}, {who}", model, mono, spec)
        members.append(_member(folder / name, model))
    of_bucket = np.full(256, NO_NETWORK, np.int16)
    for each in said.models:
        of_bucket[each.bucket] = folders.index(each.folder)
    of_bucket[MONO_BUCKET] = 0
    stride = math.lcm(*(each.stride for each in members))
    if spec.cell % stride:
        raise UsageError(f"{folder}: its networks have a common stride of {stride}, which does not divide the cell of {spec.cell} pixels")
    halo = -(-max(said.halo, *(each.halo for each in members)) // stride) * stride
    assert mono is not None
    if mono.task == "points":
        mono = msgspec.structs.replace(mono, threshold=said.threshold, calibration=list(said.calibration))
    return ModelGallery(images, spec, tuple(members), of_bucket, halo, _digest(spec, members, of_bucket, halo), mono)


def _buckets_of(said: ModelsSpec, folder: str) -> str:
    return ", ".join(str(each.bucket) for each in said.models if each.folder == folder)


def _check_buckets(path: Path, said: ModelsSpec, spec: GallerySpec) -> None:
    if said.digest != spec.digest:
        raise UsageError(
            f"{path}: these networks belong to the image gallery {said.digest}, {said.gallery} is {spec.digest}: train them again, or put"
            " their image gallery back"
        )
    numbers = sorted(each.bucket for each in said.models)
    if numbers != list(range(len(spec.buckets))):
        raise UsageError(f"{path}: names networks of the buckets {numbers}, the image gallery has 0 to {len(spec.buckets) - 1}, each once")
    for each in said.models:
        if each.code != spec.buckets[each.bucket].code:
            raise UsageError(
                f"{path}: bucket {each.bucket} has the centroid {each.code}, the image gallery says {spec.buckets[each.bucket].code}"
            )
    table = said.calibration
    if not 0 < said.threshold < 1 or (table and (len(table) != SCORES or list(table) != sorted(table))):
        raise UsageError(f"{path}: wanted a threshold between 0 and 1, and {SCORES} rising numbers of calibration, or none: train it again")


def _load(folder: Path, name: str, who: str, insist: bool) -> Model:
    if not (folder / name / "model.toml").is_file():
        raise UsageError(f"{folder / name}: {who} is missing: put it back, or train the gallery again")
    try:
        return load_model(str(folder / name), insist)
    except UsageError as error:
        raise UsageError(f"{who}: {error}") from error


def _check_model(name: str, model: Model, mono: ModelSpec, spec: GallerySpec) -> None:
    """Raises UsageError if a network is foreign to the gallery."""
    own = model.spec
    if own.bands != spec.bands:
        raise UsageError(f"{name}: takes {own.bands} bands, the gallery has {spec.bands}")
    if own.classes != mono.classes:
        raise UsageError(f"{name}: has the classes {_legend(own)}, the mono model has {_legend(mono)}")
    if own.task != mono.task or (own.sigma, own.least_distance) != (mono.sigma, mono.least_distance):
        raise UsageError(f"{name}: {_finds(own)}, the mono model {_finds(mono)}")
    if own.normalisation != spec.normalisation or own.normalisation.kind != "scene":
        raise UsageError(
            f"{name}: its normalisation is {_norm(own)}, that of the gallery is {spec.normalisation.kind} {spec.normalisation.percentiles}"
        )
    if own.prefilter:
        raise UsageError(f"{name}: its scenes pass the filter {own.prefilter}, those of a gallery pass none")
    if model.window or model.batch:
        raise UsageError(f"{name}: takes one shape of input only; a gallery maps rectangles of any number of cells")


def _legend(spec: ModelSpec) -> str:
    return ", ".join(f"{each.name} {each.color}" for each in spec.classes)


def _finds(spec: ModelSpec) -> str:
    return f"finds points (sigma {spec.sigma:g}, distance {spec.least_distance:g})" if spec.task == "points" else "labels pixels"


def _norm(spec: ModelSpec) -> str:
    return f"{spec.normalisation.kind} {spec.normalisation.percentiles}"


def _member(folder: Path, model: Model) -> Member:
    nbytes = sum(each.nbytes for each in model.network.state_dict().values())
    operations = operations_per_pixel(model.network, model.spec.bands)
    return Member(folder, model.digest, model.halo, model.stride, nbytes, operations, model.found)


def _digest(spec: GallerySpec, members: Sequence[Member], of_bucket: np.ndarray, halo: int) -> str:
    """SHA-256 over the image gallery and the network of each bucket."""
    networks = [members[number].digest for number in of_bucket[[*range(len(spec.buckets)), MONO_BUCKET]]]
    return hashlib.sha256("\n".join([spec.digest, str(halo), *networks]).encode()).hexdigest()[:16]
