"""A gallery's map, its buckets and its search rows are the same for any number of ranks and either core."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from gallery.made import CELL, patchwork, write_gallery, write_models
from mpi.launch import needs_mpirun, run, value

from hpcseg import store
from hpcseg.gallery.predict import open_gallery_route
from hpcseg.inference.options import Options
from hpcseg.inference.predict import predict

pytestmark = [pytest.mark.mpi, pytest.mark.long, needs_mpirun]


@pytest.fixture(scope="module")
def folder(make_model, make_scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    for k, (height, width) in enumerate([(500, 650), (130, 100)]):
        scene = make_scene(folder / f"{k}.tif", height, width, pixels=patchwork(8, 11, height, width, seed=k), nodata=0)
        if not k:
            write_models(write_gallery(folder / "g", make_model, scene), make_model)
    return folder


@pytest.fixture(scope="module")
def serial(folder, alone):
    """Both maps by one rank."""
    options = Options(
        (str(folder / "0.tif"), str(folder / "1.tif")), str(folder / "g/roofs"), folder / "serial", core=CELL, precision="fp32"
    )
    predict(alone, options, threading.Event(), open_gallery_route)
    return [store.read(folder / f"serial/{k}.h5") for k in range(2)]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_maps_and_buckets_are_bitwise_equal_for_one_rank_and(ranks, folder, serial, tmp_path):
    scenes = folder / "0.tif", folder / "1.tif"
    words = "--model", folder / "g/roofs", "--out", tmp_path, "--core", 2 * CELL, "--precision", "fp32", "--threads", 1
    result = run(ranks, "predict", *scenes, *words)
    assert int(value(result, "cells")) == sum(int((each.buckets < 254).sum()) for each in serial)
    for one in serial:
        other = store.read(tmp_path / one.path.name)
        assert store.check(other, np.arange(other.layout.grid.size)).all()
        np.testing.assert_array_equal(one.buckets, other.buckets)
        np.testing.assert_array_equal(*(store.read_window(each, each.layout.grid.extent) for each in (one, other)))
