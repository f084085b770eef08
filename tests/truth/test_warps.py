"""Labels of a scene that is read through a warp."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal
from truth.labelled import BY_COLOUR, CLASSES, COLOURS, OF_COLOUR, TWO, numbers, read

from hpcseg.config import LabelSpec
from hpcseg.errors import SceneError
from hpcseg.raster import CellCache, Entry, describe, open_label, open_name
from hpcseg.tiles import Window
from hpcseg.truth import open_truth


def warped(scene_path, label, spec=None, classes=CLASSES, **warp):
    """A scene and its truth, both through that warp."""
    entry = Entry("scene", (str(scene_path),))
    scene = describe(open_name(entry, **warp), "scene")
    source = open_label(str(label), entry, **warp)
    return scene, open_truth(label, scene, spec or LabelSpec(), classes, CellCache(1 << 26), source)


def whole(scene):
    return Window(0, 0, scene.height, scene.width)


FINER = {"plain": {}, "no place": {"transform": None, "epsg": None}, "nodata out of range": {"nodata": -9999}}


@pytest.mark.parametrize("options", FINER.values(), ids=FINER)
def test_labels_on_the_scenes_own_grid_follow_its_resolution(options, scene, make_labels):
    found, truth = warped(scene.path, make_labels(numbers(), **options), resolution=5.0)
    np.testing.assert_array_equal(read(truth, whole(found)), numbers().repeat(2, 0).repeat(2, 1))


def test_a_warp_keeps_nodata_colours_and_palettes(scene, make_labels, palette):
    index = numbers(4)
    finer = index.repeat(2, 0).repeat(2, 1)
    for nodata, of_colour in ((None, OF_COLOUR), (0, [255, 1, 2, 255]), (255, OF_COLOUR)):
        path = make_labels(COLOURS[index].transpose(2, 0, 1), nodata=nodata)
        found, truth = warped(scene.path, path, BY_COLOUR, resolution=5.0)
        np.testing.assert_array_equal(read(truth, whole(found)), np.array(of_colour, np.uint8)[finer])
    for spec in (LabelSpec(ignore=[3]), BY_COLOUR):
        found, truth = warped(scene.path, palette, spec, resolution=5.0)
        np.testing.assert_array_equal(read(truth, whole(found)), OF_COLOUR[finer])
    pixels = numbers()
    wanted = np.where(pixels == 1, 255, pixels)
    found, truth = warped(scene.path, make_labels(pixels, nodata=1), resolution=5.0)
    np.testing.assert_array_equal(read(truth, whole(found)), wanted.repeat(2, 0).repeat(2, 1))


def test_overviews_do_not_mix_the_labels_of_a_coarser_scene(scene, make_labels):
    path = make_labels(numbers(2) * 2)
    gdal.Open(str(path)).BuildOverviews("AVERAGE", [2, 4])
    found, truth = warped(scene.path, path, resolution=40.0)
    assert set(np.unique(read(truth, whole(found)))) == {0, 2}


def test_nothing_is_labelled_in_the_margin_of_another_system(scene, make_labels):
    found, truth = warped(scene.path, make_labels(numbers(2) + 1), crs="EPSG:32632")
    labels = read(truth, whole(found))
    dataset = gdal.Open(found.path)
    valid = dataset.GetRasterBand(1).GetMaskBand().ReadAsArray() != 0
    assert 0.05 < (labels == 255).mean() < 0.95
    assert ((labels != 255) == valid).mean() > 0.98
    assert set(np.unique(labels)) == {1, 2, 255}


def test_labels_on_the_warped_grid_are_taken_as_they_are_and_others_refused(scene, make_scene, make_labels, tmp_path):
    finer = numbers().repeat(2, 0).repeat(2, 1)
    path = make_labels(finer, transform=(500000.0, 5.0, 0.0, 5000000.0, 0.0, -5.0))
    found, truth = warped(scene.path, path, resolution=5.0)
    np.testing.assert_array_equal(read(truth, whole(found)), finer)
    with pytest.raises(SceneError, match=r"labels.tif: labels on another grid than scene: it is 300x419 pixels, the scene 600x840"):
        warped(scene.path, make_labels(numbers()[:, :-1]), resolution=5.0)
    with pytest.raises(SceneError, match=r"^/.*absent.tif: cannot be opened"):
        warped(scene.path, tmp_path / "absent.tif", resolution=5.0)


def test_a_warped_mask_nearly_equals_the_footprints_it_came_with(data):
    folder = data / "buildings" / "kampala"
    paths = [folder / name for name in ("labels_z21.geojson", "z21_mask_3072x2048.tif")]
    both = [warped(folder / "z21_rgb_3072x2048.tif", path, classes=TWO, resolution=0.15) for path in paths]
    burned, given = (read(truth, whole(found)) for found, truth in both)
    agreement = (burned == given).mean()
    print(f"{burned.shape}: {burned.mean():.4f} burned, {given.mean():.4f} in the mask, agreement {agreement:.6f}")
    assert 0.2 < (given == 1).mean() < 0.3
    assert agreement > 0.98
