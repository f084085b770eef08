"""A picture of a map, with legend and scale bar, beside the scene itself if wanted; and the areas of its classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from osgeo import gdal

from hpcseg import __version__, store
from hpcseg.area import BLOCK, class_areas_m2, pixel_area_m2, pixel_width_m, reference_system
from hpcseg.config import Class
from hpcseg.errors import SceneError, StoreError, UsageError
from hpcseg.products.cog import ClassShare, Product, legend, publishing, rgb, text, tile_notes, windows
from hpcseg.products.picture import read_picture
from hpcseg.store import NODATA, Stored

_LONGEST = 1600
_PIECE = 512
_DPI = 200
_INK, _MUTED, _FRAME, _HATCH, _WARNING = "#1b1f24", "#68707a", "#3c434b", "#d3d7db", "#a4402a"
_MARGIN, _GAP, _TITLE, _CAPTION, _ENTRY, _BAR = 0.26, 0.2, 0.52, 0.2, 0.40, 0.09
_WIDEST, _TALLEST, _COLUMN, _NARROWEST = 8.4, 6.0, 1.6, 4.2


@dataclass(frozen=True)
class Survey:
    """A map seen once. picture: u8, legend index per cell of `factor` x `factor` pixels, their most frequent one; the number of
    classes means no data. counts: pixels per 256x256 block and class, int64 (ny, nx, classes)."""

    picture: np.ndarray
    factor: int
    counts: np.ndarray


def survey(stored: Stored, classes: list[Class]) -> Survey:
    """Count and shrink a map in one pass over it. Raises StoreError for a label that the legend does not name."""
    grid, n = stored.layout.grid, len(classes)
    factor = min(BLOCK, 1 << max(0, math.ceil(math.log2(max(grid.height, grid.width) / _LONGEST))))
    picture = np.full([-(-size // factor) for size in (grid.height, grid.width)], n, np.uint8)
    counts = np.zeros([-(-size // BLOCK) for size in (grid.height, grid.width)] + [n], np.int64)
    for row, col, labels in _pieces(stored):
        index = _legend_index(labels, n, stored.path)
        cell = factor if factor > 1 else BLOCK
        cells = _count(index, cell, n + 2)
        _paste(picture, row // factor, col // factor, cells[..., : n + 1].argmax(-1) if factor > 1 else index)
        _paste(counts, row // BLOCK, col // BLOCK, _merge(cells[..., :n], cell))
    return Survey(picture, factor, counts)


def _pieces(stored: Stored) -> Iterator[tuple[int, int, np.ndarray]]:
    """The labels in squares of 512 pixels, with their first row and column."""
    for window, values in windows(stored, "labels"):
        for row in range(0, window.height, _PIECE):
            for col in range(0, window.width, _PIECE):
                yield window.row + row, window.col + col, values[row : row + _PIECE, col : col + _PIECE]


def _legend_index(labels: np.ndarray, n: int, path: Path) -> np.ndarray:
    """Labels, n for no data, n + 1 for what fills the piece up to whole blocks; int64."""
    table = np.full(256, n + 2)
    table[:n], table[NODATA] = np.arange(n), n
    index = table[labels]
    if index.max() == n + 2:
        raise StoreError(f"{path}: label {labels[index == n + 2][0]}, but the legend names {n} classes")
    return np.pad(index, [(0, -size % BLOCK) for size in labels.shape], constant_values=n + 1)


def _count(index: np.ndarray, cell: int, bins: int) -> np.ndarray:
    """Histograms per square cell: (height / cell, width / cell, bins)."""
    down, across = (size // cell for size in index.shape)
    rows, cols = (np.arange(size) // cell for size in index.shape)
    place = (rows[:, None] * across + cols) * bins
    return np.bincount((place + index).ravel(), minlength=down * across * bins).reshape(down, across, bins)


def _merge(cells: np.ndarray, cell: int) -> np.ndarray:
    """Histograms of small cells added up to those of the fixed blocks."""
    down, across, bins = cells.shape
    per = BLOCK // cell
    return cells.reshape(down // per, per, across // per, per, bins).sum((1, 3))


def _paste(target: np.ndarray, row: int, col: int, part: np.ndarray) -> None:
    """Write a part at its place; what reaches over the edge is left out."""
    view = target[row : row + part.shape[0], col : col + part.shape[1]]
    view[...] = part[: view.shape[0], : view.shape[1]]


def class_shares(prediction: Path) -> dict[str, ClassShare]:
    """Pixels, share of the valid pixels and ground area of each class of a prediction file, by name. Raises StoreError."""
    stored = store.read(Path(prediction))
    classes = legend(stored)
    return shares_of(stored, classes, survey(stored, classes).counts)


def shares_of(stored: Stored, classes: list[Class], counts: np.ndarray) -> dict[str, ClassShare]:
    grid = stored.layout.grid
    pixel_area = pixel_area_m2(stored.place, grid.height, grid.width)
    areas = None if pixel_area is None else class_areas_m2(counts, pixel_area)
    pixels = counts.sum((0, 1))
    valid = max(1, int(pixels.sum()))
    return {
        each.name: ClassShare(int(pixels[k]), int(pixels[k]) / valid, None if areas is None else float(areas[k]))
        for k, each in enumerate(classes)
    }


def write_quicklook(stored: Stored, out: Path, title: str, scene: Path | None) -> Product:
    """Draw the map as PNG. scene: a raster of the map's size, drawn beside it. Raises UsageError, SceneError, StoreError."""
    classes = legend(stored)
    seen = survey(stored, classes)
    shares = shares_of(stored, classes, seen.counts)
    panels = [("map", colours(seen.picture, classes))]
    if scene is not None:
        panels.insert(0, ("scene", read_scene(scene, stored, seen.picture.shape)))
    sheet = _Sheet(stored, panels, seen.factor, [(each, shares[each.name]) for each in classes])
    with publishing(out) as part:
        sheet.draw(title).savefig(part, format="png", dpi=_DPI, metadata={"Software": f"hpcseg {__version__}", "Title": title})
    return Product(out, (out,), tile_notes(stored), shares)


