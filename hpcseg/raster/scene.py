"""What a scene is: opened once, checked, and described by a record that needs no GDAL."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from osgeo import gdal, gdal_array, osr

from hpcseg.errors import SceneError
from hpcseg.footprint import read_wkt, touched_tiles
from hpcseg.georeference import Georeference, GroundPoint
from hpcseg.tiles import Grid, Window

_MIB = 1 << 20


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """One raster. name: of its output. path: what GDAL opens. dtype: of the chosen bands. block: (height, width) in the file.

    bands: chosen ones, from 1. nodata, scale, offset: per chosen band (None: no such value). mask: the file has a mask or an
    alpha band. overviews: decimation factors. digest: of the first and last MiB of each of its files.
    aoi: WKT polygon in pixels outside of which there is no data, "" if there is none. mask_path: what GDAL opens for a raster beside
    the file whose first band is 0 where there is no data, "" if there is none; mask_digest: of its files.
    """

    name: str
    path: str
    height: int
    width: int
    bands: tuple[int, ...]
    count: int
    dtype: str
    block: tuple[int, int]
    nodata: tuple[float | None, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    mask: bool
    overviews: tuple[int, ...]
    place: Georeference
    digest: str
    aoi: str = ""
    mask_path: str = ""
    mask_digest: str = ""

    @property
    def striped(self) -> bool:
        """True if the file's blocks span its width."""
        return self.block[1] >= self.width and self.width > 1024

    @property
    def has_gaps(self) -> bool:
        """True if some pixels may be no data."""
        return bool(self.mask or self.aoi or self.mask_path) or any(v is not None for v in self.nodata) or np.dtype(self.dtype).kind == "f"

    @property
    def sources(self) -> str:
        """The path for people: without the XML of a stack or a warp."""
        return self.name if self.path.startswith("<") else self.path


NodataRule = Literal["all", "any"]


def describe(
    path: str, name: str, bands: tuple[int, ...] = (), nodata: float | None = None, parts: Sequence[str] = ()
) -> Scene:
    """Open a raster and describe it. bands: which to use, from 1; () = all but alpha. nodata: overrides the file's value.
    parts: the rasters that it is made of, for the digest; () = it alone.

    Raises SceneError with what is wrong: cannot be opened, complex or palette pixels, a band that is not there.
    """
    try:
        dataset = gdal.Open(path)
    except RuntimeError as error:
        raise SceneError(f"cannot be opened: {str(error)[:300]}") from error
    if dataset.RasterCount == 0:
        raise SceneError("has no bands (a container of subdatasets? name one of them)")
    every = [dataset.GetRasterBand(k + 1) for k in range(dataset.RasterCount)]
    alpha = [k + 1 for k, band in enumerate(every) if band.GetColorInterpretation() == gdal.GCI_AlphaBand]
    chosen = bands or tuple(k + 1 for k in range(len(every)) if k + 1 not in alpha)
    if not chosen or not all(1 <= b <= len(every) for b in chosen):
        raise SceneError(f"has bands 1 to {len(every)}, wanted {', '.join(map(str, bands))}")
    picked = [every[b - 1] for b in chosen]
    _refuse_odd_pixels(picked)
    dtypes = {np.dtype(gdal_array.GDALTypeCodeToNumericTypeCode(band.DataType)).name for band in picked}
    flags = picked[0].GetMaskFlags()
    width_of_block, height_of_block = picked[0].GetBlockSize()
    return Scene(
        name=name,
        path=path,
        height=dataset.RasterYSize,
        width=dataset.RasterXSize,
        bands=chosen,
        count=len(every),
        dtype=np.result_type(*dtypes).name,
        block=(height_of_block, width_of_block),
        nodata=tuple(nodata if nodata is not None else band.GetNoDataValue() for band in picked),
        scale=tuple(band.GetScale() or 1.0 for band in picked),
        offset=tuple(band.GetOffset() or 0.0 for band in picked),
        mask=bool(flags & gdal.GMF_PER_DATASET),
        overviews=tuple(_decimation(dataset, picked[0], k) for k in range(picked[0].GetOverviewCount())),
        place=georeference_of(dataset),
        digest=_digest(parts or (path,)),
    )


def _refuse_odd_pixels(bands: list[gdal.Band]) -> None:
    for band in bands:
        if gdal.DataTypeIsComplex(band.DataType):
            raise SceneError("has complex pixels: write their amplitude or power first (gdal_calc.py)")
        if band.GetColorInterpretation() == gdal.GCI_PaletteIndex:
            raise SceneError("has palette colours, not measurements: expand them first (gdal_translate -expand rgb)")


def _decimation(dataset: gdal.Dataset, band: gdal.Band, level: int) -> int:
    return max(1, round(dataset.RasterXSize / band.GetOverview(level).XSize))


