"""What trees.sh does beside hpcseg: python run/trees.py cut|place|judge OUT ...

cut OUT PICTURE BOXES PIXEL RESOLUTION   three strips at a coarser resolution, tables of the centres of their boxes, a manifest
place OUT SCENE BOXES RESOLUTION         a scene at a coarser resolution, a table of the centres of its boxes on the ground
judge OUT RESOLUTION                     F1 of what was counted beside a regular grid and peaks of colour, and a picture of both forests
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from osgeo import gdal
from scipy import ndimage

from hpcseg.area import pixel_to_map, pixel_width_m
from hpcseg.kernels.peaks import find_peaks, neighbours
from hpcseg.matching import Figures, Objects, figures, match
from hpcseg.raster import describe, read_points
from hpcseg.tiles import Window

gdal.UseExceptions()
PARTS = ("train", "validation", "test")
OTHER = "other"
# Least F1 on the third strip, by distance in metres.
WANTED = {2.0: 0.65, 1.0: 0.40}
SPACINGS, OFFSETS = np.arange(1.5, 8.01, 0.25), np.arange(8) / 8
COLOURS = {
    "bright": (1, 1, 1), "dark": (-1, -1, -1), "green": (-1, 2, -1), "red less blue": (1, 0, -1), "red and green less blue": (1, 1, -2),
}  # fmt: skip


class Forest(NamedTuple):
    """A picture, u8 (height, width, 3), with metres of its pixels, and its trees, (n, 2) row and column in metres."""

    picture: np.ndarray
    metres: float
    there: np.ndarray


class Row(NamedTuple):
    """What a method reaches in a forest."""

    forest: str
    within: float
    method: str
    f1: float
    count_error: float


class Peaks(NamedTuple):
    """How trees are found by colour: weights of red, green and blue, smoothing and least distance in metres, share that is too faint."""

    colour: str
    sigma: float
    distance: float
    faint: float


def cut(out: Path, picture: Path, boxes: Path, pixel: float, resolution: float) -> None:
    """Strips at the resolution; a tree is in the strip of its box's centre."""
    scene = describe(str(picture), picture.stem)
    trees, step = read_points(str(boxes), scene), scene.height // len(PARTS)
    for k, part in enumerate(PARTS):
        height, width = _translate(picture, out / "strips" / f"{part}.tif", [0, k * step, scene.width, step], resolution / pixel)
        rows, cols = (trees.rows - k * step) * height / step, trees.cols * width / scene.width
        _write(out / "strips" / f"{part}.csv", ("row", "col"), [(r, c) for r, c in zip(rows, cols, strict=True) if 0 <= r < height])
    _write(out / "strips" / "scenes.csv", ("scene", "split"), [(f"{part}.tif", part) for part in PARTS])


def place(out: Path, path: Path, boxes: Path, resolution: float) -> None:
    """A scene at the resolution, and its trees on the ground."""
    scene = describe(str(path), path.stem)
    to_map, metres = pixel_to_map(scene.place), pixel_width_m(scene.place, scene.height, scene.width)
    if to_map is None or metres is None:
        sys.exit(f"{path} does not say where it lies: wanted a scene on the ground")
    trees = read_points(str(boxes), scene)
    _translate(path, out / "other" / f"{OTHER}.tif", [0, 0, scene.width, scene.height], resolution / metres)
    _write(out / "other" / f"{OTHER}.csv", ("x", "y"), zip(*to_map(trees.rows, trees.cols), strict=True))


def _translate(source: Path, target: Path, window: list[int], factor: float) -> tuple[int, int]:
    """A window by averages of `factor` pixels; its height and width."""
    height, width = round(window[3] / factor), round(window[2] / factor)
    gdal.Translate(str(target), str(source), srcWin=window, height=height, width=width, resampleAlg="average")
    return height, width


def _write(path: Path, columns: tuple[str, ...], rows: object) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)  # type: ignore[arg-type]  # of any kind


def read_forest(raster: Path, table: Path, metres: float) -> Forest:
    """A forest with its trees. metres: of a pixel."""
    scene = describe(str(raster), raster.stem)
    trees = read_points(str(table), scene)
    pixels = gdal.Open(str(raster)).ReadAsArray()[:3].transpose(1, 2, 0)
    return Forest(pixels, metres, np.column_stack([trees.rows, trees.cols]) * metres)


def compare(forest: Forest, found: np.ndarray, distance: float) -> Figures:
    """Figures of places, (n, 2) in metres."""
    return figures(_objects(forest.there), _objects(found), distance)


def _objects(places: np.ndarray) -> Objects:
    zeros = np.zeros(len(places), np.int64)
    return Objects(zeros, places[:, 0], places[:, 1], zeros.astype(np.uint8))


def best_grid(forest: Forest, distance: float) -> tuple[Figures, float]:
    """The best regular grid and its spacing."""
    height, width = (n * forest.metres for n in forest.picture.shape[:2])
    best, spacing = Figures(0, 0, 0), 0.0
    for step, down, right in product(SPACINGS, OFFSETS, OFFSETS):
        places = np.stack(np.meshgrid(np.arange(down * step, height, step), np.arange(right * step, width, step), indexing="ij"), -1)
        found = compare(forest, places.reshape(-1, 2), distance)
        if found.f1 > best.f1:
            best, spacing = found, step
    return best, float(spacing)


