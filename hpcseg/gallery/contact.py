"""Contact sheets of cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcseg.errors import SceneError, UsageError
from hpcseg.gallery.spec import MONO_BUCKET, GallerySpec
from hpcseg.products.picture import Thumbnails
from hpcseg.products.sheet import draw_sheet
from hpcseg.raster import list_scenes, open_name
from hpcseg.tiles import Window

_UNREAD = 180


class View(NamedTuple):
    """A cell to be shown. source: of its scene, see Entry. words: above the scene's name and the cell's place in its caption."""

    source: str
    scene: str
    window: Window
    words: str


def draw_views(path: Path, views: Sequence[View], spec: GallerySpec, title: str, subtitle: str = "") -> None:
    """Draw cells of a gallery side by side, as PNG; those of scenes that cannot be read any more are grey and say so. Raises UsageError."""
    thumbnails, pictures, captions = Thumbnails(spec.cell), [], []
    for view in views:
        caption = f"{view.words}\n{view.scene}\nrow {view.window.row}, col {view.window.col}"
        try:
            pictures.append(thumbnails.read_path(open_source(view.source, spec), view.window))
        except (SceneError, UsageError):
            pictures.append(np.full((64, 64, 3), _UNREAD, np.uint8))
            caption = f"{view.words}\n{view.scene}\ncannot be read"
        captions.append(caption)
    draw_sheet(path, pictures, captions, title, subtitle)


def open_source(source: str, spec: GallerySpec) -> str:
    """What GDAL opens for a source, see Entry, on the grid that its cells are counted on. Raises SceneError, UsageError."""
    return open_name(list_scenes([source])[0], spec.reading.crs, spec.reading.resolution)


def bucket_name(bucket: int) -> str:
    """A bucket in tables and file names: its number, or mono."""
    return "mono" if bucket == MONO_BUCKET else str(bucket)
