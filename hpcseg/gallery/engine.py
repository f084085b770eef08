"""The engine of a gallery: each cell of a window gets its code and bucket, and goes through that bucket's network.

Features, code and segmentation in one pass over a tile. Features are computed on the CPU, one cell at a time, wherever the networks run:
a cell's code is the same bits everywhere. Cells of one network that form a rectangle go through it together, with the halo around them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpcseg import device
from hpcseg.gallery.cells import rectangles
from hpcseg.gallery.embed import Embedder
from hpcseg.gallery.members import ModelGallery
from hpcseg.gallery.networks import Networks, Prepared
from hpcseg.gallery.spec import MONO_BUCKET, NO_BUCKET
from hpcseg.inference.engine import Recipe, planes_on_device, scores_of, window_tensor, write_planes
from hpcseg.kernels.labels import NODATA
from hpcseg.mapping.report import STAGES
from hpcseg.models.optimise import DTYPES
from hpcseg.stream import Buffer, Item
from hpcseg.tiles import Grid, Window

_HELD = 8


class Part(NamedTuple):
    """Cells of an item that go through one network together. place: in pixels of the tile's core, also beyond the scene."""

    network: int
    item: Item
    place: Window


class GalleryEngine:
    """T threads map T tiles at once, each with one thread of torch's, and share the networks. Where all of these fit into the budget a
    thread takes one tile after the other, else eight at once, whose parts it maps network by network, so that few are swapped.

    seconds: by stage, summed over threads. cells: int64 (256,), cells of each bucket.
    """

    def __init__(
        self, gallery: ModelGallery, recipe: Recipe, grids: Sequence[Grid], where: torch.device, threads: int, budget: int
    ) -> None:
        self.threads, self._gallery, self._recipe, self._grids, self._where = threads, gallery, recipe, grids, where
        self.networks = Networks(gallery.members, recipe, where, budget)
        self.depth = 1 if self.networks.fit_together else _HELD
        self._embedder = Embedder(gallery.images)
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.cells = np.zeros(256, np.int64)
        self._lock = threading.Lock()

    def make_buffer(self) -> Buffer:
        recipe, count = self._recipe, self._recipe.core // self._gallery.spec.cell
        tensor, values = window_tensor(recipe.edge, recipe.model.spec.bands, "fp32", pinned=self._where.type == "cuda")
        planes = [np.empty((recipe.core, recipe.core), np.uint8) for _ in recipe.planes]
        buckets = np.empty((count, count), np.uint8)
        return Buffer(values, np.zeros((recipe.edge, recipe.edge), np.uint8), planes, tensor, buckets)

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        device.settle_threads()
        with torch.inference_mode():
            while held := list(islice(items, self.depth)):
                parts = sorted((part for item in held for part in self._look(item)), key=lambda part: part.network)
                for number, same in groupby(parts, key=lambda part: part.network):
                    with self._timed("segment"), self.networks.use(number) as network:
                        for part in same:
                            self._segment(network, part)
                for item in held:
                    done(item)

    def _look(self, item: Item) -> list[Part]:
        """Find the bucket of each cell of an item, and share its cells out to networks."""
        buffer, cell = item.buffer, self._gallery.spec.cell
        core = self._grids[item.scene].core_window(item.tile)
        buffer.buckets[...] = NO_BUCKET
        for plane in buffer.planes:
            plane[...] = NODATA
        for row in range(0, core.height, cell):
            for col in range(0, core.width, cell):
                place = Window(row, col, min(cell, core.height - row), min(cell, core.width - col))
                buffer.buckets[row // cell, col // cell] = self._bucket(buffer, place)
        numbers = self._gallery.of_bucket[buffer.buckets]
        return [Part(number, item, Window(*(cell * n for n in rectangle))) for number, rectangle in rectangles(numbers)]

    def _bucket(self, buffer: Buffer, place: Window) -> int:
        """The bucket of a cell. place: what of it lies in the scene, in pixels of the core."""
        halo, bands, cell = self._recipe.model.halo, self._recipe.model.spec.bands, self._gallery.spec.cell
        row, col = place.row + halo, place.col + halo
        if not buffer.valid[row : row + place.height, col : col + place.width].any():
            return NO_BUCKET
        with self._timed("features"):
            own = buffer.values[row : row + cell, col * bands : (col + cell) * bands]
            features = self._embedder.features(own, (place.height, place.width))
        with self._timed("hash"):
            bucket, _ = self._embedder.bucket(self._embedder.code(features))
        with self._lock:
            self.cells[bucket] += 1
        return bucket

    def _segment(self, network: Prepared, part: Part) -> None:
        """Map one part: its pixels and a halo around them through the network, its labels into the item's planes."""
        buffer, halo = part.item.buffer, self._recipe.model.halo
        around = part.place.grow(halo).relative_to(Window(-halo, -halo, 0, 0))
        window = buffer.extra[(slice(None), slice(None), *around.slices)]
        # Precision and layout are those of a window that was read for this network alone.
        window = window.to(self._where, DTYPES[self._recipe.precision]).contiguous(memory_format=torch.channels_last)
        logits = network.run(window)[0]
        core = self._grids[part.item.scene].core_window(part.item.tile)
        inside = part.place.intersect(Window(0, 0, core.height, core.width))
        valid = np.ascontiguousarray(buffer.valid[around.slices])
        targets = [plane[inside.slices] for plane in buffer.planes]
        write_core(network.recipe, logits, valid, Window(halo, halo, inside.height, inside.width), targets)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        with self._lock:
            self.seconds[stage] += time.perf_counter() - start

    def tell(self) -> dict[str, int]:
        """Cells of each bucket by its number, those beyond the gallery's max_distance as "mono"."""
        return {"mono" if k == MONO_BUCKET else str(k): int(n) for k, n in enumerate(self.cells) if n}


def write_core(recipe: Recipe, logits: Tensor, valid: np.ndarray, core: Window, targets: Sequence[np.ndarray]) -> None:
    """Write the planes of a core, u8 (height, width) each, of a window of logits (c, H, W) on any device. valid: u8 (H, W)."""
    if logits.device.type == "cpu":
        write_planes(recipe, scores_of(logits), valid, core, targets)
        return
    planes = planes_on_device(recipe, logits[(slice(None), *core.slices)][None])
    for target, plane in zip(targets, planes, strict=True):
        target[...] = np.where(valid[core.slices] != 0, plane[0].cpu().numpy(), np.uint8(NODATA))
