"""The ice teacher: open water, thin or young and thick or snow-covered ice by colour (arXiv 2303.12719 and 2403.13135)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from hpcseg.config import Class
from hpcseg.errors import SceneError, UsageError
from hpcseg.kernels.filters import ByBackground, ByColour
from hpcseg.kernels.ice import RULE, Rule, label_by_colour
from hpcseg.labels.index import added_offsets
from hpcseg.labels.teacher import Fit, Scratch, Step, Teacher, View
from hpcseg.prefilter import Counts
from hpcseg.raster import Entry, Scene, Values

Filter = Literal["none", "published", "default"]
# The planes of filtered pictures.
COLOURS, GRAY = ("red", "green", "blue"), "filtered"
CLASSES = (
    Class(name="open water", color="#10243f"),
    Class(name="thin ice", color="#6fa8c9"),
    Class(name="thick ice", color="#f2f6f8"),
)


class ColourStep(Step):
    """The plain rule, pixel by pixel."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def run(self, view: View, fit: Fit, total: Any) -> None:
        label_by_colour(view.values, view.valid, view.core, self._rule, view.planes[0])


class BackgroundStep(Step):
    """The published filter, first pass: differences from the background into the scratch plane, and their counts."""

    halo = ByBackground.halo
    scratch: Scratch = "uint8"

    def __init__(self, found: ByBackground) -> None:
        self._filter = found

    def start(self) -> Counts:
        return Counts(self._filter.start())

    def run(self, view: View, fit: Fit, total: Counts) -> None:
        self._filter.code(view.values, view.valid, view.core, view.inside, total.values, view.planes[0])

    def fit(self, total: Counts, fit: Fit) -> Fit:
        return self._filter.fit(total.values)


class LookUpStep(Step):
    """The published filter, second pass: all planes from the scratch plane."""

    reads_scene = False
    reads_scratch = True

    def __init__(self, found: ByBackground, planes: Sequence[str]) -> None:
        self._filter, self._planes = found, planes

    def run(self, view: View, fit: Fit, total: Any) -> None:
        for name, plane in zip(self._planes, view.planes, strict=True):
            self._filter.look_up(view.scratch, fit, name, plane)


class ColoursStep(Step):
    """The default filter, first pass: the scene's colours."""

    def __init__(self, found: ByColour) -> None:
        self._filter = found

    def start(self) -> Counts:
        return Counts(self._filter.start())

    def run(self, view: View, fit: Fit, total: Counts) -> None:
        self._filter.count(view.values, view.valid, view.core, view.inside, total.values)

    def fit(self, total: Counts, fit: Fit) -> Fit:
        return self._filter.fit(total.values)


class SeeThroughStep(Step):
    """The default filter, second pass: labels and mask by the scene's colours, and the filtered picture where it is among the planes."""

    halo = ByColour.halo

    def __init__(self, found: ByColour, planes: Sequence[str]) -> None:
        self._filter, self._planes = found, planes

    def run(self, view: View, fit: Fit, total: Any) -> None:
        planes = dict(zip(self._planes, view.planes, strict=True))
        labels, mask = planes["labels"], planes["mask"]
        self._filter.label(view.values, view.valid, view.core, view.inside, fit, labels, mask)
        if COLOURS[0] in planes:
            picture = np.empty((*labels.shape, len(COLOURS)), np.uint8)
            self._filter.paint(view.values, view.core, labels, mask, fit, picture.reshape(labels.shape[0], -1))
            for k, name in enumerate(COLOURS):
                planes[name][...] = picture[..., k]


def ice_teacher(
    filtered: Filter = "default", rule: Rule = RULE, stretch: tuple[float, float] | None = None, offset: float | None = None,
    picture: bool = False,
) -> Teacher:  # fmt: skip
    """Labels of sea ice from red, green and blue.

    filtered: none, the published filter against thin cloud and shadow, or the default one; both also write the plane mask, 1 where they
    found any. stretch: the values, offset included, that become 0 and 255; None = u8 as it is. offset: added to the stored values
    first, None = what the scene's metadata say. picture: also write the filtered picture. Raises UsageError.
    """
    if picture and filtered == "none":
        raise UsageError("--filtered writes what a filter makes: wanted --filter published or default")
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
    bands: dict[Filter, tuple[str, ...]] = {"none": (), "published": (GRAY,) * 3, "default": COLOURS}
    shown = bands[filtered] if picture else ()
    planes = ("labels",) if filtered == "none" else ("labels", *sorted({"mask", *shown}))
    background, colour = ByBackground(rule), ByColour(rule)
    steps: dict[Filter, tuple[Step, ...]] = {
        "none": (ColourStep(rule),),
        "published": (BackgroundStep(background), LookUpStep(background, planes)),
        "default": (ColoursStep(colour), SeeThroughStep(colour, planes)),
    }
    return Teacher("ice", parameters, CLASSES, 3, "uint8", steps[filtered], read, planes, core=2048, picture=shown)
