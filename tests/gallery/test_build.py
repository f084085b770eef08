"""A gallery, built: its files, what it says of itself, and what cannot be built."""

from __future__ import annotations

import json
import shutil
import threading

import numpy as np
import pytest
from gallery.archive import CELL, KINDS, options_of
from osgeo import gdal

from hpcseg.errors import SceneError, StoppedError, UsageError
from hpcseg.gallery import build as module
from hpcseg.gallery.build import all_clusters, build, check_centroids, find_farthest, mean_average_precision, report_lines
from hpcseg.gallery.encoder import EncoderSettings
from hpcseg.gallery.hashing import HashSettings
from hpcseg.gallery.images import read_cells
from hpcseg.gallery.spec import read_gallery


@pytest.fixture
def stop():
    return threading.Event()


@pytest.fixture
def attempt(alone, archive, encoder, tmp_path, stop):
    """attempt(**changes) builds a gallery of the archive in a new folder."""

    def make(scenes=archive, **changes):
        return build(alone, options_of(scenes, encoder, **({"out": tmp_path / "gallery"} | changes)), stop)

    return make


def test_textures_become_buckets_without_being_named(built):
    _, made, assigned = built
    assert KINDS <= made.buckets <= 2 * KINDS
    assert made.map > 0.9
    assert made.same > 0.9
    assert sum(assigned.buckets) > made.cells


def test_the_gallery_says_what_it_is(built):
    folder, made, _ = built
    spec = read_gallery(folder)
    assert (spec.bands, spec.cell, spec.bits, spec.reduce, spec.normalisation.kind) == (3, CELL, 32, 1, "scene")
    assert [each.tiles for each in spec.buckets] == made.sizes == sorted(made.sizes, reverse=True)
    assert sum(made.sizes) == made.cells - made.held
    assert all(code < 2**32 for code in spec.centroids)
    assert spec.max_distance >= 1
    record = json.loads((folder / "build.json").read_text())
    assert record["map"] == made.map
    assert record["numbers"][:2] == [2, 3]
    assert {f"buckets={made.buckets}", f"map={made.map:.4f}", f"cells={made.cells}"} <= set(report_lines(made))


def test_figures_are_drawn(built):
    for name in ("clusters.png", "embedding.png"):
        picture = gdal.Open(str(built[0] / name)).ReadAsArray()[:3]
        assert picture.shape[2] > 500
        # More than a few grays: what is drawn has colours.
        assert np.ptp(picture.astype(int), axis=0).max() > 100


def test_every_cell_with_data_is_assigned(built):
    cells = read_cells(built[0])
    assert len(cells) == sum(built[2].buckets)
    assert set(cells["scene"].to_pylist()) == {"scene_0", "scene_1"}


def test_an_encoder_is_trained_where_none_is_given_and_the_number_of_buckets_can_be_said(attempt, tmp_path):
    settings = {"training": EncoderSettings(epochs=1), "hashing": HashSettings(bits=32, steps=100)}
    made, _ = attempt(encoder="", buckets=3, sample=40, cell=64, **settings)
    assert (made.buckets, len(made.loss["encoder"])) == (3, 1)
    assert len(read_gallery(tmp_path / "gallery").buckets) == 3


def test_a_gallery_that_is_there_is_kept_unless_it_is_to_be_built_anew(attempt, built, tmp_path):
    folder = shutil.copytree(built[0], tmp_path / "copy")
    digest = read_gallery(folder).digest
    with pytest.raises(UsageError, match="copy holds a gallery: choose another --out, or --overwrite"):
        attempt(out=folder)
    assert read_gallery(folder).digest == digest
    (folder / "own.txt").write_text("kept")
    attempt(out=folder, overwrite=True, buckets=2, hashing=HashSettings(bits=32, steps=50))
    assert read_gallery(folder).digest != digest
    assert len(read_cells(folder)) == len(read_cells(built[0]))
    assert (folder / "own.txt").exists()


