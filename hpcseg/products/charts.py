"""Charts for pages: one look, small enough for a phone, in colours that the colour-blind tell apart; SVG for the page, PNG for slides."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis as MplAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from hpcseg import __version__

INK, MUTED, FAINT = "#1b1f24", "#68707a", "#d9dde1"
# Okabe and Ito's palette (Color Universal Design, 2008), without yellow, which is too pale for lines.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b1f24")
STAGES = {
    "startup": "#8a6bbe", "decode": "#e69f00", "read": "#e69f00", "preprocess": "#f4cf7a", "forward": "#0072b2", "compute": "#0072b2",
    "write": "#009e73", "reduce": "#d55e00", "averaging": "#cc79a7", "data": "#e69f00", "wait": "#c9ced6",
}  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LOOK: Any = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.labelsize": 8.5, "axes.labelcolor": MUTED, "axes.edgecolor": MUTED, "axes.titlecolor": INK, "text.color": INK,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelsize": 8, "ytick.labelsize": 8, "axes.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": FAINT, "grid.linewidth": 0.6,
    "legend.frameon": False, "legend.fontsize": 7.5, "lines.linewidth": 1.6, "lines.markersize": 4.5, "svg.hashsalt": "hpcseg",
    "axes.axisbelow": True, "svg.fonttype": "none",
}  # fmt: skip
_SIZE = (4.5, 3.1)
_DPI = 180
_COLUMNS, _ROWS = 360, 240
_REMARKS = re.compile(r"<metadata>.*?</metadata>| transform=\"rotate\(-0 [^\"]*\"", re.DOTALL)
_QUOTED = re.compile(r'"[^"]*"')
_SPACE = re.compile(r"\s+")
_LONG = re.compile(r"-?\d+\.\d{3,}(?!\d*e)")


@dataclass(frozen=True)
class Chart:
    """A drawn chart. svg: its text. alt: what it shows, in words."""

    svg: str
    alt: str
    _figure: Figure

    def png(self) -> bytes:
        """The same as a PNG, large enough for slides."""
        out = io.BytesIO()
        self._figure.savefig(out, format="png", metadata={"Software": f"hpcseg {__version__}"})
        return out.getvalue()


@dataclass(frozen=True)
class Series:
    """A line. low, high: the spread about y; empty = none. style: "ideal" is a thin grey line without marks, "fit" a dotted one,
    "published" a dashed one with hollow marks."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: Literal["", "ideal", "fit", "published"] = ""


@dataclass(frozen=True)
class Axis:
    """label: with its unit. log: to base 2 for x, 10 for y. ticks: () = chosen. least, most: None = by the data. right: of y, another
    unit and its factor, told at the right."""

    label: str
    log: bool = False
    ticks: Sequence[float] = field(default_factory=tuple)
    least: float | None = None
    most: float | None = None
    right: tuple[str, float] | None = None


