"""A teacher's run: resumed, stopped, refused as a network's is; its scratch planes come and go."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from hpcseg import store
from hpcseg.config import Class
from hpcseg.errors import StoppedError, UsageError
from hpcseg.labels.run import LabelOptions, label
from hpcseg.labels.teacher import Teacher
from hpcseg.raster import Values


class Sum:
    def __init__(self, value=0, count=0):
        self.value, self.count = value, count

    def merge(self, other):
        return Sum(self.value + other.value, self.count + other.count)


class Keep:
    """Writes 3 v + 1 of its one band to the scratch plane, and sums v up."""

    halo, reads_scene, scratch, reads_scratch = 4, True, "uint16", False

    def start(self):
        return Sum()

    def run(self, view, fit, total):
        values, valid = view.values[view.core.slices], view.valid[view.core.slices] != 0
        total.value += int(values[valid].astype(np.int64).sum())
        total.count += int(valid.sum())
        view.planes[0][...] = 3 * values.astype(np.uint16) + 1

    def fit(self, total, fit):
        return {"mean": total.value / max(1, total.count), "px": total.count}


class Cut:
    """1 where the scratch plane says that a pixel is above the scene's mean; the second plane tells odd values."""

    halo, reads_scene, scratch, reads_scratch = 2, True, "", True

    def start(self):
        return None

    def run(self, view, fit, total):
        assert view.inside.intersect(view.core) == view.core
        valid = view.valid[view.core.slices] != 0
        values = (view.scratch - 1) // 3
        assert (values == view.values[view.core.slices])[valid].all()
        view.planes[0][...] = np.where(valid, values > fit["mean"], 255)
        view.planes[1][...] = np.where(valid, values % 2, 255)

    def fit(self, total, fit):
        return fit


def teacher(**parameters):
    classes = (Class(name="dark", color="#000000"), Class(name="bright", color="#ffffff"))
    return Teacher("mean", parameters, classes, 1, "uint8", (Keep(), Cut()), lambda entry, scene: (scene, Values((1.0,), (0.0,))),
                   planes=("labels", "mask"))  # fmt: skip


@pytest.fixture
def scene(tmp_path, make_scene):
    pixels = np.random.default_rng(0).integers(1, 251, (1, 300, 200))
    pixels[0, 64:128] = 0
    return make_scene(tmp_path / "a.tif", 300, 200, 1, pixels=pixels, nodata=0), pixels[0]


def check(plane, pixels):
    ok = pixels > 0
    np.testing.assert_array_equal(plane("a"), np.where(ok, pixels > pixels[ok].mean(), 255))
    np.testing.assert_array_equal(plane("a", "mask"), np.where(ok, pixels % 2, 255))


def test_a_reduce_with_a_scratch_plane_then_a_map(run, plane, scene, tmp_path):
    path, pixels = scene
    summary = run(teacher(), path, core=64)
    check(plane, pixels)
    shares = summary.shares["a"]
    assert (shares.mask.px, shares.px) == ((pixels % 2).sum(), (pixels > 0).sum())
    assert summary.fits["a"] == {"mean": pixels[pixels > 0].mean(), "px": shares.px}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.h5", "run.json"]
    assert (summary.planned_tiles, summary.ranks[0].tiles, summary.ranks[0].empty) == (20, 20, 4)


def test_a_part_of_the_scenes_is_labelled_alone(run, plane, scene, tmp_path):
    path, pixels = scene
    (tmp_path / "b.tif").write_bytes(Path(path).read_bytes())
    summary = run(teacher(), tmp_path / "b.tif", path, core=64, part=(2, 2))
    check(plane, pixels)
    assert summary.scenes == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.h5", "run.2of2.json"]


def test_a_complete_map_is_not_read_again(run, plane, scene, monkeypatch):
    path, _ = scene
    first = run(teacher(), path, core=64)
    monkeypatch.setattr(Keep, "run", None)
    monkeypatch.setattr(Cut, "run", None)
    again = run(teacher(), path, core=64, threads=2)
    assert (again.planned_tiles, again.exit_code) == (0, 0)
    assert again.shares == first.shares
    assert again.fits == first.fits


def test_a_resumed_map_keeps_its_tiles_and_gets_the_same_bits(run, plane, scene, alone, tmp_path):
    path, pixels = scene
    run(teacher(), path, core=64)
    stored = store.read(tmp_path / "out" / "a.h5")
    file = store.Prediction(stored.path, stored.layout, alone)
    file.clear([1, 14])
    file.close()
    assert run(teacher(), path, core=64).planned_tiles == 2
    check(plane, pixels)


def test_a_map_whose_statistics_have_changed_is_begun_anew(run, plane, scene, tmp_path):
    h5py = pytest.importorskip("h5py")
    path, pixels = scene
    run(teacher(), path, core=64)
    with h5py.File(tmp_path / "out" / "a.h5", "r+") as file:
        file.attrs["fit"] = '{"mean": 3.0, "px": 5}'
        file["tiles/status"][0, 0] = store.FAILED
        file["labels"][64:] = 0
    assert run(teacher(), path, core=64).planned_tiles == 20
    check(plane, pixels)


def test_other_parameters_are_another_map(run, scene):
    run(teacher(level=1), scene[0], core=64)
    with pytest.raises(UsageError, match=r"a\.h5 is another map: parameters is .*level"):
        run(teacher(level=2), scene[0], core=64)


def test_a_leftover_scratch_file_is_in_nobody_s_way(run, plane, scene, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".a.scratch.h5").write_bytes(b"half a file")
    run(teacher(), scene[0], core=64)
    check(plane, scene[1])


def test_a_stop_while_scenes_are_reduced_is_75(alone, scene, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError) as caught:
        label(alone, teacher(), LabelOptions((str(scene[0]),), out=tmp_path / "out", core=64), stop)
    assert (caught.value.exit_code, caught.value.shared) == (75, True)


def test_a_tile_that_cannot_be_read_fails_in_all_passes_and_the_run_goes_on(run, plane, data, tmp_path):
    summary = run(teacher(), data / "odd_inputs/corrupt.tif", bands=(1,), core=256)
    stored = store.read(tmp_path / "out" / "corrupt.h5")
    assert summary.exit_code == 3
    assert stored.counts()["failed"] == len(summary.failed) > 0
    assert (tmp_path / "out" / "failed.csv").exists()
    assert not list((tmp_path / "out").glob(".*"))
