"""Masks of one's own: any raster with a rule that says which of its values mean data."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from osgeo import gdal

from hpcseg.errors import UsageError

_RULE = re.compile(r"alpha|transparent|nonzero|zero|(<=|>=|<|>|=)(-?\d+(?:\.\d+)?)")
_WORDS = "alpha, transparent, nonzero, zero, =V, <V, <=V, >V, >=V"


def read_mask_rule(text: str) -> tuple[str, str, str]:
    """FILE[:rule] as (file, rule, what GDAL opens for a raster whose first band is not 0 where there is data).

    alpha: data where the alpha band is not 0; transparent: where it is 0. nonzero, zero, =V, <V, <=V, >V, >=V: by the values of the
    first band. Without a rule: alpha where there is such a band, else nonzero. Raises UsageError.
    """
    file, colon, rule = text.rpartition(":")
    if not colon or not _RULE.fullmatch(rule):
        file, rule = text, ""
    try:
        dataset = gdal.Open(file)
    except RuntimeError as error:
        raise UsageError(f"--mask {text}: {str(error)[:300]}; wanted FILE or FILE:rule, a rule being one of {_WORDS}") from error
    alpha = _alpha_band(dataset)
    rule = rule or ("alpha" if alpha else "nonzero")
    if rule in ("alpha", "transparent") and not alpha:
        raise UsageError(f"--mask {text}: {file} has no alpha band; wanted another rule of {_WORDS}")
    band = alpha if rule in ("alpha", "transparent") else 1
    return file, rule, _as_mask(dataset, file, band, _table(rule))


def _alpha_band(dataset: gdal.Dataset) -> int:
    """Number of the alpha band, 0 without one."""
    bands = range(1, dataset.RasterCount + 1)
    return next((k for k in bands if dataset.GetRasterBand(k).GetColorInterpretation() == gdal.GCI_AlphaBand), 0)


def _table(rule: str) -> str:
    """The rule as a lookup table of a VRT, which interpolates between its points: a step is two of them close together."""
    if rule in ("alpha", "nonzero"):
        return "-1e-6:1,0:0,1e-6:1"
    sign, text = ("=", "0") if rule in ("zero", "transparent") else _RULE.fullmatch(rule).groups()  # type: ignore[union-attr]
    value = float(text)
    below, above = (value + s * max(1e-6, 1e-9 * abs(value)) for s in (-1, 1))
    at, low, high = {"=": (1, 0, 0), "<": (0, 1, 0), "<=": (1, 1, 0), ">": (0, 0, 1), ">=": (1, 0, 1)}[sign]
    return f"{below!r}:{low},{value!r}:{at},{above!r}:{high}"


def _as_mask(dataset: gdal.Dataset, file: str, band: int, table: str) -> str:
    """XML of a VRT with one u8 band on the raster's grid: its values through a lookup table."""
    plain = gdal.GetDriverByName("VRT").Create("", dataset.RasterXSize, dataset.RasterYSize, 0)
    plain.AddBand(gdal.GDT_Byte)
    if dataset.GetGCPCount():
        plain.SetGCPs(dataset.GetGCPs(), dataset.GetGCPSpatialRef())
    elif dataset.GetGeoTransform(can_return_null=True) is not None:
        plain.SetGeoTransform(dataset.GetGeoTransform())
    plain.SetSpatialRef(dataset.GetSpatialRef())
    name = f'<SourceFilename relativeToVRT="0">{escape(file)}</SourceFilename><SourceBand>{band}</SourceBand>'
    source = f"<ComplexSource>{name}<LUT>{table}</LUT></ComplexSource>"
    plain.GetRasterBand(1).SetMetadataItem("source_0", source, "new_vrt_sources")
    return plain.GetMetadata("xml:VRT")[0]
