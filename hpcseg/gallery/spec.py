"""What a gallery's folders say of themselves: gallery.toml of the buckets, models.toml of the networks of one application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpcseg.config import Normalisation, Record, decode_toml
from hpcseg.errors import UsageError

GALLERY, MODELS = "gallery.toml", "models.toml"
ENCODER, HASH, TILES, MONO = "encoder", "hash.safetensors", "tiles", "mono"
NO_BUCKET, MONO_BUCKET = 255, 254


class Bucket(Record, frozen=True):
    """code: the centroid, 16 hexadecimal digits, unused high bits 0. tiles: of the sample that it was built from."""

    code: str
    tiles: int


class Reading(Record, frozen=True):
    """How the scenes of a gallery are read, as --bands, --crs and --resolution say it; what is empty was not said."""

    bands: tuple[int, ...] = ()
    crs: str = ""
    resolution: float = 0.0

    def settle(self, given: Any) -> dict[str, Any]:
        """bands, crs and resolution for a further command: these, and of what was not said when the gallery was built those of `given`, a
        record that has all three. Raises UsageError where that says something else."""
        found = {}
        for key in self.__struct_fields__:
            own, said = getattr(self, key), getattr(given, key)
            if own and said and own != said:
                raise UsageError(f"{key} is {_plain(said)}, the gallery was built with {_plain(own)}: leave it out, or build another")
            found[key] = own or said
        return found

    def check(self, given: Any, count: int) -> None:
        """Raises UsageError where `given` says something else, or nothing. count: of bands; where they are the first ones of a scene,
        nothing needs to be said of them."""
        for key, value in self.settle(given).items():
            if value != getattr(given, key) and value != tuple(range(1, count + 1)):
                raise UsageError(f"{key} is not given, the gallery was built with {_plain(value)}: say --{key} {_plain(value)} here too")


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


class GallerySpec(Record, frozen=True):
    """An image gallery. Bucket numbers are positions in `buckets`.

    cell: edge in pixels of the squares, origin (0, 0), that have one code each. bits: of a code, at most 64. reduce: cells are averaged
    over squares of this edge before the encoder sees them. normalisation: of the encoder and of all networks of the gallery.
    max_distance: a cell farther than this from every centroid belongs to no bucket: the mono model maps it. reading: of its scenes.
    digest: of the encoder, the hashing network, the centroids and all above.
    """

    bands: int
    buckets: list[Bucket]
    max_distance: int
    digest: str
    cell: int = 512
    bits: int = 64
    reduce: int = 1
    normalisation: Normalisation = Normalisation(kind="scene")
    reading: Reading = Reading()

    @property
    def centroids(self) -> np.ndarray:
        """The buckets' codes, uint64 (buckets,)."""
        return np.array([int(each.code, 16) for each in self.buckets], np.uint64)


class BucketModel(Record, frozen=True):
    """The network of a bucket. folder: within the model gallery. samples: that trained it. why: the reason of a fallback to mono.

    score, mono_score: of its own network and of the mono model on its validation samples; unset where they were not compared."""

    bucket: int
    code: str
    folder: str
    samples: int
    why: str = ""
    score: float | None = None
    mono_score: float | None = None


class ModelsSpec(Record, frozen=True):
    """A model gallery: one application's networks. gallery: path of the image gallery from here. digest: of that gallery's spec.

    mono: folder of the model of all data. halo: of the gallery, its largest. data: scenes and labels that trained it.
    threshold, calibration: of detectors, those of all together, as in ModelSpec.
    """

    gallery: str
    digest: str
    mono: str
    halo: int
    models: list[BucketModel]
    data: tuple[str, ...] = ()
    threshold: float = 0.5
    calibration: tuple[int, ...] = ()


def read_gallery(folder: Path) -> GallerySpec:
    """The gallery in a folder. Raises UsageError."""
    if not (folder / GALLERY).is_file():
        raise UsageError(f"{folder} holds no gallery ({GALLERY}): hpcseg gallery build makes one")
    spec = decode_toml(folder / GALLERY, GallerySpec)
    if not 1 <= len(spec.buckets) < MONO_BUCKET or not 1 <= spec.bits <= 64:
        raise UsageError(f"{folder / GALLERY}: {len(spec.buckets)} buckets of {spec.bits} bits, wanted 1 to 253 of at most 64")
    return spec
