"""What is settled before the first tile: which scenes run, what is refused, and how an earlier run is continued."""

from __future__ import annotations

import threading
from collections import namedtuple

import numpy as np
import pytest
from osgeo import gdal

from hpcseg import store
from hpcseg.config import Normalisation
from hpcseg.errors import StoreError, UsageError
from hpcseg.inference import prepare
from hpcseg.inference.options import Options
from hpcseg.inference.predict import predict
from hpcseg.inference.prepare import settle
from hpcseg.mpi import Pulse


@pytest.fixture
def folder(make_model, make_scene, tmp_path):
    """A model m, a scene a.tif with a corner without data, and an empty place for the maps."""
    make_model(tmp_path / "m")
    pixels = np.random.default_rng(0).integers(1, 250, (3, 150, 200))
    pixels[:, :64, :64] = 0
    make_scene(tmp_path / "a.tif", 150, 200, pixels=pixels, nodata=0)
    return tmp_path


def options(folder, *scenes, model="m", **changes):
    paths = tuple(str(folder / name) for name in scenes or ("a.tif",))
    return Options(**({"scenes": paths, "model": str(folder / model), "out": folder / "out", "core": 64, "precision": "fp32"} | changes))


@pytest.fixture
def run(alone):
    return lambda chosen: predict(alone, chosen, threading.Event())


@pytest.fixture
def settled(alone):
    def decide(chosen):
        with Pulse(alone, 60.0, threading.Event()) as pulse:
            return settle(alone, pulse, chosen)

    return decide


def labels(folder, name="a"):
    stored = store.read(folder / "out" / f"{name}.h5")
    return store.read_window(stored, stored.layout.grid.extent)


def test_a_run_maps_every_tile_and_says_so(folder, run):
    summary = run(options(folder))
    assert (summary.exit_code, summary.planned_tiles, summary.ranks[0].tiles, summary.ranks[0].empty) == (0, 12, 12, 1)
    stored = store.read(folder / "out" / "a.h5")
    assert stored.counts() == {"missing": 0, "done": 11, "nothing to do": 1, "failed": 0}
    assert store.check(stored, np.arange(12)).all()
    assert (labels(folder)[:64, :64] == 255).all()
    assert (labels(folder) < 3).sum() == 150 * 200 - 64 * 64
    assert (folder / "out" / "run.json").is_file()
    assert not (folder / "out" / "failed.csv").exists()


def test_the_same_run_again_has_nothing_left_to_do(folder, run):
    run(options(folder))
    first = labels(folder)
    again = run(options(folder, threads=2))
    assert (again.planned_tiles, again.exit_code) == (0, 0)
    np.testing.assert_array_equal(labels(folder), first)


def test_tiles_whose_crc_fails_are_mapped_again(folder, run, alone):
    run(options(folder))
    first = labels(folder)
    path = folder / "out" / "a.h5"
    stored = store.read(path)
    file = store.Prediction(path, stored.layout, alone)
    file.clear([5, 7])
    file.write_failed(8)
    file.close()
    assert run(options(folder)).planned_tiles == 3
    np.testing.assert_array_equal(labels(folder), first)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"core": 32}, "core is 64, wanted 32"),
        ({"nodata_rule": "any"}, "nodata is .*rule"),
        ({"confidence": True}, "planes is"),
        ({"bands": (3, 2, 1)}, "bands is"),
    ],
)
def test_another_map_of_the_same_name_is_refused_with_what_differs(folder, run, changes, named):
    run(options(folder))
    with pytest.raises(UsageError, match=rf"a\.h5 is another map: .*{named}.*--overwrite"):
        run(options(folder, **changes))
    assert run(options(folder, overwrite=True, **changes)).planned_tiles > 0


def test_a_map_by_another_model_is_refused(folder, run, make_model):
    run(options(folder))
    make_model(folder / "other", seed=1)
    with pytest.raises(UsageError, match="network is"):
        run(options(folder, model="other"))


def test_a_file_in_the_way_is_refused_and_kept(folder, run):
    (folder / "out").mkdir()
    (folder / "out" / "a.h5").write_text("precious")
    with pytest.raises(UsageError, match=r"a\.h5 is not a prediction file .*--overwrite"):
        run(options(folder))
    assert (folder / "out" / "a.h5").read_text() == "precious"


def test_part_files_of_a_killed_run_are_removed(folder, run):
    (folder / "out").mkdir()
    part = folder / "out" / ".a.h5.123.part"
    part.write_bytes(b"half")
    run(options(folder))
    assert not part.exists()


def test_a_disk_too_small_for_the_maps_is_said_before_any_work(folder, run, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 20_000, 20_000))
    with pytest.raises(StoreError, match=r"out: the maps need 0\.\d MB, 0\.\d MB are free: make room or choose another --out"):
        run(options(folder))
    assert list((folder / "out").glob("*.h5")) == []


def test_maps_that_are_there_already_need_no_more_space(folder, run, monkeypatch):
    run(options(folder))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: usage(10**6, 10**6, 0))
    assert run(options(folder)).exit_code == 0


