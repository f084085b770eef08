"""What all kinds of scenes with a truth keep: the same pixels however they are made, others for each seed and number, any size."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic.files import read

from hpcseg.synthetic import BuildingScene, IceScene, SarScene, draw_camera
from hpcseg.synthetic.scene import FRAM, Fields, write_scene
from hpcseg.tiles import Grid, Window

KINDS = (IceScene, BuildingScene, SarScene)
SCENES = [
    (IceScene, {}), (IceScene, {"clouds": 0.4, "ponds": 0.2, "swath": True}), (IceScene, {"scale": 2.5}),
    (IceScene, {"degrade": True, "swath": True}), (IceScene, {"lead_width": 50}),
    (BuildingScene, {}), (BuildingScene, {"pixel": 0.3, "settled": 0.4, "woods": 0.5, "swath": True}),
    (SarScene, {}), (SarScene, {"scale": "db", "swath": True}), (SarScene, {"scale": "amplitude", "flood": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), SCENES)
@pytest.mark.parametrize("core", [64, 150])
def test_blocks_do_not_change_a_scene(kind, options, core):
    assert draw_camera(3, 1).radius == 1, "wanted a blur, which looks beyond a block"
    grid = Grid(300, 200, core, 0)
    picture, truth = kind(3, 1, 300, 200, **options).block(grid.extent)
    assert (picture.dtype, len(picture)) == (kind.dtype, kind.bands)
    scene = kind(3, 1, 300, 200, **options)
    for tile in range(grid.size):
        window = grid.core_window(tile)
        part, part_truth = scene.block(window)
        np.testing.assert_array_equal(part, picture[(slice(None), *window.slices)])
        np.testing.assert_array_equal(part_truth, truth[window.slices])


@pytest.mark.parametrize(("kind", "share"), [(IceScene, 0.5), (BuildingScene, 0.9), (SarScene, 0.9)])
def test_a_scene_depends_on_seed_and_number(kind, share):
    """share: of the pixels that differ at the least."""
    scenes = [kind(seed, number, 512, 512) for seed, number in ((1, 0), (1, 0), (2, 0), (1, 1))]
    first, again, seed, number = (scene.block(Window(0, 0, 512, 512))[0] for scene in scenes)
    np.testing.assert_array_equal(first, again)
    assert (first != seed).mean() > share
    assert (first != number).mean() > share


@pytest.mark.parametrize(("kind", "edge", "top"), [(IceScene, 400_000, 2), (BuildingScene, 400_000, 1), (SarScene, 100_000, 1)])
def test_far_corner_of_a_large_scene(kind, edge, top):
    picture, truth = kind(0, 0, edge, edge).block(Window(edge - 100, edge - 100, 100, 100))
    assert picture.shape == (kind.bands, 100, 100)
    assert picture.std() > 0.05 * picture.mean()
    assert truth.max() <= top


class Ramp(Fields):
    """Rows and columns as pixels."""

    dtype = "u2"
    bands = 2


def test_write_scene_streams_any_type(tmp_path):
    def make_block(window):
        row, col = np.ogrid[window.row : window.stop[0], window.col : window.stop[1]]
        return np.stack([row + 0 * col, 0 * row + col]).astype(np.uint16)

    ramp = Ramp(0, 0, 70, 90)
    write_scene(ramp, tmp_path / "ramp.tif", make_block, FRAM.place(ramp), 32)
    np.testing.assert_array_equal(read(tmp_path / "ramp.tif"), np.indices((70, 90)))
    assert [p.name for p in tmp_path.iterdir()] == ["ramp.tif"]
