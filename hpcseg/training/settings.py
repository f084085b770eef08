"""What a training run is told: one record, from a TOML file and flags; and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from hpcseg.config import Class, LabelSpec, Record, Task, check_classes, decode_toml
from hpcseg.errors import UsageError
from hpcseg.models import NETWORKS

_NEEDED = ("scenes", "out", "classes")
_COLORS = ("#dfe3e6", "#c65d21", "#1b5e8c", "#3f7f4f", "#8c3f6d", "#c9b458", "#4b4f9e", "#7d7d7d")
_OF_POINTS = {"loss": ["points"], "classes": [{"name": "object", "color": _COLORS[1]}]}
_NOT_IDENTITY = {"out", "threads", "readers", "epochs", "cache", "stall", "checkpoint_steps", "averaging", "overwrite"}


class Labels(LabelSpec, frozen=True):
    """The truth: files, globs or folders that pair with the scenes by id or stem (or the manifest's label column), and their meaning."""

    files: tuple[str, ...] = ()


class Settings(Record, frozen=True):
    """A training run.

    network, options: a registered network (default: that of `init`, or unet-light) and its own arguments. init: a model to start from.
    encoder_weights: a file in torchvision's layout. freeze: a part that is not trained.
    normalisation, percentiles: see config.Normalisation; of a run that starts from no model.
    prefilter: a filter that scenes pass first, see config.ModelSpec; "" = that of `init`, or none.
    tile: edge of a sample in pixels. block: edge of the squares that are dealt out to train, validation and test, a multiple of
    tile; 0 = whole scenes are dealt out. validation, test: shares of them. split_seed: deals them.
    shift: samples move by up to half a tile within their block. brightness: largest relative change.
    balance: "weights" weighs classes by the inverse of their share, "sampling" draws samples with rare classes more often.
    batch: samples of a step over all ranks; batch_per_rank, if not 0, sets it to that times the ranks. accumulate: parts of a
    rank's share of a batch that pass one after the other. rate: learning rate; scale_rate multiplies it by the number of ranks.
    warmup: epochs of linear rise. loss: terms added. gamma: of the focal loss. clip: largest norm of the gradient, 0 = any.
    score: what chooses the checkpoint on the validation samples. checkpoint_steps: steps between checkpoints, 0 = each epoch.
    task: "points" finds objects, of `classes` kinds, by a heat map, see config.ModelSpec, of which sigma and distance are; in metres, for
    scenes that do not say where they lie by pixel_size, the metres of their pixels; 0 = then in pixels. empty: share of an epoch's
    samples that have no object in them. within: distances at which F1 is told; the first, by default 2 sigma, chooses checkpoint and
    threshold.
    """

    scenes: tuple[str, ...]
    out: Path
    classes: tuple[Class, ...]
    labels: Labels = Labels()
    network: str = ""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    init: str = ""
    encoder_weights: str = ""
    freeze: Literal["", "encoder"] = ""
    bands: tuple[int, ...] = ()
    nodata: float | None = None
    nodata_rule: Literal["all", "any"] = "all"
    crs: str = ""
    resolution: float = 0.0
    align: bool = False
    aoi: str = ""
    assets: tuple[str, ...] = ()
    normalisation: Literal["fixed", "scene"] = "fixed"
    percentiles: tuple[float, float] = (2.0, 98.0)
    prefilter: Literal["", "ice", "ice-published"] = ""
    tile: int = 256
    block: int = 1024
    validation: float = 0.15
    test: float = 0.15
    split_seed: int = 0
    seed: int = 0
    flips: bool = True
    rotations: bool = True
    shift: bool = True
    brightness: float = 0.1
    balance: Literal["none", "weights", "sampling"] = "none"
    epochs: int = 20
    batch: int = 8
    batch_per_rank: int = 0
    accumulate: int = 1
    loss: tuple[Literal["cross-entropy", "focal", "dice", "points"], ...] = ("cross-entropy",)
    gamma: float = 2.0
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    rate: float = 1e-3
    scale_rate: bool = False
    warmup: float = 1.0
    schedule: Literal["constant", "cosine"] = "cosine"
    momentum: float = 0.9
    decay: float = 1e-4
    clip: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    on_nan: Literal["stop", "skip"] = "stop"
    score: Literal["f1", "iou", "accuracy"] = "f1"
    checkpoint_steps: int = 0
    task: Task = "classes"
    sigma: float = 0.0
    distance: float = 0.0
    pixel_size: float = 0.0
    empty: float = 0.25
    within: tuple[float, ...] = ()
    averaging: Literal["auto", "horovod", "torch"] = "auto"
    compression: Literal["none", "fp16"] = "none"
    adasum: bool = False
    overwrite: bool = False
    threads: int = 1
    readers: int = 1
    cache: int = 128
    stall: float = 600.0

    @property
    def names(self) -> list[str]:
        """The classes' names, class 0 first."""
        return [each.name for each in self.classes]

    @property
    def distances(self) -> tuple[float, ...]:
        """At which objects match, in the units of `sigma`."""
        return self.within or (2 * self.sigma,)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Of a sample's labels: (tile, tile), of points (classes, tile, tile)."""
        return (len(self.classes),) * (self.task == "points") + (self.tile, self.tile)

    def identity(self) -> dict[str, Any]:
        """All that a checkpoint must share with the run that resumes it; what only says where, how fast or how long is left out."""
        # Key by key: a record as a whole leaves out what has its default.
        fields = {key: getattr(self, key) for key in sorted(self.__struct_fields__) if key not in _NOT_IDENTITY}
        return msgspec.to_builtins(fields, enc_hook=str)


def read_settings(path: Path | None, flags: dict[str, Any], defaults: dict[str, Any] | None = None) -> Settings:
    """The settings of a TOML file, if there is one; flags that were given win, defaults are for what neither says. Among the flags,
    labels are its files and classes their names. Raises UsageError in one line."""
    values: dict[str, Any] = (defaults or {}) | (decode_toml(path, dict) if path else {})
    where = str(path) if path else "hpcseg train"
    points = flags.get("task", values.get("task")) == "points"
    values = (_OF_POINTS if points else {}) | values
    for key, value in flags.items():
        if key == "labels":
            known = values.get("labels")
            values["labels"] = (known if isinstance(known, dict) else {}) | {"files": value}
        elif key == "classes":
            values[key] = [{"name": name, "color": _COLORS[k % len(_COLORS)]} for k, name in enumerate(value, points)]
        else:
            values[key] = value
    missing = [key for key in _NEEDED if key not in values]
    if missing:
        raise UsageError(f"{where}: no {', '.join(missing)}: give them in the TOML file (hpcseg train CONFIG.toml) or as flags")
    try:
        settings = msgspec.convert(values, Settings, dec_hook=lambda kind, value: kind(value))
    except (msgspec.ValidationError, TypeError) as error:
        raise UsageError(f"{where}: {error}") from error
    _check(where, settings)
    return settings


def _check(where: str, s: Settings) -> None:
    """Values that cannot be meant. Raises UsageError."""
    positive = {"tile": s.tile, "epochs": s.epochs, "batch": s.batch, "accumulate": s.accumulate, "rate": s.rate,
                "threads": s.threads, "readers": s.readers, "cache": s.cache, "stall": s.stall}  # fmt: skip
    wrong = [f"{key} is {value}, wanted above 0" for key, value in positive.items() if not value > 0]
    if s.block < 0 or s.block % max(1, s.tile) or s.block == s.tile:
        wrong.append(f"block is {s.block}, wanted a multiple of tile ({s.tile}), at least twice it: the neighbour of a sample must not be"
                     " in another part; or 0 to deal out whole scenes")  # fmt: skip
    if s.validation < 0 or s.test < 0 or s.validation + s.test >= 1:
        wrong.append(f"validation is {s.validation} and test {s.test}, wanted shares of 0 or more that sum to less than 1")
    wrong += check_classes(s.classes, s.task) + _wrong_points(s)
    if not 0 <= s.brightness < 1:
        wrong.append(f"brightness is {s.brightness}, wanted 0 or more and below 1")
    if min(s.batch_per_rank, s.warmup, s.decay, s.clip, s.checkpoint_steps) < 0:
        wrong.append("batch_per_rank, warmup, decay, clip and checkpoint_steps must not be negative")
    if 0 < s.gamma < 1 or s.gamma < 0 or not 0 <= s.momentum < 1:
        wrong.append(f"gamma is {s.gamma} and momentum {s.momentum}, wanted a gamma of 0, or 1 or more, and a momentum of 0 to below 1")
    if s.adasum and s.compression != "none":
        wrong.append("adasum and compression are both given: choose one")
    if min(s.seed, s.split_seed) < 0:
        wrong.append(f"seed is {s.seed} and split_seed {s.split_seed}, wanted 0 or more")
    if not s.loss:
        wrong.append("loss is empty, wanted some of cross-entropy, focal, dice, or points for task = \"points\"")
    if s.network not in ("", *NETWORKS):
        wrong.append(f"no network {s.network!r}; wanted one of {', '.join(NETWORKS)}")
    if s.init and s.encoder_weights:
        wrong.append("init and encoder_weights are both given: choose one")
    if wrong:
        raise UsageError(f"{where}: {'; '.join(wrong)}")


def _wrong_points(s: Settings) -> list[str]:
    """What is wrong with what is said of points."""
    if s.task == "classes":
        said = [key for key in ("sigma", "distance", "pixel_size", "within") if getattr(s, key)] + ["loss = points"] * ("points" in s.loss)
        return [f"{', '.join(said)}: of points: give task = \"points\" (--task points) too"] if said else []
    wrong = []
    if s.loss != ("points",) or s.balance != "none" or s.score != "f1":
        wrong.append("task is \"points\": its loss is [\"points\"], its balance \"none\" and its score \"f1\"")
    if not s.sigma > 0:
        wrong.append(f"sigma is {s.sigma}, wanted above 0: how far an object's heat reaches, in metres (about a quarter of its size)")
    if min(s.distance, s.pixel_size, *s.distances) < 0 or not 0 <= s.empty < 1:
        wrong.append("distance, pixel_size and within must not be negative, empty 0 or more and below 1")
    return wrong
