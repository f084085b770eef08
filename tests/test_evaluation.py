"""Maps against truth, against NumPy over the whole scene; what does not fit is refused by name and the rest is judged."""

from __future__ import annotations

import json
import shutil
import threading

import numpy as np
import pytest
from maps import blurred, patches, write_map
from numpy.lib.stride_tricks import sliding_window_view
from osgeo import gdal

from hpcseg.config import LabelSpec
from hpcseg.errors import StoppedError, UsageError
from hpcseg.evaluation import default_block, evaluate, write_pictures
from hpcseg.metrics import figures
from hpcseg.mpi import Pulse
from hpcseg.raster import describe
from hpcseg.tally import Settings

SIZE = (1300, 1150)


@pytest.fixture
def judged(alone):
    """judged(maps, labels, **settings) evaluates in this process."""

    def run(maps, *labels, stop=None, **settings):
        settings = {"spec": LabelSpec(ignore=[255]), "threads": 2} | settings
        with Pulse(alone, 60.0, stop or threading.Event()) as pulse:
            return evaluate(alone, pulse, maps, [str(each) for each in labels], Settings(**settings))

    return run


@pytest.fixture
def make_pair(tmp_path, make_scene):
    """make_pair(name, seed, size, classes) writes truth and map of a scene; gives both paths and arrays."""

    def make(name, seed=0, size=SIZE, classes=2):
        truth = patches(*size, classes, seed)
        labels = blurred(truth, classes, seed)
        names = ("ground", "roof", "water", "road")[:classes]
        path = make_scene(tmp_path / "truth" / f"{name}.tif", *size, 1, pixels=truth[None], transform=None, epsg=None)
        return path, write_map(tmp_path / "maps" / f"{name}.h5", labels, names), truth, labels

    return make


def confusion(truth, labels, classes=2, border=0):
    """Confusion matrix and unmapped counts, pixel by pixel; none within `border` pixels of another class."""
    kept = truth != 255
    if border:
        edge = 2 * border + 1
        squares = sliding_window_view(np.pad(truth, border, constant_values=255), (edge, edge)).reshape(*truth.shape, -1)
        kept &= ~((squares != truth[..., None]) & (squares != 255)).any(-1)
    both = kept & (labels != 255)
    table = np.bincount(truth[both].astype(int) * classes + labels[both], minlength=classes**2)
    return table.reshape(classes, classes), np.bincount(truth[kept & (labels == 255)], minlength=classes)


@pytest.mark.parametrize("classes", [2, 4])
def test_all_pixels_that_are_labelled_are_counted_once(judged, make_pair, classes):
    label, path, truth, labels = make_pair("a", classes=classes)
    (scene,) = judged([path], label).scenes
    table, unmapped = confusion(truth, labels, classes)
    np.testing.assert_array_equal(scene.table, table)
    np.testing.assert_array_equal(scene.unmapped, unmapped)
    assert unmapped.all()


@pytest.mark.parametrize("border", [1, 6])
def test_borders_are_left_out_alike_within_and_between_tiles(judged, make_pair, border):
    label, path, truth, labels = make_pair("a", seed=3)
    (scene,) = judged([path], label, border=border).scenes
    table, unmapped = confusion(truth, labels, border=border)
    np.testing.assert_array_equal(scene.table, table)
    np.testing.assert_array_equal(scene.unmapped, unmapped)
    assert table.sum() < confusion(truth, labels)[0].sum()


def test_one_scene_is_resampled_by_blocks_that_add_up_to_it(judged, make_pair):
    label, path, truth, labels = make_pair("a")
    found = judged([path], label)
    (scene,) = found.scenes
    assert found.block == 256
    assert len(scene.blocks) == 6 * 5
    np.testing.assert_array_equal(scene.blocks.sum(0), scene.table)
    np.testing.assert_array_equal(scene.blocks[5 + 1], confusion(truth[256:512, 256:512], labels[256:512, 256:512])[0])
    low, high = found.report()["pooled"]["overall"]["mean_iou_interval"]
    assert low < found.report()["pooled"]["overall"]["mean_iou"] < high


