"""What a user may say to `hpcseg predict`, as one record, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpcseg.config import ModelSpec, Normalisation
from hpcseg.errors import UsageError
from hpcseg.kernels.filters import Prefilter
from hpcseg.mapping.options import MapOptions, scene_identity
from hpcseg.models import Model
from hpcseg.raster import NodataRule, Scene, Values
from hpcseg.store import Layout, heat_planes

_CORE = 1024


@dataclass(frozen=True)
class Options(MapOptions):
    """core: 0 = 1024, or what a fixed-shape network leaves. halo: -1 = the network's. readers: threads, 0 = 1 on a CPU, the cores but
    one beside a GPU. probability: name of the class whose probability /confidence holds. gallery_memory: MB that a gallery's networks
    take at most on a rank.
    """

    model: str
    out: Path
    halo: int = -1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    confidence: bool = False
    probability: str = ""
    any_network: bool = False
    any_resolution: bool = False
    resample: bool = False
    compile: bool = False
    batch: int = 8
    gallery_memory: int = 2000

    def planes(self, spec: ModelSpec) -> tuple[str, ...]:
        """The u8 planes of the prediction file: a detector's are the heat of each class. Raises UsageError."""
        if spec.task == "classes":
            return ("labels", "confidence") if self.confidence or self.probability else ("labels",)
        if self.confidence or self.probability:
            raise UsageError(f"--confidence, --probability: model {self.model} finds points, its map is their heat already")
        return heat_planes(len(spec.classes))

    def of_class(self, spec: ModelSpec) -> int:
        """Number of the class whose probability is wanted, -1 = the label's own. Raises UsageError."""
        names = [each.name for each in spec.classes]
        if not self.probability:
            return -1
        if self.probability not in names:
            raise UsageError(f"--probability {self.probability}: wanted one of {', '.join(names)}")
        return names.index(self.probability)


def choose_core(options: Options, model: Model) -> int:
    """The core in force. Raises UsageError if it does not fit the network."""
    if model.window:
        core = model.window - 2 * model.halo
        if options.core not in (0, core):
            raise UsageError(f"--core {options.core}: this network takes windows of {model.window} only, which leaves a core of {core}")
        return core
    unit = math.lcm(64, model.stride)
    core = options.core or -(-max(_CORE, 4 * model.halo) // unit) * unit
    if core % model.stride:
        raise UsageError(f"--core {core} is no multiple of the network's stride {model.stride}")
    return core


def identity_of(
    scene: Scene, model: Model, layout: Layout, options: Options, precision: str, prefilter: Prefilter | None = None
) -> dict[str, Any]:
    """All that decides the bytes of a prediction file: files that differ in any of it are different maps."""
    norm = model.spec.normalisation
    filtered = {} if prefilter is None else {"prefilter": {"name": prefilter.name, "fit": prefilter.digest}}
    return scene_identity(scene, layout, options.nodata_rule) | filtered | {
        "network": model.digest,
        "normalisation": {"kind": norm.kind, "mean": norm.mean, "std": norm.std, "percentiles": list(norm.percentiles)},
        "precision": precision,
        "probability": options.probability,
    }


def fixed_values(norm: Normalisation, rule: NodataRule) -> Values:
    """Normalisation by constant mean and deviation."""
    return Values(tuple(1 / s for s in norm.std), tuple(-m / s for m, s in zip(norm.mean, norm.std, strict=True)), rule)
