"""A scene's cells coloured by their buckets, over the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from hpcseg import __version__
from hpcseg.products.cog import publishing
from hpcseg.products.palette import number_color

_DPI = 150
_INK, _MUTED, _FRAME, _MONO = "#1b1f24", "#68707a", "#3c434b", "#ffffff"
_LUMA = (0.299, 0.587, 0.114)
_LONGER, _SHORTEST, _LEGEND, _TITLE, _MARGIN, _ENTRY = 7.0, 2.6, 2.0, 0.5, 0.25, 0.19


class BucketMap(NamedTuple):
    """What to draw. image: the scene as RGBA, u8 (h, w, 4). size: (height, width) of the scene. cell: edge of its cells; all in its pixels.

    buckets: u8 (ny, nx), one a cell; `mono`: belongs to no bucket and is mapped by the model of all, `none`: has no data.
    """

    title: str
    image: np.ndarray
    size: tuple[int, int]
    cell: int
    buckets: np.ndarray
    mono: int
    none: int


def draw_bucket_map(path: Path, what: BucketMap) -> None:
    """Draw a map of buckets as PNG; it appears whole or not at all. Raises UsageError if it cannot be written."""
    height, width = (size * _LONGER / max(what.size) for size in what.size)
    found, counts = np.unique(what.buckets, return_counts=True)
    entries = [_entry(what, int(bucket), int(count)) for bucket, count in zip(found, counts, strict=True)]
    body = max(height, _SHORTEST, _ENTRY * len(entries) + 0.1)
    page = width + _LEGEND + 3 * _MARGIN, body + _TITLE + 2 * _MARGIN
    figure = Figure(figsize=page, dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    place: dict[str, Any] = {"transform": figure.dpi_scale_trans, "va": "top", "parse_math": False}
    figure.text(_MARGIN, page[1] - _MARGIN, what.title, fontsize=12, weight="bold", color=_INK, **place)
    words = f"{what.size[0]:,} x {what.size[1]:,} px  ·  cells of {what.cell} px  ·  hpcseg {__version__}"
    figure.text(_MARGIN, page[1] - _MARGIN - 0.26, words, fontsize=7.5, color=_MUTED, **place)
    top = page[1] - _MARGIN - _TITLE
    axes = figure.add_axes((_MARGIN / page[0], (top - height) / page[1], width / page[0], height / page[1]))
    _draw_cells(axes, what)
    figure.legend(
        handles=entries, loc="upper left", bbox_to_anchor=((width + 2 * _MARGIN) / page[0], top / page[1]), frameon=False,
        fontsize=7.5, labelcolor=_INK, borderpad=0, borderaxespad=0, handlelength=1.2, handleheight=1.0,
    )  # fmt: skip
    with publishing(path) as part:
        figure.savefig(part, format="png", dpi=_DPI, metadata={"Software": f"hpcseg {__version__}", "Title": what.title})


def _entry(what: BucketMap, bucket: int, count: int) -> Patch:
    cells = f"{count:,} cell{'s' * (count != 1)}"
    if bucket == what.none:
        return Patch(facecolor="none", edgecolor="#c9ced3", linewidth=0.6, label=f"no data  ·  {cells}")
    if bucket == what.mono:
        return Patch(facecolor=_MONO, edgecolor=_FRAME, hatch="//////", linewidth=0.6, label=f"mono  ·  {cells}")
    return Patch(facecolor=number_color(bucket), edgecolor=_FRAME, linewidth=0.6, label=f"bucket {bucket}  ·  {cells}")


def _draw_cells(axes: Axes, what: BucketMap) -> None:
    """The scene in grey, which leaves hues to buckets, and its cells: hatched for mono, nothing where there is no data."""
    height, width = what.size
    grey = what.image[..., :3] @ np.array(_LUMA)
    image = np.concatenate([np.repeat(grey[..., None], 3, -1), what.image[..., 3:]], -1).astype(np.uint8)
    axes.imshow(image, extent=(0, width, height, 0), aspect="auto", interpolation="antialiased")
    for bucket in np.unique(what.buckets[what.buckets != what.none]):
        cells = [_square(what, iy, ix) for iy, ix in np.argwhere(what.buckets == bucket)]
        face, hatch = ("none", "//////") if bucket == what.mono else (f"{number_color(int(bucket))}80", None)
        axes.add_collection(PatchCollection(cells, facecolor=face, hatch=hatch, edgecolor="#ffffffc0", linewidth=0.7))
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=_FRAME)


def _square(what: BucketMap, iy: int, ix: int) -> Rectangle:
    top, left = iy * what.cell, ix * what.cell
    return Rectangle((left, top), min(what.cell, what.size[1] - left), min(what.cell, what.size[0] - top))