def test_several_scenes_are_resampled_as_wholes(judged, make_pair, tmp_path):
    made = [make_pair(name, seed, (300, 400)) for seed, name in enumerate("abc")]
    found = judged([path for _, path, _, _ in made], tmp_path / "truth")
    report = found.report()
    assert (report["resampled"], report["units"], report["block_px"]) == ("scenes", 3, None)
    tables = np.stack([confusion(truth, labels)[0] for _, _, truth, labels in made])
    assert report["confusion"] == tables.sum(0).tolist()
    assert report["pooled"]["overall"]["mean_f1"] == figures(tables.sum(0))[1, -1]
    assert report["mean_per_scene"]["overall"]["mean_f1"] == pytest.approx(figures(tables)[:, 1, -1].mean(), rel=1e-12)
    assert [each["name"] for each in report["scenes"]] == ["a", "b", "c"]


def test_blocks_can_be_asked_for_with_several_scenes(judged, make_pair, tmp_path):
    maps = [make_pair(name, seed, (300, 400))[1] for seed, name in enumerate("ab")]
    report = judged(maps, tmp_path / "truth", block=100).report()
    assert (report["resampled"], report["units"], report["block_px"]) == ("blocks", 24, 100)


def test_threads_and_a_picture_do_not_change_the_report(judged, make_pair):
    label, path, _, _ = make_pair("a")
    reports = [json.dumps(judged([path], label, border=2, **each).report()) for each in ({"threads": 1}, {"threads": 3}, {"pictures": 1})]
    assert reports[0] == reports[1] == reports[2]


def test_a_map_can_be_judged_against_a_map(judged, make_pair, tmp_path):
    _, path, _, labels = make_pair("a")
    other = blurred(labels, seed=8)
    (scene,) = judged([path], write_map(tmp_path / "others" / "a.h5", other), spec=LabelSpec()).scenes
    np.testing.assert_array_equal(scene.table, confusion(other, labels)[0])


def test_a_map_against_itself_is_right(judged, make_pair, tmp_path):
    _, path, _, _ = make_pair("a")
    copy = shutil.copy(path, tmp_path / "copy.h5")
    overall = judged([path], copy, spec=LabelSpec()).report()["pooled"]["overall"]
    assert overall["mean_iou"] == overall["accuracy"] == 1
    assert overall["mean_iou_interval"] == [1, 1]


def test_labels_come_from_the_manifest_that_the_map_kept(judged, make_pair, tmp_path):
    label, _, truth, labels = make_pair("a")
    path = write_map(tmp_path / "told" / "other.h5", labels, manifest=json.dumps({"label": str(label), "region": "north"}))
    (scene,) = judged([path]).scenes
    np.testing.assert_array_equal(scene.table, confusion(truth, labels)[0])


def test_source_values_become_classes_by_the_map(judged, make_pair, tmp_path, make_scene):
    _, path, truth, labels = make_pair("a")
    pixels = np.where(truth == 255, 9, np.where(truth == 1, 200, 0))
    label = make_scene(tmp_path / "a_mask.tif", *SIZE, 1, pixels=pixels[None], transform=None, epsg=None)
    (scene,) = judged([path], label, spec=LabelSpec(map={"0": "ground", "200": "roof", "9": "ignore"})).scenes
    np.testing.assert_array_equal(scene.table, confusion(truth, labels)[0])


def odd(name, make_pair, make_scene, tmp_path):
    """A map with truth that does not fit, and what its refusal must say."""
    label, path, truth, labels = make_pair(name, size=(300, 400))
    if name == "size":
        make_scene(label, 300, 401, 1, pixels=patches(300, 401)[None], transform=None, epsg=None)
        return path, ["size.tif", "300x401", "300x400"]
    if name == "classes":
        write_map(path, labels, ("ground", "tree"))
        return path, ["ground, tree", "ground, roof"]
    if name == "value":
        make_scene(label, 300, 400, 1, pixels=np.where(truth == 1, 77, truth)[None], transform=None, epsg=None)
        return path, ["value.tif", "77"]
    if name == "legend":
        labels[7, 9], truth[7, 9] = 5, 0
        write_map(path, labels)
        make_scene(label, 300, 400, 1, pixels=truth[None], transform=None, epsg=None)
        return path, ["legend does not name"]
    if name == "broken":
        path.write_bytes(b"no map")
        return path, ["broken.h5", "not a prediction file"]
    label.unlink()
    return path, ["no labels"]


