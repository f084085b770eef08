"""Label rasters: described as scenes, those with a palette included, and compared with the grid of the scene they label."""

from __future__ import annotations

import msgspec
import numpy as np
from osgeo import gdal, osr

from hpcseg.errors import SceneError
from hpcseg.georeference import Georeference
from hpcseg.raster.scene import Scene, describe

_SAME_PIXELS = 1e-3


def describe_labels(path: str, band: int, colours: bool, source: str = "") -> tuple[Scene, dict[int, str]]:
    """Describe a label raster by its stored values. colours: take its three bands but alpha as red, green and blue. source: what GDAL
    opens for it, "" = its path.

    Returns the scene, with scale 1 and offset 0, and the palette of `band` as {value: "#rrggbb"}, empty if it has none.
    Raises SceneError as `describe`, and for colours of other than 8 bits.
    """
    source = source or path
    palette = _palette(source, band)
    colours = colours and not palette
    # The name tells the bands of one file apart in the cells' cache.
    name = path if colours else f"{path} band {band}"
    scene = describe(_without_palette(source, band) if palette else source, name, () if palette or colours else (band,))
    n = len(scene.bands)
    if colours and (n != 3 or scene.dtype != "uint8"):
        raise SceneError(f"has {n} bands of {scene.dtype}, but a map of colours needs 3 of uint8, or a palette")
    return msgspec.structs.replace(scene, scale=(1.0,) * n, offset=(0.0,) * n), palette


def _palette(path: str, band: int) -> dict[int, str]:
    try:
        dataset = gdal.Open(path)
    except RuntimeError as error:
        raise SceneError(f"cannot be opened: {str(error)[:300]}") from error
    if not 1 <= band <= dataset.RasterCount:
        raise SceneError(f"has bands 1 to {dataset.RasterCount}, wanted {band}")
    chosen = dataset.GetRasterBand(band)
    table = chosen.GetColorTable()
    if table is None or chosen.GetColorInterpretation() != gdal.GCI_PaletteIndex:
        return {}
    return {k: "#{:02x}{:02x}{:02x}".format(*table.GetColorEntry(k)[:3]) for k in range(table.GetCount())}


def _without_palette(path: str, band: int) -> str:
    """XML of a VRT whose one band holds the palette's indices as plain values."""
    plain = gdal.Translate("", path, options=["-of", "VRT", "-b", str(band)])
    plain.GetRasterBand(1).SetColorTable(None)
    plain.GetRasterBand(1).SetColorInterpretation(gdal.GCI_GrayIndex)
    return plain.GetMetadata("xml:VRT")[0]


def differing_grid(scene: Scene, height: int, width: int, place: Georeference) -> str:
    """How a grid differs from a scene's, saying both; "" if it does not.

    Sizes must be equal. Corners may differ by a thousandth of a pixel. Where one of the two has no georeference at all (a PNG),
    pixels pair by row and column.
    """
    if (height, width) != (scene.height, scene.width):
        return f"is {height}x{width} pixels, the scene {scene.height}x{scene.width} (rows x columns)"
    if _nowhere(place) or _nowhere(scene.place):
        return ""
    if place.wkt and scene.place.wkt and not _same_system(place.wkt, scene.place.wkt):
        return f"is in {_system_name(place.wkt)}, the scene in {_system_name(scene.place.wkt)}"
    if place.transform is None or scene.place.transform is None:
        same = place.transform is scene.place.transform and _points(place) == _points(scene.place)
        return "" if same else f"has {_anchor(place)}, the scene {_anchor(scene.place)}"
    if _pixels_apart(place.transform, scene.place.transform, height, width) > _SAME_PIXELS:
        return f"has the geotransform {place.transform}, the scene {scene.place.transform}"
    return ""


def _nowhere(place: Georeference) -> bool:
    return place.transform is None and not place.gcps


def _same_system(one: str, other: str) -> bool:
    options = ["IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES", "CRITERION=EQUIVALENT_EXCEPT_AXIS_ORDER_GEOGCRS"]
    return one == other or bool(osr.SpatialReference(one).IsSame(osr.SpatialReference(other), options))


def _system_name(wkt: str) -> str:
    return osr.SpatialReference(wkt).GetName() or "a reference system without a name"


def _points(place: Georeference) -> list[tuple[float, float, float, float]]:
    return sorted((point.row, point.col, point.x, point.y) for point in place.gcps)


def _anchor(place: Georeference) -> str:
    return f"the geotransform {place.transform}" if place.transform else f"{len(place.gcps)} ground control points and no geotransform"


def _pixels_apart(one: tuple[float, ...], other: tuple[float, ...], height: int, width: int) -> float:
    """Largest distance of the two grids' corners, in pixels of the second."""
    corners = np.array([(1, col, row) for row in (0, height) for col in (0, width)], float)
    shift = corners @ (np.reshape(one, (2, 3)) - np.reshape(other, (2, 3))).T
    return float(np.abs(shift @ np.linalg.inv(np.reshape(other, (2, 3))[:, 1:]).T).max())
