"""The number of ranks cannot change a code; a build on several ranks starts from the same sample."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from gallery.archive import CELL, options_of, write_archive, write_encoder

from hpcseg.gallery.build import build
from hpcseg.gallery.hashing import HashSettings
from hpcseg.gallery.images import part_files, read_cells
from mpi.launch import needs_mpirun, own_lines, run, value

pytestmark = [pytest.mark.mpi, needs_mpirun]
BUILD = ("--cell", CELL, "--reduce", 1, "--sample", 150, "--bits", 32, "--hash-steps", 400, "--threads", 1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, make_scene, make_model):
    """An archive and an encoder."""
    folder = tmp_path_factory.mktemp("gallery")
    return write_archive(folder / "archive", make_scene, 3), write_encoder(folder / "encoder", make_model)


@pytest.fixture(scope="module")
def serial(alone, folders, tmp_path_factory):
    """A gallery built, and its scenes assigned, without a launcher."""
    out = tmp_path_factory.mktemp("serial") / "gallery"
    build(alone, options_of(*folders, out, hashing=HashSettings(bits=32, steps=400)), threading.Event())
    return out


def without_cells(gallery: Path, out: Path) -> Path:
    return shutil.copytree(gallery, out, ignore=lambda folder, names: ["tiles"] if "tiles" in names else [])


@pytest.mark.parametrize("ranks", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (3, 4))])
def test_codes_are_equal_for_one_rank_and(ranks, serial, folders, tmp_path):
    gallery = without_cells(serial, tmp_path / "gallery")
    result = run(ranks, "gallery", "assign", gallery, folders[0], "--threads", 1, "--core", 2 * CELL)
    assert read_cells(gallery).to_pylist() == read_cells(serial).to_pylist()
    assert len(part_files(gallery)) == ranks
    assert value(result, "assigned") == f"{len(read_cells(serial))} cells"


@pytest.mark.long
@pytest.mark.parametrize("averaging", ["auto", "torch"])
def test_a_build_on_two_ranks_finds_the_same_clusters_and_separates_them_as_well(averaging, serial, folders, tmp_path):
    out = tmp_path / "gallery"
    result = run(2, "gallery", "build", folders[0], "--out", out, "--encoder", folders[1], "--averaging", averaging, *BUILD)
    one, two = (json.loads((each / "build.json").read_text()) for each in (serial, out))
    for key in ("cells", "held", "variances", "knee", "sizes"):
        assert one[key] == two[key]
    assert two["loss"]["hashing"][:3] == pytest.approx(one["loss"]["hashing"][:3], rel=1e-4)
    assert two["map"] == pytest.approx(one["map"], abs=0.05)
    assert float(value(result, "map")) == pytest.approx(two["map"], abs=1e-4)
    again = tmp_path / "again"
    run(2, "gallery", "build", folders[0], "--out", again, "--encoder", folders[1], "--averaging", averaging, *BUILD)
    assert read_cells(again).to_pylist() == read_cells(out).to_pylist()


@pytest.mark.long
def test_an_encoder_trained_on_two_ranks_makes_a_gallery(folders, tmp_path):
    out = tmp_path / "gallery"
    run(2, "gallery", "build", folders[0], "--out", out, "--epochs", 1, *BUILD)
    assert len(read_cells(out)) > 100


@pytest.mark.long
def test_wrong_use_is_one_line_from_one_rank(serial, folders, tmp_path):
    for words, said in (
        (("build", folders[0], "--out", serial), "holds a gallery"),
        (("build", folders[0], "--out", tmp_path / "new", "--cell", 32, "--reduce", 3), "a cell of 32 pixels, reduced 3 times"),
        (("assign", tmp_path, folders[0]), "holds no gallery (gallery.toml)"),
        (("assign", serial, folders[0], "--core", 33), "--core 33 is no multiple of the gallery's cell, 32"),
        (("assign", serial, folders[0], "--bands", "1,2,9"), ""),
    ):
        result = run(3, "gallery", *words, code=2 if said else 3)
        assert len(own_lines(result)) == bool(said)
        assert said in result.stderr
