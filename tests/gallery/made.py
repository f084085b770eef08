"""Galleries made for tests: small cells, narrow networks with random weights, centroids that are codes of the scene's own cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.torch import save_file

from hpcseg.config import Normalisation, encode_toml
from hpcseg.gallery.embed import Encoder, code_of, digest_of, make_hasher
from hpcseg.gallery.spec import ENCODER, GALLERY, HASH, MODELS, MONO, Bucket, BucketModel, GallerySpec, ModelsSpec
from hpcseg.models import load_model
from hpcseg.raster import read_array
from hpcseg.tiles import Window

CELL, BITS = 64, 24
SCENE = Normalisation(kind="scene")


def patchwork(rows: int, cols: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Pixels u8 (3, height, width): each of rows x cols squares of CELL px has one of three textures."""
    rng = np.random.default_rng(seed)
    kinds = np.kron(rng.integers(0, 3, (rows, cols)), np.ones((CELL, CELL), int))[:height, :width]
    stripes = np.indices((height, width)).sum(0) % 16 < 8
    looks = np.stack([np.full((height, width), 60), 90 + 120 * stripes, 200 + 0 * stripes])
    chosen = np.take_along_axis(looks, kinds[None], 0)
    return np.clip(chosen + rng.integers(-40, 40, (3, height, width)), 1, 255).astype(np.uint8)


def write_gallery(folder: Path, make_model: Callable[..., Path], scene: Path, buckets: int = 3, max_distance: int = BITS) -> Path:
    """An image gallery without cells; its centroids are codes of the scene's whole cells that are far from each other."""
    make_model(folder / ENCODER, spec={"normalisation": SCENE}, seed=11)
    model = load_model(str(folder / ENCODER))
    seen = _features(Encoder(model, CELL), scene)
    torch.manual_seed(5)
    hasher = make_hasher(seen.shape[1], 16, BITS)
    with torch.no_grad():
        # Each bit is 1 for half of the cells: random weights alone give many the same code.
        hasher[2].bias -= hasher(seen).median(0).values
    save_file(hasher.state_dict(), folder / HASH)

    def write(codes: list[int]) -> None:
        spec = GallerySpec(
            bands=3, cell=CELL, bits=BITS, max_distance=max_distance, digest="",
            buckets=[Bucket(code=f"{int(code):016x}", tiles=1) for code in codes],
        )  # fmt: skip
        spec = msgspec.structs.replace(spec, digest=digest_of(spec, model.digest, folder / HASH))
        (folder / GALLERY).write_bytes(encode_toml(spec))

    write(_spread([int(code_of(hasher, each.numpy())) for each in seen], buckets))
    return folder


def _features(encoder: Encoder, scene: Path) -> torch.Tensor:
    """Of the first 4 x 4 cells of a scene."""
    pixels = read_array(scene, Window(0, 0, 4 * CELL, 4 * CELL)).astype(np.float32).transpose(1, 2, 0)
    low, high = np.percentile(pixels, (2, 98), (0, 1))
    values = ((pixels - low) / (high - low)).astype(np.float32).reshape(4 * CELL, -1)
    cells = [values[CELL * r : CELL * (r + 1), 3 * CELL * c : 3 * CELL * (c + 1)] for r in range(4) for c in range(4)]
    return torch.tensor(np.stack([encoder.features(encoder.shrink(cell)) for cell in cells]))


def _spread(codes: list[int], count: int) -> list[int]:
    chosen = [codes[0]]
    while len(chosen) < count:
        chosen.append(max(codes, key=lambda code: min((code ^ each).bit_count() for each in chosen)))
    assert len(set(chosen)) == count
    return chosen


def write_models(
    gallery: Path, make_model: Callable[..., Path], name: str = "roofs", fallback: tuple[int, ...] = (), classes: int = 3
) -> Path:
    """A model gallery of narrow networks, each with weights of its own. fallback: buckets that the mono model maps."""
    folder, said = gallery / name, msgspec.toml.decode((gallery / GALLERY).read_bytes(), type=GallerySpec)
    keys = {"classes": classes, "spec": {"normalisation": SCENE}}
    make_model(folder / MONO, seed=52, **keys)
    models = []
    for number, bucket in enumerate(said.buckets):
        own = MONO if number in fallback else f"bucket_{number}"
        if own != MONO:
            make_model(folder / own, seed=number, **keys)
        models.append(BucketModel(bucket=number, code=bucket.code, folder=own, samples=1))
    record = ModelsSpec(gallery="..", digest=said.digest, mono=MONO, halo=0, models=models)
    (folder / MODELS).write_bytes(encode_toml(record))
    return folder
