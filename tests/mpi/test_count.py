"""The number of ranks and the size of tiles cannot change what is counted: objects on borders, of which two ranks see a part."""

from __future__ import annotations

import csv
from itertools import product

import numpy as np
import pytest
from detectors import planted, write_detector

from mpi.launch import needs_mpirun, run

pytestmark = [pytest.mark.mpi, needs_mpirun]
# Of the tiles of maps, of their chunks, and of the search.
LINES = (0, 255, 256, 511, 1023, 1024)
PLANTED = [(r, c) for r, c in product((*LINES[::2], 1499), (*LINES[1::2], 2047, 2199))]
FILES = ("points.csv", "counts.csv", "large_density.tif", "small_density.tif")


@pytest.fixture(scope="module")
def scenes(make_scene, tmp_path_factory):
    """A scene with a point beside each corner of tiles, and a small one."""
    folder = tmp_path_factory.mktemp("scenes")
    place = {"transform": (5e5, 1.0, 0.0, 5e6, 0.0, -1.0), "block": 256}
    make_scene(folder / "large.tif", 1500, 2200, 1, pixels=planted(1500, 2200, PLANTED), **place)
    make_scene(folder / "small.tif", 300, 300, 1, pixels=planted(300, 300, [(0, 0), (255, 256), (299, 299)]), **place)
    return folder


@pytest.fixture(scope="module")
def count(scenes, tmp_path_factory, hpcseg):
    """count(ranks, core) gives the files' bytes by name and the points."""
    model = write_detector(tmp_path_factory.mktemp("model") / "spots", calibration=[0] * 200 + [900_001] * 55)

    def call(ranks, core):
        out = tmp_path_factory.mktemp("out")
        words = ("--core", core, "--threads", 1, "--precision", "fp32", "--density", 100, "--sheet", 0)
        words = ("count", scenes, "--model", model, "--out", out, *words)
        assert run(ranks, *words).returncode == 0 if ranks else hpcseg(*words)[0] == 0
        return {name: (out / name).read_bytes() for name in FILES}

    return call


@pytest.fixture(scope="module")
def serial(count):
    return count(0, 512)


def test_each_object_is_counted_once(serial):
    points = list(csv.DictReader(serial["points.csv"].decode().splitlines()))
    found = [(float(each["row"]) - 0.5, float(each["col"]) - 0.5) for each in points if each["scene"] == "large"]
    assert found == sorted(PLANTED)
    assert f"large,seal,{len(PLANTED)},{np.round(len(PLANTED) * 0.900001, 6):.6f}," in serial["counts.csv"].decode()


@pytest.mark.parametrize(
    ("ranks", "core"),
    [(3, 256), *(pytest.param(ranks, core, marks=pytest.mark.long) for ranks in (1, 2, 4, 7) for core in (256, 512))],
)
def test_ranks_and_tiles_change_no_byte(count, serial, ranks, core):
    assert count(ranks, core) == serial
