"""The water teacher on two dates: what was dry, what was water before, what is flood."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal

from hpcseg.errors import UsageError
from hpcseg.kernels.rays import Sfs
from hpcseg.labels.shares import share_lines
from hpcseg.labels.water import WaterOptions, water_teacher
from hpcseg.synthetic.sar import sar

SHAPE = (600, 560)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Synthetic scenes of a flood: after, the folder before, and the truth's pixels."""
    folder = tmp_path_factory.mktemp("flood")
    sar(folder, 1, 768, 800, 5, water=0.15, flood=0.15, wind=0.0, shadow=0.0)
    return folder / "sar_000.tif", folder / "before", gdal.Open(str(folder / "truth/sar_000.tif")).ReadAsArray()


def lakes():
    """Power of land at -8 dB, four looks, with a lake at -20 dB, and with a wider one; and where they are."""
    rows, cols = np.indices(SHAPE)
    near = (rows - 280) ** 2 + (cols - 300) ** 2
    water = [near < radius**2 for radius in (90, 150)]
    rng = np.random.default_rng(3)
    pictures = [np.where(each, 10**-2.0, 10**-0.8) * rng.gamma(4, 1 / 4, SHAPE) for each in water]
    return pictures, water


@pytest.fixture
def pair(tmp_path, make_scene):
    """pair(before, after) writes two scenes of power and returns their paths, after first."""

    def write(before, after, **look):
        return [make_scene(tmp_path / f"{name}.tif", *pixels.shape, 1, "float32", pixels=pixels[None], **look)
                for name, pixels in (("after", after), ("before", before))]  # fmt: skip

    return write


def share(found, truth, number):
    """Intersection over union of a class."""
    known = (found != 255) & (truth != 255)
    return ((found == number) & (truth == number) & known).sum() / (((found == number) | (truth == number)) & known).sum()


def test_the_flood_of_a_synthetic_scene_is_told_from_its_water(run, plane, drawn):
    after, before, truth = drawn
    summary = run(water_teacher(WaterOptions("power"), str(before)), after)
    found = plane("sar_000")
    assert [share(found, truth, k) > least for k, least in enumerate((0.9, 0.6, 0.5))] == [True] * 3
    assert list(summary.shares["sar_000"].classes) == ["dry", "permanent", "flood"]
    line = share_lines(summary)[0]
    assert "flood " in line
    assert line.endswith("of its own")
    assert "cells with two modes; before: below" in line


@pytest.mark.parametrize(
    "options",
    [WaterOptions("power"), WaterOptions("power", speckle="lee"), WaterOptions("power", "sfs", sfs=Sfs(15, 12), fallback=5.0)],
    ids=["amplitude", "lee", "sfs"],
)
def test_labels_do_not_depend_on_tiles_or_threads(run, plane, drawn, options):
    after, before, _ = drawn
    found = []
    for core, threads in ((256, 1), (512, 2)):
        run(water_teacher(options, str(before)), after, core=core, threads=threads, overwrite=True)
        found.append(plane("sar_000"))
    np.testing.assert_array_equal(*found)
    assert set(np.unique(found[0])) == {0, 1, 2}


def test_classes_are_those_of_both_dates(run, plane, pair):
    pictures, (small, wide) = lakes()
    run(water_teacher(WaterOptions("power"), ""), manifest_of(*pair(*pictures)))
    truth = np.where(small, 1, np.where(wide, 2, 0))
    assert all(share(plane("after"), truth, k) > 0.93 for k in range(3))
    # Water that went is dry land.
    pair(*reversed(pictures))
    run(water_teacher(WaterOptions("power"), ""), manifest_of(*pair(*reversed(pictures))), overwrite=True)
    assert share(plane("after"), small.astype(int), 1) > 0.93
    assert (plane("after") == 2).mean() < 0.02


def manifest_of(after, before):
    """A manifest beside the scenes, with the column before."""
    path = after.parent / "scenes.csv"
    path.write_text(f"scene,before\n{after.name},{before.name}\n")
    return path


def test_after_is_labelled_as_by_itself_where_both_have_data(run, plane, pair, tmp_path):
    pictures, _ = lakes()
    after, before = pair(*pictures)
    run(water_teacher(WaterOptions("power")), after)
    alone = plane("after")
    run(water_teacher(WaterOptions("power"), str(before)), after, out=tmp_path / "two")
    np.testing.assert_array_equal(plane("after", out="two") != 0, alone != 0)


