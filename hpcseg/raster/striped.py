"""A scene laid out anew in strips, as many archives keep theirs."""

from __future__ import annotations

from pathlib import Path

from osgeo import gdal

_ROWS = 16


def write_striped(source: Path, path: Path) -> None:
    """Copy a raster into a GeoTIFF whose blocks span its width, 16 rows each, DEFLATE."""
    part = path.with_name(f"{path.name}.part")
    options = ["TILED=NO", f"BLOCKYSIZE={_ROWS}", "COMPRESS=DEFLATE", "PREDICTOR=2", "ZLEVEL=1", "BIGTIFF=IF_SAFER"]
    gdal.Translate(str(part), str(source), format="GTiff", creationOptions=options)
    part.replace(path)
