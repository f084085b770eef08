"""What GDAL opens for a scene of a list: its file, or the XML of a VRT that stacks, warps and aligns; and the mask and labels beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from osgeo import gdal

from hpcseg.errors import SceneError
from hpcseg.raster.burn import VECTOR_SUFFIXES
from hpcseg.raster.labels import differing_grid
from hpcseg.raster.listing import Entry
from hpcseg.raster.scene import Scene, describe, georeference_of

NOT_RASTERS = (*VECTOR_SUFFIXES, ".h5")


def open_name(entry: Entry, crs: str = "", resolution: float = 0.0, align: bool = False) -> str:
    """What GDAL opens for an entry: its path, or the XML of a VRT that stacks its parts and warps them where asked.

    Raises SceneError if the parts lie on different grids and `align` is not set, or if a part of a stack has a mask.
    """
    try:
        names = list(entry.parts)
        if len(names) > 1:
            names = [_stack(names, align)]
        return _warp(names[0], crs, resolution) if crs or resolution else names[0]
    except RuntimeError as error:
        raise SceneError(f"cannot be opened: {str(error)[:300]}") from error


def open_mask(entry: Entry, bands: tuple[int, ...] = (), crs: str = "", resolution: float = 0.0, align: bool = False) -> str:
    """What GDAL opens for the column mask of an entry, "" without one: a raster on the scene's own grid whose first band is not 0
    where there is data. It follows the scene, of which those `bands` are read, through its warp by nearest pixels.

    Raises SceneError naming a mask that cannot be opened or lies on another grid.
    """
    path = entry.columns.get("mask", "")
    if not path:
        return ""
    scene = open_name(entry, align=align)
    _check_mask(path, describe(scene, entry.name, bands))
    if not (crs or resolution):
        return path
    source = _placed_as(path, scene, bandList=[1], maskBand="none")
    return _follow(source, open_name(entry, crs, resolution, align), {"srcNodata": 0, "dstNodata": 0})


def open_label(
    path: str, entry: Entry, bands: tuple[int, ...] = (), crs: str = "", resolution: float = 0.0, align: bool = False
) -> str:
    """What GDAL opens for the labels of an entry. A raster on the scene's own grid follows the scene, of which those `bands` are read,
    through its warp by nearest pixels; beyond its edges there is no data. All else stays `path` and must fit the scene as it is read.

    Raises SceneError, beginning with the path for labels that cannot be opened.
    """
    if not (crs or resolution) or Path(path).suffix.lower() in NOT_RASTERS:
        return path
    try:
        labels = gdal.Open(path)
    except RuntimeError as error:
        raise SceneError(f"{path}: cannot be opened: {str(error)[:300]}") from error
    scene = open_name(entry, align=align)
    if _difference(labels, describe(scene, entry.name, bands)):
        return path
    # Alpha takes in no data of any kind; a colour is no data in all its bands or not at all.
    fill = {"dstAlpha": True, "dstNodata": "none", "warpOptions": ["UNIFIED_SRC_NODATA=YES"], "setColorInterpretation": True}
    return _follow(_placed_as(path, scene), open_name(entry, crs, resolution, align), fill)


def _placed_as(path: str, scene: str, **options: Any) -> gdal.Dataset:
    """A raster with the georeference of a scene, which it may lack. options: gdal.Translate's."""
    like, placed = gdal.Open(scene), gdal.Translate("", path, format="VRT", **options)
    _place(placed, like)
    # Only what has a name can be the source of a warp: for a VRT in memory that is its XML.
    return gdal.Open(placed.GetMetadata("xml:VRT")[0])


def _follow(source: gdal.Dataset, warped: str, fill: dict[str, Any]) -> str:
    """XML of a VRT that carries a raster to a warped scene's grid by nearest pixels; overviews would mix its values."""
    return _onto(gdal.Open(warped), source, "near", fill | {"overviewLevel": "NONE"})


def _check_mask(path: str, scene: Scene) -> None:
    """Raises SceneError naming a mask that cannot be opened or does not lie on the scene's grid."""
    try:
        mask = gdal.Open(path)
    except RuntimeError as error:
        raise SceneError(f"its mask cannot be opened: {str(error)[:300]}") from error
    if difference := _difference(mask, scene):
        raise SceneError(f"its mask {path} {difference}: warp it there (gdalwarp)")


def _difference(raster: gdal.Dataset, scene: Scene) -> str:
    return differing_grid(scene, raster.RasterYSize, raster.RasterXSize, georeference_of(raster))


