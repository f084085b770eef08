"""Searching the image gallery: a brute-force answer in NumPy, for any division into parts; queries from scenes and pictures."""

from __future__ import annotations

import csv
import shutil
import threading

import numpy as np
import pyarrow as pa
import pytest
from gallery.archive import CELL, textured
from matplotlib import image
from mpi.launch import needs_mpirun, run

from hpcseg.cli import execute
from hpcseg.cli.gallery import command
from hpcseg.errors import UsageError
from hpcseg.gallery.images import part_files, read_cells, write_part
from hpcseg.gallery.search import Hit, find_similar, read_query
from hpcseg.gallery.spec import TILES
from hpcseg.mapping.options import MapOptions
from hpcseg.mpi import Pulse


@pytest.fixture(scope="module")
def parted(built, tmp_path_factory):
    """The gallery with its cells strewn over four parts."""
    gallery = tmp_path_factory.mktemp("parted") / "gallery"
    shutil.copytree(built[0], gallery)
    cells = read_cells(gallery)
    shutil.rmtree(gallery / TILES)
    order = np.random.default_rng(0).permutation(len(cells))
    for k in range(4):
        write_part(gallery / TILES / "000001" / f"{k:05d}.parquet", [cells.take(pa.array(np.sort(order[k::4])))])
    assert len(part_files(gallery)) == 4
    return gallery


@pytest.fixture
def ask(alone, archive):
    """ask(gallery, source, place, **options): the query of a window or a picture."""

    def work(gallery, source, place=None, **options):
        with Pulse(alone, 60.0, threading.Event()) as pulse:
            return read_query(alone, pulse, gallery, str(source), place, MapOptions((), **options))

    return work


def brute_force(gallery, code, k):
    """All cells, sorted by distance, then as read_cells orders them: (distance, scene, row, col)."""
    cells = read_cells(gallery)
    away = np.bitwise_count(cells["code"].to_numpy() ^ np.uint64(code))
    order = np.argsort(away, kind="stable")[:k]
    named = cells.take(pa.array(order)).to_pylist()
    return [(int(away[i]), each["scene"], each["row"], each["col"]) for i, each in zip(order, named, strict=True)]


@pytest.mark.parametrize("k", [1, 7, 1000])
def test_search_equals_brute_force_in_one_part_and_in_four(alone, built, parted, k):
    codes = read_cells(parted, columns=["code"])["code"].to_numpy()
    for code in (codes[3], codes[70], np.uint64(0)):
        for gallery in (built[0], parted):
            hits = find_similar(alone, gallery, code, k)
            assert [(hit.away, hit.scene, hit.row, hit.col) for hit in hits] == brute_force(parted, code, k)


def test_a_cell_of_the_archive_is_found_by_its_stored_code_and_by_its_name(ask, parted, archive):
    by_path = ask(parted, archive / "scene_1.tif", (7 * CELL + 3, 5 * CELL + 31))
    assert by_path == ask(parted, "scene_1", (7 * CELL, 5 * CELL))._replace(source=by_path.source)
    assert by_path.stored
    assert by_path.window == (7 * CELL, 5 * CELL, CELL, CELL)


def test_what_is_computed_is_what_is_stored(ask, parted, archive, tmp_path):
    """Of whole cells and of those that the scene's edges cut; a copy with a byte more has another digest, thus no stored codes."""
    scene = tmp_path / "copy.tif"
    scene.write_bytes((archive / "scene_0.tif").read_bytes() + b"\0")
    for place in ((0, 0), (8 * CELL, 8 * CELL), (9 * CELL, 3 * CELL)):
        stored, computed = ask(parted, archive / "scene_0.tif", place), ask(parted, scene, place)
        assert (stored.stored, computed.stored) == (True, False)
        assert stored[2:6] == computed[2:6]


