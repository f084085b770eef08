"""Times ice labelling tile by tile against OpenCV on a whole image: see bench_ice.sh."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from osgeo import gdal

from hpcseg import mpi, store
from hpcseg.kernels import ice, veil
from hpcseg.labels.ice import ice_teacher
from hpcseg.labels.run import LabelOptions, label
from hpcseg.mpi import Comm
from hpcseg.synthetic import IceScene
from hpcseg.tiles import Grid, Window

RULE = ice.Rule()
BLOCK = 2048
FILES = {"raw": (), "deflate": ("COMPRESS=DEFLATE", "PREDICTOR=2", "ZLEVEL=1")}


def draw(size: int) -> np.ndarray:
    """A sea-ice scene, u8 (size, size, 3): one block of floes and leads under thin cloud, laid side by side."""
    picture, _ = IceScene(1, 0, BLOCK, BLOCK, scale=0.3, clouds=0.2).block(Window(0, 0, BLOCK, BLOCK))
    times = -(-size // BLOCK)
    return np.ascontiguousarray(np.tile(picture.transpose(1, 2, 0), (times, times, 1))[:size, :size])


def whole_image(values: np.ndarray) -> np.ndarray:
    """The published filter by OpenCV calls, all in memory: labels u8."""
    water = cv2.inRange(cv2.cvtColor(values, cv2.COLOR_RGB2HSV), (0, 0, 0), (185, 255, RULE.water))
    white = cv2.bitwise_or(values, cv2.cvtColor(water, cv2.COLOR_GRAY2RGB))
    gray = cv2.cvtColor(white, cv2.COLOR_RGB2GRAY)
    background = cv2.medianBlur(cv2.dilate(gray, np.ones((7, 7), np.uint8)), 155)
    difference = cv2.bitwise_not(cv2.absdiff(gray, background))
    _, clear = cv2.threshold(difference, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    shown = cv2.normalize(cv2.bitwise_and(difference, clear), None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    shown = cv2.normalize(cv2.threshold(shown, 235, 0, cv2.THRESH_TRUNC)[1], None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    labels = cv2.add(cv2.threshold(shown, RULE.thick - 1, 1, cv2.THRESH_BINARY)[1], 1)
    return cv2.bitwise_and(labels, cv2.bitwise_not(water))


class Windows:
    """Tiles of a scene, each read into one buffer as a reader would: core and halo as far as the scene goes."""

    def __init__(self, values: np.ndarray, core: int, halo: int) -> None:
        self.values, self.grid = values.reshape(values.shape[0], -1), Grid(*values.shape[:2], core, halo)
        edge = core + 2 * halo
        self.buffer, self.valid = np.zeros((edge, 3 * edge), np.uint8), np.ones((edge, edge), np.uint8)

    def __iter__(self) -> Iterator[tuple[Window, Window, Window]]:
        """Of each tile its core in the scene, and core and scene within the buffer that now holds it."""
        for tile in range(self.grid.size):
            core, window = self.grid.core_window(tile), self.grid.window(tile)
            there = window.intersect(self.grid.extent)
            inside = there.relative_to(window)
            self.buffer[inside.row : inside.stop[0], 3 * inside.col : 3 * inside.stop[1]] = self.values[
                there.row : there.stop[0], 3 * there.col : 3 * there.stop[1]
            ]
            yield core, core.relative_to(window), inside


def published(values: np.ndarray, core: int) -> np.ndarray:
    """The published filter tile by tile: a pass to the scratch plane, and one from it to labels."""
    windows, counts = Windows(values, core, ice.HALO), np.zeros((2, 256), np.int64)
    codes, labels = np.empty((2, *values.shape[:2]), np.uint8)
    for here, inner, inside in windows:
        ice.take_background(windows.buffer, windows.valid, inner, inside, RULE, counts, codes[here.slices])
    table = ice.fit_background(counts, RULE).labels
    for tile in range(windows.grid.size):
        here = windows.grid.core_window(tile)
        ice.look_up(codes[here.slices], table, labels[here.slices])
    return labels


def default(values: np.ndarray, core: int) -> np.ndarray:
    """The default filter tile by tile: a pass that counts colours, and one that labels."""
    windows, counts = Windows(values, core, veil.HALO), np.zeros((256, 256), np.int64)
    labels, mask = np.empty((2, *values.shape[:2]), np.uint8)
    for _, inner, _ in windows:
        veil.count_colours(windows.buffer, windows.valid, inner, counts)
    table = veil.fit_colours(counts, RULE).table
    for here, inner, inside in windows:
        veil.see_through(windows.buffer, windows.valid, inner, inside, table, labels[here.slices], mask[here.slices])
    return labels


def write(values: np.ndarray, path: Path, options: tuple[str, ...]) -> None:
    """A GeoTIFF of blocks of 512, interleaved by pixel."""
    height, width, bands = values.shape
    blocks = ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "INTERLEAVE=PIXEL"]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), width, height, bands, gdal.GDT_Byte, [*blocks, *options])
    dataset.WriteArray(values.transpose(2, 0, 1))


def read(path: Path) -> np.ndarray:
    """A whole image, u8 (h, w, bands)."""
    dataset = gdal.Open(str(path))
    pixels = np.empty((dataset.RasterYSize, dataset.RasterXSize, dataset.RasterCount), np.uint8)
    dataset.ReadAsArray(buf_obj=pixels, interleave="pixel")
    return pixels


def stream(comm: Comm, scene: Path, core: int) -> Path:
    """What `hpcseg label ice --filter published --threads 1` does once it has started: from a file to labels, mask and shares in a file."""
    out = scene.with_name("out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    label(comm, ice_teacher("published"), LabelOptions((str(scene),), out=out, core=core), threading.Event())
    return out / f"{scene.stem}.h5"


def labels_of(found: np.ndarray | Path) -> np.ndarray:
    """Labels, which may lie in a prediction file."""
    if isinstance(found, Path):
        stored = store.read(found)
        return store.read_window(stored, stored.layout.grid.extent)
    return found


class Times:
    """Seconds of each round of a way: of the clock, and of all its threads together."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def add(self, way: Callable[[], np.ndarray | Path]) -> np.ndarray | Path:
        wall, cpu = time.perf_counter(), time.process_time()
        found = way()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return found


