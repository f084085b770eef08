"""A cell's code: deep features by the encoder, their signs through the hashing network, and the bucket whose centroid is nearest.

All in float32, one cell at a time, each operation by one thread: the same bits wherever a cell is computed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hpcseg.errors import UsageError
from hpcseg.gallery.codes import pack_signs
from hpcseg.gallery.spec import ENCODER, GALLERY, HASH, MONO_BUCKET, GallerySpec, read_gallery
from hpcseg.kernels.codes import nearest
from hpcseg.kernels.prepare import reflect
from hpcseg.models import Model, load_model
from hpcseg.models.optimise import for_inference
from hpcseg.models.segnet import SegNet

_CPU = torch.device("cpu")


def encode(network: nn.Module, x: Tensor) -> Tensor:
    """The deepest level of a network's encoder, (n, channels, h, w), of input (n, bands, H, W)."""
    encoder = network.get_submodule("encoder")
    if isinstance(encoder, nn.ModuleList):
        pool = network.get_submodule("pool")
        for level, block in enumerate(encoder):
            x = block(pool(x) if level else x)
        return x
    found = encoder(x)
    return found if isinstance(found, Tensor) else found[-1]


def pool_features(deep: Tensor) -> Tensor:
    """Features (n, channels) of a deepest level: the mean of each channel over all positions, together of length 1, as the encoder was
    taught to compare them."""
    return nn.functional.normalize(deep.mean((2, 3)), dim=1)


def make_hasher(features: int, hidden: int, bits: int) -> nn.Sequential:
    """The hashing network: a code's bit is 1 where its output is above 0."""
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, bits))


class Encoder:
    """Deep features of cells. cell, bands, reduce: as in GallerySpec. where: the device.

    Raises UsageError for a network that has no encoder that works alone, or a cell that it cannot take.
    """

    def __init__(self, model: Model, cell: int, reduce: int = 1, where: torch.device = _CPU) -> None:
        if model.found is not None or isinstance(model.network, SegNet) or not hasattr(model.network, "encoder"):
            raise UsageError(f"model {model.name}: network {model.spec.network} has no encoder to take features from; unet-light has")
        if cell % (reduce * model.stride):
            raise UsageError(
                f"a cell of {cell} pixels, reduced {reduce} times: wanted a multiple of {reduce * model.stride}, for the stride"
                f" {model.stride} of {model.spec.network}"
            )
        self.cell, self.bands, self.reduce, self._where = cell, model.spec.bands, reduce, where
        network = for_inference(model, where, "fp32")
        assert isinstance(network, nn.Module)
        self._network = network

    def shrink(self, window: np.ndarray, inside: tuple[int, int] | None = None) -> Tensor:
        """What the encoder sees of a cell: (1, bands, cell / reduce, cell / reduce), channels-last.

        window: float32 (cell, cell * bands), normalised, interleaved by pixel. inside: (height, width) of the part that lies in the
        scene, None = all; what lies beyond is not looked at, but filled by reflection.
        """
        own = np.array(window, np.float32, order="C")
        if inside is not None and inside != (self.cell, self.cell):
            reflect(own, self.bands, 0, inside[0], 0, inside[1], self.cell)
        pixels = torch.from_numpy(own).view(1, self.cell, self.cell, self.bands).permute(0, 3, 1, 2)
        return nn.functional.avg_pool2d(pixels, self.reduce) if self.reduce > 1 else pixels

    @torch.inference_mode()
    def features(self, small: Tensor) -> np.ndarray:
        """Features, float32 (d,), of what `shrink` gave. The thread's torch is set to one thread: see device.settle_threads."""
        seen = small.to(self._where).contiguous(memory_format=torch.channels_last)
        return pool_features(encode(self._network, seen))[0].cpu().numpy()


class Embedder:
    """The encoder, the hashing network and the centroids of a gallery. Safe for several threads. Raises UsageError."""

    def __init__(self, folder: Path, where: torch.device = _CPU) -> None:
        self.spec = read_gallery(folder)
        model = load_model(str(folder / ENCODER))
        if model.spec.bands != self.spec.bands or digest_of(self.spec, model.digest, folder / HASH) != self.spec.digest:
            raise UsageError(f"{folder}: its encoder or {HASH} is not the one that {GALLERY} was made with; build the gallery anew")
        self.encoder = Encoder(model, self.spec.cell, self.spec.reduce, where)
        self._hasher = load_hasher(folder / HASH, self.spec.bits)
        self._centroids = self.spec.centroids

    def features(self, window: np.ndarray, inside: tuple[int, int] | None = None) -> np.ndarray:
        """Deep features of a cell, float32 (d,). window, inside: see Encoder.shrink."""
        return self.encoder.features(self.encoder.shrink(window, inside))

    def code(self, features: np.ndarray) -> np.uint64:
        """The code of features (d,)."""
        return code_of(self._hasher, features)

    def buckets(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bucket and distance of codes, uint64 (n,), to the nearest centroid, uint8 (n,) each; ties go to the lower number, what lies
        beyond the gallery's max_distance is in MONO_BUCKET."""
        found, distance = nearest(np.ascontiguousarray(codes, np.uint64), self._centroids)
        found[distance > self.spec.max_distance] = MONO_BUCKET
        return found, distance

    def bucket(self, code: np.uint64) -> tuple[int, int]:
        """Bucket and distance of one code."""
        found, distance = self.buckets(np.array([code], np.uint64))
        return int(found[0]), int(distance[0])

    def look(self, window: np.ndarray, inside: tuple[int, int] | None = None) -> tuple[np.uint64, int, int]:
        """Code, bucket and distance of a cell. window, inside: see Encoder.shrink."""
        code = self.code(self.features(window, inside))
        return code, *self.bucket(code)


@torch.inference_mode()
def code_of(hasher: nn.Module, features: np.ndarray) -> np.uint64:
    """The code that a hashing network gives features (d,): bit k is 1 where output k is above 0."""
    # A tensor of torch's own is aligned: what its libraries add up does not hang on where NumPy put the features.
    return pack_signs(hasher(torch.tensor(features)[None]).numpy() > 0)[0]


def load_hasher(path: Path, bits: int) -> nn.Sequential:
    """The hashing network of a file. Raises UsageError."""
    try:
        weights = load_file(path)
        hidden, features = weights["0.weight"].shape
        hasher = make_hasher(features, hidden, bits)
        hasher.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path}: no hashing network of {bits} bits: {' '.join(str(error).split())[:200]}") from error
    return hasher.eval()


def digest_of(spec: GallerySpec, encoder: str, hasher: Path) -> str:
    """What names a gallery: SHA-256 over its spec, its encoder's digest and its hashing network. Raises UsageError."""
    said = {**msgspec.to_builtins(spec), "digest": encoder}
    try:
        return hashlib.sha256(msgspec.json.encode(said, order="sorted") + hasher.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UsageError(f"{hasher}: {error.strerror}") from error
