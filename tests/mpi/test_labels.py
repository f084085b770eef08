"""The number of ranks and the size of tiles cannot change a bit of what teachers label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcseg import store
from mpi.launch import needs_mpirun, own_lines, run

pytestmark = [pytest.mark.mpi, needs_mpirun]
LAKES = "sea_ice/s2_melt_lakes/S2_22WEV_20190723_"
GREENLAND = "{data}/sea_ice/modis_greenland/ne-greenland.20220914.terra.250m."
PICTURE, LAND = GREENLAND + "truecolor.tiff", GREENLAND + "landmask.tiff:transparent"
TEACHERS = {
    "index": (("{data}/" + LAKES + "B02_blue.tif+{data}/" + LAKES + "B04_red.tif",), ("--median", "3", "--above", "0.25"), (192, 128)),
    "ice": ((PICTURE,), ("--mask", LAND, "--filtered"), (128, 96)),
    "ice published": ((PICTURE,), ("--mask", LAND, "--filter", "published", "--filtered"), (128, 96)),
    "water": (("{data}/water/garonne/after_VV.tif",), ("--scale", "db"), (256, 512)),
    "water flood": (
        ("{data}/water/garonne/after_VV.tif",),
        ("--before", "{data}/water/garonne/before_VV.tif", "--scale", "db", "--db-per-unit", "0.1", "--speckle", "lee"),
        (256, 512),
    ),
}
RANKS = [3, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 4, 7))]


def words_of(name: str, data: Path, out: Path, core: int) -> tuple:
    """What labels a teacher's scene."""
    scenes, options, _ = TEACHERS[name]
    words = [each.format(data=data) for each in (*scenes, *options)]
    return "label", name.split()[0], *words, "--out", out, "--core", core, "--threads", "1"


def planes(out: Path) -> dict[str, np.ndarray]:
    """All planes of the one scene in a folder, after every tile's CRC was found right."""
    (path,) = out.glob("*.h5")
    stored = store.read(path)
    assert store.check(stored, np.arange(stored.layout.grid.size)).all()
    return {name: store.read_window(stored, stored.layout.grid.extent, name) for name in stored.layout.planes}


def shares(text: str) -> list[str]:
    """What was said of the scenes."""
    return [line for line in text.splitlines() if " % (" in line]


@pytest.fixture(scope="module", params=TEACHERS)
def serial(request, tmp_path_factory, data, hpcseg):
    """Name of a teacher, and what it makes of its scene on one rank."""
    out = tmp_path_factory.mktemp("labels") / "out"
    _, text, _ = hpcseg(*words_of(request.param, data, out, TEACHERS[request.param][2][0]))
    found = planes(out)
    assert len(np.unique(found["labels"])) >= 2
    return request.param, found, shares(text)


@pytest.mark.parametrize("ranks", RANKS)
def test_labels_are_bitwise_equal_for_one_rank_and(ranks, serial, data, tmp_path):
    name, wanted, said = serial
    result = run(ranks, *words_of(name, data, tmp_path / "out", TEACHERS[name][2][0]))
    found = planes(tmp_path / "out")
    assert found.keys() == wanted.keys()
    for plane, pixels in found.items():
        np.testing.assert_array_equal(pixels, wanted[plane])
    assert shares(result.stdout) == said


def test_labels_are_bitwise_equal_for_two_sizes_of_tiles(serial, data, tmp_path, hpcseg):
    name, wanted, said = serial
    _, text, _ = hpcseg(*words_of(name, data, tmp_path / "out", TEACHERS[name][2][1]))
    for plane, pixels in planes(tmp_path / "out").items():
        np.testing.assert_array_equal(pixels, wanted[plane])
    assert shares(text) == said


def test_wrong_use_is_one_line_from_one_rank(data, tmp_path):
    scene = (data / "water/garonne/after_VV.tif", "--scale", "db", "--out", tmp_path)
    result = run(3, "label", "water", *scene, "--core", "100", code=2)
    assert own_lines(result) == ["hpcseg: --core 100 is no multiple of 256, the cells of label water"]
