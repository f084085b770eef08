"""Rows of studies that never ran."""

from __future__ import annotations

from typing import Any

from hpcseg.scaling.records import Row


def make_row(**changes: Any) -> Row:
    """A run of predict on one rank over a scene of 4096 px in tiles of 512: 5 s of tile loops."""
    fields: dict[str, Any] = {
        "mode": "strong", "stage": "predict", "ranks": 1, "threads": 1, "tile": 512, "precision": "bf16", "partition": "hilbert",
        "scenes": 1, "size": 4096, "model": "sea-ice", "repeat": 1, "nodes": 1, "halo": 112, "tiles": 64, "wall": 9.0, "seconds": 6.0,
        "work": 5.0, "startup": 3.0, "useful": [5.0], "mpx": 4096**2 / 1e6, "computed_mpx": 64 * 736**2 / 1e6, "km2": 1758.5,
        "input_mb": 14.0,
    }  # fmt: skip
    return Row(**(fields | changes))
