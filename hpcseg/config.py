"""What a model folder says of itself (model.toml), read and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from hpcseg.errors import UsageError

T = TypeVar("T")
Task = Literal["classes", "points"]
SCORES = 255
_MILLION = 1_000_000
_COLOR = r"#[0-9a-fA-F]{6}"


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of all records that come from a TOML file: unknown keys and wrong types are refused by name."""


class Class(Record, frozen=True):
    """One class of a legend. `color` is #rrggbb."""

    name: str
    color: str


class Normalisation(Record, frozen=True):
    """How values become network input, per band.

    fixed: (value - mean) / std. scene: (value - low) / (high - low), where low and high are the scene's own percentiles.
    """

    kind: Literal["fixed", "scene"] = "fixed"
    mean: list[float] = []
    std: list[float] = []
    percentiles: tuple[float, float] = (2.0, 98.0)


class ModelSpec(Record, frozen=True):
    """A model: its network, what goes in, what comes out.

    network: a registered name, or the file name of a .pt2 or TorchScript network. options: the network's own arguments.
    bands: number of input bands. prefilter: a filter that scenes pass before normalisation, "" = none, see kernels.filters.
    resolution: ground size of a pixel in metres that it was trained on, 0 = unknown.
    threshold: of a network with one logit. halo: overrides the probe of a foreign network, -1 = derive it.
    task: "classes" labels each pixel with one of at least two classes; "points" finds objects: a logit for each class, the kinds of
    objects, whose sigmoid is 1 at an object's centre and falls off as a Gaussian of `sigma` (metres; pixels where resolution is 0).
    The rest is of points alone. threshold: of the objects that count. distance: least between two of a class, as sigma; 0 = 2 sigma.
    calibration: for scores 0 to 254 the chance, in millionths, that such a peak is an object, rising; empty = not calibrated.
    """

    network: str
    bands: int
    classes: list[Class]
    options: dict[str, Any] = {}
    normalisation: Normalisation = Normalisation()
    prefilter: Literal["", "ice", "ice-published"] = ""
    resolution: float = 0.0
    threshold: float = 0.5
    halo: int = -1
    description: str = ""
    task: Task = "classes"
    sigma: float = 0.0
    distance: float = 0.0
    calibration: list[int] = []

    @property
    def least_distance(self) -> float:
        """Of two objects of a class, in the units of `sigma`."""
        return self.distance or 2 * self.sigma


def decode_toml(path: Path, kind: type[T]) -> T:
    """Read a TOML file as a record of `kind`. Raises UsageError in one line that names the file, the key and the reason."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error


def check_classes(classes: Sequence[Class], task: Task = "classes") -> list[str]:
    """What is wrong with a legend, one phrase each."""
    least = 1 if task == "points" else 2
    wrong = [f"color {each.color!r} of class {each.name!r} is not #rrggbb" for each in classes if not re.fullmatch(_COLOR, each.color)]
    if not least <= len(classes) <= 255:
        wrong.insert(0, f"{len(classes)} classes, wanted {least} to 255 ([[classes]] with name and color, class 0 first)")
    names = [each.name for each in classes]
    return wrong + [f"two classes are named {name!r}" for name in dict.fromkeys(names) if names.count(name) > 1]


def read_model(path: Path) -> ModelSpec:
    """Read and check a model.toml. Raises UsageError."""
    spec = decode_toml(path, ModelSpec)
    norm = spec.normalisation
    if spec.bands < 1:
        raise UsageError(f"{path}: bands is {spec.bands}, wanted 1 or more")
    wrong = check_classes(spec.classes, spec.task) + _check_points(spec)
    if spec.prefilter and spec.bands != 3:
        wrong.append(f"prefilter is {spec.prefilter!r}, of red, green and blue, and bands is {spec.bands}")
    if wrong:
        raise UsageError(f"{path}: {wrong[0]}")
    if norm.kind == "fixed" and not (len(norm.mean) == len(norm.std) == spec.bands and all(s > 0 for s in norm.std)):
        raise UsageError(f"{path}: normalisation.mean and .std need {spec.bands} values each, std above 0")
    low, high = norm.percentiles
    if not 0 <= low < high <= 100:
        raise UsageError(f"{path}: normalisation.percentiles {low}, {high}: wanted 0 <= low < high <= 100")
    if not all(math.isfinite(v) for v in (*norm.mean, *norm.std)):
        raise UsageError(f"{path}: normalisation.mean and normalisation.std must be finite numbers")
    if not 0 <= spec.resolution < math.inf or spec.halo < -1:
        raise UsageError(f"{path}: resolution is {spec.resolution}, halo {spec.halo}: wanted 0 or more metres, and -1 or more pixels")
    if not 0 < spec.threshold < 1:
        raise UsageError(f"{path}: threshold is {spec.threshold}, wanted between 0 and 1")
    return spec


def _check_points(spec: ModelSpec) -> list[str]:
    """What is wrong with what a model.toml says of points."""
    table = spec.calibration
    if spec.task == "classes":
        return ["sigma, distance and calibration are for task = \"points\""] if spec.sigma or spec.distance or table else []
    wrong = [] if 0 < spec.sigma < math.inf else [f"sigma is {spec.sigma}, wanted above 0 for task = \"points\""]
    if not 0 <= spec.distance < math.inf:
        wrong.append(f"distance is {spec.distance}, wanted 0 or more")
    if table and (len(table) != SCORES or table != sorted(table) or table[0] < 0 or table[-1] > _MILLION):
        wrong.append(f"calibration: wanted {SCORES} rising numbers from 0 to {_MILLION}, a chance in millionths for each score")
    return wrong


def encode_toml(record: Record) -> bytes:
    """The record as TOML, lists of numbers on one line."""
    text = msgspec.toml.encode(record)
    return re.sub(rb"\[\s+((?:[-+.\deE]+,\s+)+)\]", lambda numbers: b"[" + b" ".join(numbers[1].split())[:-1] + b"]", text)


class LabelSpec(Record, frozen=True):
    """How labels become classes, [labels] in a configuration.

    map: source value or colour "#rrggbb" -> class name or number, or "ignore"; empty = values are class numbers. ignore: values that
    are not labelled. field: the attribute of a vector's polygons that is looked up in the map; "" = every polygon is class 1.
    background: class of pixels outside all polygons, or "ignore". band: of a label raster, from 1.
    """

    map: dict[str, str | int] = {}
    ignore: list[int] = []
    field: str = ""
    background: str | int = 0
    band: int = 1
