"""Contact sheets: many small pictures with a caption each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hpcseg import __version__
from hpcseg.errors import UsageError
from hpcseg.products.cog import publishing

_DPI = 150
_INK, _MUTED, _FRAME = "#1b1f24", "#68707a", "#9aa1a8"
_MARGIN, _GAP, _TITLE, _SUBTITLE, _LINE = 0.25, 0.14, 0.34, 0.22, 0.125
_THUMB, _MOST, _NARROWEST, _COARSE = 1.5, 10, 4, 64


def draw_sheet(
    path: Path, pictures: Sequence[np.ndarray], captions: Sequence[str], title: str = "", subtitle: str = ""
) -> None:
    """Draw pictures in rows, as PNG; it appears whole or not at all.

    pictures: u8 (h, w, 3), drawn at one scale, at which the largest fills its square. captions: one for each, of any number of lines;
    what is too long for its square is cut.
    Raises UsageError if there are no pictures or `path` cannot be written.
    """
    if not pictures:
        raise UsageError(f"{path}: no pictures for a contact sheet")
    figure = _Sheet(pictures, captions, title, subtitle).draw()
    with publishing(path) as part:
        figure.savefig(part, format="png", dpi=_DPI, metadata={"Software": f"hpcseg {__version__}", "Title": title})


class _Sheet:
    """The page: all lengths in inches, from its lower left corner."""

    def __init__(self, pictures: Sequence[np.ndarray], captions: Sequence[str], title: str, subtitle: str) -> None:
        self.cells = list(zip(pictures, captions, strict=True))
        self.title, self.subtitle = title, subtitle
        self.columns = min(_MOST, max(_NARROWEST, math.ceil(math.sqrt(1.6 * len(self.cells)))))
        self.scale = _THUMB / max(max(picture.shape[:2]) for picture in pictures)
        lines = max(caption.count("\n") + 1 for caption in captions)
        self.below = _LINE * lines + 0.06
        self.top = _MARGIN + (_TITLE if title else 0) + (_SUBTITLE if subtitle else 0)
        rows = -(-len(self.cells) // self.columns)
        self.step = _THUMB + _GAP, _THUMB + self.below + _GAP
        self.width = self.columns * self.step[0] - _GAP + 2 * _MARGIN
        self.height = rows * self.step[1] - _GAP + self.top + _MARGIN

    def draw(self) -> Figure:
        self.figure = Figure(figsize=(self.width, self.height), dpi=_DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        room = self.width - 2 * _MARGIN
        self._text(_MARGIN, self.height - _MARGIN, self.title, room, fontsize=12, weight="bold", color=_INK)
        self._text(_MARGIN, self.height - self.top + _SUBTITLE + 0.05, self.subtitle, room, fontsize=8, color=_MUTED)
        # One axes for all pictures: each of its own would cost more than its pictures.
        axes = self.figure.add_axes((0, 0, 1, 1), frame_on=False)
        for k, (picture, caption) in enumerate(self.cells):
            row, col = divmod(k, self.columns)
            self._draw_cell(axes, _MARGIN + col * self.step[0], self.height - self.top - row * self.step[1], picture, caption)
        axes.set(xlim=(0, self.width), ylim=(0, self.height), xticks=[], yticks=[])
        return self.figure

    def _draw_cell(self, axes: Axes, x: float, top: float, picture: np.ndarray, caption: str) -> None:
        """A picture in the upper left corner of its square, and its caption below the square."""
        h, w = (size * self.scale for size in picture.shape[:2])
        smooth = "nearest" if max(picture.shape) < _COARSE else "antialiased"
        axes.imshow(picture, extent=(x, x + w, top - h, top), aspect="auto", interpolation=smooth)
        axes.add_patch(Rectangle((x, top - h), w, h, facecolor="none", edgecolor=_FRAME, linewidth=0.5))
        for k, line in enumerate(caption.split("\n")):
            style = {"weight": "bold", "color": _INK} if k == 0 else {"color": _MUTED}
            self._text(x, top - _THUMB - 0.04 - k * _LINE, line, _THUMB, fontsize=6.5, **style)

    def _text(self, x: float, y: float, words: str, room: float, **style: Any) -> None:
        """A line of text, cut where it would leave its room."""
        artist = self.figure.text(x, y, words, transform=self.figure.dpi_scale_trans, va="top", parse_math=False, **style)
        while words and (width := artist.get_window_extent(self.canvas.get_renderer()).width) > room * _DPI:
            words = words[: min(len(words) - 1, int(len(words) * room * _DPI / width) + 1)]
            artist.set_text(words.rstrip() + "…")
