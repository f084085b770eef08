"""The ice teacher: open water, thin or young and thick or snow-covered ice by colour (arXiv 2303.12719 and 2403.13135)."""

from __future__ import annotations

from typing import Any, Literal

from hpcseg.config import Class
from hpcseg.errors import SceneError, UsageError
from hpcseg.kernels.ice import Rule, label_by_colour
from hpcseg.labels.index import added_offsets
from hpcseg.labels.teacher import Fit, Scratch, Teacher, View
from hpcseg.raster import Entry, Scene, Values

RULE = Rule()
CLASSES = (
    Class(name="open water", color="#10243f"),
    Class(name="thin ice", color="#6fa8c9"),
    Class(name="thick ice", color="#f2f6f8"),
)


class ColourStep:
    """The plain rule, pixel by pixel."""

    halo = 0
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


def ice_teacher(
    filtered: Literal["none"] = "none", rule: Rule = RULE, stretch: tuple[float, float] | None = None, offset: float | None = None
) -> Teacher:
    """Labels of sea ice from red, green and blue. stretch: the values, offset included, that become 0 and 255; None = u8 as it is.

    offset: added to the stored values first, None = what the scene's metadata say. Raises UsageError.
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
    return Teacher("ice", parameters, CLASSES, 3, "uint8", (ColourStep(rule),), read, core=2048)
