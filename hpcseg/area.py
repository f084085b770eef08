"""Ground area and distance from the ellipsoid, never from the nominal size of a pixel.

A scene is cut into fixed blocks of 256x256 pixels, and the outline of each is carried to an equal-area plane. Areas of classes
are then integers times these numbers, so that neither tiles nor ranks show in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from osgeo import gdal, osr

from hpcseg.georeference import Georeference

BLOCK = 256
_STEPS = 8
_POINTS = 1 << 16

Mapping = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def pixel_to_map(place: Georeference) -> Mapping | None:
    """A function from pixel positions (rows, cols; fractions, corners of pixels are whole) to (x, y) in the scene's own system.

    A transform is exact; ground control points alone give GDAL's polynomial through them. None if the scene has neither.
    """
    if place.transform is not None:
        x0, xc, xr, y0, yc, yr = place.transform
        return lambda rows, cols: (x0 + xc * cols + xr * rows, y0 + yc * cols + yr * rows)
    return _gcp_mapping(place) if place.gcps else None


def _gcp_mapping(place: Georeference) -> Mapping:
    dataset = gdal.GetDriverByName("MEM").Create("", 1, 1)
    dataset.SetGCPs([gdal.GCP(p.x, p.y, p.z, p.col, p.row, "", p.id) for p in place.gcps], place.gcp_wkt)
    transformer = gdal.Transformer(dataset, None, ["METHOD=GCP_POLYNOMIAL"])

    def mapping(rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, cols = np.broadcast_arrays(rows, cols)
        points, _ = transformer.TransformPoints(0, np.stack([cols.ravel(), rows.ravel()], 1).tolist())
        ground = np.array(points).reshape(-1, 3)
        return ground[:, 0].reshape(rows.shape), ground[:, 1].reshape(rows.shape)

    return mapping


def reference_system(place: Georeference) -> osr.SpatialReference | None:
    """The system of the scene's map coordinates, x before y. None if there is none."""
    wkt = place.wkt if place.transform is not None else place.gcp_wkt
    if not wkt:
        return None
    system = osr.SpatialReference()
    system.ImportFromWkt(wkt)
    system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return system


def _earth_system(place: Georeference) -> osr.SpatialReference | None:
    """The reference system if it is tied to the Earth: a local one is not."""
    system = reference_system(place)
    return system if system is not None and (system.IsGeographic() or system.IsProjected()) else None


def ground_plane(place: Georeference, height: int, width: int) -> Mapping | None:
    """A function from pixel positions (rows, cols) to (x, y) in metres on an equal-area plane of the scene's own ellipsoid.

    A projected scene goes to an azimuthal equal-area projection about its centre, where distances near the centre are true; a
    geographic one to the cylindrical equal-area projection, where its rows and columns stay straight. Positions that are not on
    the ground give inf. None if the scene does not say where on the Earth it lies.
    """
    to_map, system = pixel_to_map(place), _earth_system(place)
    if to_map is None or system is None:
        return None
    if system.IsGeographic():
        to_plane = _cylinder(system)
        return lambda rows, cols: to_plane(*to_map(rows, cols))
    centre = to_map(np.array([height / 2]), np.array([width / 2]))
    to_azimuthal = _azimuthal(system, *centre)
    return None if to_azimuthal is None else lambda rows, cols: to_azimuthal(*to_map(rows, cols))


