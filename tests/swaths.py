"""A manifest of an archive that no disk here could hold: scenes as rotated swaths, sizes and footprints only."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path


def swath(height: int, width: int, degrees: float, share: float) -> str:
    """WKT of a rectangle turned about the scene's centre that is `share` of its width wide, cut at the scene's edge by the tiles."""
    angle = math.radians(degrees)
    down, across = height * 0.75, width * share / 2
    corners = [(-across, -down), (across, -down), (across, down), (-across, down), (-across, -down)]
    turned = [
        (x * math.cos(angle) - y * math.sin(angle) + width / 2, x * math.sin(angle) + y * math.cos(angle) + height / 2) for x, y in corners
    ]
    return "POLYGON ((" + ", ".join(f"{x:.1f} {y:.1f}" for x, y in turned) + "))"


def write_manifest(path: Path, scenes: int, height: int, width: int, seed: int = 1) -> None:
    """`scenes` scenes of one size, each a swath turned by 8 to 18 degrees that fills 60 to 90 % of the width."""
    chance = random.Random(seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["scene", "height", "width", "footprint"])
        for k in range(scenes):
            rows.writerow([f"scene_{k:05d}", height, width, swath(height, width, chance.uniform(8, 18), chance.uniform(0.6, 0.9))])
