"""What files say of how and when a scene was taken."""

from __future__ import annotations

import re
from collections.abc import Sequence

from osgeo import gdal

_TELLS = re.compile(r"DATE|TIME|SENS|SATELLITE|SPACECRAFT|PLATFORM|INSTRUMENT|MISSION|CLOUD|ORBIT|POLARI[SZ]ATION", re.IGNORECASE)


def read_metadata(parts: Sequence[str]) -> dict[str, str]:
    """The metadata items of a scene's files, those of its first part first, that name a date, a sensor, a platform or clouds."""
    found: dict[str, str] = {}
    for part in reversed(parts):
        items = gdal.Open(part).GetMetadata()
        found |= {key: value for key, value in items.items() if _TELLS.search(key)}
    return found
