"""Writing GeoTIFFs window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from osgeo import gdal, gdal_array, osr

from hpcseg.georeference import Georeference
from hpcseg.tiles import Window


def epsg_wkt(code: int) -> str:
    """The reference system of an EPSG code as WKT."""
    system = osr.SpatialReference()
    system.ImportFromEPSG(code)
    return system.ExportToWkt()


@contextmanager
def create_geotiff(
    path: Path | str,
    shape: tuple[int, int, int],
    dtype: str,
    place: Georeference,
    *,
    nodata: float | None = None,
    overviews: bool = False,
) -> Iterator[Callable[[Window, np.ndarray], None]]:
    """Create a GeoTIFF of (bands, height, width) and yield put(window, pixels (bands, h, w)); blocks of 512, DEFLATE.

    nodata: value that the file declares, None = none. overviews: add averages of 2, 4, ... pixels until the scene fits 512. The
    file appears under its name once it is complete.
    """
    path, (bands, height, width) = Path(path), shape
    partial = path.with_name(path.name + ".part")
    kind = gdal_array.NumericTypeCodeToGDALTypeCode(np.dtype(dtype).type)
    options = ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "COMPRESS=DEFLATE", "PREDICTOR=2", "ZLEVEL=1"]
    options += ["INTERLEAVE=PIXEL", "BIGTIFF=IF_SAFER", "PHOTOMETRIC=RGB" if bands == 3 else "PHOTOMETRIC=MINISBLACK"]
    dataset = gdal.GetDriverByName("GTiff").Create(str(partial), width, height, bands, kind, options)
    if place.wkt:
        dataset.SetProjection(place.wkt)
    if place.transform is not None:
        dataset.SetGeoTransform(place.transform)
    if nodata is not None:
        dataset.GetRasterBand(1).SetNoDataValue(nodata)
    yield lambda window, pixels: dataset.WriteArray(pixels, window.col, window.row)
    dataset.FlushCache()
    factors = [2**k for k in range(1, 16) if max(height, width) > 256 * 2**k]
    if overviews and factors:
        dataset.BuildOverviews("AVERAGE", factors)
    dataset = None
    partial.replace(path)
