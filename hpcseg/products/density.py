"""Density: how many objects lie in each cell of a grid over a scene, as a compressed GeoTIFF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from osgeo import gdal

from hpcseg import __version__
from hpcseg.georeference import Georeference
from hpcseg.products.cog import compress, publishing, set_place

UNSEEN = 2**32 - 1


def write_density(path: Path, counts: np.ndarray, names: Sequence[str], place: Georeference, cell: float) -> None:
    """Write counts, u32 (kinds, h, w), UNSEEN = no data, a band for each kind; it appears whole or not at all.

    place: of the scene. cell: edge of a cell in its pixels. Raises UsageError if it cannot be written.
    """
    kinds, height, width = counts.shape
    with publishing(path) as part:
        dataset = gdal.GetDriverByName("MEM").Create("", width, height, kinds, gdal.GDT_UInt32)
        set_place(dataset, coarser(place, cell))
        dataset.SetMetadataItem("TIFFTAG_SOFTWARE", f"hpcseg {__version__}")
        for k, name in enumerate(names):
            band = dataset.GetRasterBand(k + 1)
            band.SetNoDataValue(UNSEEN)
            band.SetDescription(f"{name} per cell")
            band.WriteArray(counts[k])
        compress(dataset, part, "AVERAGE")


def is_density(path: Path) -> bool:
    """Whether a raster says that hpcseg made it."""
    try:
        return (gdal.Open(str(path)).GetMetadataItem("TIFFTAG_SOFTWARE") or "").startswith("hpcseg ")
    except RuntimeError:
        return False


def coarser(place: Georeference, times: float) -> Georeference:
    """Where a raster lies whose pixels are `times` as long, from the same corner on."""
    transform = None
    if place.transform is not None:
        x0, xc, xr, y0, yc, yr = place.transform
        transform = x0, xc * times, xr * times, y0, yc * times, yr * times
    gcps = [msgspec.structs.replace(each, row=each.row / times, col=each.col / times) for each in place.gcps]
    return msgspec.structs.replace(place, transform=transform, gcps=gcps)
