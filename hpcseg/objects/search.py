"""What `hpcseg count` looks for in its maps, by what their model makes and what the user chose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpcseg import store
from hpcseg.area import pixel_width_m
from hpcseg.config import Class, ModelSpec
from hpcseg.errors import UsageError
from hpcseg.evaluation import scene_of
from hpcseg.inference.options import Options
from hpcseg.inference.prepare import Settled
from hpcseg.kernels.heat import FULL, level_of
from hpcseg.kernels.peaks import neighbours
from hpcseg.objects.found import MEASURES, MILLION, Found, FoundPatches, FoundPeaks
from hpcseg.objects.peaks import SCORES, TILE, HeatMap, Peaks
from hpcseg.objects.reduce import Case, Part
from hpcseg.objects.survey import Survey, Total
from hpcseg.raster import Scene

_AROUND = 16.0


@dataclass(frozen=True)
class Choice:
    """What is counted and told. threshold: least score, None = the model's; of patches the least mean confidence, None = any. distance:
    of a detector, None = the model's. classes: names of those whose patches count, () = all but class 0. min_area: of patches, m2.
    pixel_size: metres, of scenes that do not say where they lie. density: edge of the cells of a grid, 0 = none. sheet: how many points
    are shown. Lengths in metres, or pixels where nothing says metres. tile: edge of the tiles of the search in pixels."""

    threshold: float | None = None
    distance: float | None = None
    classes: tuple[str, ...] = ()
    min_area: float = 0.0
    pixel_size: float = 0.0
    density: float = 0.0
    sheet: int = 40
    tile: int = TILE


def check(choice: Choice, spec: ModelSpec, model: str) -> None:
    """Raises UsageError where the choice does not fit the model, or is no number."""
    for name in ("threshold", "distance", "min_area", "pixel_size", "density"):
        value = getattr(choice, name)
        if value is not None and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} {value}: wanted a finite number")
    if spec.task == "points" and (choice.classes or choice.min_area):
        raise UsageError(f"--classes, --min-area: model {model} is a detector, wanted one that labels pixels")
    if spec.task == "classes" and choice.distance is not None:
        raise UsageError(f"--distance: model {model} labels pixels, wanted a detector (hpcseg train --task points)")
    names = [each.name for each in spec.classes]
    unknown = [name for name in choice.classes if name not in names]
    if unknown:
        raise UsageError(f"--classes {','.join(unknown)}: wanted some of {', '.join(names)}")


def metres_of(spec: ModelSpec, scene: Scene, pixel_size: float) -> float:
    """Length of a scene's pixel; where the scene does not say where it lies `pixel_size`, else as in training. 0 = not known."""
    return pixel_width_m(scene.place, scene.height, scene.width) or pixel_size or spec.resolution


@dataclass(frozen=True)
class Search:
    """Maps and what is wanted of them. stored, () before they are made, and metres (of a pixel, 0 = not known): by scene number."""

    settled: Settled
    stored: Sequence[store.Stored]
    metres: Sequence[float]
    options: Options
    choice: Choice

    @property
    def spec(self) -> ModelSpec:
        return self.settled.recipe.model.spec

    @property
    def lengths(self) -> list[float]:
        """Of the scenes' pixels in the units of the choice: 1 where no metres are known, or where a detector knows of none."""
        pixels = self.spec.task == "points" and not self.spec.resolution
        return [1.0 if pixels else each or 1.0 for each in self.metres]

    @property
    def level(self) -> int:
        """The threshold in 254ths, 0 = none."""
        if self.choice.threshold is not None:
            return level_of(self.choice.threshold)
        return level_of(self.spec.threshold) if self.spec.task == "points" else 0

    @property
    def cells(self) -> list[float]:
        """Edges of the cells in pixels."""
        return [self.choice.density / length for length in self.lengths]

    @property
    def distance(self) -> float:
        """The least between two objects of a detector."""
        return self.spec.least_distance if self.choice.distance is None else self.choice.distance

    def check(self) -> None:
        """Raises UsageError if a length does not fit a scene's pixels; needs no maps."""
        density, distance = self.choice.density, self.distance if self.spec.task == "points" else 0.0
        for scene, metres, length in zip(self.settled.scenes, self.metres, self.lengths, strict=True):
            if 0 < density < length:
                raise UsageError(f"--density {density:g}: wanted cells no smaller than a pixel, which is {length:.3g} in {scene.name}")
            if distance / length > TILE:
                raise UsageError(f"--distance {distance:g} is {distance / length:.0f} pixels of {scene.name}, wanted at most {TILE}")
            if self.choice.min_area and not metres:
                raise UsageError(f"--min-area: {scene.name} does not say where on the Earth it lies: give --pixel-size")

    def heat_maps(self) -> list[HeatMap]:
        """What is looked for in maps of heat."""
        return [
            HeatMap(stored, neighbours(self.distance, (length, length)), self.level, cell)
            for stored, length, cell in zip(self.stored, self.lengths, self.cells, strict=True)
        ]

    def survey_peaks(self, maps: Sequence[HeatMap], peaks: Sequence[Peaks]) -> Survey:
        """What was found in maps of heat."""
        worth = np.array(self.spec.calibration or range(SCORES), np.int64)
        extents = [_AROUND * self.spec.sigma / length for length in self.lengths]
        found = [FoundPeaks(*each) for each in zip(maps, peaks, [worth] * len(maps), extents, strict=True)]
        total = Total("expected", MILLION, 6) if self.spec.calibration else Total("score_sum", FULL, 3)
        return self._survey(found, self.spec.classes, total, {}, "nowhere is there any heat")

    @property
    def kinds(self) -> list[int]:
        """Numbers of the classes whose patches count."""
        chosen = self.choice.classes or [each.name for each in self.spec.classes[1:]]
        return [k for k, each in enumerate(self.spec.classes) if each.name in chosen]

    def cases(self) -> list[Case]:
        """What is looked for in maps of classes."""
        chosen = np.isin(np.arange(256), self.kinds)
        return [
            Case(stored, scene_of(stored), chosen, stored.path.with_name(f".{stored.path.stem}_objects"), cell)
            for stored, cell in zip(self.stored, self.cells, strict=True)
        ]

    def survey_patches(self, cases: Sequence[Case], parts: Mapping[int, Part]) -> Survey:
        """What was found in maps of classes. parts: by scene number."""
        metres = [each or np.nan for each in self.metres]
        found = [FoundPatches(case, parts[k], self.kinds, metres[k], self.level, self.choice.min_area) for k, case in enumerate(cases)]
        classes = [self.spec.classes[k] for k in self.kinds]
        nothing = f"nothing is labelled {' or '.join(each.name for each in classes)}"
        return self._survey(found, classes, Total("score_sum", MILLION, 3), MEASURES, nothing)

    def _survey(self, found: Sequence[Found], kinds: Sequence[Class], total: Total, measures: Mapping[str, str], nothing: str) -> Survey:
        return Survey(self.options.out, self.settled, found, kinds, self.level, total, measures, nothing, self.choice.sheet)


def prepare(settled: Settled, options: Options, choice: Choice, stored: Sequence[store.Stored] = ()) -> Search:
    """The search of all maps of a run. stored: the maps, as far as they are made."""
    spec = settled.recipe.model.spec
    return Search(settled, stored, [metres_of(spec, scene, choice.pixel_size) for scene in settled.scenes], options, choice)
