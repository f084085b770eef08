"""`hpcseg plan`: from manifests and from rasters."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from swaths import swath, write_manifest

from hpcseg.errors import UsageError
from hpcseg.planning import Sketch, covered_tiles, read_sketches
from hpcseg.raster import list_scenes
from hpcseg.tiles import Grid


def plan(*arguments: str) -> dict[str, str]:
    """The key=value lines that `hpcseg plan` prints."""
    done = subprocess.run(
        [sys.executable, "-c", "from hpcseg.launch import main; main()", "plan", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def test_an_archive_of_swaths_on_27360_ranks_is_balanced_to_2_percent_in_30_seconds(tmp_path: Path) -> None:
    write_manifest(tmp_path / "archive.csv", 1440, 40000, 35000)
    start = time.monotonic()
    found = plan(str(tmp_path / "archive.csv"), "--ranks", "27360", "--core", "1024")
    assert time.monotonic() - start < 30
    assert int(found["scenes"]) == 1440
    assert int(found["tiles"]) == 1440 * 40 * 35
    assert int(found["forward_passes"]) < int(found["tiles"])
    assert float(found["imbalance"]) <= 1.02


def test_a_footprint_costs_the_tiles_that_it_touches() -> None:
    grid = Grid(4000, 3000, 500, 64)
    square = Sketch("a", 4000, 3000, "POLYGON ((600 600, 900 600, 900 1400, 600 1400, 600 600))")
    touched = covered_tiles(square, grid).reshape(grid.shape)
    assert np.argwhere(touched).tolist() == [[1, 1], [2, 1]]


def test_a_footprint_on_the_ground_is_carried_to_pixels() -> None:
    grid = Grid(4000, 3000, 500, 64)
    ground = "POLYGON ((106000 494000, 109000 494000, 109000 486000, 106000 486000, 106000 494000))"
    there = Sketch("a", 4000, 3000, ground, (100000, 10, 0, 500000, 0, -10))
    assert np.argwhere(covered_tiles(there, grid).reshape(grid.shape)).tolist() == [[1, 1], [2, 1]]


def test_the_tiles_of_a_swath_are_those_with_a_covered_pixel() -> None:
    import shapely

    grid = Grid(3000, 2000, 250, 0)
    text = swath(3000, 2000, 13, 0.5)
    found = covered_tiles(Sketch("a", 3000, 2000, text), grid)
    rows, cols = np.mgrid[0:3000:5, 0:2000:5] + 2.5
    inside = shapely.contains_xy(shapely.from_wkt(text), cols, rows)
    sampled = inside.reshape(12, 50, 8, 50).any((1, 3)).ravel()
    assert not (sampled & ~found).any()
    assert (found & ~sampled).sum() <= 4


def test_sketches_are_named_as_their_maps_will_be(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("scene,id,height,width\n/archive/a.tif,,10,20\nred.tif+nir.tif,,10,20\nb.tif,second,10,20\n")
    assert [sketch.name for sketch in read_sketches(path) or []] == ["a", "red", "second"]
    assert [sketch.name for sketch in read_sketches(path) or []] == [entry.name for entry in list_scenes([str(path)])]


def test_a_manifest_without_sizes_is_no_sketch_and_a_wrong_number_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("scene,id\na.tif,a\n")
    assert read_sketches(path) is None
    path.write_text("scene,height,width\na,10,20\nb,ten,20\n")
    with pytest.raises(UsageError, match="line 3"):
        read_sketches(path)
