"""The index teacher: normalised difference of two bands, smoothed, above a threshold. Ponds, open water, vegetation."""

from __future__ import annotations

import math
from typing import Any

from hpcseg.config import Class
from hpcseg.errors import SceneError, UsageError
from hpcseg.kernels.index import label_index
from hpcseg.labels.teacher import Fit, Step, Teacher, View
from hpcseg.raster import Entry, Scene, Values, read_added_offsets

COLORS = {"index": "#d95f30", "pond": "#2f7fd0", "water": "#15508c", "vegetation": "#3f8f3a"}


class IndexStep(Step):
    """Labels in one pass. size: edge of the median's square."""

    def __init__(self, size: int, above: float) -> None:
        self.halo, self._above = size // 2, above

    def run(self, view: View, fit: Fit, total: Any) -> None:
        label_index(view.values, view.valid, view.core, view.inside, self.halo, self._above, view.planes[0])


def index_teacher(name: str = "index", median: int = 1, above: float = 0.0, offset: float | None = None) -> Teacher:
    """(A - B) / (A + B) of two bands, its median over median x median pixels above `above` = class 1, named `name`.

    offset: added to the stored values first, None = what the scene's metadata say. Raises UsageError.
    """
    if median < 1 or median % 2 == 0:
        raise UsageError(f"--median {median}: wanted an odd number of pixels, 1 = none")
    if not math.isfinite(above):
        raise UsageError(f"--above {above}: wanted a number")
    if name not in COLORS:
        raise UsageError(f"--name {name}: wanted one of {', '.join(COLORS)}")

    def read(entry: Entry, scene: Scene) -> tuple[Scene, Values]:
        if len(scene.bands) != 2:
            raise SceneError(f"gives {len(scene.bands)} bands of its {scene.count}, an index takes 2: choose them with --bands A,B")
        moved = added_offsets(entry, scene, offset)
        return scene, Values((1.0, 1.0), moved, "any")

    classes = (Class(name="other", color="#e6e2da"), Class(name=name, color=COLORS[name]))
    parameters = {"name": name, "median": median, "above": above, "offset": offset}
    return Teacher("index", parameters, classes, 2, "float32", (IndexStep(median, above),), read)


def added_offsets(entry: Entry, scene: Scene, offset: float | None) -> tuple[float, ...]:
    """What is added to each band's values: `offset`, or what the metadata say (Sentinel-2 since baseline 04.00)."""
    return (offset,) * len(scene.bands) if offset is not None else read_added_offsets(entry.parts, scene.bands)
