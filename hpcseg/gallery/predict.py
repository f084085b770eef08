"""`hpcseg predict --model GALLERY/APPLICATION`: each cell of a scene is mapped by the network of its own bucket.

The same run as with one network, `hpcseg.inference.predict`: what a gallery does otherwise is its route and its engine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hpcseg.errors import UsageError
from hpcseg.gallery.cells import rectangles
from hpcseg.gallery.engine import GalleryEngine
from hpcseg.gallery.images import read_scene
from hpcseg.gallery.members import ModelGallery, is_gallery, open_gallery
from hpcseg.gallery.networks import check_budget
from hpcseg.gallery.spec import NO_BUCKET
from hpcseg.inference.engine import Recipe
from hpcseg.inference.options import Options
from hpcseg.inference.route import Route, open_route
from hpcseg.kernels.warm import compile_kernels, compile_reading
from hpcseg.mapping.report import RankReport
from hpcseg.mpi import Comm, on_root
from hpcseg.raster import Scene
from hpcseg.stream import Engine
from hpcseg.tiles import Grid

_UNIT = 1000
_MB = 1_000_000


@dataclass(frozen=True)
class GalleryRoute(Route):
    """The way of a gallery. model: the mono model with the gallery's halo, cell and digest."""

    gallery: ModelGallery = dataclasses.field(kw_only=True)

    @property
    def said(self) -> Mapping[str, str]:
        """What a map says of the networks that made it."""
        gallery, numbers = self.gallery, self.gallery.of_bucket[: len(self.gallery.spec.buckets)]
        models = {str(bucket): gallery.members[number].digest for bucket, number in enumerate(numbers)}
        said = {"images": gallery.spec.digest, "mono": gallery.members[0].digest, "models": models}
        return {**super().said, "gallery": json.dumps(said)}

    @property
    def unit(self) -> int:
        return _UNIT

    @property
    def typical(self) -> int:
        """That of the mean of all buckets' networks."""
        members, numbers = self.gallery.members, self.gallery.of_bucket[: len(self.gallery.spec.buckets)]
        return round(_UNIT * float(np.mean([members[number].operations for number in numbers])) / members[0].operations)

    def price(self, scene: Scene, grid: Grid, cost: np.ndarray) -> np.ndarray:
        """By the buckets of the scene's cells where the image gallery knows them."""
        buckets = read_scene(self.gallery.images, scene.digest)
        return cost * (self.typical if buckets is None else tile_costs(self.gallery, buckets, grid))

    def compile(self, dtypes: Iterable[str], recipe: Recipe) -> None:
        compile_reading(dtypes, "float32")
        compile_kernels((), recipe.precision == "bf16", self.model.logits, self.model.spec.task == "points")

    def make_engine(self, recipe: Recipe, grids: Sequence[Grid], where: torch.device, options: Options) -> Engine:
        return GalleryEngine(self.gallery, recipe, grids, where, options.threads, options.gallery_memory * _MB)

    def report(self, engine: Engine, report: RankReport) -> None:
        assert isinstance(engine, GalleryEngine)
        networks = engine.networks
        report.add_seconds(engine.seconds)
        report.cells = engine.tell()
        report.networks = {"loads": networks.loads, "swaps": networks.swaps, "peak_mb": networks.peak / _MB}


def tile_costs(gallery: ModelGallery, buckets: np.ndarray, grid: Grid) -> np.ndarray:
    """Thousandths of the mono model's forward pass of each tile, int64 (ny * nx,). buckets: uint8, of the scene's cells."""
    count, cell = grid.core // gallery.spec.cell, gallery.spec.cell
    whole = np.full((grid.shape[0] * count, grid.shape[1] * count), NO_BUCKET, np.uint8)
    whole[: buckets.shape[0], : buckets.shape[1]] = buckets[: whole.shape[0], : whole.shape[1]]
    numbers = gallery.of_bucket[whole]
    unit = gallery.members[0].operations * (grid.core + 2 * grid.halo) ** 2 / _UNIT

    def cost(tile: int) -> float:
        row, col = (count * k for k in divmod(tile, grid.shape[1]))
        parts = rectangles(numbers[row : row + count, col : col + count])
        return sum(gallery.members[n].operations * (cell * r.height + 2 * grid.halo) * (cell * r.width + 2 * grid.halo) for n, r in parts)

    return np.array([round(cost(tile) / unit) for tile in range(grid.size)], np.int64)


def opener_of(model: str) -> Callable[[Comm, Options], Route]:
    """What opens the route of a model, collectively, by what its folder holds: networks of a gallery, or one network."""
    return open_gallery_route if is_gallery(model) else open_route


def open_gallery_route(comm: Comm, options: Options) -> GalleryRoute:
    """That of the model gallery that was asked for; rank 0 opens and checks it for all. Collective. Raises UsageError."""
    return _route_of(options, on_root(comm, lambda: _open(options)))


def read_gallery_route(options: Options) -> GalleryRoute:
    """The same without MPI."""
    return _route_of(options, _open(options))


def _open(options: Options) -> ModelGallery:
    """The gallery, if the options suit it. Raises UsageError."""
    gallery = open_gallery(Path(options.model), options.any_network)
    if options.core % gallery.spec.cell:
        raise UsageError(f"--core {options.core}: wanted a multiple of the gallery's cell of {gallery.spec.cell} pixels")
    if options.halo not in (-1, gallery.halo):
        raise UsageError(f"--halo {options.halo}: a gallery has one halo, its largest: {gallery.halo}")
    gallery.spec.reading.check(options, gallery.spec.bands)
    check_budget(gallery.members, options.gallery_memory * _MB)
    return gallery


def _route_of(options: Options, gallery: ModelGallery) -> GalleryRoute:
    name, cell = Path(options.model).resolve().name, gallery.spec.cell
    mono = gallery.members[0].load()
    model = dataclasses.replace(mono, name=name, spec=gallery.said, halo=gallery.halo, stride=cell, digest=gallery.digest)
    return GalleryRoute(model, cell, gallery=gallery)
