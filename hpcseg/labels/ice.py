"""The ice teacher: open water, thin or young and thick or snow-covered ice by colour (arXiv 2303.12719 and 2403.13135)."""

from __future__ import annotations

import base64
import json
import zlib
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from hpcseg.config import Class
from hpcseg.errors import SceneError, UsageError
from hpcseg.kernels import ice, veil
from hpcseg.kernels.ice import Rule, label_by_colour
from hpcseg.labels.index import added_offsets
from hpcseg.labels.teacher import Fit, Scratch, Step, Teacher, View
from hpcseg.raster import Entry, Scene, Values

Filter = Literal["none", "published", "default"]
PLANES = ("labels", "mask")
RULE = Rule()
CLASSES = (
    Class(name="open water", color="#10243f"),
    Class(name="thin ice", color="#6fa8c9"),
    Class(name="thick ice", color="#f2f6f8"),
)


class ColourStep:
    """The plain rule, pixel by pixel."""

    halo = 0
    reads_scene = True
    scratch: Scratch = ""
    reads_scratch = False

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def start(self) -> None:
        return None

    def run(self, view: View, fit: Fit, total: Any) -> None:
        label_by_colour(view.values, view.valid, view.core, self._rule, view.planes[0])

    def fit(self, total: Any, fit: Fit) -> Fit:
        return fit


class Counts:
    """Counts of a scene's pixels, int64."""

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts

    def merge(self, other: Counts) -> Counts:
        return Counts(self.counts + other.counts)


class BackgroundStep:
    """The published filter, first pass: differences from the background into the scratch plane, and their counts."""

    halo = ice.HALO
    reads_scene = True
    scratch: Scratch = "uint8"
    reads_scratch = False

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def start(self) -> Counts:
        return Counts(np.zeros((2, 256), np.int64))

    def run(self, view: View, fit: Fit, total: Counts) -> None:
        ice.take_background(view.values, view.valid, view.core, view.inside, self._rule, total.counts, view.planes[0])

    def fit(self, total: Counts, fit: Fit) -> Fit:
        found = ice.fit_background(total.counts, self._rule)
        tables = {"labels": found.labels.tolist(), "mask": found.mask.tolist()}
        return tables if found.level is not None else tables | {"note": "no cloud told from ice: all differences are equal"}


class LookUpStep:
    """The published filter, second pass: labels and mask from the scratch plane."""

    halo = 0
    reads_scene = False
    scratch: Scratch = ""
    reads_scratch = True

    def start(self) -> None:
        return None

    def run(self, view: View, fit: Fit, total: Any) -> None:
        for name, plane in zip(PLANES, view.planes, strict=True):
            ice.look_up(view.scratch, np.array(fit[name], np.uint8), plane)

    def fit(self, total: Any, fit: Fit) -> Fit:
        return fit


class ColoursStep:
    """The default filter, first pass: the scene's colours."""

    halo = 0
    reads_scene = True
    scratch: Scratch = ""
    reads_scratch = False

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def start(self) -> Counts:
        return Counts(np.zeros((256, 256), np.int64))

    def run(self, view: View, fit: Fit, total: Counts) -> None:
        veil.count_colours(view.values, view.valid, view.core, total.counts)

    def fit(self, total: Counts, fit: Fit) -> Fit:
        found = veil.fit_colours(total.counts, self._rule)
        kept = {"table": _pack(found.table), "snow": found.snow, "water": found.water}
        return json.loads(json.dumps(kept if found.snow else kept | {"note": "cloud cannot be told here: the colour rule stands"}))


class SeeThroughStep:
    """The default filter, second pass: labels and mask by the scene's colours."""

    halo = veil.HALO
    reads_scene = True
    scratch: Scratch = ""
    reads_scratch = False

    def start(self) -> None:
        return None

    def run(self, view: View, fit: Fit, total: Any) -> None:
        veil.see_through(view.values, view.valid, view.core, view.inside, _unpack(fit["table"]), *view.planes)

    def fit(self, total: Any, fit: Fit) -> Fit:
        return fit


def _pack(table: np.ndarray) -> str:
    """A u8 table of 256 x 256 as short text: attributes of HDF5 hold 64 kB."""
    return base64.b85encode(zlib.compress(table.tobytes(), 9)).decode()


@lru_cache(16)
def _unpack(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), np.uint8).reshape(256, 256)


def ice_teacher(
    filtered: Filter = "default", rule: Rule = RULE, stretch: tuple[float, float] | None = None, offset: float | None = None
) -> Teacher:
    """Labels of sea ice from red, green and blue.

    filtered: none, the published filter against thin cloud and shadow, or the default one; both also write the plane mask, 1 where they
    found any. stretch: the values, offset included, that become 0 and 255; None = u8 as it is. offset: added to the stored values
    first, None = what the scene's metadata say. Raises UsageError.
    """
    if not 0 <= rule.water < rule.thick <= 255:
        raise UsageError(f"--water {rule.water} and --thick {rule.thick}: wanted 0 <= water < thick <= 255")
    if stretch is not None and not stretch[0] < stretch[1]:
        raise UsageError(f"--stretch {stretch[0]:g},{stretch[1]:g}: wanted LOW,HIGH with LOW below HIGH")

    def read(entry: Entry, scene: Scene) -> tuple[Scene, Values]:
        if len(scene.bands) != 3:
            raise SceneError(f"gives {len(scene.bands)} bands of its {scene.count}, ice takes red, green and blue: --bands R,G,B")
        if stretch is None and scene.dtype != "uint8":
            raise SceneError(f"has pixels of {scene.dtype}: --stretch LOW,HIGH says which values are black and white")
        low, high = stretch or (0.0, 255.0)
        scale = 255 / (high - low)
        moved = added_offsets(entry, scene, offset)
        return scene, Values((scale,) * 3, tuple((value - low) * scale for value in moved), "all")

    parameters = {"filter": filtered, **rule._asdict(), "stretch": stretch, "offset": offset}
    steps: dict[Filter, tuple[Step, ...]] = {
        "none": (ColourStep(rule),),
        "published": (BackgroundStep(rule), LookUpStep()),
        "default": (ColoursStep(rule), SeeThroughStep()),
    }
    planes = ("labels",) if filtered == "none" else PLANES
    return Teacher("ice", parameters, CLASSES, 3, "uint8", steps[filtered], read, planes, core=2048)
