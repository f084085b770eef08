"""Running teachers in this process."""

from __future__ import annotations

import threading

import pytest

from hpcseg import store
from hpcseg.labels.run import LabelOptions, label


@pytest.fixture
def run(alone, tmp_path):
    """run(teacher, *scenes, **options) labels scenes into tmp_path / "out"; returns the summary."""

    def start(teacher, *scenes, **options):
        chosen = {"out": tmp_path / "out", "core": 256} | options
        return label(alone, teacher, LabelOptions(tuple(map(str, scenes)), **chosen), threading.Event())

    return start


@pytest.fixture
def plane(tmp_path):
    """plane(scene, name="labels", out="out") is a whole plane of a scene's labels."""

    def read(scene, name="labels", out="out"):
        stored = store.read(tmp_path / out / f"{scene}.h5")
        return store.read_window(stored, stored.layout.grid.extent, name)

    return read
