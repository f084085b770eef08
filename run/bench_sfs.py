"""Times hpcseg's Structural Feature Set against Orfeo ToolBox: see bench_sfs.sh."""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from osgeo import gdal

from hpcseg.kernels.rays import Sfs
from hpcseg.kernels.sfs import FEATURES
from hpcseg.labels.bench import speckled, time_sfs

gdal.UseExceptions()
SETTINGS = Sfs(mode="otb")


def write(path: Path, image: np.ndarray) -> Path:
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), image.shape[1], image.shape[0], 1, gdal.GDT_Byte)
    dataset.WriteArray(image)
    dataset.FlushCache()
    return path


def run_otb(image: Path) -> tuple[float, np.ndarray]:
    """Seconds of the whole process on one thread, and its six bands."""
    out = image.with_name("otb.tif")
    environment = {**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = ["otbcli_SFSTextureExtraction", "-in", str(image), "-channel", "1", "-out", str(out), "float"]
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start, gdal.Open(str(out)).ReadAsArray()


def share_equal(ours: np.ndarray, theirs: np.ndarray) -> float:
    bounds = [1e-3 if name in ("w-mean", "sd") else 1e-4 for name in FEATURES]
    return float(np.mean([np.isclose(a, b, rtol=bound, atol=0).mean() for a, b, bound in zip(ours, theirs, bounds, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    image = speckled(given.size)
    time_sfs(image[:64], SETTINGS, 1)
    rounds = []
    with TemporaryDirectory() as folder:
        whole, dot = write(Path(folder) / "whole.tif", image), write(Path(folder) / "dot.tif", image[:8, :8])
        for _ in range(given.repeat):
            (otb, theirs), (start, _) = run_otb(whole), run_otb(dot)
            (one, ours), (two, _) = time_sfs(image, SETTINGS, 1), time_sfs(image, SETTINGS, 2)
            rounds.append((otb - start, one, two))
    otb, one, two = (median(column) for column in zip(*rounds, strict=True))
    print(f"image={given.size}x{given.size} px\nrounds={given.repeat}\notb={otb:.3f} s\nhpcseg={one:.3f} s\nhpcseg_two_threads={two:.3f} s")
    print(f"over_otb={median(a / b for a, b, _ in rounds):.1f}\nspeedup={median(b / c for _, b, c in rounds):.2f}")
    print(f"same={100 * share_equal(ours, theirs):.3f} %")


if __name__ == "__main__":
    main()
