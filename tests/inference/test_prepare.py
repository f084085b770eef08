"""What is settled before the first tile: which scenes run, what is refused, and how an earlier run is continued."""

from __future__ import annotations

import csv
import json
import pkgutil
import threading
from collections import namedtuple

import numpy as np
import pytest
from osgeo import gdal, ogr, osr

from hpcseg import store
from hpcseg.config import Normalisation
from hpcseg.errors import StoreError, UsageError
from hpcseg.inference import prepare
from hpcseg.inference.options import Options
from hpcseg.inference.predict import predict
from hpcseg.inference.prepare import settle
from hpcseg.inference.route import open_route
from hpcseg.mapping import settle as mapping
from hpcseg.mapping.settle import open_scenes
from hpcseg.mpi import Pulse
from hpcseg.raster import list_scenes
from hpcseg.statistics import statistics


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
            return settle(alone, pulse, chosen, open_route(alone, chosen))

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


def test_a_map_that_is_to_be_replaced_stays_until_all_else_is_known_to_fit(folder, run, monkeypatch):
    run(options(folder))
    before = (folder / "out" / "a.h5").read_bytes()
    monkeypatch.setenv("HPCSEG_BEGUN", str(folder / "begun"))
    with pytest.raises(UsageError, match="--stripe 1: chunks of 96x96"):
        run(options(folder, overwrite=True, core=96, stripe=1))
    assert (folder / "out" / "a.h5").read_bytes() == before
    assert not (folder / "begun").exists()
    run(options(folder, overwrite=True, core=96))
    assert (folder / "begun").exists(), "the batch job is to know that a repeat goes on"


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
    monkeypatch.setattr(mapping.shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 20_000, 20_000))
    with pytest.raises(StoreError, match=r"out: the maps need 0\.\d MB, 0\.\d MB are free: make room or choose another --out"):
        run(options(folder))
    assert list((folder / "out").glob("*.h5")) == []


def test_maps_that_are_there_already_need_no_more_space(folder, run, monkeypatch):
    run(options(folder))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(mapping.shutil, "disk_usage", lambda path: usage(10**6, 10**6, 0))
    assert run(options(folder)).exit_code == 0


def test_maps_that_are_replaced_make_room_for_those_that_replace_them(folder, run, monkeypatch):
    run(options(folder))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(mapping.shutil, "disk_usage", lambda path: usage(10**6, 10**6, 0))
    assert run(options(folder, overwrite=True)).planned_tiles == 12


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


def test_what_all_ranks_do_after_the_last_tile_is_bounded_too(folder, run, monkeypatch):
    beating = {}
    for name in ("hpcseg.mapping.writer.Writer.close", "hpcseg.inference.predict.summarise", "hpcseg.inference.predict.write_reports"):
        do = pkgutil.resolve_name(name)

        def watched(*given, name=name, do=do):
            beating[name.rpartition(".")[2]] = any(thread.name == "pulse" for thread in threading.enumerate())
            return do(*given)

        monkeypatch.setattr(name, watched)
    run(options(folder, core=192))
    assert beating == {"close": True, "summarise": True, "write_reports": True}


def test_parts_of_the_scenes_together_are_all_of_them(folder, run):
    names = ["a.tif", "b.tif", "c.tif"]
    for name in names[1:]:
        (folder / name).write_bytes((folder / "a.tif").read_bytes())
    found = [run(options(folder, *names, part=(k, 4))) for k in (1, 2, 3, 4)]
    assert [(each.scenes, each.planned_tiles, each.exit_code) for each in found] == [(1, 12, 0)] * 3 + [(0, 0, 0)]
    assert {path.name for path in (folder / "out").iterdir()} == {"a.h5", "b.h5", "c.h5", *(f"run.{k}of4.json" for k in (1, 2, 3, 4))}


def test_a_part_is_every_nth_scene(folder, run):
    for name in "bcde":
        (folder / f"{name}.tif").write_bytes((folder / "a.tif").read_bytes())
    summary = run(options(folder, *(f"{name}.tif" for name in "abcde"), part=(2, 2), core=192))
    assert summary.scenes == 2
    assert {path.stem for path in (folder / "out").glob("*.h5")} == {"b", "d"}


@pytest.mark.parametrize("scenes", ["", "*.tif"])
def test_a_part_of_what_may_change_until_the_next_part_starts_is_refused(folder, run, scenes):
    with pytest.raises(UsageError, match=r"--part 1/2: .* wanted a manifest or files by name"):
        run(options(folder, scenes, part=(1, 2)))


