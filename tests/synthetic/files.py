"""Reading what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from osgeo import gdal


def read(path: Path) -> np.ndarray:
    """All pixels of a file."""
    return gdal.Open(str(path)).ReadAsArray()