def draw_lines(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> Chart:
    """Lines over numbers, with the spread of repeats as bars."""
    with mpl.rc_context(_LOOK):
        figure, axes = _begin(title)
        looks = cycle(zip(COLORS, _MARKERS, strict=True))
        for each in series:
            _draw_series(axes, each, looks)
        _set_axes(axes, x, y)
        if len(series) > 1:
            _legend(figure, axes, 2)
        return _finish(figure, title)


def _draw_series(axes: Axes, each: Series, looks: Iterator[tuple[str, str]]) -> None:
    if each.style == "ideal":
        axes.plot(each.x, each.y, color=MUTED, linewidth=0.9, linestyle=(0, (5, 3)), label=each.name, zorder=1.5)
        return
    if each.style == "fit":
        axes.plot(each.x, each.y, color=INK, linewidth=1.1, linestyle=":", label=each.name)
        return
    color, marker = next(looks)
    look: dict[str, Any] = {"color": color, "marker": marker, "label": each.name}
    if each.style == "published":
        look |= {"linestyle": "--", "markerfacecolor": "white", "linewidth": 1.1}
    axes.plot(each.x, each.y, **look)
    if len(each.low):
        y, low, high = (np.asarray(values, float) for values in (each.y, each.low, each.high))
        reach = np.stack([np.maximum(0, y - low), np.maximum(0, high - y)])
        axes.errorbar(each.x, y, reach, fmt="none", ecolor=color, elinewidth=1.0, capsize=2.5)


def _set_axes(axes: Axes, x: Axis, y: Axis) -> None:
    axes.set_xlabel(x.label)
    axes.set_ylabel(y.label)
    axes.margins(x=0.06, y=0.1)
    axes.autoscale_view()
    if x.log:
        axes.set_xscale("log", base=2)
    if y.log:
        axes.set_yscale("log")
    if x.ticks:
        axes.xaxis.set_major_locator(FixedLocator(_thin(_apart(x.ticks) if x.log else x.ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    low, high = axes.get_ylim()
    if y.log:
        _few_decades(axes.yaxis, low, high)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.set_ylim(low if y.least is None else y.least, high if y.most is None else y.most)
    axes.set_xlim(x.least, x.most)
    if y.right:
        unit, factor = y.right
        other = axes.secondary_yaxis("right", functions=(lambda v: np.multiply(v, factor), lambda v: np.divide(v, factor)))
        other.set_ylabel(unit)
        other.yaxis.set_major_formatter(FuncFormatter(_plain))
        if y.log:
            _few_decades(other.yaxis, low * factor, high * factor)


def _few_decades(axis: MplAxis, low: float, high: float) -> None:
    """Plain numbers on a logarithmic axis, few where it spans much."""
    digits = (1, 1.5, 2, 3, 5, 7) if high / low < 8 else (1, 2, 5) if high / low < 300 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [d * 10.0**k for k in range(first, last + 1) for d in digits]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_plain))


def _apart(ticks: Sequence[float], least: float = 1.2) -> list[float]:
    """Of rising ticks on a logarithmic axis those that do not crowd the one before."""
    kept = list(ticks[:1])
    for tick in ticks[1:]:
        if tick >= least * kept[-1]:
            kept.append(tick)
    return kept


def _thin(ticks: Sequence[float], most: int = 9) -> list[float]:
    """At most so many of the ticks."""
    return list(ticks[:: -(-len(ticks) // most)])


def _plain(value: float, position: Any = None) -> str:
    """A number for an axis: 27,360, 0.25."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def draw_shares(title: str, label: str, names: Sequence[str], parts: Mapping[str, Sequence[float]]) -> Chart:
    """Horizontal bars cut into stages. parts: by stage, a number for each bar. label: of the numbers' axis."""
    with mpl.rc_context(_LOOK):
        figure, axes = _begin(title, (_SIZE[0], max(1.5, 1.15 + 0.3 * len(names))))
        left = np.zeros(len(names))
        for k, (stage, values) in enumerate(parts.items()):
            color = STAGES.get(stage, COLORS[k % len(COLORS)])
            axes.barh(range(len(names)), values, left=left, color=color, label=stage, height=0.7)
            left += np.asarray(values, float)
        axes.set(yticks=range(len(names)), yticklabels=names, xlabel=label, ylim=(len(names) - 0.4, -0.6))
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        _legend(figure, axes, 6)
        return _finish(figure, title)


@dataclass(frozen=True)
class Lane:
    """What a rank did. starts: of its passes, seconds; widths: of their bins, seconds; busy: by pass and stage, percents of each bin."""

    name: str
    starts: Sequence[float]
    widths: Sequence[float]
    busy: Sequence[Mapping[str, Sequence[float]]]


def draw_lanes(title: str, lanes: Sequence[Lane]) -> Chart:
    """Ranks over time: each lane is filled, from below, by the stages that were busy; what is white was idle."""
    origin = min((start for lane in lanes for start in lane.starts), default=0.0)
    length = max((end - origin for lane in lanes for end in _ends(lane)), default=0.0) or 1.0
    stages = list(dict.fromkeys(stage for lane in lanes for each in lane.busy for stage in each))
    stages.sort(key=lambda stage: (stage == "wait", list(STAGES).index(stage) if stage in STAGES else 99))
    full = max((sum(values) for lane in lanes for each in lane.busy for values in zip(*each.values(), strict=True)), default=0.0) or 1.0
    depth = max(1, _ROWS // max(1, len(lanes)))
    image = np.ones((len(lanes) * depth, _COLUMNS, 3))
    for k, lane in enumerate(lanes):
        _fill(image[k * depth : (k + 1) * depth], lane, stages, origin, length, full)
    with mpl.rc_context(_LOOK):
        figure, axes = _begin(title, (2 * _SIZE[0], min(4.2, 1.35 + 0.24 * len(lanes))))
        axes.imshow(image, extent=(0, length, len(lanes) - 0.5, -0.5), aspect="auto", interpolation="nearest")
        for k in range(1, len(lanes) if len(lanes) <= 40 else 0):
            axes.axhline(k - 0.5, color="white", linewidth=1.6)
        ticks = _thin(range(len(lanes)), 12)
        axes.set(xlabel="seconds since the first tile", ylabel="rank", yticks=ticks, yticklabels=[lanes[int(k)].name for k in ticks])
        axes.grid(visible=False)
        for stage in stages:
            axes.plot([], [], linewidth=7, color=STAGES.get(stage, INK), label=stage)
        _legend(figure, axes, 6)
        return _finish(figure, title)


def _ends(lane: Lane) -> list[float]:
    """Of its passes, in seconds."""
    lengths = [max((len(values) for values in each.values()), default=0) for each in lane.busy]
    return [start + width * n for start, width, n in zip(lane.starts, lane.widths, lengths, strict=True)]


def _fill(part: np.ndarray, lane: Lane, stages: Sequence[str], origin: float, length: float, full: float) -> None:
    """Colour one lane of the picture: (depth, columns, 3). full: percents that fill it to its top."""
    depth = len(part)
    times = origin + (np.arange(_COLUMNS) + 0.5) / _COLUMNS * length
    level = np.arange(depth)[::-1, None] + 0.5
    for start, width, busy in zip(lane.starts, lane.widths, lane.busy, strict=True):
        place = np.floor((times - start) / width).astype(int)
        below = np.zeros(_COLUMNS)
        for stage in stages:
            values = np.asarray(busy.get(stage, ()), float)
            inside = (place >= 0) & (place < len(values))
            above = below + np.where(inside, values[np.where(inside, place, 0)] if len(values) else 0.0, 0.0) / full * depth
            part[(level >= below) & (level < above)] = to_rgb(STAGES.get(stage, INK))
            below = above


def _begin(title: str, size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, pad=8)
    return figure, axes


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    """Below the chart, where it covers nothing."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, columnspacing=1.4, handlelength=2.2)


def _finish(figure: Figure, alt: str) -> Chart:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": f"hpcseg {__version__}"})
    return Chart(_compact(out.getvalue()), alt, figure)


def _compact(svg: str) -> str:
    """A drawing in a third of its bytes: hundredths of a point, no remarks, the reader's own font."""
    svg = _REMARKS.sub("", svg[svg.index("<svg") :])
    svg = _QUOTED.sub(lambda value: _LONG.sub(lambda number: f"{float(number[0]):.2f}", value[0]), svg)
    return _SPACE.sub(" ", svg).replace("'DejaVu Sans'", "system-ui, sans-serif")