@pytest.mark.parametrize(
    ("stage", "left"), [("train_hasher", "there is no gallery yet: run the same command again"), ("Assigner", "hpcseg gallery assign ")]
)
def test_a_stop_says_what_is_left_and_how_to_go_on(attempt, stop, monkeypatch, stage, left):
    work = getattr(module, stage)
    monkeypatch.setattr(module, stage, lambda *given: (stop.set(), work(*given))[1])
    with pytest.raises(StoppedError, match=f"stopped: .*{left}"):
        attempt()


def test_an_archive_of_one_cell_is_refused(attempt, make_scene, tmp_path):
    with pytest.raises(UsageError, match=r"a gallery: the archive has 1 cells of 32 pixels.* give more scenes, a smaller --cell"):
        attempt(make_scene(tmp_path / "one.tif", CELL, CELL))


def test_fewer_cells_than_buckets_are_refused(attempt, make_scene, tmp_path):
    scene = make_scene(tmp_path / "six.tif", 2 * CELL, 3 * CELL)
    with pytest.raises(UsageError, match="--buckets 10: the archive has 6 cells"):
        attempt(scene, buckets=10)


def test_an_archive_without_data_is_refused(attempt, make_scene, tmp_path):
    scene = make_scene(tmp_path / "none.tif", 64, 64, pixels=np.zeros((3, 64, 64)), nodata=0)
    with pytest.raises(UsageError, match="the archive has 0 cells"):
        attempt(scene)


def test_two_sensors_with_different_bands_are_refused_by_name(attempt, make_scene, tmp_path):
    for name, bands in (("optical", 3), ("radar", 2)):
        make_scene(tmp_path / "mixed" / f"{name}.tif", 64, 64, bands)
    with pytest.raises(UsageError, match=r"optical gives 3 bands and radar 2: .* --bands"):
        attempt(tmp_path / "mixed")


def test_an_encoder_of_other_bands_is_refused(attempt, make_scene, tmp_path):
    with pytest.raises(UsageError, match=r"--encoder narrow takes 3 bands, the scenes give 2: choose them with --bands"):
        attempt(make_scene(tmp_path / "two.tif", 64, 64, 2))


def test_scenes_that_cannot_be_opened_leave_nothing_to_build(attempt, tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"no raster")
    with pytest.raises(SceneError, match="no scene is left to build a gallery of: broken cannot be opened"):
        attempt(tmp_path / "broken.tif")


def test_a_core_that_is_not_whole_cells_is_refused(attempt):
    with pytest.raises(UsageError, match="--core 100 is no multiple of the gallery's cell, 32"):
        attempt(core=100)


def test_equal_centroids_are_refused_with_what_to_do():
    with pytest.raises(UsageError, match="buckets 1 and 2 have the same centroid code: fewer --buckets, more --bits"):
        check_centroids([np.uint64(1), np.uint64(5), np.uint64(5)])


def test_the_largest_distance_is_one_that_nearly_all_keep_within():
    centroids = [np.uint64(0), np.uint64(2**32 - 1)]
    assert find_farthest(np.array([0, 7, 2**32 - 1], np.uint64), centroids) == 3
    assert find_farthest(np.array([0, 0], np.uint64), centroids) == 1
    assert find_farthest(np.array([0] * 5000 + [255], np.uint64), centroids) == 1


def test_held_cells_belong_to_the_cluster_whose_mean_is_nearest():
    features = np.array([[0.0], [1], [10], [11], [2], [9]], np.float32)
    held = np.array([False] * 4 + [True] * 2)
    assert all_clusters(features, held, np.array([0, 0, 1, 1])).tolist() == [0, 0, 1, 1, 0, 1]


def test_precision_is_that_of_held_cells_among_the_others():
    codes = np.array([0b0000, 0b0001, 0b1111, 0b0011], np.uint64)
    held = np.array([False, False, False, True])
    # The held code is 1 bit from the second, 2 bits from the first and the third: one of these two belongs to it, first or last.
    found = mean_average_precision(codes, np.array([0, 1, 1, 1]), held)
    assert found == pytest.approx((1 / 1 + (2 / 2 + 2 / 3) / 2) / 2)
    assert mean_average_precision(codes, np.zeros(4, int), np.zeros(4, bool)) is None