def georeference_of(dataset: gdal.Dataset) -> Georeference:
    """Where an open raster says that it lies."""
    transform = dataset.GetGeoTransform(can_return_null=True)
    gcps = [GroundPoint(p.GCPLine, p.GCPPixel, p.GCPX, p.GCPY, p.GCPZ, p.Id) for p in dataset.GetGCPs()]
    if gcps and transform is not None and tuple(transform) == (0.0, 1.0, 0.0, 0.0, 0.0, 1.0):
        transform = None
    reference = dataset.GetSpatialRef()
    axes: Literal["projected", "geographic", "none"] = "none"
    unit = 1.0
    if reference is not None and (reference.IsProjected() or reference.IsGeographic()):
        axes = "projected" if reference.IsProjected() else "geographic"
        unit = reference.GetLinearUnits() if axes == "projected" else 1.0
    return Georeference(
        wkt=_wkt(reference),
        transform=None if transform is None else tuple(transform),
        gcps=gcps,
        gcp_wkt=_wkt(dataset.GetGCPSpatialRef()),
        axes=axes,
        unit=unit,
    )


def _wkt(reference: osr.SpatialReference | None) -> str:
    return "" if reference is None else reference.ExportToWkt()


def with_mask(scene: Scene, path: str, file: str) -> Scene:
    """The scene with a mask beside it. path: what GDAL opens, on the scene's grid. file: what the mask was made of, for its digest."""
    return msgspec.structs.replace(scene, mask_path=path, mask_digest=_digest((file,)))


def _digest(rasters: Sequence[str]) -> str:
    """SHA-256 over size, first and last MiB of each file that holds the pixels of some rasters.

    The rasters are those that the user named: a warp does not list what lies behind its own sources.
    """
    digest = hashlib.sha256()
    files = {file for raster in rasters for file in gdal.Open(raster).GetFileList() or [raster]}
    for each in sorted(file for file in files if not file.endswith(".aux.xml")):
        status = gdal.VSIStatL(each)
        handle = gdal.VSIFOpenL(each, "rb")
        if handle is None or status is None:
            continue
        try:
            digest.update(str(status.size).encode())
            for start in {0, max(0, status.size - _MIB)}:
                gdal.VSIFSeekL(handle, start, 0)
                digest.update(bytes(gdal.VSIFReadL(1, min(_MIB, status.size), handle)))
        finally:
            gdal.VSIFCloseL(handle)
    return digest.hexdigest()[:16]


def estimate_cost(scene: Scene, grid: Grid) -> np.ndarray:
    """Forward passes that each tile of a grid seems to cost, int64 (ny * nx,): 1, or 0 where there seems to be no data."""
    cost = np.ones(grid.size, bool)
    for seems in (estimate_valid(scene, grid), _estimate_mask(scene, grid)):
        cost &= True if seems is None else seems.ravel()
    return (cost & touched_tiles(read_wkt(scene.aoi), grid) if scene.aoi else cost).astype(np.int64)


def estimate_valid(scene: Scene, grid: Grid) -> np.ndarray | None:
    """Which tiles of a grid seem to have data in the file, by the coarsest overview that still has 8 pixels along a core.

    Returns bool (ny, nx), or None if the scene has no gaps or no such overview. An estimate: it only balances the work.
    """
    level = _coarse_level(scene.overviews, grid)
    if not scene.has_gaps or level is None:
        return None
    dataset = gdal.Open(scene.path)
    masks = [dataset.GetRasterBand(b).GetOverview(level).GetMaskBand().ReadAsArray() != 0 for b in scene.bands]
    return _any_in_tiles(np.logical_or.reduce(masks), scene.overviews[level], grid)


def _estimate_mask(scene: Scene, grid: Grid) -> np.ndarray | None:
    """The same by the overviews of the mask beside the file, None where it has none."""
    if not scene.mask_path:
        return None
    dataset = gdal.Open(scene.mask_path)
    band = dataset.GetRasterBand(1)
    factors = [_decimation(dataset, band, k) for k in range(band.GetOverviewCount())]
    level = _coarse_level(factors, grid)
    return None if level is None else _any_in_tiles(band.GetOverview(level).ReadAsArray() != 0, factors[level], grid)


def _coarse_level(factors: Sequence[int], grid: Grid) -> int | None:
    """The overview to estimate with, by its number; finer ones than 4 are too dear to read."""
    factor = max((f for f in factors if f <= grid.core / 8), default=0)
    return list(factors).index(factor) if factor >= 4 else None


def _any_in_tiles(seen: np.ndarray, factor: int, grid: Grid) -> np.ndarray:
    """Which tiles have a True pixel in an overview, bool (ny, nx)."""
    ny, nx = grid.shape
    rows = np.minimum(np.arange(ny) * grid.core // factor, seen.shape[0] - 1)
    cols = np.minimum(np.arange(nx) * grid.core // factor, seen.shape[1] - 1)
    return np.logical_or.reduceat(np.logical_or.reduceat(seen, rows, axis=0), cols, axis=1)


def read_array(path: Path, window: Window) -> np.ndarray:
    """All bands of a window, (bands, height, width), in the file's type."""
    return gdal.Open(str(path)).ReadAsArray(window.col, window.row, window.width, window.height)