def _cylinder(system: osr.SpatialReference) -> Mapping:
    """Longitude and latitude to the cylindrical equal-area plane (Snyder 1987, eq. 3-12 and 10-13 to 10-15, at the equator)."""
    radius, unit = system.GetSemiMajor(), system.GetAngularUnits()
    squared = 1 - (system.GetSemiMinor() / radius) ** 2
    e = math.sqrt(max(squared, 0.0))

    def mapping(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sine = np.sin(np.clip(lat * unit, -math.pi / 2, math.pi / 2))
        tail = np.arctanh(e * sine) / e if e else sine
        return radius * lon * unit, radius * (1 - squared) / 2 * (sine / (1 - squared * sine**2) + tail)

    return mapping


def _azimuthal(system: osr.SpatialReference, x: np.ndarray, y: np.ndarray) -> Mapping | None:
    """Map coordinates to the azimuthal equal-area plane whose centre is (x, y). None if that is nowhere on the ground."""
    degrees = osr.SpatialReference()
    degrees.CopyGeogCSFrom(system)
    degrees.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    lon, lat = _transform(system, degrees, x, y)
    if not np.isfinite([lon, lat]).all():
        return None
    plane = osr.SpatialReference()
    plane.CopyGeogCSFrom(system)
    plane.SetLAEA(float(lat[0]), float(lon[0]), 0, 0)
    plane.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return lambda x, y: _transform(system, plane, x, y)


def _transform(
    source: osr.SpatialReference, target: osr.SpatialReference, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """PROJ over arrays; inf where a point has no image."""
    x, y = np.broadcast_arrays(x, y)
    transformation = osr.CoordinateTransformation(source, target)
    points = np.stack([x.ravel(), y.ravel()], 1)
    # GDAL hands back a tuple per point: a few at a time keep that small.
    pieces = [_transform_points(transformation, points[k : k + _POINTS]) for k in range(0, max(1, len(points)), _POINTS)]
    result = np.concatenate(pieces)
    return result[:, 0].reshape(x.shape), result[:, 1].reshape(x.shape)


def _transform_points(transformation: osr.CoordinateTransformation, points: np.ndarray) -> np.ndarray:
    """Points (n, 2) to (n, 3). GDAL raises for a whole array when one point is off the Earth: halves find the ones that are."""
    try:
        return np.array(transformation.TransformPoints(points), np.float64).reshape(-1, 3)
    except RuntimeError:
        if len(points) == 1:
            return np.full((1, 3), np.inf)
        middle = len(points) // 2
        return np.concatenate([_transform_points(transformation, half) for half in (points[:middle], points[middle:])])


def pixel_area_m2(place: Georeference, height: int, width: int, block: int = BLOCK) -> np.ndarray | None:
    """Ground area in m2 of one pixel, per block of `block` x `block` pixels of the scene, float64 (ny, nx).

    Within a block the area counts as constant: exact to 1e-4 where a block is a few kilometres, coarser where it spans degrees.
    Blocks at the right and lower edge end with the scene. NaN where a block is not wholly on the ground. None if the scene does
    not say where on the Earth it lies.
    """
    plane = ground_plane(place, height, width)
    if plane is None:
        return None
    rows, cols = (np.append(np.arange(0, size, block), size) for size in (height, width))
    down, right = _outline()
    areas = np.empty((len(rows) - 1, len(cols) - 1))
    for k, (top, bottom) in enumerate(pairwise(rows)):
        edges = cols[:-1, None] + np.diff(cols)[:, None] * right
        pixels = (bottom - top) * np.diff(cols)
        areas[k] = _shoelace(*plane(np.broadcast_to(top + (bottom - top) * down, edges.shape), edges)) / pixels
    return areas


def _outline() -> tuple[np.ndarray, np.ndarray]:
    """The unit square's outline, (down, right), each edge in `_STEPS` pieces."""
    step = np.arange(_STEPS) / _STEPS
    zero, one = np.zeros(_STEPS), np.ones(_STEPS)
    return np.concatenate([zero, step, one, 1 - step]), np.concatenate([step, one, 1 - step, zero])


def _shoelace(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Areas of closed outlines (n, points), NaN where a point is not finite."""
    x, y = (np.where(np.isfinite(x + y), a, np.nan) for a in (x, y))
    x, y = x - x[:, :1], y - y[:, :1]
    return np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2


def class_areas_m2(counts: np.ndarray, pixel_area: np.ndarray) -> np.ndarray:
    """Area of each class in m2, float64 (classes,).

    counts: pixels per block and class, integers (ny, nx, classes). pixel_area: from `pixel_area_m2`, (ny, nx). The sum over
    blocks is correctly rounded, so its order does not matter. NaN for a class with pixels that are not on the ground.
    """
    products = np.where(counts > 0, counts * pixel_area[..., None], 0.0)
    return np.array([math.fsum(products[..., k].ravel()) for k in range(counts.shape[-1])])


def pixel_width_m(place: Georeference, height: int, width: int) -> float | None:
    """Ground length in metres of one pixel along a row at the scene's centre. None if the scene does not say where it lies."""
    to_map, system = pixel_to_map(place), _earth_system(place)
    if to_map is None or system is None:
        return None
    plane = _azimuthal(system, *to_map(np.array([height / 2]), np.array([width / 2])))
    if plane is None:
        return None
    x, y = plane(*to_map(np.full(2, height / 2), width / 2 + np.array([-0.5, 0.5])))
    length = math.hypot(x[1] - x[0], y[1] - y[0])
    return length if math.isfinite(length) and length > 0 else None
