"""The number of ranks and the size of tiles cannot change what patches are counted, also where one crosses every tile."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from detectors import write_labeller
from whole import by_scipy, random_labels

from mpi.launch import needs_mpirun, run

pytestmark = [pytest.mark.mpi, pytest.mark.long, needs_mpirun]
FILES = ("points.csv", "counts.csv", "large_density.tif", "small_density.tif")
BRIGHT, GROUND = 250, 10


@pytest.fixture(scope="module")
def labels():
    """A patch along every tile's edges, and many of all sizes that touch it or not."""
    found = np.kron(random_labels(0, (150, 220), 2), np.ones((10, 10), np.uint8))
    found[::256] = found[:, ::256] = 1
    return found


@pytest.fixture(scope="module")
def scenes(make_scene, labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for name, each in (("large", labels), ("small", labels[:300, :300])):
        pixels = np.where(each == 255, 0, np.where(each == 1, BRIGHT, GROUND))
        make_scene(folder / f"{name}.tif", *each.shape, 1, pixels=pixels[None], nodata=0, block=256)
    return folder


@pytest.fixture(scope="module")
def count(scenes, tmp_path_factory, hpcseg):
    """count(ranks, core) gives the files' bytes by name; 0 ranks: in this process."""
    model = write_labeller(tmp_path_factory.mktemp("model") / "patches")

    def call(ranks, core):
        out = tmp_path_factory.mktemp("out")
        words = ("count", scenes, "--model", model, "--out", out, "--core", core, "--threads", 1, "--density", 1000, "--sheet", 0)
        words += ("--precision", "fp32")
        assert run(ranks, *words).returncode == 0 if ranks else hpcseg(*words)[0] == 0
        assert not list(out.glob(".*objects*")), "scratch files are left"
        return {name: (out / name).read_bytes() for name in FILES}

    return call


@pytest.fixture(scope="module")
def serial(count):
    return count(0, 512)


def test_patches_are_scipy_s(serial, labels):
    rows = [each for each in csv.DictReader(serial["points.csv"].decode().splitlines()) if each["scene"] == "large"]
    found = [[float(each[name]) for name in ("area_px", "row", "col")] for each in rows]
    np.testing.assert_allclose(found, by_scipy(labels, 8, 1)[:, :3], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("ranks", "core"), [(1, 256), (2, 512), (3, 256), (4, 512), (7, 256)])
def test_ranks_and_tiles_change_no_byte(count, serial, ranks, core):
    assert count(ranks, core) == serial
