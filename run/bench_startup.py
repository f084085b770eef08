"""Times the start of a run: see bench_startup.sh."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hpcseg.georeference import Georeference
from hpcseg.raster import create_geotiff
from hpcseg.tiles import Window

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


def write_manifest(path: Path, count: int) -> Path:
    """Scenes that are known by their size alone."""
    with path.open("w") as file:
        file.write("scene,height,width,transform,footprint,id,date\n")
        for k in range(count):
            file.write(f"/archive/s{k}.tif,10980,10980,0 10 0 0 0 -10,,s{k},2024-01-01\n")
    return path


def job_words(ranks: int, scenes: Path, model: str, out: Path) -> list[str]:
    """The command of a job."""
    launch = ("mpirun", "-n", ranks, "--oversubscribe", "--bind-to", "none", "hpcseg", "predict", scenes, "--model", model)
    return list(map(str, (*launch, "--core", 64, "--threads", 1, "--any-resolution", "--out", out)))


def status_of_a_running_job(scenes: Path, model: str, out: Path) -> dict[str, float]:
    """Seconds that `hpcseg status` takes once nine of ten scenes of a job have their map, while it goes on."""
    count = len(list(scenes.iterdir()))
    shutil.rmtree(out, ignore_errors=True)
    job = subprocess.Popen(job_words(2, scenes, model, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while len(list(out.glob("*.h5"))) < 0.9 * count and job.poll() is None:
            time.sleep(0.05)
        seconds = timed("hpcseg", "status", out)
        if job.poll() is not None:
            raise SystemExit("the job ended before its status was told: choose more --files")
        return {"status": seconds}
    finally:
        job.send_signal(signal.SIGUSR1)
        job.wait(60)


def start(ranks: int, scenes: Path, model: str, out: Path) -> dict[str, float]:
    """One job: its seconds, also of processors, the slowest rank's by phase, and the largest memory."""
    shutil.rmtree(out, ignore_errors=True)
    before = cpu()
    whole = timed(*job_words(ranks, scenes, model, out))
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
            many = write_scenes(folder / "many", given.files)
            report("", given.repeat, lambda: status_of_a_running_job(many, given.model, folder / "out"))
        if given.manifest:
            manifest = write_manifest(folder / "archive.csv", given.manifest)
            report("", given.repeat, lambda: {"plan": timed("hpcseg", "plan", manifest, "--ranks", 1000, "--model", given.model)})


if __name__ == "__main__":
    main()