@pytest.mark.parametrize("name", ["size", "classes", "value", "legend", "broken", "unpaired"])
def test_what_does_not_fit_is_named_and_the_rest_is_judged(judged, make_pair, make_scene, tmp_path, name):
    good, first, truth, labels = make_pair("a", size=(300, 400))
    bad, words = odd(name, make_pair, make_scene, tmp_path)
    found = judged([first, bad], tmp_path / "truth")
    assert [scene.case.label for scene in found.scenes] == [str(good)]
    np.testing.assert_array_equal(found.scenes[0].table, confusion(truth, labels)[0])
    ((refused, reason),) = found.refused
    assert refused == name
    assert all(word in reason for word in words), reason
    assert found.exit_code == 3


@pytest.mark.parametrize("name", ["size", "value", "broken", "unpaired"])
def test_nothing_to_judge_is_wrong_use_that_names_why(judged, make_pair, make_scene, tmp_path, name):
    bad, words = odd(name, make_pair, make_scene, tmp_path)
    labels = tmp_path / "truth"
    if name == "unpaired":
        make_scene(labels / "x.tif", 9, 9, 1)
        make_scene(labels / "y.tif", 9, 9, 1)
    with pytest.raises(UsageError) as caught:
        judged([bad], labels)
    assert all(word in str(caught.value) for word in words), caught.value


def test_truth_that_cannot_be_read_in_places_is_listed_and_the_rest_counts(judged, data, tmp_path):
    source = data / "odd_inputs" / "corrupt.tif"
    scene = describe(str(source), "corrupt")
    names = tuple(f"class {k}" for k in range(4))
    path = write_map(tmp_path / "corrupt.h5", np.zeros((scene.height, scene.width), np.uint8), names, scene.place)
    spec = LabelSpec(map={str(value): value % 4 for value in range(256)})
    found = judged([path], source, spec=spec)
    assert found.exit_code == 3
    assert [each[0] for each in found.failed] == ["corrupt"] * len(found.failed)
    assert "corrupt.tif" in found.failed[0][2]


def test_footprints_of_a_real_scene_judge_a_map_made_from_its_mask(judged, data, tmp_path):
    folder = data / "buildings" / "kampala"
    mask = gdal.Open(str(folder / "z21_mask_3072x2048.tif")).ReadAsArray()
    shifted = np.roll(mask, (4, 6), (0, 1))
    place = describe(str(folder / "z21_rgb_3072x2048.tif"), "kampala").place
    path = write_map(tmp_path / "z21.h5", shifted, place=place)
    (scene,) = judged([path], folder / "z21_mask_3072x2048.tif", spec=LabelSpec()).scenes
    np.testing.assert_array_equal(scene.table, confusion(mask, shifted)[0])
    (burned,) = judged([path], folder / "labels_z21.geojson", spec=LabelSpec()).scenes
    np.testing.assert_allclose(figures(burned.table), figures(scene.table), atol=0.01)
    (tolerant,) = judged([path], folder / "z21_mask_3072x2048.tif", spec=LabelSpec(), border=6).scenes
    # Roofs that the shift took over the scene's edge came back at the other: they alone are wrong beyond the tolerance.
    assert figures(tolerant.table)[1, 1] > 0.995 > 0.98 > figures(scene.table)[1, 1]


def test_a_stop_ends_it_before_anything_is_said(judged, make_pair):
    label, path, _, _ = make_pair("a")
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError, match="of 4 tiles"):
        judged([path], label, stop=stop)


def test_blocks_of_a_large_scene_grow_until_their_tables_are_small(data):
    large = describe(str(data / "rasters" / "cog_world.tif"), "world")
    assert (large.height, large.width) == (18000, 36000)
    assert default_block(large, 2) == 256
    block = default_block(large, 200)
    assert block > 256
    assert -(-18000 // block) * -(-36000 // block) * 200 * 201 * 8 <= 64 << 20


def test_pictures_are_drawn_for_the_scenes_that_kept_one_and_say_what_they_lack(judged, make_pair, make_scene, tmp_path):
    maps = [make_pair(name, seed, (300, 400))[1] for seed, name in enumerate("ab")]
    found = judged(maps, tmp_path / "truth", pictures=1)
    wrong = make_scene(tmp_path / "a.tif", 30, 40)
    calls = []
    notes = write_pictures(found, tmp_path, {"a": wrong}, lambda: calls.append(1))
    assert [each.name for each in tmp_path.glob("*.png")] == ["a_evaluation.png"]
    assert len(calls) == 1
    assert "drawn without its scene" in notes[0]
    assert "30x40" in notes[0]
