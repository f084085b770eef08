"""How fast connected components are found here, beside SciPy's label of the whole map in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from hpcseg import store
from hpcseg.environment import stop_requested
from hpcseg.evaluation import scene_of
from hpcseg.georeference import Georeference
from hpcseg.mpi import Comm, Pulse, self_comm
from hpcseg.objects.reduce import Case, Settings, find_components, remove_scratch
from hpcseg.objects.spool import in_raster_order
from hpcseg.tiles import Grid

_PATCH, _CHUNK, _WAVE, _ABOVE = 2000, 512, 2.0, 0.53


# In a process of its own, as its users call it: ours keeps freed memory, which a call that is repeated would find warm.
_SCIPY = """
import sys, time, numpy as np
from scipy import ndimage
labels, structure = np.load(sys.argv[1]), np.ones((3, 3)) if sys.argv[2] == "8" else None
start, cpu = time.perf_counter(), time.process_time()
count = ndimage.label(labels, structure)[1]
print(time.perf_counter() - start, time.process_time() - cpu, count)
"""


class ComponentTimes(NamedTuple):
    """Seconds of the wall clock, and of all threads' processors. bytes: most that waited for other tiles at once."""

    seconds: float
    cpu: float
    scipy_seconds: float
    scipy_cpu: float
    objects: int
    touching: int
    bytes: int


def component_lines(folder: Path, size: int, repeat: int) -> list[str]:
    """Measure one rank with one thread on a made map, 4- and 8-connected; figures are medians over the rounds."""
    folder.mkdir(parents=True, exist_ok=True)
    comm, path = self_comm(), folder / "blobs.h5"
    labels = write_blobs(comm, path, size)
    lines = [f"map={size}x{size} px", f"rounds={repeat}"]
    for connectivity in (4, 8):
        with Pulse(comm, 600.0, stop_requested) as pulse:
            # The first round compiles.
            rounds = [time_components(comm, pulse, path, labels, Settings(connectivity)) for _ in range(repeat + 1)][1:]
        found = ComponentTimes(*(median(values) for values in zip(*rounds, strict=True)))
        lines += [f"{name}_{connectivity}={getattr(found, name):.3f} s" for name in ComponentTimes._fields[:4]]
        lines += [
            f"over_scipy_{connectivity}={median(each.scipy_cpu / each.cpu for each in rounds):.3f}",
            f"rate_{connectivity}={size**2 / 1e6 / found.cpu:.1f} Mpx/s",
            f"objects_{connectivity}={found.objects:.0f}",
            f"on_tile_borders_{connectivity}={found.touching:.0f}",
            f"most_held_{connectivity}={found.bytes:.0f} B",
            f"bytes_per_object_on_a_border_{connectivity}={found.bytes / max(found.touching, 1):.1f}",
        ]
    return lines


def write_blobs(comm: Comm, path: Path, size: int) -> np.ndarray:
    """Make a map of size x size pixels with some 45 objects in 100x100 px, as a prediction file; returns its labels, u8, 0 and 1."""
    layout = store.Layout(Grid(size, size, 2 * _CHUNK, 0), _CHUNK)
    classes = [{"name": "ground", "color": "#dfe6d8"}, {"name": "object", "color": "#b5483a"}]
    store.create(path, layout, {"core": 2 * _CHUNK, "halo": 0}, {"classes": json.dumps(classes)}, Georeference())
    labels = np.empty((size, size), np.uint8)
    rng = np.random.default_rng(0)
    for row in range(0, size, _PATCH):
        for col in range(0, size, _PATCH):
            patch = ndimage.gaussian_filter(rng.random((_PATCH, _PATCH), np.float32), _WAVE, mode="wrap") > _ABOVE
            labels[row : row + _PATCH, col : col + _PATCH] = patch[: size - row, : size - col]
    file = store.Prediction(path, layout, comm)
    for tile in range(layout.grid.size):
        file.write(tile, [labels[layout.grid.core_window(tile).slices]])
    file.close()
    return labels


def time_components(comm: Comm, pulse: Pulse, path: Path, labels: np.ndarray, settings: Settings) -> ComponentTimes:
    """Find, measure and order all objects of a map on one rank, tile by tile from its file; then let SciPy label the array in memory.

    Raises AssertionError if the two do not find the same number.
    """
    stored = store.read(path)
    case = Case(stored, scene_of(stored), np.arange(256) == 1, path.with_name(f".{path.stem}_objects"))

    def find() -> tuple[int, Any]:
        part = find_components(comm, pulse, [case], settings)[0]
        return sum(map(len, in_raster_order(part.spool.blocks, labels.shape[1]))), part

    array = path.with_suffix(".npy")
    np.save(array, labels)
    seconds, cpu, (objects, part) = _timed(find)
    remove_scratch([case])
    words = [sys.executable, "-c", _SCIPY, str(array), "8" if settings.reach else "4"]
    told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=600).stdout.split()
    array.unlink()
    scipy_seconds, scipy_cpu, count = float(told[0]), float(told[1]), int(told[2])
    assert count == objects, f"{objects} objects, SciPy finds {count}"
    return ComponentTimes(seconds, cpu, scipy_seconds, scipy_cpu, objects, part.touching, part.peak)


def _timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    start, cpu = perf_counter(), process_time()
    result = work()
    return perf_counter() - start, process_time() - cpu, result