def colours(picture: np.ndarray, classes: list[Class]) -> np.ndarray:
    """Legend indices as RGBA, u8 (height, width, 4); no data is transparent."""
    return np.array([(*rgb(each.color), 255) for each in classes] + [(255, 255, 255, 0)], np.uint8)[picture]


def read_scene(scene: Path, stored: Stored, shape: tuple[int, int]) -> np.ndarray:
    """The scene shrunk to `shape` as RGBA, u8 (height, width, 4), see `read_picture`.

    Raises SceneError, and UsageError if the scene has not the map's size.
    """
    try:
        dataset = gdal.Open(str(scene))
    except RuntimeError as error:
        raise SceneError(f"{scene} cannot be read: {error}") from error
    size, grid = (dataset.RasterYSize, dataset.RasterXSize), stored.layout.grid
    if size != (grid.height, grid.width):
        raise UsageError(f"{scene} has {size[0]}x{size[1]} pixels, the map {grid.height}x{grid.width}: not its scene")
    return read_picture(str(scene), shape)


class _Sheet:
    """The page: all lengths in inches, from its lower left corner."""

    def __init__(
        self, stored: Stored, panels: list[tuple[str, np.ndarray]], factor: int, entries: list[tuple[Class, ClassShare]]
    ) -> None:
        self.stored, self.panels, self.factor = stored, panels, factor
        self.entries = entries if len(entries) <= 8 else [e for e in entries if e[1].pixels]
        self.grid = stored.layout.grid
        self.blank = self.grid.height * self.grid.width - sum(share.pixels for _, share in entries)
        self.metres = pixel_width_m(stored.place, self.grid.height, self.grid.width)
        self.in_km2 = sum(share.area_m2 or 0 for _, share in entries) >= 1e5
        self._place_panels()
        self._place_legend()

    def _place_panels(self) -> None:
        """Panels side by side, one above the other where the scene is wide."""
        aspect, n = self.grid.height / self.grid.width, len(self.panels)
        self.across = n if aspect > 0.45 else 1
        self.down = n // self.across
        self.caption = _CAPTION if n > 1 else 0.0
        limit = (_WIDEST - _GAP * (self.across - 1)) / self.across
        self.panel_width = max(min(limit, _TALLEST / aspect), 0.05)
        self.panel_height = max(self.panel_width * aspect, 0.05)
        self.block = (
            self.across * self.panel_width + (self.across - 1) * _GAP,
            self.down * (self.panel_height + self.caption) + (self.down - 1) * _GAP,
        )

    def _place_legend(self) -> None:
        """The legend stands below the panels, right of them where these are tall."""
        self.beside = self.block[1] > 1.15 * self.block[0]
        inner = self.block[0] + _GAP + _COLUMN if self.beside else self.block[0]
        self.inner = max(inner, _NARROWEST)
        width = _COLUMN if self.beside else self.inner
        entries = len(self.entries) + (self.blank > 0)
        self.rows = -(-entries // int(width / _COLUMN))
        self.columns = -(-entries // self.rows)
        self.legend = width, 0.24 + _ENTRY * self.rows
        body = max(self.block[1], self.legend[1]) if self.beside else self.block[1] + _GAP + self.legend[1]
        self.foot = 0.1 + 0.16 * max(1, len(tile_notes(self.stored)))
        self.width, self.height = self.inner + 2 * _MARGIN, body + _TITLE + self.foot + 1.75 * _MARGIN

    def draw(self, title: str) -> Figure:
        self.figure = Figure(figsize=(self.width, self.height), dpi=_DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        top = self.height - _MARGIN
        self._text(_MARGIN, top - 0.02, title, 12.5, weight="bold", va="top")
        self._text(_MARGIN, top - 0.27, self._subtitle(), 7.5, color=_MUTED, va="top")
        top -= _TITLE
        for k, (name, image) in enumerate(self.panels):
            self._draw_panel(k, name, image, top)
        if self.beside:
            self._draw_legend(_MARGIN + self.block[0] + _GAP, top)
        else:
            self._draw_legend(_MARGIN, top - self.block[1] - _GAP)
        self._draw_foot()
        return self.figure

    def _text(self, x: float, y: float, words: str, size: float, **style: Any) -> Text:
        """A line of text that is made smaller, then shortened, until it ends before the right margin."""
        look: dict[str, Any] = {"color": _INK, "zorder": 6, "fontsize": size, **style}
        artist = self.figure.text(x, y, words, transform=self.figure.dpi_scale_trans, **look)
        room = (self.width - _MARGIN - x) * _DPI
        if style.get("ha", "left") == "left":
            self._fit(artist, room, 0.65 * size)
        return artist

    def _fit(self, artist: Text, room: float, smallest: float) -> None:
        renderer = self.canvas.get_renderer()
        while (extent := artist.get_window_extent(renderer).width) > room and len(artist.get_text()) > 4:
            size = float(artist.get_fontsize())
            if size > smallest:
                artist.set_fontsize(max(smallest, size * room / extent * 0.995))
            else:
                artist.set_text(artist.get_text()[:-4].rstrip() + "…")

    def _subtitle(self) -> str:
        parts = [f"{self.grid.width:,} × {self.grid.height:,} px"]
        system = reference_system(self.stored.place)
        parts.append(system.GetName() if system is not None and system.GetName() else "no reference system")
        if self.metres:
            parts.insert(1, f"{_length_words(self.metres)} pixels")
        if "model" in self.stored.attributes:
            parts.insert(0, text(self.stored.attributes["model"]))
        return "  ·  ".join(parts)

    def _draw_panel(self, k: int, name: str, image: np.ndarray, top: float) -> None:
        row, col = divmod(k, self.across)
        x = _MARGIN + col * (self.panel_width + _GAP)
        y = top - row * (self.panel_height + self.caption + _GAP) - self.caption - self.panel_height
        if self.caption:
            self._text(x, y + self.panel_height + 0.06, name, 8, color=_MUTED)
        box = (x / self.width, y / self.height, self.panel_width / self.width, self.panel_height / self.height)
        axes = self.figure.add_axes(box)
        cell = self.factor
        reach = (image.shape[1] * cell, image.shape[0] * cell) if name == "map" else (self.grid.width, self.grid.height)
        if not image[..., 3].all():
            axes.patch.set(hatch="/////", edgecolor=_HATCH, facecolor="white")
        axes.imshow(image, extent=(0, reach[0], reach[1], 0), aspect="auto", interpolation="antialiased")
        axes.set(xlim=(0, self.grid.width), ylim=(self.grid.height, 0), xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(linewidth=0.6, color=_FRAME)
        if k == 0:
            self._draw_scale_bar(axes)

    def _draw_scale_bar(self, axes: Axes) -> None:
        """A bar of a round ground length at the lower left, on a pale plate that keeps it readable on any image."""
        unit = self.metres or 1.0
        length = _round_down(min(0.3, 1.6 / self.panel_width) * self.grid.width * unit)
        inches = length / unit / self.grid.width * self.panel_width
        if self.panel_height < 0.6 or inches < 0.2 or (self.metres is None and length < 1):
            return
        words = _length_words(length) if self.metres else f"{length:,.0f} px"
        box = axes.get_position()
        x, y = box.x0 * self.width + 0.12, box.y0 * self.height + 0.12
        plate = max(inches, 0.075 * len(words)) + 0.2
        self._rectangle(x, y, plate, 0.34, facecolor="white", alpha=0.86, linewidth=0)
        left = x + (plate - inches) / 2
        self._rectangle(left, y + 0.085, inches, 0.035, facecolor=_INK, linewidth=0)
        self._text(x + plate / 2, y + 0.165, words, 7.5, ha="center")

    def _rectangle(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        patch = Rectangle((x, y), width, height, transform=self.figure.dpi_scale_trans, zorder=5, **style)
        self.figure.add_artist(patch)

    def _draw_legend(self, x: float, top: float) -> None:
        """A bar of the classes' shares, then one entry per class, down the columns' rows."""
        left = x
        for each, share in self.entries:
            self._rectangle(left, top - _BAR, share.share * self.legend[0], _BAR, facecolor=each.color, linewidth=0)
            left += share.share * self.legend[0]
        self._rectangle(x, top - _BAR, self.legend[0], _BAR, facecolor="none", edgecolor=_FRAME, linewidth=0.4)
        lines = [(each.name, _detail(share, self.in_km2), {"facecolor": each.color}) for each, share in self.entries]
        if self.blank:
            part = _share_words(self.blank / (self.grid.height * self.grid.width))
            lines.append(("no data", f"{part} of the scene", {"facecolor": "white", "hatch": "//////", "edgecolor": _HATCH}))
        step = self.legend[0] / self.columns
        for k, line in enumerate(lines):
            row, col = divmod(k, self.columns)
            self._draw_entry(x + col * step, top - 0.24 - row * _ENTRY, step, *line)

    def _draw_entry(self, x: float, top: float, width: float, name: str, detail: str, swatch: dict[str, Any]) -> None:
        self._rectangle(x, top - 0.27, 0.24, 0.24, linewidth=0, **swatch)
        self._rectangle(x, top - 0.27, 0.24, 0.24, facecolor="none", edgecolor=_FRAME, linewidth=0.4)
        self._fit(self._text(x + 0.33, top - 0.115, name, 8.5), (width - 0.38) * _DPI, 6.5)
        self._fit(self._text(x + 0.33, top - 0.265, detail, 7.2, color=_MUTED), (width - 0.38) * _DPI, 6.0)

    def _draw_foot(self) -> None:
        """What is missing, at the left; what made the picture, at the right."""
        for k, note in enumerate(tile_notes(self.stored)[::-1]):
            self._text(_MARGIN, 0.75 * _MARGIN + 0.16 * k, note, 7, color=_WARNING)
        self._text(self.width - _MARGIN, 0.75 * _MARGIN, f"hpcseg {__version__}", 6.5, color=_MUTED, ha="right")


def _round_down(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `length`."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(digit for digit in (1, 2, 5) if digit * power <= length * (1 + 1e-9)) * power


def _length_words(metres: float) -> str:
    size, unit = next(((f, u) for f, u in ((1000, "km"), (1, "m")) if metres >= f), (0.01, "cm"))
    return f"{metres / size:,.0f} {unit}" if metres >= 100 * size else f"{metres / size:.3g} {unit}"


def _detail(share: ClassShare, in_km2: bool) -> str:
    return f"{_share_words(share.share)}  ·  {_area_words(share, in_km2)}" if share.pixels else "none"


def _share_words(share: float) -> str:
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def _area_words(share: ClassShare, in_km2: bool) -> str:
    """The area to three digits, or the number of pixels where it is not known."""
    if share.area_m2 is None or math.isnan(share.area_m2):
        return f"{share.pixels:,} px"
    area, unit = (share.area_m2 / 1e6, "km²") if in_km2 else (share.area_m2, "m²")
    return f"{area:,.0f} {unit}" if area >= 100 else f"{area:.3g} {unit}"
