"""Precision and recall of found objects over thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import BinaryIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hpcseg import __version__
from hpcseg.matching import Figures

_COLORS = ("#1b5e8c", "#c65d21", "#3f7f4f", "#8c3f6d", "#7a6a1f", "#4b4f9e")
_ROUNDED = 1e-6
_INK, _MUTED, _FAINT = "#1b1f24", "#68707a", "#d3d7db"


def draw_recall(
    path: Path | BinaryIO, curves: Mapping[str, Sequence[tuple[float, Figures]]], threshold: float | None = None
) -> None:
    """Draw precision over recall beside F1 over thresholds, as PNG. curves: by name, figures at rising thresholds. threshold: the one
    that is marked, None = none."""
    figure = Figure(figsize=(8.4, 3.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for color, (name, along) in zip(cycle(_COLORS), curves.items(), strict=False):
        shown = [(level, each) for level, each in along if each.found]
        if not shown:
            continue
        recall, precision = [each.recall for _, each in shown], [each.precision for _, each in shown]
        left.plot(recall, precision, color=color, label=name, linewidth=1.4)
        right.plot([level for level, _ in shown], [each.f1 for _, each in shown], color=color, label=name, linewidth=1.4)
        if threshold is not None:
            at = next((each for level, each in shown if level >= threshold - _ROUNDED), shown[-1][1])
            left.plot([at.recall], [at.precision], "o", color=color, markersize=5)
    chosen = "" if threshold is None else f" (chosen: {threshold:.2f})"
    if threshold is not None:
        right.axvline(threshold, color=_MUTED, linewidth=0.8, linestyle=":")
    words = (("precision and recall", "recall", "precision"), (f"F1 over thresholds{chosen}", "threshold", "F1"))
    for axes, (title, across, up) in zip((left, right), words, strict=True):
        axes.set_title(title, fontsize=10, color=_INK, loc="left")
        axes.set(xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(color=_FAINT, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    if left.lines:
        left.legend(frameon=False, fontsize=8, loc="best")
    figure.savefig(path, format="png", metadata={"Software": f"hpcseg {__version__}"})