def test_scenes_that_do_not_fit_are_named_and_the_others_run(folder, run, make_scene):
    make_scene(folder / "grey.tif", 64, 64, 1)
    (folder / "broken.tif").write_text("no raster")
    summary = run(options(folder, "grey.tif", "a.tif", "broken.tif"))
    assert [name for name, _ in summary.refused] == ["grey", "broken"]
    assert summary.refused[0][1] == "gives 1 bands of its 1, the network takes 3: choose them with --bands"
    assert "cannot be opened" in summary.refused[1][1]
    assert (summary.exit_code, summary.scenes) == (3, 1)
    again = (folder / "out" / "failed.csv").read_text()
    assert "grey" in again
    assert "broken" in again


def test_the_manifest_of_failed_scenes_runs_the_next_try(folder, run):
    (folder / "b.tif").write_text("not yet there")
    run(options(folder, "a.tif", "b.tif"))
    (folder / "b.tif").write_bytes((folder / "a.tif").read_bytes())
    summary = run(options(folder, scenes=(str(folder / "out" / "failed.csv"),)))
    assert (summary.scenes, summary.exit_code) == (1, 0)
    np.testing.assert_array_equal(labels(folder, "b"), labels(folder, "a"))


@pytest.mark.parametrize(("resolution", "fits"), [(10.0, True), (14.0, True), (16.0, False), (5.0, False)])
def test_a_scene_of_another_resolution_is_refused_with_both(folder, settled, make_model, resolution, fits):
    make_model(folder / "m", spec={"resolution": resolution})
    found = settled(options(folder))
    assert len(found.scenes) == fits
    if not fits:
        assert "has pixels of 10 m, the model was trained on" in found.refused[0][1]
        assert len(settled(options(folder, any_resolution=True)).scenes) == 1
        scene = settled(options(folder, resample=True)).scenes[0]
        assert scene.place.transform[1] == pytest.approx(resolution, rel=1e-2)


def test_the_scene_s_own_percentiles_become_0_and_1(folder, settled, make_model):
    make_model(folder / "m", spec={"normalisation": Normalisation(kind="scene")})
    values = settled(options(folder)).values[0]
    raw = gdal.Open(str(folder / "a.tif")).ReadAsArray()
    for scale, offset, band in zip(values.scale, values.offset, raw, strict=True):
        ordered = np.sort(band[band > 0])
        low, high = (ordered[int(np.ceil(len(ordered) * p / 100)) - 1] for p in (2, 98))
        assert low * scale + offset == pytest.approx(0, abs=1e-6)
        assert high * scale + offset == pytest.approx(1, abs=1e-6)


def test_a_smaller_halo_tells_the_seam_error_it_costs(folder, settled):
    found = settled(options(folder, halo=8))
    assert found.layouts[0].grid.halo == found.recipe.model.halo == 8
    (note,) = found.notes
    assert note.startswith("halo 8 instead of ")
    assert 0 < float(note.split("seam error ")[1].split(" %")[0]) < 20


def test_a_larger_halo_costs_no_seam_error(folder, settled):
    (note,) = settled(options(folder, halo=48)).notes
    assert "seam error 0.0000 %" in note


def test_a_halo_off_the_stride_is_refused(folder, settled):
    with pytest.raises(UsageError, match="--halo 10: wanted a multiple of the network's stride 4"):
        settled(options(folder, halo=10))


def test_the_precision_of_an_earlier_run_is_kept(folder, run, settled):
    run(options(folder))
    found = settled(options(folder, precision="auto"))
    assert (found.recipe.precision, found.plan.size) == ("fp32", 0)


def test_a_precision_is_chosen_by_agreement_and_said(folder, settled, monkeypatch):
    monkeypatch.setattr(prepare.device, "has_bfloat16", lambda: True)
    for share, choice in ((0.9995, "bf16"), (0.9985, "fp32")):
        monkeypatch.setattr(prepare, "agreement", lambda *given, share=share: share)
        found = settled(options(folder, precision="auto"))
        assert found.recipe.precision == choice
        assert found.notes == [f"precision {choice}: bf16 gives the same label as fp32 in {100 * share:.3f} % of sampled pixels"]


def test_without_bfloat16_in_hardware_it_is_fp32(folder, settled, monkeypatch):
    monkeypatch.setattr(prepare.device, "has_bfloat16", lambda: False)
    found = settled(options(folder, precision="auto"))
    assert (found.recipe.precision, found.notes) == ("fp32", [])


def test_a_class_that_does_not_exist_is_refused(folder, settled):
    with pytest.raises(UsageError, match="--probability ice"):
        settled(options(folder, probability="ice"))


def test_a_block_that_cannot_be_read_fails_its_tiles_and_the_run_goes_on(folder, data, run):
    summary = run(options(folder, scenes=(str(data / "odd_inputs" / "corrupt.tif"),), core=256))
    assert summary.exit_code == 3
    assert {name for name, _, _ in summary.failed} == {"corrupt"}
    stored = store.read(folder / "out" / "corrupt.h5")
    assert stored.counts()["failed"] == len(summary.failed) > 0
    assert stored.counts()["missing"] == 0
    assert (labels(folder, "corrupt")[512:, 512:] == 255).all()
