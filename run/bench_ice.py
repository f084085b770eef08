"""Times ice labelling tile by tile against OpenCV on a whole image: see bench_ice.sh."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from hpcseg.kernels import ice, veil
from hpcseg.synthetic import IceScene
from hpcseg.tiles import Grid, Window

RULE = ice.Rule()
BLOCK = 2048


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {"size": 8192, "core": 4096, "repeat": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    values, small = draw(given.size), draw(256)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "opencv": whole_image,
        "published": lambda image: published(image, given.core),
        "default": lambda image: default(image, given.core),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    maps = {name: way(small) for name, way in ways.items()}
    for _ in range(given.repeat):
        for name, way in ways.items():
            begin = time.perf_counter()
            maps[name] = way(values)
            seconds[name].append(time.perf_counter() - begin)
    for name, each in seconds.items():
        print(f"{name}={given.size**2 / statistics.median(each) / 1e6:.1f} Mpx/s")
    for name in ("published", "default"):
        print(f"{name}_over_opencv={statistics.median(a / b for a, b in zip(seconds['opencv'], seconds[name], strict=True)):.3f}")
    print(f"same={int(np.array_equal(maps['opencv'], maps['published']))}")


if __name__ == "__main__":
    main()
