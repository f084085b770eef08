"""hpcseg export: objects on any number of ranks, its words and its exit codes."""

from __future__ import annotations

import numpy as np
import pytest
from maps import write_map
from mpi.launch import needs_mpirun, run
from whole import random_labels


@pytest.fixture
def folder(tmp_path):
    """Three maps; the largest has tiles of which an object crosses every one."""
    labels = np.kron(random_labels(0, (230, 210), 3), np.ones((10, 10), np.uint8))
    labels[::64] = labels[:, 0] = 1
    write_map(tmp_path / "maps" / "a.h5", labels, ("ground", "roof", "tree"))
    write_map(tmp_path / "maps" / "b.h5", random_labels(1, (40, 1500), 2))
    write_map(tmp_path / "maps" / "c.h5", np.full((30, 40), 255, np.uint8))
    return tmp_path


def test_objects_are_written_beside_the_map_and_told_by_class(hpcseg, tmp_path):
    labels = np.zeros((40, 50), np.uint8)
    labels[3:6, 4:9] = labels[6, 9] = 1
    path = write_map(tmp_path / "s.h5", labels)
    code, out, error = hpcseg("export", tmp_path, "--objects", "--classes", "roof")
    assert (code, error) == (0, "")
    assert out.splitlines() == [f"wrote {path.with_name(f's_objects.{kind}')}" for kind in ("gpkg", "csv", "png")] + [
        "note: roof: 1 objects, 16 px"
    ]
    _, out, _ = hpcseg("export", tmp_path, "--objects", "--connectivity", "4", "--min-area-px", "2")
    assert "note: roof: 1 objects, 15 px" in out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--classes", "tree"), "has no class tree; wanted some of ground, roof"),
        (("--min-area", "100"), "give --min-area-px instead"),
        (("--min-area", "-1"), "-1.0 is not in the range"),
        (("--connectivity", "6"), "'4', '8'"),
        (("--to", "cog"), "give either --to cog|gpkg|png or --objects"),
    ],
)
def test_wrong_use_is_one_line(hpcseg, tmp_path, words, named):
    write_map(tmp_path / "s.h5", random_labels(0, (50, 50)))
    code, _, error = hpcseg("export", tmp_path, "--objects", *words)
    assert code == 2
    assert named in error
    assert error.count("\n") == 1


def test_a_map_that_does_not_fit_is_skipped_with_exit_code_3(hpcseg, tmp_path):
    write_map(tmp_path / "a.h5", random_labels(0, (50, 50)))
    (tmp_path / "b.h5").write_bytes(b"nothing")
    code, out, _ = hpcseg("export", tmp_path, "--objects")
    assert code == 3
    assert "skipped b: " in out


@needs_mpirun
@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [3, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 4, 7))])
def test_ranks_change_no_byte(hpcseg, folder, ranks):
    hpcseg("export", folder / "maps", "--objects", "--out", folder / "one", "--threads", 1)
    run(ranks, "export", folder / "maps", "--objects", "--out", folder / "many", "--threads", 1)
    names = sorted(each.name for each in (folder / "one").iterdir())
    assert names == sorted(f"{name}_objects.{kind}" for name in "abc" for kind in ("csv", "gpkg", "png"))
    assert sorted(each.name for each in (folder / "many").iterdir()) == names
    for name in names:
        assert (folder / "many" / name).read_bytes() == (folder / "one" / name).read_bytes(), name
