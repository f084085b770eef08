"""Weights from elsewhere: encoders in torchvision's layout, other models of ours; and parts that training leaves as they are."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hpcseg.errors import UsageError
from hpcseg.models.model import Model
from hpcseg.models.network import SegmentationNetwork

MATCHED = "matched"
_NAMED = 8


class Row(NamedTuple):
    """What became of one tensor. name: in the network, or in the file where the network has none for it. shape: of the same.
    outcome: "matched", or in words what else."""

    name: str
    shape: tuple[int, ...]
    outcome: str


def load_encoder(network: SegmentationNetwork, path: str | Path) -> list[Row]:
    """Load weights of the encoder in place from a state dict in torchvision's layout: a .safetensors file, or one of torch.save.

    Weights for other bands than the network's are adapted (`adapt_bands`). What the file lacks stays as it was: 0 for biases of new
    networks. Where batch norm has no scale and shift of its own (DeepLab), the file's go into convolutions and means (`absorb_affine`).
    Raises UsageError, before anything is changed: the file cannot be read, or is of another network.
    """
    weights = _read_weights(Path(path))
    encoder: nn.Module = getattr(network, "encoder", nn.Identity())
    rename: Callable[[str], str] = getattr(encoder, "torchvision_name", str)
    target = encoder.state_dict()
    if not any(rename(name) in weights for name in target):
        raise UsageError(f"no weight of {path} fits network {network.name}; wanted its encoder in torchvision's state-dict layout")
    absorbed = absorb_affine(encoder, weights, rename)
    source = {name: weights.pop(rename(name)) for name in target if rename(name) in weights}
    rows = _copy(target, source, f"{path} is of another network than the encoder of {network.name}")
    _tune(network)
    left = [Row(name, tuple(each.shape), "left out: the network has none") for name, each in weights.items()]
    return [*(row._replace(name=f"encoder.{row.name}") for row in rows), *absorbed, *left]


def init_from(network: SegmentationNetwork, model: Model) -> list[Row]:
    """Start from the weights of a model of the same network, in place. Tensors whose size follows the number of classes stay new where
    it differs; the first convolution is adapted to other bands. Raises UsageError: another network, or other widths."""
    if model.spec.network != network.name:
        raise UsageError(f"--init {model.name}: a {model.spec.network}, wanted a {network.name}")
    source = model.network.state_dict()
    rows = _copy(network.state_dict(), source, f"--init {model.name}: other options than this {network.name}", network.per_class)
    _tune(network)
    return rows


def freeze(network: SegmentationNetwork, part: str) -> None:
    """Leave a part (encoder, decoder or head) out of training: no gradients, its batch norm and dropout as in evaluation.
    Raises UsageError if the network has no such part with weights."""
    parts = [name for name, child in network.named_children() if any(True for _ in child.parameters())]
    if part not in parts:
        raise UsageError(f"--freeze {part}: network {network.name} has no such part with weights; wanted one of {', '.join(parts)}")
    network.get_submodule(part).requires_grad_(False)
    network.fixed = network.fixed | {part}
    network.train(network.training)


def describe(rows: Iterable[Row]) -> str:
    """A line an outcome: tensors, values, and the names where it is not just "matched"."""
    lines = []
    for outcome, group in groupby(sorted(rows, key=lambda row: (row.outcome != MATCHED, row.outcome)), key=lambda row: row.outcome):
        members = list(group)
        names = [f"{row.name} ({_size(row.shape)})" for row in members[:_NAMED]] if outcome != MATCHED else []
        more = [f"and {len(members) - _NAMED} more"] if names and len(members) > _NAMED else []
        values = sum(torch.Size(row.shape).numel() for row in members)
        lines.append(f"{outcome}: tensors={len(members)} values={values} {', '.join([*names, *more])}".rstrip())
    return "\n".join(lines)


def adapt_bands(weight: Tensor, bands: int) -> Tensor:
    """Weights (outputs, n, kh, kw) of a first convolution for another number of bands.

    The n are repeated cyclically and scaled by n / bands, so that inputs alike in all bands give about the same response; for a single
    band they are summed, which gives exactly that. The rule of timm's adapt_input_conv and of segmentation_models.pytorch's
    patch_first_conv.
    """
    if bands == 1:
        return weight.sum(1, keepdim=True)
    given = weight.shape[1]
    return weight[:, [k % given for k in range(bands)]] * (given / bands)


def absorb_affine(encoder: nn.Module, weights: dict[str, Tensor], rename: Callable[[str], str]) -> list[Row]:
    """Take scale s and shift t of batch norm out of `weights` for layers of the encoder that have none, by changing the convolution w
    before them and the mean m: s (wx - m) / d + t = (s w x - (s m - t d)) / d, with d the square root of variance and epsilon.

    rename: from names in the encoder to those in `weights`. The function stays the same as long as the variances do.
    """
    rows = []
    for first, second, norm in _unscaled(encoder):
        names = [rename(f"{second}.{kind}") for kind in ("weight", "bias", "running_mean", "running_var")]
        found = [weights[name] for name in names if name in weights and weights[name].shape == (norm.num_features,)]
        weight = weights.get(rename(f"{first}.weight"))
        if len(found) < len(names) or weight is None or (weight.ndim, len(weight)) != (4, norm.num_features):
            continue
        scale, shift, mean, variance = found
        weights[rename(f"{first}.weight")] = weight * scale[:, None, None, None]
        weights[names[2]] = scale * mean - shift * torch.sqrt(variance + norm.eps)
        rows += [Row(name, tuple(weights.pop(name).shape), "taken into convolution and mean") for name in names[:2]]
    return rows


def _unscaled(encoder: nn.Module) -> Iterable[tuple[str, str, nn.BatchNorm2d]]:
    """Names of each convolution and of the batch norm without scale and shift after it, and the latter."""
    for prefix, block in encoder.named_modules():
        if isinstance(block, nn.Sequential):
            for (before, _), (name, norm) in pairwise(block.named_children()):
                if isinstance(norm, nn.BatchNorm2d) and not norm.affine:
                    yield f"{prefix}.{before}", f"{prefix}.{name}", norm


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. Raises UsageError."""
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UsageError(f"{path}: no weights can be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UsageError(f"{path}: wanted a state dict, names to tensors, as torchvision's files are")
    return dict(weights)


@torch.no_grad()
def _copy(target: dict[str, Tensor], source: dict[str, Tensor], refusal: str, new: tuple[str, ...] = ()) -> list[Row]:
    """Copy what fits; nothing if a tensor has another shape that is neither its bands' nor in a part that may be `new`."""
    first = next(name for name, tensor in target.items() if tensor.ndim == 4)
    rows, values = [], {}
    for name, wanted in target.items():
        value, outcome = source.get(name), MATCHED
        if value is None:
            outcome = "as it was: the file has none"
        elif value.shape == wanted.shape:
            values[name] = value
        elif name == first and _differ_in_bands(value.shape, wanted.shape):
            outcome = f"adapted: from {value.shape[1]} to {wanted.shape[1]} bands"
            values[name] = adapt_bands(value, wanted.shape[1])
        elif name.partition(".")[0] in new:
            outcome = "made anew: another number of classes"
        else:
            raise UsageError(f"{refusal}: {name} is {_size(value.shape)}, wanted {_size(wanted.shape)}")
        rows.append(Row(name, tuple(wanted.shape), outcome))
    for name, value in values.items():
        target[name].copy_(value)
    return rows


def _differ_in_bands(given: torch.Size, wanted: torch.Size) -> bool:
    return len(given) == 4 and (given[0], *given[2:]) == (wanted[0], *wanted[2:])


def _size(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "1"


def _tune(network: SegmentationNetwork) -> None:
    network.fixed = network.fixed | network.fixed_when_tuned
    network.train(network.training)
