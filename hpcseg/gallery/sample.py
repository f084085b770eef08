"""The sample of cells that a gallery is built from: drawn by seed and scene alone, the same for any number of ranks."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hpcseg.gallery.archive import Archive, Cell, CellEngine, visit
from hpcseg.gallery.embed import Encoder
from hpcseg.mapping.options import MapOptions
from hpcseg.mpi import Comm, Pulse, share_out
from hpcseg.raster import Scene, estimate_cost

_VALID = 0.5
_BLOCK = 4
_MANY_SCENES = 20
_MOST_BYTES = 1_000_000_000


class Sample(NamedTuple):
    """scene, tile: int64 (n,), of all cells in the order they were drawn; tile in the grid of cells. mine: int64 (m,), rising, those whose
    pixels this rank holds; pixels: float32 (m, bands, edge, edge), as the encoder sees them."""

    scene: np.ndarray
    tile: np.ndarray
    mine: np.ndarray
    pixels: np.ndarray


def draw_sample(comm: Comm, pulse: Pulse, archive: Archive, encoder: Encoder, options: MapOptions, wanted: int, seed: int) -> Sample:
    """Up to `wanted` cells at least half of which is valid, as evenly over the archive as chance has it. Collective.

    pixels: a gigabyte at most over all ranks; `most_cells` says how many cells that is.
    """
    wanted = min(wanted, most_cells(encoder))
    queue = order_cells(comm, archive, seed)
    kept: list[tuple[int, int]] = []
    held: dict[tuple[int, int], np.ndarray] = {}
    at = 0
    while len(kept) < wanted and at < len(queue):
        # As many as it should take, by the share of valid cells so far.
        count = math.ceil((wanted - len(kept)) * (at / len(kept) if kept else 1))
        batch = queue[at : at + count]
        at += len(batch)
        found = _read_cells(comm, pulse, archive, encoder, options, batch)
        valid = {key for keys in comm.allgather(list(found)) for key in keys}
        kept += [key for key in map(tuple, batch.tolist()) if key in valid][: wanted - len(kept)]
        held |= found
    numbers = {key: k for k, key in enumerate(kept)}
    mine = sorted(numbers[key] for key in held if key in numbers)
    places = np.array(kept, np.int64).reshape(-1, 2)
    edge = archive.cell // encoder.reduce
    pixels = np.empty((len(mine), encoder.bands, edge, edge), np.float32)
    for row, k in enumerate(mine):
        pixels[row] = held.pop(kept[k])
    return Sample(places[:, 0], places[:, 1], np.array(mine, np.int64), pixels)


def most_cells(encoder: Encoder) -> int:
    """How many cells a sample may have, for its memory."""
    return _MOST_BYTES // (4 * encoder.bands * (encoder.cell // encoder.reduce) ** 2)


def order_cells(comm: Comm, archive: Archive, seed: int) -> np.ndarray:
    """All cells that seem to have data, int64 (n, 2) scene and tile, in an order that seed and digests decide. Collective."""
    grids = archive.grids(archive.cell)
    costs = share_out(comm, list(zip(archive.scenes, grids, strict=True)), lambda each: estimate_cost(*each))
    tiles = [np.flatnonzero(cost) for cost in costs]
    chances = [_chances(scene, len(cost), seed)[some] for scene, cost, some in zip(archive.scenes, costs, tiles, strict=True)]
    scene = np.repeat(np.arange(len(tiles)), [len(some) for some in tiles])
    places = np.stack([scene, np.concatenate(tiles)], axis=1)
    return places[np.argsort(np.concatenate(chances), kind="stable")]


def _chances(scene: Scene, size: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, int(scene.digest, 16)]).random(size)


def _read_cells(
    comm: Comm, pulse: Pulse, archive: Archive, encoder: Encoder, options: MapOptions, batch: np.ndarray
) -> dict[tuple[int, int], np.ndarray]:
    """What the encoder sees of this rank's share of some cells, by (scene, tile), of those that are valid enough."""
    grids = archive.grids(archive.cell)
    skip = [np.ones(grid.size, bool) for grid in grids]
    for scene, tile in batch:
        skip[scene][tile] = False

    def look(cell: Cell) -> tuple[tuple[int, int], np.ndarray] | None:
        if cell.valid.sum() < _VALID * archive.cell**2:
            return None
        tile = cell.place.row // archive.cell * grids[cell.scene].shape[1] + cell.place.col // archive.cell
        return (cell.scene, tile), encoder.shrink(cell.pixels, (cell.place.height, cell.place.width))[0].numpy()

    engine = CellEngine(archive, archive.cell, options.threads, look)
    visit(comm, pulse, archive, engine, options, skip)
    return dict(engine.found)


def hold_back(sample: Sample, archive: Archive, share: float, seed: int) -> np.ndarray:
    """Which cells of a sample judge what is built from the others, bool (n,): whole scenes where there are 20 or more, else blocks of
    4 x 4 cells, drawn by the seed until they hold that share. None where there is only one of them."""
    across = np.array([grid.shape[1] for grid in archive.grids(archive.cell)], np.int64)[sample.scene]
    if len(archive.scenes) >= _MANY_SCENES:
        keys = sample.scene[:, None]
    else:
        keys = np.stack([sample.scene, sample.tile // across // _BLOCK, sample.tile % across // _BLOCK], axis=1)
    _, group, sizes = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, len(sizes)]).permutation(len(sizes))
    return np.isin(group, order[: _groups_for(sizes[order], share)])


def _groups_for(sizes: np.ndarray, share: float) -> int:
    """How many groups hold a share: none only for a share of 0, never all."""
    enough = int(np.searchsorted(np.cumsum(sizes), share * np.sum(sizes))) + 1
    return min(enough, len(sizes) - 1) if share else 0
