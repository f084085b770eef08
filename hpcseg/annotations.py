"""Annotations: the objects of a scene as people marked them, in its pixels and by their kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hpcseg.area import pixel_width_m
from hpcseg.config import LabelSpec
from hpcseg.errors import UsageError
from hpcseg.kernels.classes import NOT_LABELLED
from hpcseg.raster import Scene, read_points
from hpcseg.truth import resolve_map


class Annotations(NamedTuple):
    """Objects of one scene. path: of the file. rows, cols: float64 (n,), in pixels from the scene's upper left corner. kinds: int64 (n,),
    class numbers. numbers: int64, which of the file's `total` points lie in the scene, whatever their class."""

    path: str
    rows: np.ndarray
    cols: np.ndarray
    kinds: np.ndarray
    numbers: np.ndarray
    total: int


def read_annotations(path: str, scene: Scene, spec: LabelSpec, classes: Sequence[str]) -> Annotations:
    """The objects of a scene, from a file that `raster.read_points` takes.

    spec: its map and ignore say what the values of `field` become; without a map values are the classes' names or numbers, and where
    there is one class alone every point is of it. classes: names.
    Raises SceneError as `raster.read_points`; UsageError for a value without a class.
    """
    points = read_points(path, scene, spec.field)
    table = resolve_map(spec, classes) or {str(k): k for k in range(len(classes))} | {name: k for k, name in enumerate(classes)}
    table |= {str(value): NOT_LABELLED for value in spec.ignore}
    if len(classes) == 1 and not spec.map:
        kinds = np.array([table.get(value, 0) for value in points.values], np.int64)
    else:
        unknown = sorted(set(points.values) - table.keys())
        if unknown:
            wanted = f"wanted {', '.join(table)}: say it in [labels] map, as a class or as \"ignore\", or another [labels] field"
            raise UsageError(f"{path}: a point of {scene.name} is {unknown[0]!r}, {wanted}")
        kinds = np.array([table[value] for value in points.values], np.int64)
    keep = kinds != NOT_LABELLED
    return Annotations(path, points.rows[keep], points.cols[keep], kinds[keep], points.numbers, points.total)


def tell_outside(found: Sequence[Annotations]) -> list[str]:
    """A phrase for each file that has points outside every scene."""
    inside: dict[str, set[int]] = {}
    for each in found:
        inside.setdefault(each.path, set()).update(each.numbers.tolist())
    totals = {each.path: each.total for each in found}
    return [
        f"{path}: {totals[path] - len(numbers)} of {totals[path]} points lie outside every scene"
        for path, numbers in inside.items()
        if len(numbers) < totals[path]
    ]


def pixel_length(scene: Scene, pixel_size: float = 0.0) -> float:
    """Length of a pixel in ground units: metres where the scene says where it lies, else `pixel_size`; without one 1, a pixel."""
    return pixel_width_m(scene.place, scene.height, scene.width) or pixel_size or 1.0
