"""What a campaign of faults would find, if it were there."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file
from test_store import write_all

from faults import stages
from faults.left import planes_of
from faults.stages import Reference


@pytest.fixture
def left(tmp_path, alone) -> tuple[Path, Reference]:
    """A folder with a map, and itself as the undisturbed one. Tile 1 of 12 has no data, tile 2 failed."""
    write_all(tmp_path / "scene.h5", alone)
    return tmp_path, Reference(1.0, 0.5, 11, planes_of(tmp_path))


def test_a_map_as_it_should_be_has_no_faults(left):
    out, reference = left
    assert stages.look_at_files(out) == []
    assert stages.wrong_tiles(out, reference) == 0
    assert stages.units_done("predict", out) == 11


@pytest.mark.parametrize("plane", ["labels", "confidence"])
def test_a_tile_of_other_bits_is_wrong_and_one_that_is_not_done_may_have_any(plane, left):
    out, reference = left
    with h5py.File(out / "scene.h5", "r+") as file:
        file[plane][140, 10] ^= 1
        file[plane][10, 140] ^= 1
    assert stages.wrong_tiles(out, reference) == 1
    assert "another map" in stages.final_faults("predict", out, reference)


def test_a_tile_with_another_crc_is_wrong(left):
    out, reference = left
    with h5py.File(out / "scene.h5", "r+") as file:
        file["tiles/crc32"][0, 0] += 1
    assert stages.wrong_tiles(out, reference) == 1


@pytest.mark.parametrize("name", ["scene.h5", "run.json", "history.csv", "curves.png", "weights.safetensors", "checkpoint.pt"])
def test_a_file_cut_short_is_unreadable(name, left):
    out, _ = left
    path = out / name
    if name == "weights.safetensors":
        save_file({"a": np.zeros(100, np.float32)}, path)
    elif not path.exists():
        path.write_text('{"a": 1' if path.suffix == ".json" else "a,b\n1\n")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    (bad,) = stages.look_at_files(out)
    assert bad.startswith(name)


@pytest.mark.parametrize("name", [".run.json.part", "scene.h5-177340417-26225.lock"])
def test_what_lies_about_in_the_end_is_noticed(name, left):
    out, reference = left
    (out / name).touch()
    assert f"{name} is left over" in stages.final_faults("predict", out, reference)


def test_work_that_is_not_done_in_the_end_is_noticed(left):
    out, reference = left
    with h5py.File(out / "scene.h5", "r+") as file:
        file["tiles/status"][0, 0] = 0
    found = stages.final_faults("predict", out, reference)
    assert "10 of 11 are done" in found
    assert "hpcseg verify finds fault" in found
