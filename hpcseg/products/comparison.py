"""A picture of a verdict: the scene, its truth, its map and the errors side by side, with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hpcseg import __version__
from hpcseg.config import Class
from hpcseg.products.cog import publishing, rgb
from hpcseg.products.quicklook import read_scene
from hpcseg.store import NODATA, Stored

_DPI = 200
_INK, _MUTED, _FRAME, _HATCH = "#1b1f24", "#68707a", "#3c434b", "#c9ced3"
_MARGIN, _GAP, _TITLE, _CAPTION, _ROW = 0.26, 0.16, 0.56, 0.2, 0.2
_WIDEST, _TALLEST, _NARROWEST, _ENTRY = 3.3, 5.0, 6.0, 1.9
_SWATCH, _LETTER = 0.36, 0.066
_WIDE_SCENE = 0.4
_NOT_SHOWN = ("not labelled, or no data", "none")
# What an error panel tells apart, in the order of its index; blue and vermilion differ for all eyes (Okabe and Ito 2008).
_TWO = (
    ("right: {0}", "#e9ecef"),
    ("right: {1}", "#7d8790"),
    ("missed {1}", "#d55e00"),
    ("false {1}", "#0072b2"),
    ("not mapped", "#c3a5d6"),
    ("near a border, not judged", "#f0e2a8"),
    _NOT_SHOWN,
)
_MANY = (("right", "#e9ecef"), ("wrong", "#d55e00"), *_TWO[4:])


@dataclass(frozen=True)
class Comparison:
    """What to draw. planes: u8 (3, h, w), truth, map and whether a border is near; 255 in truth or map: none. step: a cell stands for
    so many pixels. image: the scene as RGBA, u8 (h, w, 4), or None."""

    title: str
    subtitle: str
    classes: Sequence[Class]
    planes: np.ndarray
    step: int
    image: np.ndarray | None = None


def read_image(scene: Path, stored: Stored, planes: np.ndarray) -> np.ndarray:
    """The scene behind a map at the size of a comparison's planes, RGBA. Raises SceneError, UsageError if it has not the map's size."""
    return read_scene(scene, stored, planes.shape[1:])


def error_kinds(planes: np.ndarray, classes: int) -> np.ndarray:
    """What each cell of a comparison is, u8 (h, w). Two classes: 0, 1 right, 2 missed, 3 false; more: 0 right, 1 wrong. Then, for both:
    not mapped, near a border, not labelled. planes: as in Comparison."""
    truth, labels, near = planes
    first = 4 if classes == 2 else 2
    kinds = np.where(truth == labels, truth, 3 - truth) if classes == 2 else (truth != labels).astype(np.uint8)
    kinds = np.where(labels == NODATA, first, kinds)
    kinds = np.where(near == 1, first + 1, kinds)
    return np.where(truth == NODATA, first + 2, kinds).astype(np.uint8)


def write_comparison(out: Path, comparison: Comparison) -> None:
    """Draw a comparison as PNG; it appears whole or not at all. Raises UsageError if it cannot be written."""
    sheet = _Sheet(comparison)
    with publishing(out) as part:
        sheet.draw().savefig(part, format="png", dpi=_DPI, metadata={"Software": f"hpcseg {__version__}", "Title": comparison.title})


def _paint(index: np.ndarray, colors: Sequence[str]) -> np.ndarray:
    """Indices as RGBA; those without a colour, and "none", are transparent."""
    table = np.zeros((256, 4), np.uint8)
    for k, color in enumerate(colors):
        if color != "none":
            table[k] = (*rgb(color), 255)
    return table[index]


class _Sheet:
    """The page: all lengths in inches."""

    def __init__(self, comparison: Comparison) -> None:
        self.what = comparison
        truth, labels, _ = comparison.planes
        colors, count = [each.color for each in comparison.classes], len(comparison.classes)
        names = [each.name for each in comparison.classes]
        kinds = error_kinds(comparison.planes, count)
        style = [(name.format(*names), color) for name, color in (_TWO if count == 2 else _MANY)]
        self.panels = [("truth", _paint(truth, colors)), ("map", _paint(labels, colors)), ("errors", _paint(kinds, [c for _, c in style]))]
        if comparison.image is not None:
            self.panels.insert(0, ("scene", comparison.image))
        seen = np.unique(comparison.planes[:2])
        self.legend = [_patch(names[k], colors[k]) for k in range(count) if k in seen or count <= 8]
        self.kinds = [_patch(*style[k]) for k in np.unique(kinds)]
        self._place()

    def _place(self) -> None:
        """Panels in a row; those of a wide scene one below the other."""
        height, width = self.what.planes.shape[1:]
        aspect = height / width
        self.across = len(self.panels) if aspect > _WIDE_SCENE else 1
        self.panel_width = max(0.1, min(_WIDEST if self.across > 1 else 2.5 * _WIDEST, _TALLEST / aspect))
        self.panel_height = min(max(0.1, self.panel_width * aspect), _TALLEST)
        down = len(self.panels) // self.across
        self.block = (
            self.across * (self.panel_width + _GAP) - _GAP,
            down * (self.panel_height + _CAPTION + _GAP) - _GAP,
        )
        self.inner = max(self.block[0], _NARROWEST)
        longest = max(len(str(entry.get_label())) for entry in (*self.legend, *self.kinds))
        self.columns = max(1, int(self.inner / max(_ENTRY, _SWATCH + _LETTER * longest)))
        rows = sum(-(-len(part) // self.columns) for part in (self.legend, self.kinds))
        self.width = self.inner + 2 * _MARGIN
        self.height = self.block[1] + _TITLE + _ROW * rows + 0.25 + 2 * _MARGIN

    def draw(self) -> Figure:
        self.figure = Figure(figsize=(self.width, self.height), dpi=_DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        top = self.height - _MARGIN
        self._text(_MARGIN, top, self.what.title, 12.5, _INK, weight="bold", va="top")
        self._text(_MARGIN, top - 0.26, self.what.subtitle, 8, _MUTED, va="top")
        for k, (name, image) in enumerate(self.panels):
            self._draw_panel(k, name, image, top - _TITLE)
        below = top - _TITLE - self.block[1] - 0.12
        for part in (self.legend, self.kinds):
            self._draw_legend(part, below)
            below -= _ROW * -(-len(part) // self.columns) + 0.1
        scale = f"one cell = {self.what.step} x {self.what.step} px (its first)  ·  " if self.what.step > 1 else ""
        self._text(self.width - _MARGIN, 0.5 * _MARGIN, f"{scale}hpcseg {__version__}", 6.5, _MUTED, ha="right")
        return self.figure

    def _text(self, x: float, y: float, words: str, size: float, color: str, **style: Any) -> None:
        """A line of text, made smaller where it would leave the page."""
        artist = self.figure.text(x, y, words, transform=self.figure.dpi_scale_trans, fontsize=size, color=color, **style)
        room = (self.width - 2 * _MARGIN) * _DPI
        extent = artist.get_window_extent(self.canvas.get_renderer()).width
        artist.set_fontsize(size * min(1.0, room / extent) if extent else size)

    def _draw_panel(self, k: int, name: str, image: np.ndarray, top: float) -> None:
        row, col = divmod(k, self.across)
        x = _MARGIN + col * (self.panel_width + _GAP)
        y = top - row * (self.panel_height + _CAPTION + _GAP) - _CAPTION - self.panel_height
        self._text(x, y + self.panel_height + 0.06, name, 8, _MUTED)
        box = (x / self.width, y / self.height, self.panel_width / self.width, self.panel_height / self.height)
        axes = self.figure.add_axes(box)
        if not image[..., 3].all():
            axes.patch.set(hatch="//////", edgecolor=_HATCH, facecolor="white")
        axes.imshow(image, aspect="auto", interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(linewidth=0.6, color=_FRAME)

    def _draw_legend(self, entries: list[Patch], top: float) -> None:
        for k, entry in enumerate(entries):
            # matplotlib fills columns first; one legend an entry keeps the order along the rows.
            row, col = divmod(k, self.columns)
            place = ((_MARGIN + col * self.inner / self.columns) / self.width, (top - _ROW * row) / self.height)
            found = self.figure.legend(
                handles=[entry], loc="upper left", bbox_to_anchor=place, frameon=False, fontsize=7.5, labelcolor=_INK,
                borderpad=0, borderaxespad=0, handlelength=1.2, handleheight=1.0,
            )  # fmt: skip
            self.figure.add_artist(found)


def _patch(name: str, color: str) -> Patch:
    if color == "none":
        return Patch(facecolor="white", edgecolor=_HATCH, hatch="//////", label=name)
    return Patch(facecolor=color, edgecolor=_FRAME, linewidth=0.4, label=name)
