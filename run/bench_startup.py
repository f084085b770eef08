"""Times the start of a run: see bench_startup.sh."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hpcseg import store
from hpcseg.georeference import Georeference
from hpcseg.raster import create_geotiff
from hpcseg.store import Layout
from hpcseg.tiles import Grid, Window

_EDGE = 64


def timed(*words: object) -> float:
    """Seconds of a command."""
    begin = time.perf_counter()
    subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begin


def cpu() -> float:
    """Processor seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_scenes(folder: Path, count: int) -> Path:
    """Small scenes without georeference."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        with create_geotiff(folder / f"s{k:04}.tif", (3, _EDGE, _EDGE), "uint8", Georeference()) as put:
            put(Window(0, 0, _EDGE, _EDGE), rng.integers(1, 250, (3, _EDGE, _EDGE), dtype=np.uint8))
    return folder


def write_maps(folder: Path, count: int) -> Path:
    """Prediction files of which every second one is done."""
    folder.mkdir()
    layout = Layout(Grid(_EDGE, _EDGE, _EDGE, 0), _EDGE)
    for k in range(count):
        path = folder / f"s{k:04}.h5"
        store.create(path, layout, {"core": _EDGE, "halo": 0}, {}, Georeference())
    return folder


def write_manifest(path: Path, count: int) -> Path:
    """Scenes that are known by their size alone."""
    with path.open("w") as file:
        file.write("scene,height,width,transform,footprint,id,date\n")
        for k in range(count):
            file.write(f"/archive/s{k}.tif,10980,10980,0 10 0 0 0 -10,,s{k},2024-01-01\n")
    return path


def start(ranks: int, scenes: Path, model: str, out: Path) -> dict[str, float]:
    """One job: its seconds, also of processors, the slowest rank's by phase, and the largest memory."""
    shutil.rmtree(out, ignore_errors=True)
    launch = ("mpirun", "-n", ranks, "--oversubscribe", "--bind-to", "none", "hpcseg", "predict", scenes, "--model", model)
    before = cpu()
    whole = timed(*launch, "--core", 64, "--threads", 1, "--any-resolution", "--out", out)
    told = [rank["startup"] for rank in json.loads((out / "run.json").read_text())["ranks"]]
    return {"start": whole, "cpu": cpu() - before} | {key: max(each[key] for each in told) for key in told[0]}


def report(name: str, repeat: int, measure: Callable[[], dict[str, float]]) -> None:
    """Print medians of repeated measurements."""
    found = [measure() for _ in range(repeat)]
    for key in found[0]:
        unit = "MB" if key.endswith("_mb") else "s"
        print(f"{key.removesuffix('_mb')}{name}={statistics.median(each[key] for each in found):.2f} {unit}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, nargs="*", default=[2, 8, 32])
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--manifest", type=int, default=100_000)
    parser.add_argument("--model", default="sea-ice")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))
        scenes = write_scenes(folder / "scenes", given.scenes)
        for ranks in given.ranks:
            report(f"_{ranks}", given.repeat, lambda ranks=ranks: start(ranks, scenes, given.model, folder / "out"))
        if given.files:
            maps = write_maps(folder / "maps", given.files)
            report("", given.repeat, lambda: {"status": timed("hpcseg", "status", maps)})
        if given.manifest:
            manifest = write_manifest(folder / "archive.csv", given.manifest)
            report("", given.repeat, lambda: {"plan": timed("hpcseg", "plan", manifest, "--ranks", 1000, "--model", given.model)})


if __name__ == "__main__":
    main()
