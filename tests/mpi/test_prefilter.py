"""The number of ranks and the size of tiles cannot change what a network sees through a filter."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal

from hpcseg import store
from hpcseg.synthetic import ice
from mpi.launch import needs_mpirun, run

pytestmark = [pytest.mark.mpi, needs_mpirun]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_scene):
    """A folder with a scene under cloud, larger than what one rank counts at once, with no data across it."""
    folder = tmp_path_factory.mktemp("prefilter")
    ice(folder / "synth", 1, 1300, 1100, seed=3, clouds=0.3, scale=0.1)
    pixels = gdal.Open(str(folder / "synth/ice_000.tif")).ReadAsArray()
    pixels[:, 600:640, :900] = 0
    make_scene(folder / "a.tif", 1300, 1100, pixels=pixels, nodata=0, block=256)
    return folder


def planes(out):
    """All planes of the scene's file, and the fit of its filter."""
    stored = store.read(out / "a.h5")
    assert store.check(stored, np.arange(stored.layout.grid.size)).all()
    found = [store.read_window(stored, stored.layout.grid.extent, name) for name in stored.layout.planes]
    return np.stack(found), stored.identity["prefilter"]["fit"]


@pytest.mark.parametrize("name", ["ice", pytest.param("ice-published", marks=pytest.mark.long)])
def test_maps_through_a_filter_are_bitwise_equal(name, folder, make_model, tmp_path, hpcseg):
    model = make_model(tmp_path / "m", spec={"prefilter": name}, down=[6, 8], up=[6])
    found = []
    words = ("predict", folder / "a.tif", "--model", model, "--threads", "1", "--precision", "fp32", "--confidence")
    for core in (256, 128):
        hpcseg(*words, "--core", core, "--out", tmp_path / f"{core}")
        found.append(planes(tmp_path / f"{core}"))
    run(3, *words, "--core", 128, "--out", tmp_path / "ranks")
    found.append(planes(tmp_path / "ranks"))
    for pixels, fit in found[1:]:
        assert fit == found[0][1]
        np.testing.assert_array_equal(pixels, found[0][0])
    assert len(np.unique(found[0][0])) > 20


def test_filtered_pictures_are_the_same_files(folder, tmp_path, hpcseg):
    words = ("label", "ice", folder / "a.tif", "--filtered")
    hpcseg(*words, "--out", tmp_path / "1", "--core", 512)
    run(3, *words, "--out", tmp_path / "3", "--core", 256)
    first, second = (tmp_path / f"{ranks}/filtered/a.tif" for ranks in (1, 3))
    assert first.read_bytes() == second.read_bytes()
