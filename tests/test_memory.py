"""Memory does not depend on the size of a scene."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scenes import write_repeated

HPCSEG = Path(sys.executable).with_name("hpcseg")


def peak_mb(scene: Path, out: Path, *more: str) -> float:
    """Peak resident memory in MB of one rank that maps a scene with the shipped model."""
    words = [HPCSEG, "predict", scene, "--model", "sea-ice", "--out", out, "--threads", "2", "--precision", "bf16", *more]
    subprocess.run(words, check=True, timeout=1500, stdout=subprocess.DEVNULL)
    (rank,) = json.loads((out / "run.json").read_text())["ranks"]
    return rank["peak_memory_mb"]


@pytest.mark.long
def test_a_rank_takes_as_much_memory_for_25000_pixels_as_for_4096(tmp_path: Path, data: Path) -> None:
    small = peak_mb(write_repeated(tmp_path / "small.tif", 4096, 4096), tmp_path / "a")
    large = peak_mb(write_repeated(tmp_path / "large.tif", 25000, 25000), tmp_path / "b")
    world = peak_mb(data / "rasters" / "cog_world.tif", tmp_path / "c", "--bands", "1,1,1")
    print(f"peak memory: {small:.0f} MB for 4096x4096, {large:.0f} MB for 25000x25000, {world:.0f} MB for cog_world")
    assert large - small <= 100
    assert world - small <= 100
