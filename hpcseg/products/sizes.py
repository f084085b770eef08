"""How many objects of each size a map has: curves on logarithmic axes, a colour a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from hpcseg import __version__
from hpcseg.config import Class
from hpcseg.products.cog import publishing

_INK, _MUTED, _FAINT = "#1b1f24", "#68707a", "#d3d7db"
_PER_DECADE = 20
_LEGEND = 14


class SizeCounts:
    """Objects counted by class and size. edges: f64 (n + 1,), 20 bins a decade from 1e-6 on. counts: int64 (classes, n)."""

    edges = 10.0 ** (np.arange(-6 * _PER_DECADE, 16 * _PER_DECADE + 1) / _PER_DECADE)

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, len(self.edges) - 1), np.int64)

    def add(self, labels: np.ndarray, sizes: np.ndarray) -> None:
        """Count objects: labels (n,) and sizes (n,), NaN in the lowest bin."""
        # The factor keeps sizes that are an edge, such as 10 px, in the bin above it.
        bins = np.searchsorted(self.edges, np.nan_to_num(sizes) * (1 + 1e-12), side="right") - 1
        np.add.at(self.counts, (labels, np.clip(bins, 0, self.counts.shape[1] - 1)), 1)

    def at_least(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Sizes and how many objects of a class are at least as large, from the smallest object's bin to the largest one's."""
        used = np.flatnonzero(self.counts[label])
        first, last = used[0], used[-1]
        return self.edges[first : last + 1], self.counts[label, ::-1].cumsum()[::-1][first : last + 1]


def write_sizes(out: Path, title: str, subtitle: str, classes: Sequence[Class], sizes: SizeCounts, unit: str) -> None:
    """Draw, as PNG, how many objects of each class are at least as large as a size in `unit`; the file appears whole or not at all.

    Raises UsageError if it cannot be written.
    """
    figure = Figure(figsize=(6.4, 4.2), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    totals = sizes.counts.sum(1)
    found = [int(k) for k in np.argsort(-totals, kind="stable") if totals[k]]
    for k in found:
        # Pale colours of a legend stand out by a darker edge.
        line = axes.plot(*sizes.at_least(k), color=classes[k].color, linewidth=2, marker="o" if totals[k] < 30 else "", markersize=4)[0]
        line.set(label=f"{classes[k].name}: {totals[k]:,}", path_effects=[Stroke(linewidth=3.4, foreground=_MUTED), Normal()])
    axes.set_title(f"{title}\n", fontsize=11, color=_INK, loc="left", weight="bold")
    axes.text(0, 1.02, subtitle, transform=axes.transAxes, fontsize=8.5, color=_MUTED)
    axes.set_xlabel(f"area, {unit}")
    axes.set_ylabel("objects of at least this area")
    axes.spines[["top", "right"]].set_visible(False)
    if found:
        axes.set(xscale="log", yscale="log")
        axes.set_ylim(0.8, 1.6 * totals.max())
        axes.grid(color=_FAINT, linewidth=0.6)
        figure.legend(
            *(each[:_LEGEND] for each in axes.get_legend_handles_labels()), loc="outside right upper", frameon=False, fontsize=8.5
        )
    else:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no objects", transform=axes.transAxes, ha="center", color=_MUTED)
    with publishing(out) as part:
        figure.savefig(part, format="png", metadata={"Software": f"hpcseg {__version__}", "Title": title})
