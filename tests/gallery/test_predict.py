"""Mapping with a gallery: each cell by its own bucket's network, the same whatever the cores, threads and memory are."""

from __future__ import annotations

import shutil
import threading

import h5py
import numpy as np
import pytest
import torch
from gallery.made import CELL, SCENE, patchwork, write_gallery, write_models

from hpcseg import store
from hpcseg.cli import plan
from hpcseg.errors import UsageError
from hpcseg.gallery import predict as predict_module
from hpcseg.gallery.assign import AssignOptions, assign
from hpcseg.gallery.engine import write_core
from hpcseg.gallery.images import read_scene
from hpcseg.gallery.members import open_gallery
from hpcseg.gallery.networks import need_of
from hpcseg.gallery.predict import open_gallery_route, opener_of, tile_costs
from hpcseg.gallery.spec import MONO_BUCKET
from hpcseg.inference.engine import Recipe
from hpcseg.inference.options import Options
from hpcseg.inference.predict import predict
from hpcseg.inference.route import open_route
from hpcseg.mapping.report import report_lines
from hpcseg.raster import describe
from hpcseg.tiles import Grid, Window

HEIGHT, WIDTH = 300, 410


@pytest.fixture(scope="module")
def folder(make_model, make_scene, tmp_path_factory):
    """A scene of odd size with a hole and a corner without data, a gallery of three buckets, and the networks for it."""
    folder = tmp_path_factory.mktemp("gallery")
    pixels = patchwork(5, 7, HEIGHT, WIDTH)
    pixels[:, 192:, 320:] = 0
    pixels[:, 20:40, 20:50] = 0
    scene = make_scene(folder / "town.tif", HEIGHT, WIDTH, pixels=pixels, nodata=0)
    write_models(write_gallery(folder / "g", make_model, scene), make_model)
    return folder


def options(folder, out, model="g/roofs", **changes):
    keys = {"core": 2 * CELL, "precision": "fp32", "confidence": True} | changes
    return Options((str(folder / "town.tif"),), str(folder / model), out, **keys)


@pytest.fixture(scope="module")
def run(folder, alone, tmp_path_factory):
    """run(model, **options) maps the scene; gives the file and the summary."""

    def work(model="g/roofs", choose=open_gallery_route, **changes):
        out = tmp_path_factory.mktemp("maps")
        summary = predict(alone, options(folder, out, model, **changes), threading.Event(), choose)
        return store.read(out / "town.h5"), summary

    return work


@pytest.fixture(scope="module")
def mapped(run):
    return run()


def plane(stored, name="labels"):
    return store.read_window(stored, stored.layout.grid.extent, name)


def test_the_file_tells_the_bucket_of_each_cell(mapped):
    stored, summary = mapped
    assert stored.layout.cell == CELL
    assert stored.buckets.shape == (5, 7)
    assert (stored.buckets[3:, 5:] == 255).all(), "no cell without data has a bucket"
    assert set(np.unique(stored.buckets)) == {0, 1, 2, 255}
    assert store.check(stored, np.arange(stored.layout.grid.size)).all()
    counts = np.bincount(stored.buckets.ravel(), minlength=3)[:3]
    assert summary.ranks[0].cells == {str(k): n for k, n in enumerate(counts)}


def test_each_cell_is_mapped_by_its_own_bucket_s_network(mapped, run):
    """A cell's labels and confidences are those of its bucket's network alone over the whole scene, bit by bit."""
    stored, _ = mapped
    whole = np.kron(stored.buckets, np.ones((CELL, CELL), np.uint8))[:HEIGHT, :WIDTH]
    alone = [run(f"g/roofs/bucket_{k}", choose=open_route)[0] for k in range(3)]
    for name in ("labels", "confidence"):
        wanted = np.full((HEIGHT, WIDTH), 255, np.uint8)
        for bucket, other in enumerate(alone):
            wanted[whole == bucket] = plane(other, name)[whole == bucket]
        np.testing.assert_array_equal(plane(stored, name), wanted)
    assert (plane(alone[0]) != plane(alone[1])).any()


def assert_same(one, other):
    np.testing.assert_array_equal(one.buckets, other.buckets)
    for name in ("labels", "confidence"):
        np.testing.assert_array_equal(plane(one, name), plane(other, name))


