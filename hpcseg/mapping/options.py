"""How scenes are read and how a run is done: what all commands that map have in common, and what follows from it."""

from __future__ import annotations

import sys
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import msgspec

from hpcseg.errors import SceneError, UsageError
from hpcseg.raster import Entry, NodataRule, Scene, describe, open_mask, open_name, read_aoi, read_mask_rule, with_mask
from hpcseg.store import Layout
from hpcseg.tiles import Grid

_CHUNK = 1024


@dataclass(frozen=True)
class MapOptions:
    """core: 0 = the default. bands: from 1, () = all but alpha. mask: FILE[:rule], for scenes whose manifest names none.

    cache: bytes of decoded cells a rank keeps. readers: threads, 0 = as the device needs. part: (K, N): the K-th of N parts of the
    scenes. stripe: MB, 0 = none, see `store.create`. mpi_io: hints KEY=VALUE for the prediction files.
    """

    scenes: tuple[str, ...]
    _: KW_ONLY
    core: int = 0
    bands: tuple[int, ...] = ()
    nodata: float | None = None
    nodata_rule: NodataRule = "all"
    crs: str = ""
    resolution: float = 0.0
    align: bool = False
    aoi: str = ""
    mask: str = ""
    assets: tuple[str, ...] = ()
    overwrite: bool = False
    strict: bool = False
    threads: int = 1
    readers: int = 0
    cache: int = 64 << 20
    stall: float = 600.0
    part: tuple[int, int] = (1, 1)
    stripe: int = 0
    mpi_io: tuple[str, ...] = ()


def describe_entry(entry: Entry, options: MapOptions, resolution: float) -> Scene:
    """Open and describe one scene as the options and its manifest say, at a pixel size (0 = its own).

    Raises SceneError, and UsageError where --aoi or --mask is at fault.
    """
    path = open_name(entry, options.crs, resolution, options.align)
    scene = describe(path, entry.name, options.bands, options.nodata, entry.parts)
    scene = _with_mask(entry, scene, options, resolution)
    # Scenes of an archive share few reference systems: one copy of each is held, and sent.
    place = msgspec.structs.replace(scene.place, wkt=sys.intern(scene.place.wkt))
    return msgspec.structs.replace(scene, aoi=_area_of_interest(entry, options, scene), place=place)


def _with_mask(entry: Entry, scene: Scene, options: MapOptions, resolution: float) -> Scene:
    """The scene with the mask of its manifest, else with that of the option, if there is one."""
    file, source, rule = entry.columns.get("mask", ""), "", ""
    if not file and options.mask:
        file, rule, source = read_mask_rule(options.mask)
        entry = replace(entry, columns={**entry.columns, "mask": source})
    mask = open_mask(entry, options.bands, options.crs, resolution, options.align)
    if not mask:
        return scene
    scene = with_mask(scene, mask, file)
    return msgspec.structs.replace(scene, mask_digest=scene.mask_digest + (f" {rule}" if rule else ""))


def _area_of_interest(entry: Entry, options: MapOptions, scene: Scene) -> str:
    """That of the manifest, else that of the option, "" if there is none."""
    own = entry.columns.get("aoi", "")
    if not own:
        return read_aoi(options.aoi, scene) if options.aoi else ""
    try:
        return read_aoi(own, scene)
    except UsageError as error:
        raise SceneError(f"its {error}") from error


def layout_of(scene: Scene, core: int, halo: int, planes: tuple[str, ...], cell: int = 0) -> Layout:
    """Tiles, chunks and cells of a scene's prediction file: chunks are the largest divisor of the core up to 1024."""
    chunk = next(c for c in range(min(core, _CHUNK), 0, -1) if core % c == 0)
    return Layout(Grid(scene.height, scene.width, core, halo), chunk, planes, cell=cell)


def scene_identity(scene: Scene, layout: Layout, rule: NodataRule) -> dict[str, Any]:
    """What a scene and its tiles add to all that decides the bytes of a prediction file."""
    return {
        "scene": {"height": scene.height, "width": scene.width, "dtype": scene.dtype, "digest": scene.digest,
                  "transform": None if scene.place.transform is None else list(scene.place.transform)},
        "core": layout.grid.core,
        "halo": layout.grid.halo,
        "chunk": layout.chunk,
        "bands": list(scene.bands),
        "nodata": {"rule": rule, "values": [None if v is None else str(v) for v in scene.nodata], "aoi": scene.aoi,
                   "mask": scene.mask_digest},
        "planes": list(layout.planes),
    }  # fmt: skip


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What differs between two identities, one phrase each."""
    keys = sorted(set(wanted) | set(found))
    return [f"{key} is {found.get(key)}, wanted {wanted.get(key)}" for key in keys if wanted.get(key) != found.get(key)]
