"""How long one window takes on this machine, without MPI: what `hpcseg submit` estimates from where no earlier run tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from hpcseg import device
from hpcseg.environment import peak_memory
from hpcseg.errors import SceneError
from hpcseg.inference.engine import CpuEngine, Recipe, make_engine, window_tensor
from hpcseg.inference.options import Options, fixed_values
from hpcseg.inference.route import Route
from hpcseg.mapping.options import describe_entry
from hpcseg.models.optimise import DTYPES
from hpcseg.raster import CellCache, Scene, Values, estimate_cost, list_scenes, open_reader
from hpcseg.tiles import Grid

_READS = 4


class Pace(NamedTuple):
    """Of one window. forward: seconds of one core, or of a GPU in a batch. read: seconds of a reader thread, 0 where no scene could be
    read. memory: bytes of main memory that a forward pass takes for a while. device: where that was measured."""

    forward: float
    read: float
    memory: int
    device: torch.device

    def seconds(self, threads: int) -> float:
        """Of one window on a rank with so many threads: on a CPU all share all work but a scene is read by one, beside a GPU they read."""
        if self.device.type == "cuda":
            return max(self.forward, self.read / max(1, threads - 1))
        return max((self.forward + self.read) / threads, self.read)


def measure_pace(options: Options, route: Route, core: int) -> Pace:
    """Two forward passes and a few reads of the first scene."""
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if device.has_bfloat16() else "fp32"
    recipe = Recipe(route.model, core, precision, options.planes(route.model.spec), batch=options.batch)
    before = peak_memory()
    forward = time_forward(recipe)
    return Pace(forward, time_read(options, recipe), max(0, peak_memory() - before), device.choose())


def time_forward(recipe: Recipe) -> float:
    """Seconds of a window's forward pass, after one that is not counted: of one core, or of a GPU in a batch."""
    where, bands = device.choose(), recipe.model.spec.bands
    engine = make_engine(recipe, [], where, 1)
    device.settle_threads()
    with torch.inference_mode():
        if isinstance(engine, CpuEngine):
            window, _ = window_tensor(recipe.edge, bands, recipe.precision)
            return _second(lambda: engine.logits(window))
        shape = (engine.batch, bands, recipe.edge, recipe.edge)
        batch = torch.zeros(shape, dtype=DTYPES[recipe.precision], device=where).to(memory_format=torch.channels_last)

        def run() -> None:
            engine.network(batch)
            torch.cuda.synchronize()

        return _second(run) / engine.batch


def _second(run: Callable[[], object]) -> float:
    """Seconds of the second of two calls."""
    run()
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def time_read(options: Options, recipe: Recipe) -> float:
    """Seconds of reading and preparing a window of the first scene, the mean of a few; 0 if it cannot be read."""
    try:
        scene = describe_entry(list_scenes(options.scenes, options.assets)[0], options, options.resolution)
    except SceneError:
        return 0.0
    grid = Grid(scene.height, scene.width, recipe.core, recipe.model.halo)
    tiles = np.flatnonzero(estimate_cost(scene, grid))[:_READS]
    # The first compiles; the cache of the others is theirs.
    times = [_read(options, recipe, scene, grid, tiles[k:]) for k in (-1, 0) if len(tiles)]
    return times[-1] / len(tiles) if times else 0.0


def _read(options: Options, recipe: Recipe, scene: Scene, grid: Grid, tiles: np.ndarray) -> float:
    norm, bands, rule = recipe.model.spec.normalisation, len(scene.bands), options.nodata_rule
    values = fixed_values(norm, rule) if norm.kind == "fixed" else Values((1.0,) * bands, (0.0,) * bands, rule)
    reader = open_reader(scene, values, CellCache(options.cache))
    _, array = window_tensor(recipe.edge, bands, recipe.precision)
    valid = np.empty((recipe.edge, recipe.edge), np.uint8)
    begin = time.perf_counter()
    for tile in tiles:
        reader.read(grid.window(int(tile)), grid.halo, array, valid)
    return time.perf_counter() - begin
