"""What a product's metadata say must be added to its stored values before anything else."""

from __future__ import annotations

from collections.abc import Sequence

from osgeo import gdal

# Sentinel-2 since processing baseline 04.00, level 2A and level 1C.
_ITEMS = ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")


def read_added_offsets(parts: Sequence[str], bands: Sequence[int]) -> tuple[float, ...]:
    """The offset of each chosen band of a scene made of these parts: its item BOA_ADD_OFFSET or RADIO_ADD_OFFSET, else its raster's,
    else 0. bands: from 1, through all parts."""
    found = []
    for part in parts:
        dataset = gdal.Open(part)
        whole = dataset.GetMetadata()
        found += [_offset(whole | dataset.GetRasterBand(k + 1).GetMetadata()) for k in range(dataset.RasterCount)]
    return tuple(found[band - 1] if band <= len(found) else 0.0 for band in bands)


def _offset(metadata: dict[str, str]) -> float:
    text = next((metadata[item] for item in _ITEMS if item in metadata), "0")
    try:
        return float(text)
    except ValueError:
        # One text for all bands of a product, such as "{-1000,-1000}": equal numbers, or it says nothing of this band.
        numbers = {float(word) for word in text.strip("{}[] ").split(",")}
        return numbers.pop() if len(numbers) == 1 else 0.0
