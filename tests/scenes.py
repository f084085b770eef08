"""Large scenes made quickly: the same block again and again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from osgeo import gdal


def write_repeated(path: Path, height: int, width: int, seed: int = 0) -> Path:
    """A fully valid u8 RGB scene (DEFLATE, 512x512 blocks, 10 m pixels), written strip by strip."""
    options = ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "COMPRESS=DEFLATE", "ZLEVEL=1", "INTERLEAVE=PIXEL", "BIGTIFF=IF_SAFER"]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), width, height, 3, gdal.GDT_Byte, options)
    dataset.SetGeoTransform((500000.0, 10.0, 0.0, 8000000.0, 0.0, -10.0))
    smooth = np.random.default_rng(seed).integers(1, 255, (3, 64, 64), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    strip = np.tile(smooth, (1, 1, -(-width // 512)))[:, :, :width]
    for row in range(0, height, 512):
        dataset.WriteArray(np.ascontiguousarray(strip[:, : min(512, height - row)]), 0, row)
    dataset = None
    return path