def _stack(names: list[str], align: bool) -> str:
    """XML of a VRT with all bands of all parts, in order; georeference of the first."""
    first, sources = gdal.Open(names[0]), [gdal.Open(name) for name in names]
    for k, source in enumerate(sources[1:], start=1):
        if _grid(source) != _grid(first):
            if not align:
                raise SceneError(f"{names[k]} does not lie on the grid of {names[0]}; --align warps it there")
            nodata = source.GetRasterBand(1).GetNoDataValue()
            names[k] = _onto(first, source, "bilinear", {} if nodata is not None else {"dstNodata": 0})
            sources[k] = gdal.Open(names[k])
    stack = _blank(first)
    for name, source in zip(names, sources, strict=True):
        for number in range(1, source.RasterCount + 1):
            _add_band(stack, name, source.GetRasterBand(number), number)
    return stack.GetMetadata("xml:VRT")[0]


def _blank(like: gdal.Dataset) -> gdal.Dataset:
    """A VRT without bands, of a raster's size and georeference."""
    blank = gdal.GetDriverByName("VRT").Create("", like.RasterXSize, like.RasterYSize, 0)
    _place(blank, like)
    return blank


def _place(target: gdal.Dataset, like: gdal.Dataset) -> None:
    """Give a VRT a raster's georeference."""
    if like.GetGCPCount():
        target.SetGCPs(like.GetGCPs(), like.GetGCPSpatialRef())
    elif like.GetGeoTransform(can_return_null=True) is not None:
        target.SetGeoTransform(like.GetGeoTransform())
    target.SetSpatialRef(like.GetSpatialRef())


def _set_source(target: gdal.Band, name: str, number: int) -> None:
    source = f'<SourceFilename relativeToVRT="0">{escape(name)}</SourceFilename><SourceBand>{number}</SourceBand>'
    target.SetMetadataItem("source_0", f"<SimpleSource>{source}</SimpleSource>", "new_vrt_sources")


def _add_band(stack: gdal.Dataset, name: str, band: gdal.Band, number: int) -> None:
    if band.GetMaskFlags() & gdal.GMF_PER_DATASET:
        what = "has a mask or an alpha band, which a stack cannot keep"
        raise SceneError(f"{name} {what}: give it a no-data value first (gdalwarp -dstnodata)")
    stack.AddBand(band.DataType)
    target = stack.GetRasterBand(stack.RasterCount)
    _set_source(target, name, number)
    if band.GetNoDataValue() is not None:
        target.SetNoDataValue(band.GetNoDataValue())
    for get, put in ((band.GetScale, target.SetScale), (band.GetOffset, target.SetOffset)):
        if get() is not None:
            put(get())


def _grid(dataset: gdal.Dataset) -> tuple:
    return dataset.RasterYSize, dataset.RasterXSize, dataset.GetGeoTransform(can_return_null=True), dataset.GetProjection()


def _onto(first: gdal.Dataset, other: gdal.Dataset, resampling: str, fill: dict[str, float]) -> str:
    """XML of a VRT that warps a raster onto another's grid. fill: gdal.Warp's options for no data."""
    transform = first.GetGeoTransform(can_return_null=True)
    if transform is None or transform[2] or transform[4]:
        raise SceneError("--align needs a first part that is georeferenced and not rotated")
    x0, dx, _, y0, _, dy = transform
    bounds = (x0, y0 + dy * first.RasterYSize, x0 + dx * first.RasterXSize, y0)
    size = {"width": first.RasterXSize, "height": first.RasterYSize}
    warped = gdal.Warp("", other, format="VRT", dstSRS=first.GetProjection(), outputBounds=bounds, resampleAlg=resampling, **size, **fill)
    return warped.GetMetadata("xml:VRT")[0]


def _warp(name: str, crs: str, resolution: float) -> str:
    """XML of a VRT that warps a raster; its empty margin is no data, by an alpha band where the raster has no value for it."""
    dataset = gdal.Open(name)
    options: dict[str, Any] = {"dstSRS": crs} if crs else {}
    if resolution:
        options |= {"xRes": resolution, "yRes": resolution}
    if dataset.GetRasterBand(1).GetMaskFlags() == gdal.GMF_ALL_VALID:
        options["dstAlpha"] = True
    return gdal.Warp("", dataset, format="VRT", resampleAlg="bilinear", **options).GetMetadata("xml:VRT")[0]
