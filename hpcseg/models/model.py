"""A model, loaded: its network ready for inference, its halo and stride, and the digest that names it."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from hpcseg.config import Class, ModelSpec, Normalisation, encode_toml, read_model
from hpcseg.errors import UsageError
from hpcseg.models.probe import Probe, probe
from hpcseg.models.registry import NETWORKS, build, count_logits

ZOO = Path(__file__).parent / "zoo"
_FOREIGN = (".pt2", ".pt", ".pth", ".ts", ".torchscript")
_PALETTE = ("#1b3a57", "#d98e32", "#5f9e6e", "#b5475e", "#8a6fb0", "#c9b458", "#4c9dc4", "#7d7d7d")


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode on the CPU, in float32.

    halo, stride: pixels; the halo is a multiple of the stride. window: edge of the only input a fixed-shape network takes, 0 = any.
    batch: the only batch it takes, 0 = any. found: what the probe of a foreign network gave,
    None for one of ours.
    """

    name: str
    spec: ModelSpec
    network: nn.Module
    halo: int
    stride: int
    digest: str
    window: int = 0
    batch: int = 0
    found: Probe | None = None

    @property
    def logits(self) -> int:
        """Outputs per pixel."""
        return self.found.logits if self.found else count_logits(len(self.spec.classes), self.spec.task)


def shipped_models() -> list[str]:
    """Names of the models that come with hpcseg."""
    return sorted(p.parent.name for p in ZOO.glob("*/model.toml"))


def find_model(name: str) -> Path:
    """The folder of a model: a path, or the name of a shipped one; for a foreign network its file. Raises UsageError."""
    path = Path(name)
    for each in (path, ZOO / name):
        if (each / "model.toml").is_file():
            return each
    if path.is_file() and path.suffix in _FOREIGN:
        return path
    if path.is_dir():
        raise UsageError(f"{name}: no model.toml in this folder")
    raise UsageError(
        f"no model {name!r}; wanted a folder with model.toml, a .pt2 or TorchScript file, or one of {', '.join(shipped_models())}"
    )


def load_model(name: str, insist: bool = False, found: Probe | None = None) -> Model:
    """Load a model by path or shipped name. insist: accept a foreign network whose result depends on where a tile lies.
    found: what an earlier probe of this foreign network gave, so that one rank can probe for all.

    Raises UsageError: no such model, weights that do not fit, a network whose map would depend on its tiles.
    """
    path = find_model(name)
    if path.is_file():
        toml = path.with_suffix(".toml")
        if not toml.is_file():
            raise UsageError(f"{path}: no {toml.name} beside it; make one with: hpcseg models init {path}")
        return _load_foreign(path, read_model(toml), insist, found)
    spec = read_model(path / "model.toml")
    if spec.network in NETWORKS:
        return _load_own(path, spec)
    return _load_foreign(path / spec.network, spec, insist, found)


def _load_own(folder: Path, spec: ModelSpec) -> Model:
    network = build(spec.network, spec.bands, len(spec.classes), spec.options, spec.task)
    weights = folder / "weights.safetensors"
    try:
        network.load_state_dict(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{weights}: {error}") from error
    except RuntimeError as error:
        raise UsageError(f"{weights} does not fit network {spec.network} of {folder / 'model.toml'}: {error}") from error
    return Model(folder.name, spec, network.eval(), network.aligned_halo, network.stride, _digest(spec, weights))


def _load_foreign(path: Path, spec: ModelSpec, insist: bool, found: Probe | None) -> Model:
    network, window, batch = read_foreign(path, spec.bands)
    found = found or probe(network, spec.bands, window, batch)
    _check_outputs(path, found.logits, spec)
    if found.stride == 0 and not insist:
        raise UsageError(
            f"{path}: its result depends on where a tile lies (align_corners, instance or group norm, global pooling?): logits differ by"
            f" {found.difference:.3g}; tiles would not join. Change the network, or map with --any-network"
        )
    # A network whose poolings left no trace in the probe still needs windows that they divide.
    stride = max(found.stride, 32)
    halo = -(-(spec.halo if spec.halo >= 0 else found.halo) // stride) * stride
    if window and window <= 2 * halo:
        raise UsageError(f"{path}: takes {window}x{window} only, and needs a halo of {halo}: no core is left; export it larger")
    return Model(path.stem, spec, network, halo, stride, _digest(spec, path), window, batch, found)


def _check_outputs(path: Path, logits: int, spec: ModelSpec) -> None:
    classes = len(spec.classes)
    if logits not in (classes, count_logits(classes, spec.task)):
        raise UsageError(f"{path}: gives {logits} logits, model.toml names {classes} classes")


def read_foreign(path: Path, bands: int) -> tuple[nn.Module, int, int]:
    """A .pt2 or TorchScript network, and the window and batch it is fixed to (0 = any). Raises UsageError."""
    try:
        if path.suffix != ".pt2":
            return torch.jit.load(str(path), map_location="cpu").eval(), 0, 0
        program = torch.export.load(path)
        shape = _input_shape(program)
    except (OSError, RuntimeError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    if len(shape) != 4 or shape[1] != bands:
        raise UsageError(f"{path}: takes input {tuple(shape)}, wanted (batch, {bands}, height, width)")
    batch, _, height, width = (n if isinstance(n, int) else 0 for n in shape)
    if height != width:
        raise UsageError(f"{path}: takes windows of {height}x{width}, wanted square ones")
    return program.module(), height, batch


def _input_shape(program: torch.export.ExportedProgram) -> list[int | torch.SymInt]:
    name = program.graph_signature.user_inputs[0]
    node = next(n for n in program.graph.nodes if n.name == name)
    return list(node.meta["val"].shape)


def _digest(spec: ModelSpec, weights: Path) -> str:
    """SHA-256 over all of model.toml that can change a label, and the weights."""
    # Of points the map is their heat, which no threshold changes.
    decides = spec.threshold if spec.task == "classes" else spec.task
    digest = hashlib.sha256(msgspec.json.encode([spec.network, spec.bands, len(spec.classes), spec.options, decides, spec.halo]))
    with weights.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()[:16]


def init_foreign(path: Path, bands: int) -> Path:
    """Write a model.toml for a foreign network beside it, to be completed by hand. Raises UsageError if there is one already."""
    toml = path.with_suffix(".toml")
    if toml.exists():
        raise UsageError(f"{toml} is there already")
    network, window, batch = read_foreign(path, bands)
    logits = max(2, probe(network, bands, window, batch).logits)
    classes = [Class(name=f"class {k}", color=_PALETTE[k % len(_PALETTE)]) for k in range(logits)]
    norm = Normalisation(kind="fixed", mean=[0.0] * bands, std=[255.0] * bands)
    toml.write_bytes(
        encode_toml(ModelSpec(network=path.name, bands=bands, classes=classes, normalisation=norm, resolution=0.0))
    )
    return toml
