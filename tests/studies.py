"""Studies that never ran, with figures that a program might have."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hpcseg.scaling.records import Row, add_row

_STAGES = {"predict": ("sea-ice", 20.0), "label": ("ice", 6.0), "train": ("unet-light", 40.0)}


def invented(mode: str, stage: str, ranks: int, repeat: int = 1, tile: int = 512, precision: str = "fp32", **other) -> Row:
    """A run whose time is Amdahl's, a little off in each repeat. repeat 0 is the warm-up."""
    model, seconds = _STAGES[stage]
    rng = np.random.default_rng([ranks, repeat, tile, len(stage), len(mode)])
    scenes = ranks if mode == "weak" else 1
    one = seconds * (1 + 60 / tile) * (0.7 if precision == "bf16" else 1.0)
    work = (one * (0.04 + 0.96 / ranks) if mode == "strong" else one * (1 + 0.03 * math.log2(ranks))) * rng.uniform(0.98, 1.04)
    mpx = 16.8 * scenes
    useful = [work * rng.uniform(0.9, 1.0) for _ in range(ranks)]
    given = {
        "mode": mode, "stage": stage, "ranks": ranks, "threads": 1, "tile": tile, "precision": precision, "partition": "hilbert",
        "scenes": scenes, "size": 4096, "model": model, "repeat": repeat, "nodes": 1, "halo": 112, "tiles": 64 * scenes,
        "wall": work + 6, "seconds": work * 1.02 + 1, "work": work, "startup": 5.0,
        "read": 0.08 * work * ranks, "decode": 0.05 * work * ranks,
        "preprocess": 0.03 * work * ranks, "forward": 0.85 * work * ranks, "write": 0.04 * work * ranks, "wait": 0.03 * work * ranks,
        "averaging": 0.05 * work * ranks if stage == "train" else 0.0, "reduce": 1 + 0.02 * work, "useful": useful,
        "mapped_mpx": [mpx / ranks] * ranks, "mpx": mpx, "km2": 0.0 if stage == "train" else mpx * 104.9, "computed_mpx": 2.0 * mpx,
        "input_mb": 12.0 * scenes, "host": "node01", "cpu": "A processor of some kind", "cores": 8, "memory_gb": 32.0,
        "binding": "one core each", "launcher": f"mpirun -n {ranks} hpcseg {stage}", "versions": "hpcseg=0.1.0 torch=2.13.0",
        "revision": "0123456", "at": f"2026-01-01T00:{repeat:02d}:{ranks:02d}Z",
    }  # fmt: skip
    return Row(**(given | other))


def write_study(folder: Path, ranks: tuple[int, ...] = (1, 2, 4, 8), repeats: int = 3, **choice: tuple) -> Path:
    """A study's table. choice: modes, stages, tiles (of predict), precisions; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    modes, stages = choice.get("modes", ("strong", "weak")), choice.get("stages", tuple(_STAGES))
    for mode in modes:
        for stage in stages:
            for tile in choice.get("tiles", (512,)) if stage == "predict" and mode == "strong" else (512,):
                for precision in choice.get("precisions", ("fp32",)) if stage == "predict" else ("fp32",):
                    for repeat in range(repeats + 1):
                        for p in ranks if repeat else ranks[:1]:
                            add_row(folder, invented(mode, stage, p, repeat, tile, precision))
    return folder