@pytest.mark.parametrize("changes", [{"core": CELL}, {"core": 8 * CELL}, {"threads": 2, "readers": 2}], ids=str)
def test_cores_and_threads_do_not_change_a_bit(mapped, run, changes):
    assert_same(mapped[0], run(**changes)[0])


@pytest.mark.long
def test_bfloat16_does_not_make_the_map_hang_on_its_tiles(run):
    assert_same(run(precision="bf16")[0], run(precision="bf16", core=CELL)[0])


def test_little_memory_means_swaps_but_not_another_map(mapped, run, folder, monkeypatch):
    _, plenty = mapped
    assert plenty.ranks[0].networks["loads"] == 3
    assert plenty.ranks[0].networks["swaps"] == 0
    need = need_of(open_gallery(folder / "g/roofs").members)
    monkeypatch.setattr(predict_module, "_MB", need)
    stored, summary = run(gallery_memory=1, threads=2, core=CELL)
    assert_same(mapped[0], stored)
    took = summary.ranks[0].networks
    assert took["swaps"] >= 2
    assert took["loads"] == took["swaps"] + 1
    assert 0 < took["peak_mb"] <= 1, "in units of the budget"


def test_less_memory_than_one_network_needs_is_refused(folder, run, monkeypatch):
    need = need_of(open_gallery(folder / "g/roofs").members)
    monkeypatch.setattr(predict_module, "_MB", need - 1)
    with pytest.raises(UsageError, match=r"--gallery-memory .* alone needs"):
        run(gallery_memory=1)


def test_the_run_says_where_its_time_and_memory_went(mapped):
    _, summary = mapped
    said = dict(line.split("=", 1) for line in report_lines(summary) if "=" in line)
    assert int(said["cells"]) == sum(int(said[f"cells_{k}"]) for k in range(3)) == 31
    seconds = summary.ranks[0].seconds
    stages = [seconds[name] for name in ("features", "hash", "segment")]
    assert all(each > 0 for each in stages)
    assert sum(stages) <= seconds["forward"]
    assert float(said["network_memory"].removesuffix(" MB")) > 0


def test_cells_too_far_from_all_centroids_are_mapped_by_the_mono_model(folder, make_model, run):
    far = folder / "far"
    shutil.copytree(folder / "g", far)
    write_gallery(far, make_model, folder / "town.tif", buckets=1, max_distance=0)
    write_models(far, make_model)
    stored, summary = run("far/roofs")
    beyond = stored.buckets == MONO_BUCKET
    assert summary.ranks[0].cells["mono"] == beyond.sum() > 0
    mono, _ = run("far/roofs/mono", choose=open_route)
    where = np.kron(beyond, np.ones((CELL, CELL), bool))[:HEIGHT, :WIDTH]
    np.testing.assert_array_equal(plane(stored)[where], plane(mono)[where])


def test_a_bucket_without_a_network_of_its_own_goes_with_the_mono_model(folder, make_model, run, mapped):
    shutil.copytree(folder / "g", folder / "fallback")
    write_models(folder / "fallback", make_model, fallback=(0, 1, 2))
    stored, _ = run("fallback/roofs", core=8 * CELL)
    mono, _ = run("fallback/roofs/mono", choose=open_route)
    np.testing.assert_array_equal(stored.buckets, mapped[0].buckets)
    for name in ("labels", "confidence"):
        np.testing.assert_array_equal(plane(stored, name), plane(mono, name))


def test_a_resumed_run_keeps_what_is_done_and_refuses_another_gallery(folder, make_model, run, mapped, alone):
    stored, _ = mapped
    again = predict(alone, options(folder, stored.path.parent), threading.Event(), open_gallery_route)
    assert again.planned_tiles == 0
    shutil.copytree(folder / "g", folder / "other")
    make_model(folder / "other/roofs/bucket_1", spec={"normalisation": SCENE}, seed=77)
    with pytest.raises(UsageError, match="network is"):
        predict(alone, options(folder, stored.path.parent, "other/roofs"), threading.Event(), open_gallery_route)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"core": 96}, "--core 96: wanted a multiple of the gallery's cell of 64"),
        ({"halo": 64}, "--halo 64: a gallery has one halo, its largest: 28"),
    ],
    ids=["core", "halo"],
)
def test_options_that_a_gallery_cannot_follow_are_refused(run, changes, message):
    with pytest.raises(UsageError, match=message):
        run(**changes)


