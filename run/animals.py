"""What animals.sh does beside hpcseg: python run/animals.py list|judge OUT

list OUT    a manifest of the surveys that train and validate, with their labels
judge OUT   F1 of what was counted beside that of peaks of dark colour, whose parameters were chosen on the validation survey
"""

from __future__ import annotations

import csv
import json
import sys
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from osgeo import gdal
from scipy import ndimage

from hpcseg.kernels.peaks import find_peaks, neighbours
from hpcseg.matching import Figures, Objects, figures
from hpcseg.tiles import Window

gdal.UseExceptions()
PIXEL, WITHIN = 0.2, 1.0
# Least F1 of the detector, and what peaks of colour must stay below.
WANTED, TOO_EASY = 0.9, 0.6


class Rule(NamedTuple):
    """Peaks of darkness: smoothing in metres, whether what is around is taken off, and the least darkness, 0 to 254."""

    sigma: float
    contrast: bool
    level: int


def make_manifest(out: Path) -> None:
    """scenes.csv: the surveys have scenes of the same names."""
    with (out / "scenes.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("scene", "id", "label", "split"))
        for part in ("train", "validation"):
            for path in sorted((out / part).glob("*.tif")):
                table.writerow((f"{part}/{path.name}", f"{part}_{path.stem}", f"{part}/truth/{path.stem}.geojson", part))


def read_survey(folder: Path) -> tuple[list[np.ndarray], Objects]:
    """Darkness of a survey's scenes, f32 (h, w) each, and their animals, in metres."""
    paths = sorted(folder.glob("*.tif"))
    pictures = [255 - gdal.Open(str(path)).ReadAsArray().astype(np.float32).mean(0) for path in paths]
    numbers = {path.stem: k for k, path in enumerate(paths)}
    with (folder / "animals.csv").open(newline="") as file:
        rows = [(numbers[row["scene"]], float(row["row"]), float(row["col"])) for row in csv.DictReader(file)]
    return pictures, _objects(np.array(rows).reshape(-1, 3))


def _objects(rows: np.ndarray) -> Objects:
    """Rows of scene, row and column in pixels."""
    return Objects(rows[:, 0].astype(np.int64), rows[:, 1] * PIXEL, rows[:, 2] * PIXEL, np.zeros(len(rows), np.uint8))


def dark_peaks(pictures: list[np.ndarray], rule: Rule) -> Objects:
    """Places that are darker than all around them."""
    found = []
    for k, picture in enumerate(pictures):
        values = ndimage.gaussian_filter(picture, rule.sigma / PIXEL)
        if rule.contrast:
            values -= ndimage.gaussian_filter(picture, 4 * rule.sigma / PIXEL)
        levels = np.clip(values, 0, 254).astype(np.uint8)
        places = find_peaks(levels, Window(0, 0, *levels.shape), neighbours(WITHIN / PIXEL), rule.level)[:, :2] + 0.5
        found.append(np.column_stack([np.full(len(places), k), places]))
    return _objects(np.concatenate(found))


def judge(out: Path) -> None:
    """Print both; leaves with 1 where the detector is not good enough, or animals are too easily found."""
    pictures, there = read_survey(out / "validation")
    rules = [Rule(*each) for each in product((0.1, 0.2, 0.3, 0.45), (False, True), range(20, 221, 10))]
    rule = max(rules, key=lambda rule: figures(there, dark_peaks(pictures, rule), WITHIN).f1)
    pictures, there = read_survey(out / "test")
    colour = figures(there, dark_peaks(pictures, rule), WITHIN)
    told = json.loads((out / "count" / "evaluation.json").read_text())["figures"]
    every = next(each for each in told if (each["scene"], each["within"]) == ("all", WITHIN))
    detector = Figures(every["there"], every["found"], every["matched"])
    with (out / "count" / "counts.csv").open(newline="") as file:
        expected = sum(float(row["expected"]) for row in csv.DictReader(file))
    for name, each in (("detector", detector), ("colour", colour)):
        print(f"{name}_f1={each.f1:.4f}")
        print(f"{name}_count_error={each.count_error:+.4f}")
    print(f"expected_count_error={expected / detector.there - 1:+.4f}")
    if detector.f1 < WANTED or colour.f1 >= TOO_EASY:
        sys.exit(f"animals: F1 is {detector.f1:.3f}, wanted {WANTED} or more; of peaks of colour {colour.f1:.3f}, wanted below {TOO_EASY}")


def main(command: str, out: str) -> None:
    """Do one of the two."""
    {"list": make_manifest, "judge": judge}[command](Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
