"""The jobs that faults come to: a map of small scenes, and a training run on them. What each leaves is compared with what an undisturbed
one gave, bit by bit."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from mpi.launch import Job, environment, start
from osgeo import gdal
from safetensors.numpy import load_file

from faults.left import INJECT, done_tiles, planes_of
from hpcseg import store

gdal.UseExceptions()
CORE, WORK_SECONDS = 128, 2.0
# About as many: they only share out the time.
TILES, STEPS = 150, 33
_CONFIG = """network = "unet-light"
tile = 64
block = 256
epochs = 3
batch = 32
checkpoint_steps = 2
seed = 3
options = {down = [8, 12], up = [8]}
[[classes]]
name = "water"
color = "#204060"
[[classes]]
name = "thin"
color = "#e08030"
[[classes]]
name = "thick"
color = "#40a060"
"""


@dataclass
class Reference:
    """An undisturbed job. seconds: it took. loading: before the first tile, or step. units: tiles it mapped, or steps it made.
    result: what it left, to the bit."""

    seconds: float
    loading: float
    units: int
    result: Any


@dataclass
class Field:
    """What all trials share, in a folder: scenes, their truth, a model, and undisturbed jobs by stage and ranks."""

    folder: Path
    references: dict[tuple[str, int], Reference] = field(default_factory=dict)

    @property
    def scenes(self) -> list[Path]:
        return sorted((self.folder / "scenes").glob("*.tif"))

    def command(self, stage: str, scenes: Sequence[Path], out: Path, *options: object) -> list[object]:
        """Arguments of a job over scenes: named one by one, so that one that is gone is missed."""
        common = ["--out", out, "--threads", 1, *options]
        if stage == "train":
            named = [word for scene in scenes for word in ("--scenes", scene)]
            return ["train", self.folder / "train.toml", *named, "--labels", self.folder / "truth", *common]
        return ["predict", *scenes, "--model", self.folder / "model", "--core", CORE, "--precision", "fp32", "--confidence", *common]

    def start(self, stage: str, ranks: int, command: Sequence[object], tally: Path, slow: bool = True) -> Job:
        """Start a job whose work takes about two seconds, or as long as it takes. tally: gets a byte a tile, or a step of a rank."""
        units = TILES / ranks if stage == "predict" else STEPS
        pause = WORK_SECONDS / units if slow else 1e-6
        env = {"PYTHONPATH": str(INJECT), "HPCSEG_TEST_SLOW": f"{pause:.6f}", "HPCSEG_TEST_TALLY": str(tally)}
        return start(ranks, *command, env=env)

    def reference(self, stage: str, ranks: int) -> Reference:
        """The undisturbed job of that stage and size, run when it is first asked for. Raises RuntimeError if it fails."""
        if (stage, ranks) not in self.references:
            out, tally = self.folder / f"{stage}-{ranks}", self.folder / f"{stage}-{ranks}.tally"
            job = self.start(stage, ranks, self.command(stage, self.scenes, out), tally)
            job.wait_until(tally.exists, 300)
            loading = time.monotonic() - job.begin
            done = job.wait(300)
            seconds = time.monotonic() - job.begin
            if done.returncode:
                raise RuntimeError(f"the undisturbed {stage} failed: {done.stdout}\n{done.stderr}")
            self.references[stage, ranks] = Reference(seconds, loading, count(stage, ranks, tally), RESULTS[stage](out))
            self._check_ranks_agree(stage, ranks)
        return self.references[stage, ranks]

    def _check_ranks_agree(self, stage: str, ranks: int) -> None:
        """Maps of all numbers of ranks are one: else there is nothing to compare with."""
        first = next(each for (name, _), each in self.references.items() if name == stage)
        if stage == "predict" and not same_planes(first.result, self.references[stage, ranks].result):
            raise RuntimeError(f"undisturbed maps differ with the number of ranks ({ranks})")


def prepare(folder: Path) -> Field:
    """Make scenes and train the model that maps them."""
    run("synth", "ice", folder / "scenes", "--size", "530x520", "--count", 6, "--seed", 7, "--scale", 0.1)
    (folder / "scenes/truth").rename(folder / "truth")
    (folder / "train.toml").write_text(_CONFIG)
    field = Field(folder)
    # A file without compression, cut short, can still be read up to the cut: the more dangerous kind.
    plain, first = folder / "plain.tif", field.scenes[0]
    gdal.Translate(str(plain), str(first), creationOptions=["TILED=YES", "BLOCKXSIZE=128", "BLOCKYSIZE=128"])
    plain.replace(first)
    (folder / "model").symlink_to("train-1")
    field.reference("train", 1)
    return field


def run(*words: object) -> int:
    """The exit code of an hpcseg without a launcher."""
    program = str(Path(sys.executable).with_name("hpcseg"))
    return subprocess.run([program, *map(str, words)], capture_output=True, env=environment(), timeout=120).returncode


def count(stage: str, ranks: int, tally: Path) -> int:
    """Tiles begun, or steps, which all ranks make together."""
    size = tally.stat().st_size if tally.exists() else 0
    return size if stage == "predict" else -(-size // ranks)


def same_planes(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def weights_of(out: Path) -> bytes:
    return (out / "weights.safetensors").read_bytes()


RESULTS = {"predict": planes_of, "train": weights_of}


def look_at_files(out: Path) -> list[str]:
    """What in a folder cannot be read, each with its reason."""
    bad = []
    for path in out.glob("*"):
        if path.name.startswith(".") or path.suffix == ".lock":
            continue
        try:
            READERS[path.suffix](path)
        except Exception as error:  # whatever a reader raises, that is what is looked for
            bad.append(f"{path.name}: {type(error).__name__}: {error}")
    return bad


def read_hdf5(path: Path) -> None:
    with h5py.File(path, "r") as file:
        file.visit(lambda name: None)
    store.read(path)


def read_table(path: Path) -> None:
    with path.open(newline="") as file:
        assert all(None not in row and None not in row.values() for row in csv.DictReader(file)), "a row has too many or too few cells"


def read_picture(path: Path) -> None:
    assert path.read_bytes().endswith(b"IEND\xaeB`\x82"), "cut short"


READERS = {
    ".h5": read_hdf5,
    ".json": lambda path: json.loads(path.read_text()),
    ".csv": read_table,
    ".png": read_picture,
    ".toml": lambda path: path.read_text().encode().decode(),
    ".pt": lambda path: torch.load(path, weights_only=True),
    ".safetensors": load_file,
}


def wrong_tiles(out: Path, reference: Reference) -> int:
    """Tiles that are marked done and have other bits than in the undisturbed map, or than their CRC says."""
    wrong = 0
    for path in out.glob("*.h5"):
        stored = store.read(path)
        done = np.flatnonzero(np.isin(stored.status, (store.DONE, store.EMPTY)).ravel())
        right = store.check(stored, done)
        found = {plane: store.read_window(stored, stored.layout.grid.extent, plane) for plane in stored.layout.planes}
        for tile, good in zip(done, right, strict=True):
            at = stored.layout.grid.core_window(int(tile)).slices
            same = all(np.array_equal(plane[at], reference.result[path.name, name][at]) for name, plane in found.items())
            wrong += not (good and same)
    return wrong


def units_done(stage: str, out: Path) -> int:
    """Tiles that are done, or steps that the checkpoint has behind it."""
    if stage == "predict":
        return done_tiles(out)
    path = out / "checkpoint.pt"
    return int(torch.load(path, weights_only=True)["position"]["step"]) if path.exists() else 0


def final_faults(stage: str, out: Path, reference: Reference) -> list[str]:
    """What is not as the undisturbed job left it, in a folder whose work is done."""
    found = [f"{path.name} is left over" for path in out.glob("*") if path.name.startswith(".") or path.suffix not in READERS]
    if units_done(stage, out) != reference.units:
        found.append(f"{units_done(stage, out)} of {reference.units} are done")
    if stage == "train":
        return found + ["other weights"] * (weights_of(out) != reference.result)
    found += ["hpcseg verify finds fault"] * (run("verify", out) != 0)
    return found + ["another map"] * (not same_planes(planes_of(out), reference.result))
