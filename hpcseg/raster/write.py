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
    masked: bool = False,
) -> Iterator[Callable[[Window, np.ndarray], None]]:
    """Create a GeoTIFF of (bands, height, width) and yield put(window, pixels (bands, h, w)); blocks of 512, DEFLATE.

    nodata: value that the file declares, None = none. overviews: add averages of 2, 4, ... pixels until the scene fits 512. masked: the
    pixels put have one more plane, 0 where there is no data, which becomes the file's mask. The file appears under its name once it is
    complete.
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
    if place.transform is None and place.gcps:
        dataset.SetGCPs([gdal.GCP(p.x, p.y, p.z, p.col, p.row, "", p.id) for p in place.gcps], place.gcp_wkt)
    if nodata is not None:
        dataset.GetRasterBand(1).SetNoDataValue(nodata)
    mask = _create_mask(dataset) if masked else None

    def put(window: Window, pixels: np.ndarray) -> None:
        dataset.WriteArray(pixels[:bands], window.col, window.row)
        if mask is not None:
            mask.WriteArray(np.where(pixels[bands], np.uint8(255), np.uint8(0)), window.col, window.row)

    yield put
    dataset.FlushCache()
    factors = [2**k for k in range(1, 16) if max(height, width) > 256 * 2**k]
    if overviews and factors:
        dataset.BuildOverviews("AVERAGE", factors)
    mask = None
    dataset = None
    partial.replace(path)


def _create_mask(dataset: gdal.Dataset) -> gdal.Band:
    """A mask for all bands, within the file: beside it, it would not follow when the file gets its name."""
    before = gdal.GetConfigOption("GDAL_TIFF_INTERNAL_MASK")
    gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES")
    dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
    gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", before)
    return dataset.GetRasterBand(1).GetMaskBand()