def test_a_part_leaves_files_that_another_is_about_to_publish(folder, run):
    (folder / "out").mkdir()
    others = {".b.h5.1.part", "..b.scratch.h5.1.part", "b.h5-1-2.lock"}
    for name in others:
        (folder / "out" / name).touch()
        (folder / "out" / name.replace("b.", "a.")).touch()
    run(options(folder, core=192))
    assert {path.name for path in (folder / "out").iterdir()} == {"a.h5", "run.json", *others}


def test_stripes_and_hints_change_where_bytes_lie_and_no_map(folder, run):
    run(options(folder))
    run(options(folder, out=folder / "striped", stripe=1, mpi_io=("striping_factor=4", "romio_ds_write=disable")))
    plain, striped = (store.read(folder / out / "a.h5") for out in ("out", "striped"))
    assert striped.identity == plain.identity
    np.testing.assert_array_equal(striped.crc, plain.crc)
    assert store.check(striped, np.arange(12)).all()
    assert json.loads(striped.attributes["configuration"])["stripe"] == "1"
    assert "romio_ds_write=disable" in json.loads(striped.attributes["configuration"])["mpi_io"]


def test_a_map_is_resumed_with_other_stripes(folder, run):
    run(options(folder))
    assert run(options(folder, stripe=4)).planned_tiles == 0


def test_stripes_that_chunks_do_not_fill_are_refused_before_any_work(folder, run):
    with pytest.raises(UsageError, match="--stripe 1: chunks of 192x192 pixels"):
        run(options(folder, stripe=1, core=192))


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


# What a manifest says of its scenes.

NORTH = "POLYGON ((500000 5000000, 502000 5000000, 502000 4999360, 500000 4999360, 500000 5000000))"


def write_area(path, wkt=NORTH):
    """A vector file with one polygon; NORTH covers the upper 64 rows of a.tif."""
    system = osr.SpatialReference()
    system.ImportFromEPSG(32633)
    source = ogr.GetDriverByName("GPKG").CreateDataSource(str(path))
    layer = source.CreateLayer("area", system)
    feature = ogr.Feature(layer.GetLayerDefn())
    feature.SetGeometry(ogr.CreateGeometryFromWkt(wkt))
    layer.CreateFeature(feature)


@pytest.fixture
def manifest(folder, make_scene):
    """manifest(row, ...) writes scenes.csv with the columns scene, id, date, aoi, mask; gives the options of a run over it.

    Beside it: west.tif, a mask that leaves the columns 0 to 99 of a.tif, and north.gpkg.
    """
    pixels = np.zeros((1, 150, 200))
    pixels[:, :, :100] = 1
    make_scene(folder / "west.tif", 150, 200, 1, pixels=pixels)
    write_area(folder / "north.gpkg")

    def write(*rows, **changes):
        (folder / "scenes.csv").write_text("\n".join(["scene,id,date,aoi,mask", *rows]) + "\n")
        return options(folder, "scenes.csv", **changes)

    return write


def valid(folder, name):
    return labels(folder, name) != 255


def test_mask_and_area_of_a_row_are_no_data_for_that_scene_alone(folder, manifest, run):
    rows = ("a.tif,north,2019,north.gpkg,", "a.tif,west,2020,,west.tif", "a.tif,both,,north.gpkg,west.tif", "a.tif,whole,,,")
    assert run(manifest(*rows)).exit_code == 0
    whole = valid(folder, "whole")
    assert whole.sum() == 150 * 200 - 64 * 64
    rows, cols = np.indices(whole.shape)
    np.testing.assert_array_equal(valid(folder, "north"), whole & (rows < 64))
    np.testing.assert_array_equal(valid(folder, "west"), whole & (cols < 100))
    np.testing.assert_array_equal(valid(folder, "both"), whole & (rows < 64) & (cols < 100))


def test_an_area_costs_only_the_tiles_that_it_touches(manifest, settled):
    assert settled(manifest("a.tif,x,,north.gpkg,")).plan.load.sum() < settled(manifest("a.tif,x,,,")).plan.load.sum()


def test_the_area_of_the_option_is_for_rows_without_one(folder, manifest, run):
    write_area(folder / "top.gpkg", NORTH.replace("4999360", "4999900"))
    run(manifest("a.tif,own,,north.gpkg,", "a.tif,other,,,", aoi=str(folder / "top.gpkg")))
    assert [np.flatnonzero(valid(folder, name).any(1)).max() for name in ("own", "other")] == [63, 9]


