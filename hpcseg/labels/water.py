"""The water teacher: open water is dark and smooth in radar scenes; Otsu's threshold is the scene's own.

Values become levels of 0 to 255 between two percentiles of the scene, in dB. A feature of them (the mean over 7x7 valid pixels; SFS
textures) is kept in a scratch plane and counted in fixed cells of 256 pixels; Otsu's method takes the counts of those cells alone
whose histogram has two modes, of water and land, for water is scarce in most scenes (Chini et al., IEEE TGRS 55(12), 2017).

With the scene before a flood the two are one scene of two bands, and their labels say which water was there on both dates. The scene
before takes the other's threshold, unless cells of its own have two modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import msgspec

from hpcseg.config import Class
from hpcseg.errors import SceneError
from hpcseg.labels.backscatter import TEXTURE, WaterOptions, find_limits
from hpcseg.labels.before import with_before
from hpcseg.labels.teacher import Fit, Teacher
from hpcseg.labels.water_steps import CELL, CutStep, MeanStep
from hpcseg.mapping.options import MapOptions
from hpcseg.mpi import Comm, Pulse
from hpcseg.raster import Entry, Scene, Values
from hpcseg.statistics import statistics

__all__ = ["CLASSES", "FLOOD_CLASSES", "TEXTURE", "WaterOptions", "water_teacher"]
CLASSES = (Class(name="dry", color="#d9d2c3"), Class(name="water", color="#1f5fae"))
FLOOD_CLASSES = (CLASSES[0], Class(name="permanent", color="#1f5fae"), Class(name="flood", color="#4fc3e8"))
PERCENTILES = (1.0, 99.0)


def water_teacher(options: WaterOptions, before: str | None = None) -> Teacher:
    """Labels of open water from one band of radar backscatter.

    before: the scenes before a flood, as `with_before` takes them: labels are then 0 dry, 1 permanent water, 2 flood. None = one date.
    Raises UsageError.
    """
    options.check()
    dates = 1 if before is None else 2

    def read(entry: Entry, scene: Scene) -> tuple[Scene, Values]:
        if len(scene.bands) != dates:
            raise SceneError(_wrong_bands(scene, dates))
        if options.scale != "db":
            # No backscatter at all is the border of a swath, not water.
            scene = msgspec.structs.replace(scene, nodata=tuple(0.0 if value is None else value for value in scene.nodata))
        return scene, Values((1.0,) * dates, (0.0,) * dates, "any")

    def begin(comm: Comm, pulse: Pulse, scenes: Sequence[Scene], reading: MapOptions) -> tuple[list[Fit], list[str]]:
        found, unread = statistics(comm, pulse, scenes, "any", PERCENTILES, reading.threads, reading.cache)
        return [find_limits(bands[0].percentiles, options) for bands in found], unread

    gather = list if before is None else lambda entries: with_before(entries, before)
    steps = (MeanStep(options, dates), CutStep(options, dates))
    parameters = asdict(options) | {"sfs": options.sfs._asdict(), "dates": dates}
    classes = CLASSES if dates == 1 else FLOOD_CLASSES
    trial = find_limits((1.0, 2.0), options)
    return Teacher("water", parameters, classes, dates, "float32", steps, read, stride=CELL, begin=begin, gather=gather, trial=trial)


def _wrong_bands(scene: Scene, dates: int) -> str:
    if dates == 1:
        return f"gives {len(scene.bands)} bands of its {scene.count}, water takes one: choose it with --bands N"
    what = f"gives {len(scene.bands)} bands of its {scene.count} with the scene before it, a flood takes one of each"
    return f"{what}: choose them with --bands AFTER,BEFORE, counted through both"
