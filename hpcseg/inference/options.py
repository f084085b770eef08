"""What a user may say to `hpcseg predict`, as one record, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from hpcseg.config import ModelSpec, Normalisation
from hpcseg.errors import SceneError, UsageError
from hpcseg.models import Model
from hpcseg.raster import Entry, NodataRule, Scene, Values, describe, open_mask, open_name, read_aoi, with_mask
from hpcseg.store import Layout
from hpcseg.tiles import Grid

_CORE = 1024
_CHUNK = 1024


@dataclass(frozen=True)
class Options:
    """core: 0 = 1024, or what a fixed-shape network leaves. halo: -1 = the network's. bands: from 1, () = all but alpha.

    cache: bytes of decoded cells a rank keeps. readers: threads, 0 = 1 on a CPU, the cores but one beside a GPU.
    probability: name of the class whose probability /confidence holds.
    """

    scenes: tuple[str, ...]
    model: str
    out: Path
    core: int = 0
    halo: int = -1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    bands: tuple[int, ...] = ()
    nodata: float | None = None
    nodata_rule: NodataRule = "all"
    confidence: bool = False
    probability: str = ""
    crs: str = ""
    resolution: float = 0.0
    align: bool = False
    aoi: str = ""
    assets: tuple[str, ...] = ()
    any_network: bool = False
    any_resolution: bool = False
    resample: bool = False
    overwrite: bool = False
    strict: bool = False
    compile: bool = False
    batch: int = 8
    threads: int = 1
    readers: int = 0
    cache: int = 64 << 20
    stall: float = 600.0

    @property
    def planes(self) -> tuple[str, ...]:
        """The u8 planes of the prediction file."""
        return ("labels", "confidence") if self.confidence or self.probability else ("labels",)

    def of_class(self, spec: ModelSpec) -> int:
        """Number of the class whose probability is wanted, -1 = the label's own. Raises UsageError."""
        names = [each.name for each in spec.classes]
        if not self.probability:
            return -1
        if self.probability not in names:
            raise UsageError(f"--probability {self.probability}: wanted one of {', '.join(names)}")
        return names.index(self.probability)


def describe_entry(entry: Entry, options: Options, resolution: float) -> Scene:
    """Open and describe one scene as the options and its manifest say, at a pixel size (0 = its own).

    Raises SceneError, and UsageError where --aoi is at fault.
    """
    path = open_name(entry, options.crs, resolution, options.align)
    scene = describe(path, entry.name, options.bands, options.nodata, entry.parts)
    if mask := open_mask(entry, options.bands, options.crs, resolution, options.align):
        scene = with_mask(scene, mask, entry.columns["mask"])
    return msgspec.structs.replace(scene, aoi=_area_of_interest(entry, options, scene))


def _area_of_interest(entry: Entry, options: Options, scene: Scene) -> str:
    """That of the manifest, else that of the option, "" if there is none."""
    own = entry.columns.get("aoi", "")
    if not own:
        return read_aoi(options.aoi, scene) if options.aoi else ""
    try:
        return read_aoi(own, scene)
    except UsageError as error:
        raise SceneError(f"its {error}") from error


def choose_core(options: Options, model: Model) -> int:
    """The core in force. Raises UsageError if it does not fit the network."""
    if model.window:
        core = model.window - 2 * model.halo
        if options.core not in (0, core):
            raise UsageError(f"--core {options.core}: this network takes windows of {model.window} only, which leaves a core of {core}")
        return core
    core = options.core or -(-max(_CORE, 4 * model.halo) // 64) * 64
    if core % model.stride:
        raise UsageError(f"--core {core} is no multiple of the network's stride {model.stride}")
    return core


def layout_of(scene: Scene, core: int, halo: int, planes: tuple[str, ...]) -> Layout:
    """Tiles and chunks of a scene's prediction file: chunks are the largest divisor of the core up to 1024."""
    chunk = next(c for c in range(min(core, _CHUNK), 0, -1) if core % c == 0)
    return Layout(Grid(scene.height, scene.width, core, halo), chunk, planes)


def identity_of(scene: Scene, model: Model, layout: Layout, options: Options, precision: str) -> dict[str, Any]:
    """All that decides the bytes of a prediction file: files that differ in any of it are different maps."""
    norm = model.spec.normalisation
    return {
        "scene": {"height": scene.height, "width": scene.width, "dtype": scene.dtype, "digest": scene.digest,
                  "transform": None if scene.place.transform is None else list(scene.place.transform)},
        "network": model.digest,
        "core": layout.grid.core,
        "halo": layout.grid.halo,
        "chunk": layout.chunk,
        "bands": list(scene.bands),
        "normalisation": {"kind": norm.kind, "mean": norm.mean, "std": norm.std, "percentiles": list(norm.percentiles)},
        "nodata": {"rule": options.nodata_rule, "values": [None if v is None else str(v) for v in scene.nodata], "aoi": scene.aoi,
                   "mask": scene.mask_digest},
        "precision": precision,
        "planes": list(layout.planes),
        "probability": options.probability,
    }  # fmt: skip


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What differs between two identities, one phrase each."""
    keys = sorted(set(wanted) | set(found))
    return [f"{key} is {found.get(key)}, wanted {wanted.get(key)}" for key in keys if wanted.get(key) != found.get(key)]


def fixed_values(norm: Normalisation, rule: NodataRule) -> Values:
    """Normalisation by constant mean and deviation."""
    return Values(tuple(1 / s for s in norm.std), tuple(-m / s for m, s in zip(norm.mean, norm.std, strict=True)), rule)