def test_columns_travel_to_the_prediction_file_and_the_report(folder, manifest, run):
    run(manifest("a.tif,one,2019-07-23,north.gpkg,", "a.tif,two,,,"))
    first, second = (json.loads(store.read(folder / "out" / f"{name}.h5").attributes["manifest"]) for name in ("one", "two"))
    assert (first, second) == ({"date": "2019-07-23", "aoi": str(folder / "north.gpkg")}, {})
    assert json.loads((folder / "out" / "run.json").read_text())["manifest"] == {"one": first}


def test_a_mask_or_an_area_that_does_not_fit_refuses_its_scene_by_name(folder, manifest, run, make_scene):
    make_scene(folder / "small.tif", 10, 20, 1)
    summary = run(manifest("a.tif,good,,,", "a.tif,small,2019,,small.tif", "a.tif,absent,,absent.gpkg,", "a.tif,gone,,,gone.tif"))
    reasons = dict(summary.refused)
    assert (summary.exit_code, summary.scenes) == (3, 1)
    assert "small.tif is 10x20 pixels, the scene 150x200" in reasons["small"]
    assert "absent.gpkg" in reasons["absent"]
    assert "its mask cannot be opened" in reasons["gone"]


def test_the_next_try_has_all_columns_of_the_scenes_that_failed(folder, manifest, run, make_scene):
    (folder / "b.tif").write_text("not yet there")
    run(manifest("a.tif,one,2018,,", "b.tif,two,2019,north.gpkg,west.tif"))
    with (folder / "out" / "failed.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert [row.pop("id"), row.pop("date")] == ["two", "2019"]
    assert "cannot be opened" in row.pop("reason")
    assert row == {"scene": str(folder / "b.tif"), "aoi": str(folder / "north.gpkg"), "mask": str(folder / "west.tif")}
    (folder / "b.tif").write_bytes((folder / "a.tif").read_bytes())
    summary = run(options(folder, "out/failed.csv"))
    assert (summary.exit_code, list(summary.manifest)) == (0, ["two"])
    inside = np.outer(np.arange(150) < 64, np.arange(200) < 100)
    np.testing.assert_array_equal(valid(folder, "two"), valid(folder, "one") & inside)
    assert json.loads(store.read(folder / "out" / "two.h5").attributes["manifest"])["date"] == "2019"


def test_another_mask_is_another_map(folder, manifest, run, make_scene):
    chosen = manifest("a.tif,x,,,west.tif")
    run(chosen)
    assert run(chosen).planned_tiles == 0
    make_scene(folder / "west.tif", 150, 200, 1)
    with pytest.raises(UsageError, match=r"x\.h5 is another map: nodata is .*mask"):
        run(chosen)


def test_an_area_of_the_option_that_is_not_there_is_wrong_use(folder, settled):
    with pytest.raises(UsageError, match=r"area of interest .*absent\.gpkg") as caught:
        settled(options(folder, aoi=str(folder / "absent.gpkg")))
    assert caught.value.shared, "one line from one rank"


def test_statistics_see_what_mask_and_area_leave(alone, manifest):
    chosen = manifest("a.tif,west,,,west.tif", "a.tif,both,,north.gpkg,west.tif")
    with Pulse(alone, 60.0, threading.Event()) as pulse:
        scenes, _ = open_scenes(alone, list_scenes(chosen.scenes), chosen, None)
        found, _ = statistics(alone, pulse, scenes, "all", (50.0,), 1, 1 << 26)
    assert [bands[0].count for bands in found] == [150 * 100 - 64 * 64, 64 * (100 - 64)]


def test_a_mask_follows_a_scene_that_is_resampled(manifest, settled, make_model, folder):
    make_model(folder / "m", spec={"resolution": 5.0})
    (scene,) = settled(manifest("a.tif,x,,,west.tif", resample=True)).scenes
    assert gdal.Open(scene.mask_path).ReadAsArray().shape == (scene.height, scene.width)
    assert scene.height == pytest.approx(300, abs=2)


def test_a_scene_that_statistics_cannot_read_whole_ends_with_a_report(folder, data, run, make_model):
    make_model(folder / "m", spec={"normalisation": Normalisation(kind="scene")})
    summary = run(options(folder, scenes=(str(data / "odd_inputs" / "corrupt.tif"),), core=256))
    assert summary.exit_code == 3
    with (folder / "out" / "failed.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["corrupt"]
