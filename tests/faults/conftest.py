"""What the fault tests share: a small job whose tiles are slow enough to be caught in the middle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mpi.launch import Job, start

from faults.left import INJECT, check_files, done_tiles, planes_of


@dataclass(frozen=True)
class Work:
    """Two scenes and a model; `command` maps them. tiles: of both."""

    scenes: tuple[Path, ...]
    model: Path
    tiles: int = 112

    def command(self, out: Path, *options: object) -> tuple[object, ...]:
        """Arguments of a job that maps all into a folder."""
        return ("predict", *self.scenes, "--model", self.model, "--out", out, "--core", "64", "--precision", "fp32",
                "--confidence", "--threads", "1", *options)  # fmt: skip

    def start(self, ranks: int, out: Path, *options: object, slow: float = 0.03, **env: str) -> Job:
        """Start the job, each forward pass `slow` seconds longer, with faults as `env` says."""
        env = {"PYTHONPATH": str(INJECT), "HPCSEG_TEST_SLOW": str(slow), **env}
        return start(ranks, *self.command(out, *options), env=env)


@pytest.fixture(scope="session")
def work(tmp_path_factory, make_model, make_scene) -> Work:
    folder = tmp_path_factory.mktemp("work")
    pixels = np.kron(np.random.default_rng(4).integers(1, 256, (3, 40, 40)), np.ones((16, 16), int))
    pixels[:, 100:350, 60:400] = 0
    large = make_scene(folder / "large.tif", 600, 620, pixels=pixels[:, :600, :620], nodata=0, block=128)
    small = make_scene(folder / "small.tif", 200, 150, block=128)
    return Work((large, small), make_model(folder / "model", down=[8, 12], up=[8]))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, work) -> dict[tuple[str, str], np.ndarray]:
    """The planes of a job that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    result = start(1, *work.command(out)).wait()
    assert result.returncode == 0, result.stderr
    assert done_tiles(out) == work.tiles
    planes = planes_of(out)
    assert np.bincount(planes["large.h5", "labels"].ravel(), minlength=256)[[0, 1, 2, 255]].all()
    return planes


@pytest.fixture
def assert_whole(work, undisturbed):
    """assert_whole(out): every tile is done, with the bits of the undisturbed job, and nothing lies about."""

    def look(out: Path) -> None:
        assert check_files(out) == work.tiles
        found = planes_of(out)
        assert found.keys() == undisturbed.keys()
        for key, plane in found.items():
            assert np.array_equal(plane, undisturbed[key]), key
        assert not list(out.glob(".*"))

    return look