def ways_to_label(comm: Comm, values: np.ndarray, core: int, folder: Path) -> dict[str, Callable[[], np.ndarray | Path]]:
    """What is timed, by name; writes the files that some read."""
    paths = {name: folder / f"{name}.tif" for name in FILES}
    for name, path in paths.items():
        write(values, path, FILES[name])
    return {
        "opencv": lambda: whole_image(values),
        "kernels": lambda: published(values, core),
        "default": lambda: default(values, core),
        **{f"opencv_{name}": lambda path=path: whole_image(read(path)) for name, path in paths.items()},
        **{f"stream_{name}": lambda path=path: stream(comm, path, core) for name, path in paths.items()},
    }


def compare(ways: dict[str, Callable[[], np.ndarray | Path]], repeat: int) -> tuple[dict[str, Times], bool]:
    """Run all ways in turn, and once before, as they compile and open libraries; whether all published filters agree."""
    times = {name: Times() for name in ways}
    same = True
    for k in range(repeat + 1):
        wanted = None
        for name, way in ways.items():
            found = labels_of((times[name] if k else Times()).add(way))
            wanted = found if wanted is None else wanted
            same = same and (name == "default" or np.array_equal(found, wanted))
    return times, same


def report(times: dict[str, Times], pixels: int) -> None:
    """Print medians, of the clock and of processor time, and how many times as fast as OpenCV each way is."""
    print(f"cores={len(os.sched_getaffinity(0))}")
    for name, each in times.items():
        wall, cpu = (pixels / statistics.median(seconds) / 1e6 for seconds in (each.wall, each.cpu))
        print(f"{name}={wall:.1f} Mpx/s\n{name}_cpu={cpu:.1f} Mpx/s")
    pairs = [(name, "opencv") for name in times if not name.startswith("opencv")]
    for name, base in [*pairs, *((f"stream_{each}", f"opencv_{each}") for each in FILES)]:
        for kind, suffix in (("wall", ""), ("cpu", "_cpu")):
            ratios = [a / b for a, b in zip(getattr(times[base], kind), getattr(times[name], kind), strict=True)]
            print(f"{name}_over_{base}{suffix}={statistics.median(ratios):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {"size": 8192, "core": 2048, "repeat": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    gdal.UseExceptions()
    comm = mpi.start()
    with TemporaryDirectory() as folder:
        times, same = compare(ways_to_label(comm, draw(given.size), given.core, Path(folder)), given.repeat)
    report(times, given.size**2)
    print(f"same={int(same)}")
    mpi.finish(comm, int(not same))


if __name__ == "__main__":
    main()