def test_a_tile_costs_what_its_rectangles_cost(folder):
    gallery = open_gallery(folder / "g/roofs")
    buckets = np.array([[0, 0, 0, 1], [0, 0, 2, 255], [255, 255, 1, 1]], np.uint8)
    costs = tile_costs(gallery, buckets, Grid(3 * CELL, 4 * CELL, 2 * CELL, gallery.halo))
    unit = (2 * CELL + 2 * gallery.halo) ** 2 / 1000
    one, two = CELL + 2 * gallery.halo, 2 * CELL + 2 * gallery.halo
    np.testing.assert_allclose(costs, [1000, 3 * one**2 / unit, 0, one * two / unit], atol=1)


def test_the_plan_prices_tiles_by_the_codes_that_are_stored(folder, mapped, monkeypatch, capsys):
    def planned():
        words = [folder / "town.tif", "--ranks", "2", "--model", folder / "g/roofs", "--core", 2 * CELL]
        assert plan.command.main([str(each) for each in words], standalone_mode=False) == 0
        return dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines() if "=" in line)

    tiles = int(planned()["tiles"])
    assert float(planned()["forward_passes"]) == tiles, "networks of one kind, and nothing is stored"
    buckets = mapped[0].buckets
    monkeypatch.setattr(predict_module, "read_scene", lambda images, digest: buckets)
    wanted = tile_costs(open_gallery(folder / "g/roofs"), buckets, mapped[0].layout.grid).sum() / 1000
    assert float(planned()["forward_passes"]) == pytest.approx(wanted)
    assert wanted != tiles


def test_only_a_tile_whose_buckets_are_wrong_is_mapped_again(folder, mapped, alone, tmp_path):
    shutil.copy(mapped[0].path, tmp_path)
    with h5py.File(tmp_path / "town.h5", "r+") as file:
        file["tiles/bucket"][2, 2] = 77
    again = predict(alone, options(folder, tmp_path), threading.Event(), open_gallery_route)
    assert again.planned_tiles == 1
    assert_same(store.read(tmp_path / "town.h5"), mapped[0])


def test_buckets_are_those_that_assign_gives_the_same_cells(folder, mapped, alone, make_scene, tmp_path):
    shutil.copytree(folder / "g", tmp_path / "g")
    shutil.copy(folder / "town.tif", tmp_path)
    make_scene(tmp_path / "tiny.tif", 40, 50, pixels=patchwork(1, 1, 40, 50))
    scenes = tuple(str(tmp_path / f"{name}.tif") for name in ("town", "tiny"))
    assign(alone, AssignOptions(scenes, gallery=tmp_path / "g"), threading.Event())
    chosen = Options(scenes, str(tmp_path / "g/roofs"), tmp_path / "out", core=4 * CELL, precision="fp32")
    assert predict(alone, chosen, threading.Event(), opener_of(chosen.model)).exit_code == 0
    for name, path in zip(("town", "tiny"), scenes, strict=True):
        stored, given = store.read(tmp_path / f"out/{name}.h5"), read_scene(tmp_path / "g", describe(path, name).digest)
        np.testing.assert_array_equal(stored.buckets[: given.shape[0], : given.shape[1]], given)
        assert (stored.buckets != 255).sum() == (given != 255).sum() > 0


class OnDevice(torch.Tensor):
    """A tensor in main memory that says it is a GPU's."""

    device = torch.device("cuda", 0)


def test_logits_of_a_gpu_become_the_labels_that_those_of_a_cpu_become(folder):
    recipe = Recipe(open_gallery(folder / "g/roofs").members[0].load(), CELL, "fp32", ("labels", "confidence"))
    rng = np.random.default_rng(0)
    logits, valid = torch.from_numpy(rng.normal(size=(3, 30, 40)).astype(np.float32)), rng.integers(0, 2, (30, 40), np.uint8)
    found = []
    for each in (logits, logits.as_subclass(OnDevice)):
        found.append([np.empty((18, 27), np.uint8) for _ in recipe.planes])
        write_core(recipe, each, valid, Window(8, 9, 18, 27), found[-1])
    (labels, chances), (same, near) = found
    np.testing.assert_array_equal(labels, same)
    assert np.abs(chances.astype(int) - near).max() <= 1
    np.testing.assert_array_equal(same == 255, valid[8:26, 9:36] == 0)