def peaks_of(forest: Forest, rule: Peaks) -> np.ndarray:
    """Places of the highest values of a smoothed colour, (n, 2) in metres."""
    values = ndimage.gaussian_filter(forest.picture.astype(float) @ COLOURS[rule.colour], rule.sigma / forest.metres)
    order = np.searchsorted(np.sort(values, axis=None), values) / values.size
    levels = (order * 250).astype(np.uint8)
    steps = neighbours(rule.distance, (forest.metres, forest.metres))
    return (find_peaks(levels, Window(0, 0, *levels.shape), steps, round(250 * rule.faint))[:, :2] + 0.5) * forest.metres


def best_peaks(forest: Forest) -> Peaks:
    """The rule of the highest F1 within 2 m."""
    rules = [Peaks(*each) for each in product(COLOURS, (0.3, 0.5, 0.8, 1.2), (1.0, 1.5, 2.0, 3.0), (0.0, 0.3, 0.5, 0.7))]
    return max(rules, key=lambda rule: compare(forest, peaks_of(forest, rule), 2.0).f1)


def read_counted(folder: Path, metres: float) -> np.ndarray:
    """Places that hpcseg count found in one scene, (n, 2) in metres."""
    with (folder / "points.csv").open(newline="") as file:
        return np.array([(float(row["row"]), float(row["col"])) for row in csv.DictReader(file)]).reshape(-1, 2) * metres


def rows_of(name: str, evaluation: Path, forest: Forest, rule: Peaks) -> Iterator[Row]:
    """By distance, the detector's figures as hpcseg evaluate found them, and those of what it is compared with."""
    for told in json.loads(evaluation.read_text())["figures"]:
        if (told["scene"], told["class"]) == ("all", "all"):
            grid, spacing = best_grid(forest, told["within"])
            colour = compare(forest, peaks_of(forest, rule), told["within"])
            yield Row(name, told["within"], "detector", told["f1"], told["count_error"])
            yield Row(name, told["within"], f"grid of {spacing:g} m", grid.f1, grid.count_error)
            yield Row(name, told["within"], "colour", colour.f1, colour.count_error)


def judge(out: Path, resolution: float) -> None:
    """Print a table and lines, draw the forests; leaves with 1 where F1 on the third strip is too low."""
    forests = {name: read_forest(out / folder / f"{name}.tif", out / folder / f"{name}.csv", resolution)
               for name, folder in (("validation", "strips"), ("test", "strips"), (OTHER, "other"))}  # fmt: skip
    rule = best_peaks(forests.pop("validation"))
    print(f"colour: {rule.colour}, smoothed by {rule.sigma:g} m, {rule.distance:g} m apart, without the {100 * rule.faint:.0f} % faintest")
    rows = [row for name, forest in forests.items() for row in rows_of(name, out / f"count_{name}" / "evaluation.json", forest, rule)]
    print(f"{'forest':<8}{'within':>8}  {'method':<18}{'F1':>8}{'count error':>14}")
    for row in rows:
        print(f"{row.forest:<8}{row.within:>6g} m  {row.method:<18}{row.f1:>8.3f}{row.count_error:>+14.3f}")
    for name, forest in forests.items():
        draw(out / f"{name}.png", forest, read_counted(out / f"count_{name}", resolution), 2.0)
        print(f"wrote {out / name}.png")
    for row in rows:
        print(f"{row.forest}_{row.method.split()[0]}_f1_within_{row.within:g}={row.f1:.4f}")
    reached = {row.within: row.f1 for row in rows if (row.forest, row.method) == ("test", "detector")}
    low = [f"{reached[within]:.3f} within {within:g} m, wanted {least}" for within, least in WANTED.items() if reached[within] < least]
    if low:
        sys.exit(f"trees: F1 on the third strip is {', '.join(low)}")


def draw(path: Path, forest: Forest, found: np.ndarray, distance: float) -> None:
    """The forest with its trees: found ones, missed ones, and what was found where there is none."""
    partner = match(_objects(forest.there), _objects(found), distance)
    missed = np.setdiff1d(np.arange(len(forest.there)), partner)
    height, width = forest.picture.shape[:2]
    figure = Figure(figsize=(12, 12 * height / width + 0.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(forest.picture, extent=(0, width * forest.metres, height * forest.metres, 0))
    groups = {"found": (found[partner >= 0], "o", "#ffd166"), "false": (found[partner < 0], "x", "#ef476f"),
              "missed": (forest.there[missed], "s", "#4cc9f0")}  # fmt: skip
    for name, (places, marker, color) in groups.items():
        face = {"color": color} if marker == "x" else {"facecolors": "none", "edgecolors": color}
        axes.scatter(places[:, 1], places[:, 0], s=60, marker=marker, linewidths=1.6, label=f"{name} {len(places)}", **face)
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.0), ncols=3, framealpha=0.85)
    axes.set(xlabel="m", ylabel="m")
    figure.savefig(path)


def main(command: str, out: str, *words: str) -> None:
    """Do one of the three."""
    if command == "cut":
        cut(Path(out), Path(words[0]), Path(words[1]), float(words[2]), float(words[3]))
    elif command == "place":
        place(Path(out), Path(words[0]), Path(words[1]), float(words[2]))
    else:
        judge(Path(out), float(words[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
