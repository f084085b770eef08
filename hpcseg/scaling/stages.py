"""What a study runs: for each stage its scenes, the words of its command, and what a finished run says of itself."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hpcseg import store
from hpcseg.errors import UsageError
from hpcseg.labels.shares import LabelSummary
from hpcseg.mapping.report import Summary
from hpcseg.raster.striped import write_striped
from hpcseg.scaling.records import Case, Stage
from hpcseg.synthetic import ice

# Samples of a step on one rank, and passes over them, in a study of training.
BATCH, EPOCHS = 8, 2
_NARROW = 1024
_CLASSES = "open water,thin ice,thick ice"
# Measured: some seconds of tile loops on one core of today.
_SIZES = {"predict": 4096, "label": 8192, "train": 2048, "count": 4096}
_MODELS = {"predict": "sea-ice", "label": "ice", "train": "unet-light", "count": ""}


@dataclass(frozen=True)
class Data:
    """The scenes of a run. truth: their labels, for training."""

    scenes: tuple[str, ...]
    truth: tuple[str, ...] = ()

    def first(self, count: int) -> Data:
        """The first so many. Raises UsageError if there are not as many."""
        if len(self.scenes) < count:
            raise UsageError(f"{len(self.scenes)} scenes are given, a study of fixed work a rank on {count} ranks wants {count}")
        return Data(self.scenes[:count], self.truth[:count])


def default_size(stage: Stage) -> int:
    """Edge of a synthetic scene in pixels."""
    return _SIZES[stage]


def default_model(stage: Stage) -> str:
    """The model, network or teacher. Raises UsageError for a stage that has none of its own."""
    if not _MODELS[stage]:
        raise UsageError(f"{stage}: no model for it is shipped; wanted --model")
    return _MODELS[stage]


def synthetic_data(folder: Path, count: int, size: int, partition: str) -> Data:
    """Scenes of sea ice in blocks (hilbert) or in strips (rows), made unless they are there. Raises UsageError."""
    if partition == "rows" and size <= _NARROW:
        raise UsageError(f"--size {size}: only scenes of more than {_NARROW} px across are cut by rows where their blocks are strips")
    blocks = folder / f"ice_{size}"
    paths = [blocks / f"ice_{k:03d}.tif" for k in range(count)]
    truth = [blocks / "truth" / path.name for path in paths]
    if not all(path.exists() for path in (*paths, *truth)):
        ice(blocks, count, size, size, seed=1)
    if partition == "rows":
        strips = folder / f"ice_{size}_strips"
        strips.mkdir(exist_ok=True)
        for path in paths:
            if not (strips / path.name).exists():
                write_striped(path, strips / path.name)
        paths = [strips / path.name for path in paths]
    return Data(tuple(map(str, paths)), tuple(map(str, truth)))


def words_of(case: Case, data: Data, out: Path) -> list[str]:
    """The command of a run, without launcher and program."""
    common = ["--out", str(out), "--threads", str(case.threads)]
    if case.stage == "train":
        files = [word for kind, paths in (("--scenes", data.scenes), ("--labels", data.truth)) for path in paths for word in (kind, path)]
        batch = BATCH * (case.ranks if case.mode == "weak" else 1)
        return ["train", *files, *common, "--model", case.model, "--classes", _CLASSES, "--tile", str(case.tile),
                "--block", str(2 * case.tile), "--batch", str(batch), "--epochs", str(EPOCHS), "--precision", case.precision]  # fmt: skip
    common += ["--core", str(case.tile)]
    if case.stage == "label":
        return ["label", case.model, *data.scenes, *common]
    return [case.stage, *data.scenes, *common, "--model", case.model, "--precision", case.precision]


def read_run(case: Case, out: Path) -> dict[str, Any]:
    """The fields of a row that a finished run tells. Raises UsageError if its folder lacks them."""
    try:
        return _TELL[case.stage](case, out)
    except (OSError, KeyError, IndexError, ValueError, msgspec.MsgspecError) as error:
        raise UsageError(f"{out}: the run left no record that can be read: {error}") from error


def _tell_map(case: Case, out: Path) -> dict[str, Any]:
    summary = msgspec.json.decode((out / "run.json").read_bytes(), type=LabelSummary if case.stage == "label" else Summary)
    grid = store.read(min(out.glob("*.h5"))).layout.grid
    stages = ("read", "decode", "forward", "first", "write", "wait")
    total = {name: sum(rank.seconds.get(name, 0.0) for rank in summary.ranks) for name in stages}
    loops = [rank.seconds.get("wall", 0.0) for rank in summary.ranks]
    tiles = sum(rank.tiles - rank.empty for rank in summary.ranks)
    return total | {
        "halo": grid.halo,
        "tiles": sum(rank.tiles for rank in summary.ranks),
        "seconds": summary.wall,
        "work": max(loops),
        "preprocess": max(0.0, total["read"] - total["decode"]),
        "allocation": max(rank.allocation for rank in summary.ranks),
        "reduce": summary.wall - max(loops),
        "useful": loops,
        "mapped_mpx": [rank.mapped_px / 1e6 for rank in summary.ranks],
        "mpx": sum(rank.mapped_px for rank in summary.ranks) / 1e6,
        "km2": sum(rank.mapped_m2 for rank in summary.ranks) / 1e6,
        "computed_mpx": tiles * (grid.core + 2 * grid.halo) ** 2 / 1e6,
        "peak_memory_mb": max(rank.peak_memory_mb for rank in summary.ranks),
        "device": summary.device,
    }


def _tell_training(case: Case, out: Path) -> dict[str, Any]:
    outcome = json.loads((out / "train.json").read_text())
    with (out / "history.csv").open(newline="") as file:
        epochs = [float(record["seconds"]) for record in csv.DictReader(file)]
    split = json.loads((out / "split.json").read_text())
    samples = sum(each["part"] == "train" for each in split["blocks"]) * (split["edge"] // case.tile) ** 2
    spent, mpx = outcome["seconds"], samples * case.tile**2 * len(epochs) / 1e6
    return {
        "halo": 0,
        "tiles": samples * len(epochs),
        "seconds": outcome["wall"],
        "work": sum(epochs),
        "forward": spent["compute"],
        "averaging": spent["averaging"],
        "wait": spent["data"],
        "reduce": outcome["wall"] - sum(epochs),
        "useful": outcome.get("compute", []),
        "mpx": mpx,
        "computed_mpx": mpx,
    }


_TELL: dict[str, Callable[[Case, Path], dict[str, Any]]] = {
    "predict": _tell_map,
    "label": _tell_map,
    "count": _tell_map,
    "train": _tell_training,
}


def input_megabytes(scenes: Sequence[str]) -> float:
    """Size of scene files that lie on a disk."""
    return sum(Path(each).stat().st_size for each in scenes if Path(each).is_file()) / 1e6
