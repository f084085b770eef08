"""Times mapping with a gallery of six against one network: see bench_gallery.sh."""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from osgeo import gdal
from safetensors.torch import save_file

from hpcseg import device, mpi, store
from hpcseg.config import Normalisation, encode_toml, read_model
from hpcseg.gallery.embed import Embedder, Encoder, code_of, digest_of, make_hasher
from hpcseg.gallery.members import open_gallery
from hpcseg.gallery.networks import need_of
from hpcseg.gallery.predict import open_gallery_route
from hpcseg.gallery.spec import ENCODER, GALLERY, HASH, MODELS, MONO, Bucket, BucketModel, GallerySpec, ModelsSpec
from hpcseg.inference.options import Options
from hpcseg.inference.predict import predict
from hpcseg.inference.route import open_route
from hpcseg.mapping.report import Summary
from hpcseg.models import find_model, load_model
from hpcseg.mpi import Comm

CELL, KINDS, REDUCE, BITS, REGION = 512, 6, 4, 64, 3
NORM = Normalisation(kind="scene")
# Regions take turns: three of them down and across have all kinds, and a cell of the last is enough.
LEAST = (2 * REGION + 1) * CELL


def texture(kind: int) -> np.ndarray:
    """A cell of a kind, u8 (3, CELL, CELL): its own colour and grain."""
    rng = np.random.default_rng(kind)
    grain = 2 ** (kind + 1)
    coarse = rng.integers(0, 60, (3, CELL // grain, CELL // grain)).repeat(grain, 1).repeat(grain, 2)
    # Colours that differ: one or two of three bands are bright.
    bright = np.array([(kind + 1) >> band & 1 for band in range(3)])
    look = 20 + 140 * bright[:, None, None] + coarse
    # Black and white specks in all kinds: a scene's percentiles do not hang on how many cells of a kind it has.
    speck = rng.random((CELL, CELL))
    return np.where(speck < 0.04, 1, np.where(speck > 0.96, 250, look)).astype(np.uint8)


def draw(path: Path, size: int, region: int) -> None:
    """A scene whose squares of `region` cells have one kind each, all neighbours different ones."""
    options = ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "COMPRESS=DEFLATE", "ZLEVEL=1", "INTERLEAVE=PIXEL"]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), size, size, 3, gdal.GDT_Byte, options)
    dataset.SetGeoTransform((500000.0, 10.0, 0.0, 8000000.0, 0.0, -10.0))
    looks = [texture(kind) for kind in range(KINDS)]
    for row in range(size // CELL):
        for col in range(size // CELL):
            kind = (row // region + 2 * (row // region // 2) + 2 * (col // region)) % KINDS
            dataset.WriteArray(looks[kind], col * CELL, row * CELL)


def write_model(folder: Path, seed: int) -> None:
    """The shipped sea-ice network with weights of its own and the gallery's normalisation."""
    folder.mkdir(parents=True, exist_ok=True)
    network = load_model("sea-ice").network
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in network.parameters():
            each.mul_(1 + 0.01 * torch.randn(each.shape, generator=generator))
    save_file(network.state_dict(), folder / "weights.safetensors")
    spec = msgspec.structs.replace(read_model(find_model("sea-ice") / "model.toml"), normalisation=NORM, prefilter="")
    (folder / "model.toml").write_bytes(encode_toml(spec))


def build(folder: Path, scene: Path) -> Path:
    """A gallery of six whose centroids are the codes of the six textures as they look in a scene; returns its networks' folder."""
    write_model(folder / ENCODER, 0)
    model, looks = load_model(str(folder / ENCODER)), cells_of(scene)
    encoder = Encoder(model, CELL, REDUCE)
    seen = torch.tensor(np.stack([encoder.features(encoder.shrink(look)) for look in looks]))
    torch.manual_seed(0)
    hasher = make_hasher(seen.shape[1], 64, BITS)
    with torch.no_grad():
        # Bits that half of the textures have, so that codes differ.
        hasher[2].bias -= hasher(seen).median(0).values
    save_file(hasher.state_dict(), folder / HASH)

    def write(codes: list[int]) -> GallerySpec:
        spec = GallerySpec(bands=3, cell=CELL, bits=BITS, reduce=REDUCE, max_distance=BITS, digest="", normalisation=NORM,
                           buckets=[Bucket(code=f"{code:016x}", tiles=1) for code in codes])  # fmt: skip
        spec = msgspec.structs.replace(spec, digest=digest_of(spec, model.digest, folder / HASH))
        (folder / GALLERY).write_bytes(encode_toml(spec))
        return spec

    spec = write([int(code_of(hasher, each.numpy())) for each in seen])
    for seed, name in enumerate([MONO, *(f"bucket_{k}" for k in range(KINDS))]):
        write_model(folder / "app" / name, seed)
    models = [BucketModel(bucket=k, code=each.code, folder=f"bucket_{k}", samples=1) for k, each in enumerate(spec.buckets)]
    (folder / "app" / MODELS).write_bytes(encode_toml(ModelsSpec(gallery="..", digest=spec.digest, mono=MONO, halo=0, models=models)))
    return folder / "app"


def cells_of(scene: Path) -> list[np.ndarray]:
    """The textures, float32 (CELL, CELL * 3), normalised as a network gets them."""
    pixels = gdal.Open(str(scene)).ReadAsArray()
    low, high = np.percentile(pixels, (2, 98), (1, 2))
    looks = [texture(kind).transpose(1, 2, 0) for kind in range(KINDS)]
    return [((look - low) / (high - low)).astype(np.float32).reshape(CELL, -1) for look in looks]


def timed(work: Callable[[], Summary | None]) -> tuple[float, float, Summary | None]:
    """Seconds of the clock and of the processor, all threads, and what came of it."""
    start, before = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - start, time.process_time() - before, result


def measure(comm: Comm, folder: Path, size: int, repeat: int) -> dict[str, float]:
    """Medians of all rounds."""
    scenes = {"regions": REGION, "mixed": 1}
    for name, region in scenes.items():
        if not (folder / f"{name}_{size}.tif").exists():
            draw(folder / f"{name}_{size}.tif", size, region)
    networks = build(folder / "gallery", folder / f"regions_{size}.tif")
    members = open_gallery(networks).members
    small = -(-need_of(members) // 1_000_000)
    embedder, looks = Embedder(folder / "gallery"), cells_of(folder / f"regions_{size}.tif")

    def run(name: str, model: Path, memory: int = 2000) -> Summary | None:
        precision = "bf16" if device.has_bfloat16() else "fp32"
        options = Options((str(folder / f"{name}_{size}.tif"),), str(model), folder / "maps" / model.name, precision=precision,
                          overwrite=True, gallery_memory=memory)  # fmt: skip
        return predict(comm, options, threading.Event(), open_route if model.name == MONO else open_gallery_route)

    def embed() -> None:
        device.settle_threads()
        for k in range((size // CELL) ** 2):
            embedder.look(looks[k % KINDS])

    run("regions", networks), run("regions", networks / MONO)
    rounds = []
    for _ in range(repeat):
        found: dict[str, float] = {}
        for key, work in {
            "mono": lambda: run("regions", networks / MONO), "regions": lambda: run("regions", networks),
            "mixed": lambda: run("mixed", networks), "small": lambda: run("regions", networks, small), "features": embed,
        }.items():  # fmt: skip
            found[key], found[f"{key}_cpu"], summary = timed(work)
            if summary is not None and summary.ranks[0].networks:
                found |= {f"{key}_{name}": value for name, value in summary.ranks[0].networks.items()}
                found[f"{key}_memory_mb"] = summary.ranks[0].peak_memory_mb
        for name in ("regions", "mixed", "small"):
            for clock in ("", "_cpu"):
                found[f"{name}_over_mono{clock}"] = (found[f"{name}{clock}"] - found[f"features{clock}"]) / found[f"mono{clock}"]
        rounds.append(found)
        for name in scenes:
            buckets = store.read(folder / "maps" / "app" / f"{name}_{size}.h5").buckets
            assert len(np.unique(buckets)) == KINDS, f"{name} has the buckets {np.unique(buckets)}"
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]} | {"small_budget_mb": small}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=6144)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path("out/bench/gallery"))
    arguments = parser.parse_args()
    if arguments.size < LEAST:
        parser.exit(2, f"bench_gallery: --size {arguments.size}: wanted at least {LEAST}, so that a scene has all {KINDS} textures\n")
    os.environ["HPCSEG_THREADS"] = "1"
    comm = mpi.start()
    arguments.dir.mkdir(parents=True, exist_ok=True)
    for key, value in measure(comm, arguments.dir, arguments.size, arguments.repeat).items():
        print(f"{key}={value:.3f}")
    mpi.finish(comm, 0)


if __name__ == "__main__":
    main()
