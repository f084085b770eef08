"""A gallery remembers how its scenes are read: further commands read them so, or say in one line what differs."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from gallery.archive import CELL, options_of
from gallery.land import order_of, write_gallery, write_land

from hpcseg.errors import UsageError
from hpcseg.gallery.assign import AssignOptions, assign
from hpcseg.gallery.build import build
from hpcseg.gallery.hashing import HashSettings
from hpcseg.gallery.images import read_cells
from hpcseg.gallery.jobs import check_order
from hpcseg.gallery.search import read_query
from hpcseg.gallery.show import show
from hpcseg.gallery.spec import Reading, read_gallery
from hpcseg.mapping.options import MapOptions
from hpcseg.mpi import Pulse

COARSE = Reading(bands=(3, 2, 1), resolution=20.0)


@dataclass
class Given:
    """What a command was told."""

    bands: tuple[int, ...] = ()
    crs: str = ""
    resolution: float = 0.0


def test_what_was_said_at_first_holds_and_the_rest_is_free():
    assert COARSE.settle(Given()) == {"bands": (3, 2, 1), "crs": "", "resolution": 20.0}
    assert COARSE.settle(Given((3, 2, 1), "EPSG:4326", 20.0)) == {"bands": (3, 2, 1), "crs": "EPSG:4326", "resolution": 20.0}
    assert Reading().settle(Given((1,), "", 5.0)) == {"bands": (1,), "crs": "", "resolution": 5.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Given(bands=(1, 2, 3)), "bands is 1,2,3, the gallery was built with 3,2,1: leave it out"),
        (Given(resolution=10.0), "resolution is 10.0, the gallery was built with 20.0"),
    ],
    ids=["bands", "resolution"],
)
def test_something_else_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        COARSE.settle(given)


def test_a_map_must_say_it_unless_it_is_understood():
    Reading(bands=(1, 2, 3)).check(Given(), 3)
    COARSE.check(Given((3, 2, 1), "", 20.0), 3)
    with pytest.raises(UsageError, match="bands is not given, the gallery was built with 3,2,1: say --bands 3,2,1 here too"):
        COARSE.check(Given(), 3)
    with pytest.raises(UsageError, match=r"say --resolution 20\.0 here too"):
        COARSE.check(Given((3, 2, 1)), 3)


@pytest.fixture(scope="module")
def coarse(alone, archive, encoder, tmp_path_factory) -> Path:
    """A gallery of scenes that are read at twice the size of their pixels, blue first."""
    out = tmp_path_factory.mktemp("coarse") / "gallery"
    keys = {"bands": COARSE.bands, "resolution": COARSE.resolution, "buckets": 2, "hashing": HashSettings(bits=16, hidden=16, steps=60)}
    build(alone, options_of(archive, encoder, out, **keys), threading.Event())
    return out


def test_a_gallery_says_how_it_was_built(coarse):
    assert read_gallery(coarse).reading == COARSE


def test_scenes_that_are_added_are_read_the_same_way(alone, coarse, archive, tmp_path):
    gallery = shutil.copytree(coarse, tmp_path / "gallery")
    shutil.rmtree(gallery / "tiles")
    assign(alone, AssignOptions((str(archive),), gallery=gallery), threading.Event())
    assert read_cells(gallery).to_pylist() == read_cells(coarse).to_pylist()


def test_a_query_is_found_on_the_grid_of_the_gallery(alone, coarse, archive):
    with Pulse(alone, 60.0, threading.Event()) as pulse:
        asked = read_query(alone, pulse, coarse, str(archive / "scene_1.tif"), (3 * CELL, CELL), MapOptions(()))
    assert asked.stored
    assert asked.window == (3 * CELL, CELL, CELL, CELL)


def test_pictures_show_the_cells_of_that_grid(alone, coarse, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("hpcseg.gallery.show.draw_bucket_map", lambda path, what: seen.append(what))
    monkeypatch.setattr("hpcseg.gallery.contact.draw_sheet", lambda path, pictures, captions, *_: seen.append(captions))
    show(alone, coarse, tmp_path, ["scene_1"])
    *captions, what = seen
    assert not any("cannot be read" in text for texts in captions for text in texts)
    assert what.size == (156, 134)
    assert what.buckets.shape == (5, 5)


def test_samples_are_read_the_same_way(tmp_path):
    scene = write_land(tmp_path)
    write_gallery(tmp_path / "gallery", [scene], reading=Reading(bands=(3, 2, 1)))
    assert order_of(tmp_path).settings_of(0).bands == (3, 2, 1)
    with pytest.raises(UsageError, match="bands is 1,2,3, the gallery was built with 3,2,1"):
        check_order(order_of(tmp_path, bands=[1, 2, 3]))
