"""Figures of a gallery: variance by the number of clusters with its knee, and the embedding of the sample in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpcseg.products.palette import number_color

_LINE, _KNEE, _INK, _FAINT = "#1b5e8c", "#c65d21", "#1b1f24", "#d3d7db"
_LISTED = 12


def draw_knee(path: Path, numbers: Sequence[int], variances: Sequence[float], knee: int, chosen: int) -> None:
    """Draw mean intra-cluster variance over numbers of clusters, the chord, its largest distance at `knee`, and the number chosen."""
    figure = Figure(figsize=(5.6, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(numbers, variances, color=_LINE, marker=".", label="mean variance within clusters")
    axes.plot([numbers[0], numbers[-1]], [variances[0], variances[-1]], color=_FAINT, label="chord")
    value, chord = variances[list(numbers).index(knee)], np.interp(knee, [numbers[0], numbers[-1]], [variances[0], variances[-1]])
    axes.plot([knee, knee], [value, chord], color=_KNEE, marker="o", markevery=[0], label=f"knee: {knee}")
    if chosen != knee:
        axes.axvline(chosen, color=_INK, linestyle=":", label=f"chosen: {chosen}")
    axes.set_xlabel("clusters")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, format="png")


def draw_embedding(path: Path, points: np.ndarray, clusters: np.ndarray, buckets: np.ndarray, mono: int) -> None:
    """Draw points (n, 2) coloured by cluster and, beside it, by bucket, as maps of buckets are; cells whose bucket is `mono` in gray."""
    figure = Figure(figsize=(10, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    moved = int((clusters != buckets).sum())
    _scatter(left, points, clusters, mono, "clusters")
    _scatter(right, points, buckets, mono, f"buckets: {moved} of {len(points)} cells in another than their cluster")
    figure.savefig(path, format="png")


def _scatter(axes: Axes, points: np.ndarray, groups: np.ndarray, mono: int, title: str) -> None:
    found = np.unique(groups)
    for group in found:
        some = points[groups == group]
        name, color = ("mono", "#9a9a9a") if group == mono else (f"{group}", number_color(int(group)))
        axes.scatter(some[:, 0], some[:, 1], s=9, color=color, linewidths=0, label=name)
    axes.set_title(title, fontsize=10, color=_INK, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    columns = -(-len(found) // _LISTED)
    axes.legend(frameon=False, fontsize=7, markerscale=2, ncols=columns, loc="center left", bbox_to_anchor=(1, 0.5))
