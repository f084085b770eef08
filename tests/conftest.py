"""What all tests share: where the real data lies, small models and small scenes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from osgeo import gdal, gdal_array, osr
from safetensors.torch import save_file
from short_suite import LATER
from torch import nn

from hpcseg.cli import execute
from hpcseg.config import Class, ModelSpec, Normalisation, encode_toml
from hpcseg.environment import set_environment
from hpcseg.models import build
from hpcseg.mpi import MPI, Comm, self_comm

settings.register_profile("hpcseg", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("hpcseg")
# As a rank of one thread has it: what is compiled here serves the jobs that tests start, and cores are few.
set_environment(1)
torch.set_num_threads(1)

NORTH_UP = (500000.0, 10.0, 0.0, 5000000.0, 0.0, -10.0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HPCSEG_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent (set HPCSEG_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def alone() -> Iterator[Comm]:
    """A communicator of this process alone, with MPI started."""
    if MPI.Is_initialized():
        yield self_comm()
        return
    MPI.Init_thread(MPI.THREAD_MULTIPLE)
    yield self_comm()
    MPI.Finalize()


@pytest.fixture(scope="session")
def hpcseg(alone: Comm) -> Callable[..., tuple[int, str, str]]:
    """hpcseg(command, words..., first=True) runs a command in this process; gives its code, standard output and standard error."""

    def run(name: str, *words: object, first: bool = True) -> tuple[int, str, str]:
        command = import_module(f"hpcseg.cli.{name}").command
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as error:
            code = execute(command, [str(word) for word in words], alone, first)
        return code, out.getvalue(), error.getvalue()

    return run


def initialise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give a network weights that carry signal to every logit, and batch norms that are not the identity."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(size: torch.Size, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(size, generator=generator)

    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, generator=generator)
                if layer.bias is not None:
                    layer.bias.copy_(uniform(layer.bias.shape, -0.1, 0.1))
            elif isinstance(layer, nn.BatchNorm2d):
                layer.weight.copy_(uniform(layer.weight.shape, 0.7, 1.3))
                layer.bias.copy_(uniform(layer.bias.shape, -0.1, 0.1))
                layer.running_mean.copy_(uniform(layer.running_mean.shape, -0.2, 0.2))
                layer.running_var.copy_(uniform(layer.running_var.shape, 0.7, 1.3))
    return network.eval()


@pytest.fixture(scope="session")
def initialised() -> Callable[..., nn.Module]:
    """initialised(network, seed=0) gives a network such weights and returns it in evaluation mode."""
    return initialise


def legend(classes: int) -> list[Class]:
    return [Class(name=f"class {k}", color=f"#{40 * k % 256:02x}80{255 - 30 * k % 256:02x}") for k in range(classes)]


def write_model(
    path: Path, bands: int = 3, classes: int = 3, network: str = "unet-light", *, spec: dict[str, Any] | None = None,
    seed: int = 0, **options: Any,
) -> Path:  # fmt: skip
    """Write a model folder with untrained weights; returns it.

    options: of the network. spec: further keys of model.toml. seed: of the weights.
    """
    options = {"down": [8, 16, 16], "up": [16, 8], **options}
    norm = Normalisation(mean=[120.0] * bands, std=[60.0] * bands)
    keys = {"network": network, "bands": bands, "classes": legend(classes), "options": options, "normalisation": norm}
    record = ModelSpec(**(keys | (spec or {})))
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.toml").write_bytes(encode_toml(record))
    weights = initialise(build(network, bands, classes, options, record.task), seed).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, path / "weights.safetensors")
    return path


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """make_model(path, bands=3, classes=3, network="unet-light", **options) writes a small model folder and returns it."""
    return write_model


def texture(bands: int, height: int, width: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Pixels (bands, height, width) with coarse and fine structure: whole numbers from 1 to 248, which every type holds."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, 180, (bands, -(-height // 16), -(-width // 16)))
    fine = rng.integers(0, 70, (bands, height, width))
    return (np.kron(coarse, np.ones((16, 16), int))[:, :height, :width] + fine).astype(dtype)


def write_scene(
    path: Path, height: int, width: int, bands: int = 3, dtype: str = "uint8", *, pixels: np.ndarray | None = None,
    nodata: float | None = None, block: int = 0, compress: str = "NONE", transform: tuple[float, ...] | None = NORTH_UP,
    epsg: int | None = 32633, seed: int = 0,
) -> Path:  # fmt: skip
    """Write a GeoTIFF; returns its path.

    pixels: (bands, height, width), default a texture of that seed. block: edge of square blocks, 0 = strips.
    transform, epsg: None = without.
    """
    layout = ["TILED=YES", f"BLOCKXSIZE={block}", f"BLOCKYSIZE={block}"] if block else []
    pixels = texture(bands, height, width, dtype, seed) if pixels is None else pixels
    code = gdal_array.NumericTypeCodeToGDALTypeCode(np.dtype(dtype))
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), width, height, bands, code, [*layout, f"COMPRESS={compress}"])
    if transform is not None:
        dataset.SetGeoTransform(transform)
    if epsg is not None:
        system = osr.SpatialReference()
        system.ImportFromEPSG(epsg)
        dataset.SetSpatialRef(system)
    for k in range(bands):
        band = dataset.GetRasterBand(k + 1)
        if nodata is not None:
            band.SetNoDataValue(nodata)
        band.WriteArray(pixels[k].astype(dtype))
    dataset.FlushCache()
    return path


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Path]:
    """make_scene(path, height, width, bands=3, dtype="uint8", ...) writes a GeoTIFF and returns its path."""
    return write_scene


def pytest_ignore_collect(collection_path, config):
    """Leave unread what has no tests marked alone, where only those are wanted: reading them all takes seconds."""
    asked = config.option.markexpr.startswith("alone") and collection_path.suffix == ".py"
    return True if asked and "mark.alone" not in collection_path.read_text() else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark as long what the short suite leaves out; begin with kernels, which are compiled once for all, and with jobs of many ranks."""
    for item in items:
        if item.name in LATER:
            item.add_marker(pytest.mark.long)
    jobs = {item.path for item in items if "mpi" in item.keywords}
    items.sort(key=lambda item: 0 if "kernels" in item.path.parts else 1 if item.path in jobs else 2)