def test_no_data_on_either_date_is_none(run, plane, pair):
    (before, after), _ = lakes()
    before[:40], after[:, :30] = 0, 0
    run(water_teacher(WaterOptions("power"), ""), manifest_of(*pair(before, after)))
    gone = np.zeros(SHAPE, bool)
    gone[:40], gone[:, :30] = True, True
    np.testing.assert_array_equal(plane("after") == 255, gone)


def test_a_scene_before_without_two_modes_takes_the_other_threshold(run, plane, pair):
    (_, after), (_, wide) = lakes()
    before = 10**-0.8 * np.random.default_rng(9).gamma(4, 1 / 4, SHAPE)
    summary = run(water_teacher(WaterOptions("power"), ""), manifest_of(*pair(before, after)))
    thresholds = summary.fits["after"]["thresholds"]
    assert thresholds[0] == thresholds[1]
    assert share_lines(summary)[0].endswith("; before: the same")
    assert share(plane("after"), np.where(wide, 2, 0), 2) > 0.93


def test_its_own_threshold_follows_its_own_level(run, plane, pair):
    (before, after), (small, wide) = lakes()
    # Twice as bright: the threshold of after would miss much of its water.
    summary = run(water_teacher(WaterOptions("power"), ""), manifest_of(*pair(2.5 * before, after)))
    first, second = summary.fits["after"]["thresholds"]
    assert second > first + 16
    assert share(plane("after"), np.where(small, 1, np.where(wide, 2, 0)), 1) > 0.93


@pytest.mark.parametrize(
    ("look", "named"),
    [
        ({"size": (50, 60)}, "before.tif does not lie on the grid of"),
        ({"bands": 2}, "gives 3 bands of its 3 with the scene before it, a flood takes one of each: choose them with --bands AFTER,BEFORE"),
    ],
)
def test_a_scene_before_that_does_not_fit_is_named(run, make_scene, tmp_path, look, named):
    after = make_scene(tmp_path / "after.tif", 60, 60, 1, "float32")
    before = make_scene(tmp_path / "before.tif", *look.get("size", (60, 60)), look.get("bands", 1), "float32")
    summary = run(water_teacher(WaterOptions("power"), str(before)), after)
    assert summary.refused[0][0] == "after"
    assert named in summary.refused[0][1]
    assert summary.exit_code == 3


def test_bands_count_through_both(run, plane, make_scene, tmp_path):
    (before, after), _ = lakes()
    noise = np.random.default_rng(0).random(SHAPE)
    stacks = [make_scene(tmp_path / f"{name}.tif", *SHAPE, 2, "float32", pixels=np.stack(bands))
              for name, bands in (("after", (noise, after)), ("before", (before, noise)))]  # fmt: skip
    run(water_teacher(WaterOptions("power"), str(stacks[1])), stacks[0], bands=(2, 3))
    assert set(np.unique(plane("after"))) == {0, 1, 2}


def test_a_scene_before_that_is_not_there_is_named(run, make_scene, tmp_path):
    scenes = [make_scene(tmp_path / f"{name}.tif", 60, 60, 1, "float32") for name in "ab"]
    summary = run(water_teacher(WaterOptions("power"), str(tmp_path / "c.tif")), scenes[0])
    assert "c.tif: No such file" in summary.refused[0][1]
    with pytest.raises(UsageError, match="no scene before b: wanted one of its name in --before, or a manifest's column before"):
        run(water_teacher(WaterOptions("power"), str(scenes[0])), *scenes)


def test_a_scene_that_failed_can_be_tried_again_from_its_list(run, make_scene, tmp_path):
    after, before = (make_scene(tmp_path / f"{name}.tif", rows, 60, 1, "float32") for name, rows in (("after", 60), ("before", 50)))
    run(water_teacher(WaterOptions("power"), ""), manifest_of(after, before))
    summary = run(water_teacher(WaterOptions("power"), ""), tmp_path / "out/failed.csv")
    assert "before.tif does not lie on the grid of" in summary.refused[0][1]


def test_the_flood_of_the_garonne_is_told_from_its_river(run, plane, data):
    folder = data / "water/garonne"
    run(water_teacher(WaterOptions("db", db_per_unit=0.1), str(folder / "before_VV.tif")), folder / "after_VV.tif", core=1024)
    truth = gdal.Open(str(folder / "floodmask.tif")).ReadAsArray()
    found = plane("after_VV")
    assert share(found, np.where(truth == 1, 2, truth), 2) >= 0.5
    assert (found == 1).any()
