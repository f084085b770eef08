"""What the page of a run shows of its maps: shares of classes, and small pictures of the first of them."""

from __future__ import annotations

import ast
import io
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.image import imsave

from hpcseg import store
from hpcseg.config import Class
from hpcseg.errors import HpcsegError
from hpcseg.products.cog import ClassShare, legend, text
from hpcseg.products.picture import read_picture
from hpcseg.products.quicklook import colours, shares_of, survey
from hpcseg.raster import Entry, describe, list_scenes, open_name
from hpcseg.store import Stored

_LONGEST = 560


class Look(NamedTuple):
    """A prediction file. tiles: by status. labels: it has classes; without, heat. pictures: PNG of the map, and of the scene where it
    still lies where it was."""

    name: str
    height: int
    width: int
    tiles: dict[str, int]
    classes: list[Class]
    shares: dict[str, ClassShare]
    pictures: dict[str, bytes]

    @property
    def valid(self) -> int:
        """Pixels with a label."""
        return sum(share.pixels for share in self.shares.values())

    @property
    def area_m2(self) -> float | None:
        """Of these, None where the scene does not say where it lies."""
        areas = [share.area_m2 for share in self.shares.values()]
        return None if not areas or None in areas else math.fsum(each or 0.0 for each in areas)


def look(path: Path, pictured: bool) -> Look:
    """Count a map and, if wanted, picture it. Raises StoreError."""
    stored = store.read(path)
    grid = stored.layout.grid
    if "labels" not in stored.layout.planes:
        return Look(path.stem, grid.height, grid.width, stored.counts(), [], {}, _scene_picture(stored) if pictured else {})
    classes = legend(stored)
    seen = survey(stored, classes)
    pictures = {}
    if pictured:
        pictures = _scene_picture(stored) | {"map": _png(_shrink(colours(seen.picture, classes)))}
    return Look(path.stem, grid.height, grid.width, stored.counts(), classes, shares_of(stored, classes, seen.counts), pictures)


def _shrink(picture: np.ndarray) -> np.ndarray:
    """RGBA averaged over squares, so that it is at most as large as the page shows."""
    factor = -(-max(picture.shape[:2]) // _LONGEST)
    rows, cols = (size // factor * factor for size in picture.shape[:2])
    if min(rows, cols) == 0:
        return picture
    cells = picture[:rows, :cols].reshape(rows // factor, factor, cols // factor, factor, 4).astype(np.float32)
    weight = cells[..., 3:]
    covered = weight.sum((1, 3))
    colour = (cells[..., :3] * weight).sum((1, 3)) / np.maximum(covered, 1)
    return np.concatenate([colour, covered / factor**2], -1).round().astype(np.uint8)


def _png(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    imsave(out, picture, format="png")
    return out.getvalue()


def _scene_picture(stored: Stored) -> dict[str, bytes]:
    """The scene itself by "scene"; nothing if it is not where it was, or another."""
    try:
        path = _scene_path(stored)
        if not path:
            return {}
        factor = max(1, -(-max(stored.layout.grid.height, stored.layout.grid.width) // _LONGEST))
        shape = (max(1, stored.layout.grid.height // factor), max(1, stored.layout.grid.width // factor))
        return {"scene": _png(read_picture(path, shape))}
    except (HpcsegError, OSError, ValueError, SyntaxError, LookupError, RuntimeError):
        return {}


def _scene_path(stored: Stored) -> str:
    """What GDAL opens as the scene, found as the run found it; "" if it is not there."""
    told = json.loads(text(stored.attributes["configuration"]))
    entries: list[Entry] = list_scenes(ast.literal_eval(told["scenes"]), ast.literal_eval(told.get("assets", "()")))
    entry = next((each for each in entries if each.name == stored.path.stem), None)
    if entry is None:
        return ""
    path = open_name(entry, told.get("crs", ""), float(told.get("resolution", 0)), told.get("align") == "True")
    found = describe(path, entry.name, parts=entry.parts)
    return path if found.digest == stored.identity["scene"]["digest"] else ""
