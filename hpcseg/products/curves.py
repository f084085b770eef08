"""Curves of training: loss and scores by epoch, one run or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_COLORS = ("#1b5e8c", "#c65d21", "#3f7f4f", "#8c3f6d", "#7a6a1f", "#4b4f9e")
_INK, _FAINT = "#1b1f24", "#d3d7db"


def draw_curves(path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]], scores: Sequence[str] = ("f1", "iou")) -> None:
    """Draw loss beside scores over epochs, as PNG. runs: by name ("" for the only one), a record per epoch with epoch, loss, and
    perhaps the scores."""
    figure = Figure(figsize=(8.4, 3.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for color, (name, history) in zip(cycle(_COLORS), runs.items(), strict=False):
        epochs = [record["epoch"] for record in history]
        left.plot(epochs, [record["loss"] for record in history], color=color, label=name or "loss", marker=".")
        for score, style in zip(scores, ("-", "--"), strict=False):
            points = [(record["epoch"], record[score]) for record in history if score in record]
            if points:
                title = f"{name} {score.upper()}".strip()
                right.plot(*zip(*points, strict=True), style, color=color, label=title, marker=".")
    for axes, title in ((left, "training loss"), (right, "score on validation samples")):
        axes.set_title(title, fontsize=10, color=_INK, loc="left")
        axes.set_xlabel("epoch")
        axes.grid(color=_FAINT, linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
    right.set_ylim(0, 1)
    figure.savefig(path, format="png")