def test_a_picture_is_its_middle_cell_and_a_small_one_is_reflected(ask, parted, make_scene, tmp_path):
    large = ask(parted, make_scene(tmp_path / "large.tif", 3 * CELL, 2 * CELL, pixels=textured(3, 2, 3 * CELL, 2 * CELL)))
    assert large.window == (CELL, CELL // 2, CELL, CELL)
    small = ask(parted, make_scene(tmp_path / "small.tif", 20, 9, transform=None, epsg=None))
    assert small.window == (0, 0, 20, 9)
    assert not small.stored


def test_what_cannot_be_asked_is_one_clear_line(ask, built, archive, make_scene, tmp_path):
    gallery, scene = built[0], archive / "scene_0.tif"
    grey = make_scene(tmp_path / "grey.tif", 40, 40, bands=1)
    hole = make_scene(tmp_path / "hole.tif", 40, 40, pixels=np.zeros((3, 40, 40)), nodata=0)
    for source, place, words in (
        (scene, (9999, 0), "--window 9999,0: .* has rows 0 to 310, columns 0 to 267"),
        (scene, (-1, 0), "--window -1,0"),
        (grey, None, "gives 1 bands of its 1, not 3: choose with --bands"),
        (hole, None, "no data, nothing to look for"),
        (archive, None, "names 2 scenes: wanted one"),
        ("scene_9", (0, 0), "scene_9: no scene of the gallery has this name, and as a file it cannot be opened"),
    ):
        with pytest.raises(UsageError, match=words):
            ask(gallery, source, place)
    with pytest.raises(UsageError, match=r"gallery\.toml"):
        ask(tmp_path, scene)


def test_a_gallery_without_cells_says_how_to_add_them(alone, parted, tmp_path):
    shutil.copytree(parted, tmp_path / "empty", ignore=shutil.ignore_patterns(TILES))
    with pytest.raises(UsageError, match=r"holds no cells yet: .* hpcseg gallery assign"):
        find_similar(alone, tmp_path / "empty", np.uint64(0), 3)


def test_the_command_prints_and_draws_what_it_found(alone, parted, tmp_path, capsys):
    sheet, table = tmp_path / "sheet.png", tmp_path / "hits.csv"
    asked = ["search", str(parted), "scene_0", "--window", "0,40", "-k", "5", "--threads", "1"]
    assert execute(command, [*asked, "--out", str(sheet), "--csv", str(table)], alone, True) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "query=scene_0 rows 0:32, cols 32:64"
    rows = list(csv.DictReader(table.open()))
    wanted = brute_force(parted, int(said[1].split("=")[1].split()[0], 16), 5)
    assert [(int(row["away"]), row["scene"], int(row["row"]), int(row["col"])) for row in rows] == wanted
    assert [line.split() for line in said[4:9]] == [[row[name] for name in ("away", "bucket", "row", "col", "scene")] for row in rows]
    assert tuple(rows[0]) == Hit._fields
    assert image.imread(sheet).shape[0] > 300


def test_a_wrong_window_is_wrong_use(alone, parted, capsys):
    assert execute(command, ["search", str(parted), "scene_0", "--window", "5", "--threads", "1"], alone, True) == 2
    assert "--window 5: wanted ROW,COL" in capsys.readouterr().err


@pytest.mark.mpi
@needs_mpirun
@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_ranks_that_share_out_the_parts_find_what_one_finds(ranks, parted, make_scene, tmp_path):
    picture, table = make_scene(tmp_path / "picture.tif", 50, 60, seed=4), tmp_path / "hits.csv"
    job = run(ranks, "gallery", "search", parted, picture, "-k", "40", "--csv", table, "--threads", "1")
    assert job.returncode == 0, job.stderr
    code = int(job.stdout.split("code=")[1].split()[0], 16)
    rows = [(int(row["away"]), row["scene"], int(row["row"]), int(row["col"])) for row in csv.DictReader(table.open())]
    assert rows == brute_force(parted, code, 40)
