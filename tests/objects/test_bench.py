"""The bench: both find the same objects, and what waits for other tiles stays small."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from hpcseg.errors import StoppedError
from hpcseg.mpi import Pulse
from hpcseg.objects import Choice, Settings, export_objects
from hpcseg.objects.bench import component_lines, time_components, write_blobs


def values(lines):
    return {key: float(value.split()[0]) for key, value in (line.split("=") for line in lines[1:])}


def test_lines_tell_times_objects_and_bytes(alone, tmp_path):
    found = values(component_lines(tmp_path, 256, 1))
    assert found["objects_4"] > found["objects_8"] > 100
    assert found["over_scipy_8"] > 0
    assert found["most_held_8"] > 0


@pytest.mark.parametrize("connectivity", [4, 8])
def test_what_waits_is_less_than_64_bytes_for_each_object_on_a_border_of_four_tiles_too(alone, tmp_path, connectivity):
    labels = write_blobs(alone, tmp_path / "m.h5", 1000)
    with Pulse(alone, 60.0, threading.Event()) as pulse:
        found = time_components(alone, pulse, tmp_path / "m.h5", labels, Settings(connectivity, tile=500))
    assert found.touching > 100
    assert found.bytes < 64 * found.touching


@pytest.mark.parametrize("connectivity", [4, 8])
def test_what_waits_is_less_than_32_bytes_for_each_object_on_a_border_of_many_tiles(alone, tmp_path, connectivity):
    labels = write_blobs(alone, tmp_path / "m.h5", 1400)
    with Pulse(alone, 60.0, threading.Event()) as pulse:
        found = time_components(alone, pulse, tmp_path / "m.h5", labels, Settings(connectivity, tile=128))
    assert found.touching > 2000
    assert found.bytes < 32 * found.touching


def test_a_stop_leaves_neither_scratch_nor_products(alone, tmp_path):
    labels, stop = write_blobs(alone, tmp_path / "m.h5", 300), threading.Event()
    assert np.count_nonzero(labels)
    stop.set()
    with pytest.raises(StoppedError, match="0 of"), Pulse(alone, 60.0, stop) as pulse:
        export_objects(alone, pulse, [tmp_path / "m.h5"], None, Choice(), Settings(tile=64))
    assert [each.name for each in tmp_path.iterdir()] == ["m.h5"]
