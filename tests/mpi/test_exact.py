"""The number of ranks and threads cannot change a bit of a map or of statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from hpcseg import store
from mpi.launch import needs_mpirun, run, value

pytestmark = [pytest.mark.mpi, needs_mpirun]
CORE = 256


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_model):
    return make_model(tmp_path_factory.mktemp("models") / "tiny", down=[6, 8, 8], up=[8, 6])


@pytest.fixture(scope="module")
def odd_scene(tmp_path_factory, make_scene):
    pixels = np.kron(np.random.default_rng(3).integers(1, 256, (3, 112, 65)), np.ones((16, 16), int))[:, :1777, :1031]
    pixels[:, 700:1100] = 0
    return make_scene(tmp_path_factory.mktemp("scenes") / "odd.tif", 1777, 1031, pixels=pixels, nodata=0, block=256)


@pytest.fixture(scope="module")
def scenes(odd_scene, data):
    """A large real scene, a real one of odd size without tiles, a made one of odd size with no data: many share files."""
    return data / "buildings/kampala/z21_rgb_3072x2048.tif", data / "counting/ships/scene_1.png", odd_scene


@pytest.fixture
def words(scenes, model, tmp_path):
    """What maps the scenes into tmp_path / "maps"."""
    return words_of(scenes, model, tmp_path)


def words_of(scenes, model, folder):
    return "predict", *scenes, "--model", model, "--out", folder / "maps", "--core", CORE, "--confidence"


@pytest.fixture(scope="module")
def serial(tmp_path_factory, scenes, model, hpcseg):
    """The maps of one rank with one thread."""
    folder = tmp_path_factory.mktemp("alone")
    assert hpcseg(*words_of(scenes, model, folder), "--threads", "1")[0] == 0
    return folder / "maps"


def assert_same_maps(first: Path, second: Path) -> None:
    """All prediction files of two folders hold the same bits, tile tables included."""
    assert sorted(p.name for p in first.glob("*.h5")) == sorted(p.name for p in second.glob("*.h5"))
    for path in first.glob("*.h5"):
        one, two = store.read(path), store.read(second / path.name)
        assert one.identity == two.identity
        for plane in ("labels", "confidence"):
            assert np.array_equal(
                store.read_window(one, one.layout.grid.extent, plane), store.read_window(two, two.layout.grid.extent, plane)
            )
        assert np.array_equal(one.status, two.status)
        assert np.array_equal(one.crc, two.crc)


def test_the_maps_compared_here_are_not_trivial(serial):
    for path in serial.glob("*.h5"):
        stored = store.read(path)
        labels = store.read_window(stored, stored.layout.grid.extent)
        shares = np.bincount(labels.ravel(), minlength=256) / labels.size
        assert (shares[:3] > 0.01).sum() >= 2, path.name
        assert len(np.unique(store.read_window(stored, stored.layout.grid.extent, "confidence"))) > 20


def test_every_pixel_of_the_odd_scene_is_mapped_unless_it_has_no_data(serial):
    stored = store.read(serial / "odd.h5")
    labels = store.read_window(stored, stored.layout.grid.extent)
    assert labels.shape == (1777, 1031)
    assert (labels[700:1100] == 255).all()
    assert (labels[:700] < 3).all()
    assert (labels[1100:] < 3).all()


@pytest.mark.parametrize("ranks", [2, 3, 4, 7])
def test_maps_are_bitwise_equal_for_one_rank_and(ranks, serial, words, tmp_path):
    result = run(ranks, *words, "--threads", "1")
    done, _, planned = value(result, "tiles").partition(" of ")
    assert done == planned
    assert_same_maps(serial, tmp_path / "maps")


def test_maps_are_bitwise_equal_for_one_thread_and_two(serial, words, tmp_path, hpcseg):
    assert hpcseg(*words, "--threads", "2", "--readers", "2")[0] == 0
    assert_same_maps(serial, tmp_path / "maps")


@pytest.mark.parametrize("ranks", [0, 1])
def test_maps_are_bitwise_equal_without_a_launcher(ranks, serial, words, tmp_path):
    run(ranks, *words)
    assert_same_maps(serial, tmp_path / "maps")


def test_ranks_make_a_difference_to_who_maps_what(scenes, model, tmp_path):
    result = run(3, "predict", scenes[1], "--model", model, "--out", tmp_path / "maps", "--core", CORE)
    assert "rank" in (tmp_path / "maps" / "run.json").read_text()
    assert float(value(result, "imbalance")) < 1.1


def test_statistics_are_equal_to_the_last_digit_for_one_rank_and_three(scenes, data, tmp_path, hpcseg):
    rasters = [*scenes, *sorted((data / "water/garonne").glob("*.tif"))[:1]]
    options = "--threads", "1", "--above", "120.5", "--histogram", "50"
    files = [tmp_path / f"{n}.json" for n in (1, 3)]
    _, one, _ = hpcseg("stats", *rasters, *options, "--out", files[0])
    three = run(3, "stats", *rasters, *options, "--out", files[1])
    assert one.replace("1.json", "3.json") == three.stdout
    assert files[0].read_bytes() == files[1].read_bytes()
    assert one.count(" mean=") == 10 + 3, "a line for each band of each scene, then for each of all scenes"


@pytest.mark.long
def test_five_scenes_of_2000_are_equal_for_one_rank_and_three(make_scene, tmp_path):
    """The survey's chunk: five scenes of 2000 x 2000, mean before and after a threshold."""
    rasters = [make_scene(tmp_path / f"{k}.tif", 2000, 2000, 1, "uint8", seed=k) for k in range(5)]
    one, three = (run(n, "stats", *rasters, "--threads", "1", "--above", "200") for n in (1, 3))
    assert one.stdout == three.stdout
    values = np.stack([gdal.Open(str(path)).ReadAsArray() for path in rasters]).astype(np.float64)
    pooled = dict(pair.split("=") for pair in one.stdout.splitlines()[-1].split() if "=" in pair)
    assert int(pooled["count"]) == values.size
    assert float(pooled["mean"]) == pytest.approx(values.mean(), rel=1e-8)
    assert float(pooled["mean_rest_0"]) == pytest.approx(np.where(values > 200, values, 0).mean(), rel=1e-8)
    assert int(pooled["count_above"]) == (values > 200).sum()
